//go:build linux

package software

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// serve serves a platform on path until the test ends or stop is called.
func serve(t testing.TB, p *Platform, path string) (stop func()) {
	t.Helper()
	l, err := unixsock.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func socketPath(t testing.TB) string { return filepath.Join(t.TempDir(), "platform.sock") }

func TestServe(t *testing.T) {
	for name, path := range map[string]string{
		"short path": socketPath(t),
		"long path":  filepath.Join(t.TempDir(), strings.Repeat("d", 200), "platform.sock"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			p := newPlatform(t)
			serve(t, p, path)
			c, err := Connect(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p.Info(), c.Platform()); diff != "" {
				t.Error(diff)
			}
			doc, sig := signedDocument(t, newKey(t), 1, 2)
			f, info, err := c.Launch(t.Context(), requestFor(t, doc, sig))
			if err != nil {
				t.Fatal(err)
			}
			d, err := OpenDevice(f)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if diff := cmp.Diff(info, d.Info()); diff != "" {
				t.Error(diff)
			}
			useDevice(t, p, d, doc)
		})
	}
}

// useDevice uses everything that a device offers.
func useDevice(t *testing.T, p *Platform, d *Device, doc launch.Document) {
	t.Helper()
	ctx := t.Context()
	if err := d.SetSandbox(ctx, []string{"seccomp"}, []string{"cgroup"}); err != nil {
		t.Fatal(err)
	}
	ev, err := d.Evidence(ctx, [64]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]byte{p.Info().PlatformCertificate}, ev.Certificates); diff != "" {
		t.Error(diff)
	}
	claims, _, err := New().Verify(ev, inputFor(t, p))
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := doc.Digest()
	if !claims.Measurement.Equal(Expect(testRuntime, digest)) || claims.ReportData[0] != 5 || claims.InstanceID != d.Info().InstanceID {
		t.Errorf("claims %+v", claims)
	}
	key, err := d.SealingKey(ctx, tee.SealToSigner(1), []byte("ctx"))
	if err != nil || len(key) != 32 {
		t.Fatal(key, err)
	}
	_, err = d.SealingKey(ctx, tee.SealToSigner(3), nil)
	wantCode(t, err, tee.CodeSealPolicy)
	advanceTo(t, d, "c", 2)
	advanceTo(t, d.SignerCounters(), "c", 1)
	wantCounter(t, d, "c", 2)
	wantCounter(t, d.SignerCounters(), "c", 1)
	wantCode(t, d.AdvanceCounter(ctx, "c", 0, digestOf(1)), tee.CodeCounter)
	_, _, err = d.ReadCounter(ctx, strings.Repeat("c", 129))
	wantCode(t, err, tee.CodeParse)
	wantCode(t, d.SetSandbox(ctx, nil, nil), tee.CodeUnsupported)
	_, err = d.SealingKey(ctx, tee.SealToMeasurement(), make([]byte, 70<<10))
	wantCode(t, err, tee.CodeParse)
}

func TestLaunchRefusalsTravel(t *testing.T) {
	p := newPlatform(t)
	path := socketPath(t)
	serve(t, p, path)
	c := must(Connect(path))
	r := requestFor(t, testDocument(), nil)
	r.Image = fileOf(t, []byte("other"))
	f, _, err := c.Launch(t.Context(), r)
	wantCode(t, err, tee.CodeBinding)
	if f != nil || !strings.Contains(err.Error(), "the document names") {
		t.Errorf("file %v, error %v", f, err)
	}
	r = requestFor(t, testDocument(), nil)
	r.Image = nil
	_, _, err = c.Launch(t.Context(), r)
	wantCode(t, err, tee.CodeParse)
	r.Document = make([]byte, maxLaunchFrame)
	_, _, err = c.Launch(t.Context(), r)
	wantCode(t, err, tee.CodeParse)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = c.Launch(done, requestFor(t, testDocument(), nil))
	wantCode(t, err, tee.CodeUnavailable)
}

