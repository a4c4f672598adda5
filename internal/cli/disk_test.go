package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloister-cc/cloister/client"
)

// smallDisk mounts a file system of a few MiB, or skips where this user may not.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Skip("needs the right to mount a small disk: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes until the disk is full and returns the file to remove.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, size := range []int{1 << 16, 1 << 8, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return path
}

func TestFullDisk(t *testing.T) {
	disk := smallDisk(t) // unmounted last
	f := newFaultTest(t)
	_ = f.up.Process.Signal(os.Interrupt)
	<-f.upDone
	f.dir = filepath.Join(disk, "data")
	f.env = append(f.env, "CLOISTER_DATA_DIR="+f.dir)
	f.host = client.NewHost(f.dir)
	f.start(t)
	if out, err := f.command("key", "create", "disk/before", "--policy", "policy.yaml").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.keys = []string{"disk/before"}

	ballast := fill(t, disk)
	out, err := f.command("key", "create", "disk/during", "--policy", "policy.yaml").CombinedOutput()
	if err == nil {
		t.Errorf("a key was kept on a full disk: %s", out)
	}
	if !strings.Contains(string(out), "hint:") || strings.Contains(string(out), "see the server's log") {
		t.Errorf("the error does not say what to do: %s", out)
	}
	out, err = f.command("instance", "create", "--name", "worker", f.idle).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no space left") || !strings.Contains(string(out), "hint: free space") {
		t.Errorf("instance on a full disk: %v: %s", err, out)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	f.keysStand(t)
	f.eventually(t, "keys can be made again", func(context.Context) error {
		out, err := f.command("key", "create", "disk/after", "--policy", "policy.yaml").CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	})
	f.settle(t, "")
	f.invariants(t)
}

func TestReadOnlyDisk(t *testing.T) {
	disk := smallDisk(t) // unmounted last
	f := newFaultTest(t)
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	out, err := f.command("up", "--data-dir", filepath.Join(disk, "data"), "--listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "read-only file system") || !strings.Contains(string(out), "hint:") {
		t.Errorf("up on a read-only disk: %v: %s", err, out)
	}
}
