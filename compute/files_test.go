package compute_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee/launch"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if compute.Locked(path) {
		t.Error("a file that does not exist is locked")
	}
	f, err := compute.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if !compute.Locked(path) {
		t.Error("not locked")
	}
	if _, err := compute.Lock(path); !errors.Is(err, compute.ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if compute.Locked(path) {
		t.Error("still locked")
	}
	if _, err := compute.Lock(filepath.Join(t.TempDir(), "none", "lock")); err == nil || errors.Is(err, compute.ErrLocked) {
		t.Errorf("lock in no directory: %v", err)
	}
}

func TestIntentRoundTrip(t *testing.T) {
	d := compute.Dir(t.TempDir())
	if _, err := d.ReadIntent(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no intent: %v", err)
	}
	want := compute.Intent{Version: 1, ID: "x", Name: "worker", Spec: spec(), Expected: make([]byte, 32), Want: compute.WantRunning, Epoch: 3}
	if err := d.WriteIntent(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.ReadIntent()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, content := range map[string]string{"torn": `{"version":1,"id":"x`, "other version": `{"version":9,"id":"x"}`, "empty": "", "no id": `{"version":1}`} {
		if err := os.WriteFile(filepath.Join(string(d), "intent.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := d.ReadIntent(); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v: a damaged intent must not look like none", name, err)
		}
	}
}

func TestTornStatusIsNoStatus(t *testing.T) {
	d := compute.Dir(t.TempDir())
	if err := d.WriteStatus(compute.Status{State: compute.Running, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	if got := d.ReadStatus(); got.State != compute.Running {
		t.Errorf("got %s", got.State)
	}
	if err := os.WriteFile(filepath.Join(string(d), "status.json"), []byte(`{"state":"run`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.ReadStatus(); got.State != "" || got.Epoch != 0 {
		t.Errorf("a torn status reads as %+v", got)
	}
}

func TestNamesStayInTheirDirectory(t *testing.T) {
	d := compute.Dir("/data/x")
	for _, name := range []string{"../../etc/passwd", "/etc/passwd", "a/b"} {
		for _, got := range []string{d.Input(name), d.Output(name)} {
			if !strings.HasPrefix(got, "/data/x/") || strings.Contains(got, "..") {
				t.Errorf("%q leads to %s", name, got)
			}
		}
	}
}

func TestStoreFileIsBoundedAndWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := compute.StoreFile(path, strings.NewReader("12345"), 5); err != nil {
		t.Fatal(err)
	}
	if err := compute.StoreFile(path, strings.NewReader("123456"), 5); err == nil || !strings.Contains(err.Error(), "larger than 5 bytes") {
		t.Errorf("too long: %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "12345" {
		t.Errorf("a refused file replaced the old one: %q", b)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("temporary files are left: %v", entries)
	}
}

func TestLaunchFile(t *testing.T) {
	base := launch.New(launch.Wasm, []byte("module"))
	d, err := compute.ApplyLaunchFile(base, []byte("args: [a]\nenv: {TZ: UTC}\noperator_env: [LANG]\ninputs: [in]\noutputs: [out]\nsecrets: [{name: k, key: a/b}]\nports: [80]\nmemory_mib: 64\ntime_limit_s: 9\nlogs: none\ndebug: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := base
	want.Args, want.Env, want.OperatorEnv = []string{"a"}, map[string]string{"TZ": "UTC"}, []string{"LANG"}
	want.Inputs, want.Outputs, want.Ports = []string{"in"}, []string{"out"}, []uint16{80}
	want.Secrets = []launch.Secret{{Name: "k", Key: "a/b"}}
	want.MemoryMiB, want.TimeLimit, want.Logs, want.Debug = 64, 9, launch.LogsNone, true
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
	if _, err := compute.ApplyLaunchFile(base, nil); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	for name, c := range map[string]struct{ file, want string }{
		"unknown field":   {"memory: 5", "unknown field"},
		"duplicate field": {"debug: true\ndebug: false", "already defined"},
		"wrong type":      {"args: 5", "[1:7]"},
		"wrong value":     {"logs: loud", `logs "loud"`},
		"two documents":   {"debug: true\n---\ndebug: false", "more than one"},
		"not YAML":        {"\x00", "launch file"},
		"too long":        {strings.Repeat("#", compute.MaxLaunchFile+1), "at most"},
		"image":           {"image: {kind: elf}", "unknown field"},
	} {
		if _, err := compute.ApplyLaunchFile(base, []byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzLaunchFile(f *testing.F) {
	f.Add([]byte("args: [a]\nmemory_mib: 64\n"))
	f.Add([]byte("secrets: [{name: k, key: a/b}]"))
	base := launch.New(launch.Wasm, []byte("module"))
	f.Fuzz(func(t *testing.T, file []byte) {
		d, err := compute.ApplyLaunchFile(base, file)
		if err != nil {
			return
		}
		if _, err := d.Encode(); err != nil {
			t.Fatalf("an accepted launch file has no encoding: %v", err)
		}
	})
}