func TestConnectRefuses(t *testing.T) {
	path := socketPath(t)
	_, err := Connect(path)
	wantCode(t, err, tee.CodeUnavailable)
	if e, _ := errors.AsType[*tee.Error](err); !strings.Contains(e.Hint, "start the software TEE platform") {
		t.Errorf("hint %q", e.Hint)
	}
	p := newPlatform(t)
	stop := serve(t, p, path)
	if st := must(os.Stat(path)); st.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v", st.Mode())
	}
	stop()
	_, err = Connect(path) // a dead socket is left
	wantCode(t, err, tee.CodeUnavailable)
	serve(t, p, path) // and is replaced
	if _, err := Connect(path); err != nil {
		t.Error(err)
	}
}

func TestPeerOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("turning another user away for real needs root")
	}
	dir := must(os.MkdirTemp("/tmp", "peer")) //nolint:usetesting // the parents of t.TempDir are closed to other users
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	serve(t, newPlatform(t), path)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
	fd := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	if err := asNobody(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) }); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "nobody")
	defer f.Close()
	f.Write(frame(must(encodeCall(opPlatform, nothing{})))) // may find it closed
	if got, err := io.ReadAll(f); len(got) != 0 || (err != nil && !errors.Is(err, unix.ECONNRESET)) {
		t.Errorf("another user got %x %v", got, err)
	}
}

// asNobody runs f on a thread whose effective uid is 65534.
func asNobody(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const keep = ^uintptr(0)
	set := func(euid uintptr) error {
		// The raw call changes this thread only, unlike syscall.Setresuid.
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, euid, keep); e != 0 {
			return e
		}
		return nil
	}
	if err := set(65534); err != nil {
		return err
	}
	return errors.Join(f(), set(0))
}

// rawCall sends bytes, with files, to a platform and returns what comes back.
func rawCall(t *testing.T, path string, b []byte, files ...*os.File) []byte {
	t.Helper()
	c := must(unixsock.Dial(t.Context(), path))
	defer c.Close()
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	var control []byte
	if len(fds) > 0 {
		control = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(b, control, nil); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	got, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatal(err)
	}
	return got
}

func TestServeRefusesGarbage(t *testing.T) {
	p := newPlatform(t)
	path := socketPath(t)
	serve(t, p, path)
	image := fileOf(t, testImage)
	good := frame(must(encodeCall(opPlatform, nothing{})))
	launchGood := frame(must(encodeCall(opLaunch, launchCall{Document: requestFor(t, testDocument(), nil).Document, InstanceID: "i"})))
	silent := map[string][]byte{
		"nothing": {}, "half a length": {0, 0}, "zero length": {0, 0, 0, 0}, "huge length": {255, 255, 255, 255},
		"length beyond bound": binary.BigEndian.AppendUint32(nil, maxLaunchFrame+1), "cut short": good[:len(good)-1],
	}
	for name, b := range silent {
		if got := rawCall(t, path, append([]byte{}, b...)); len(got) != 0 {
			t.Errorf("%s: answered with %d bytes", name, len(got))
		}
	}
	if got := rawCall(t, path, launchGood, image, image); len(got) != 0 {
		t.Errorf("two files: answered with %d bytes", len(got))
	}
	if got := rawCall(t, path, launchGood, image, image, image, image, image, image); len(got) != 0 {
		t.Errorf("six files: answered with %d bytes", len(got))
	}
	for name, b := range map[string][]byte{
		"not CBOR":          {0xff},
		"unknown operation": must(encodeCall("reboot", nothing{})),
		"wrong body":        must(encodeCall(opLaunch, nothing{})),
		"body for nothing":  must(encodeCall(opPlatform, evidenceCall{})),
		"trailing byte":     append(must(encodeCall(opPlatform, nothing{})), 0),
		"device operation":  must(encodeCall(opEvidence, evidenceCall{})),
	} {
		got := rawCall(t, path, frame(b))
		if len(got) < 4 {
			t.Errorf("%s: no answer", name)
			continue
		}
		_, err := decodeAnswer[nothing](got[4:], "test")
		wantCode(t, err, tee.CodeParse)
	}
	if _, err := Connect(path); err != nil {
		t.Errorf("after the garbage: %v", err)
	}
	waitFor(t, "instances of garbage to end", func() bool { return liveInstances(p) == 0 })
}

func liveInstances(p *Platform) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live)
}

// waitFor waits for something that another goroutine is about to do.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}
