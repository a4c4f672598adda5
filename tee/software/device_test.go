//go:build linux

package software

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"golang.org/x/sys/unix"
)

func TestDeviceRefusesGarbage(t *testing.T) {
	p := newPlatform(t)
	ends := map[string][]byte{
		"zero length": {0, 0, 0, 0}, "huge length": {255, 255, 255, 255}, "too long": binary.BigEndian.AppendUint32(nil, maxFrame+1),
	}
	for name, b := range ends {
		t.Run(name, func(t *testing.T) {
			f := must(start(t, p, testDocument(), nil).Device())
			defer f.Close()
			if _, err := f.Write(b); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); len(got) != 0 || (err != nil && !errors.Is(err, unix.ECONNRESET)) {
				t.Errorf("got %x %v, want the end", got, err)
			}
			waitFor(t, "the instance to end", func() bool { return liveInstances(p) == 0 })
		})
	}
	f := must(start(t, p, testDocument(), nil).Device())
	defer f.Close()
	for name, b := range map[string][]byte{
		"not CBOR":          {0xff},
		"unknown operation": must(encodeCall("reboot", nothing{})),
		"launch":            must(encodeCall(opLaunch, launchCall{})),
		"short report data": must(encodeCall(opEvidence, map[int][]byte{1: make([]byte, 63)})),
		"long report data":  must(encodeCall(opEvidence, map[int][]byte{1: make([]byte, 65)})),
		"extra field":       must(encodeCall(opInfo, map[int]int{1: 1})),
		"missing fields":    must(encodeCall(opAdvance, map[int]string{2: "c"})),
		"unknown scope":     must(encodeCall(opRead, readCall{"anyone", "c"})),
	} {
		t.Run(name, func(t *testing.T) {
			if err := writeFrame(f, b); err != nil {
				t.Fatal(err)
			}
			_, err := decodeAnswer[nothing](must(readFrame(f)), "test")
			wantCode(t, err, tee.CodeParse)
		})
	}
}

func TestDeviceEndsWithItsPeers(t *testing.T) {
	p := newPlatform(t)
	path := socketPath(t)
	serve(t, p, path)
	c := must(Connect(path))
	f, _, err := c.Launch(t.Context(), requestFor(t, testDocument(), nil))
	if err != nil {
		t.Fatal(err)
	}
	d := must(OpenDevice(f))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	checkGone(t, d)
	waitFor(t, "the instance to end with its device", func() bool { return liveInstances(p) == 0 })

	f, _, err = c.Launch(t.Context(), requestFor(t, testDocument(), nil))
	if err != nil {
		t.Fatal(err)
	}
	d = must(OpenDevice(f))
	defer d.Close()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	checkGone(t, d)
	_, _, err = d.ReadCounter(t.Context(), "c")
	if e, _ := errors.AsType[*tee.Error](err); !strings.Contains(e.Hint, "reset") {
		t.Errorf("hint %q", e.Hint)
	}
	waitFor(t, "Serve to end with its platform", func() bool { _, err := Connect(path); return err != nil })
}

func TestOneDevicePerInstance(t *testing.T) {
	in := start(t, newPlatform(t), testDocument(), nil)
	device(t, in)
	_, err := in.Device()
	wantCode(t, err, tee.CodeUnsupported)
}

func TestDeviceConcurrently(t *testing.T) {
	d := device(t, start(t, newPlatform(t), testDocument(), nil))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			want, err := d.SealingKey(t.Context(), tee.SealToMeasurement(), []byte{byte(i)})
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				if got, err := d.SealingKey(t.Context(), tee.SealToMeasurement(), []byte{byte(i)}); err != nil || !bytes.Equal(got, want) {
					t.Errorf("call %d got the answer of another: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// slowPlatform is a device whose far end answers when it is told to.
func slowPlatform(t *testing.T) (d *Device, far net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	farFile := os.NewFile(uintptr(fds[0]), "far")
	far = must(net.FileConn(farFile))
	farFile.Close()
	t.Cleanup(func() { far.Close() })
	go func() {
		readFrame(far)
		writeFrame(far, must(encodeAnswer(infoAnswer{InstanceID: "slow"}, nil)))
	}()
	d = must(OpenDevice(os.NewFile(uintptr(fds[1]), "near")))
	t.Cleanup(func() { d.Close() })
	return d, far
}

func TestCancelledCallKeepsTheStreamInStep(t *testing.T) {
	d, far := slowPlatform(t)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, _, err := d.ReadCounter(ctx, "c")
		result <- err
	}()
	if _, err := readFrame(far); err != nil {
		t.Fatal(err)
	}
	cancel()
	err := <-result
	wantCode(t, err, tee.CodeUnavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// The next caller waits for the answer to the first call, in vain for now.
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	_, _, err = d.ReadCounter(short, "c")
	wantCode(t, err, tee.CodeUnavailable)
	go func() {
		writeFrame(far, must(encodeAnswer(readAnswer{Value: 1}, nil))) // late
		readFrame(far)
		writeFrame(far, must(encodeAnswer(readAnswer{Value: 2}, nil)))
	}()
	if got, _, err := d.ReadCounter(t.Context(), "c"); got != 2 || err != nil {
		t.Errorf("got %d %v: the answer to another call", got, err)
	}
}

func TestDeviceRefusesBadAnswers(t *testing.T) {
	for name, b := range map[string][]byte{
		"wrong result": must(encodeAnswer(evidenceAnswer{}, nil)), "not CBOR": {0xff}, "null": {0xf6}, "empty list": {0x80},
	} {
		t.Run(name, func(t *testing.T) {
			d, far := slowPlatform(t)
			go func() {
				readFrame(far)
				writeFrame(far, b)
			}()
			_, err := d.SealingKey(t.Context(), tee.SealToMeasurement(), nil)
			wantCode(t, err, tee.CodeUnavailable)
		})
	}
	d, far := slowPlatform(t)
	go func() {
		readFrame(far)
		far.Write([]byte{255, 255, 255, 255})
	}()
	_, err := d.SealingKey(t.Context(), tee.SealToMeasurement(), nil)
	wantCode(t, err, tee.CodeUnavailable)
	checkGone(t, d) // out of step: closed
}

func TestOpenDeviceRefuses(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	_, err = OpenDevice(w)
	wantCode(t, err, tee.CodeUnavailable)
	if _, err := w.Write(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is still open: %v", err)
	}
	_, err = OpenDevice(w)
	wantCode(t, err, tee.CodeUnavailable)
}

// TestDeviceReachesAChild hands a device to another process, as a shim does.
func TestDeviceReachesAChild(t *testing.T) {
	if os.Getenv("CLOISTER_TEST_DEVICE_CHILD") == "1" {
		d, err := OpenDevice(os.NewFile(4, "tee"))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		key, err := d.SealingKey(t.Context(), tee.SealToMeasurement(), nil)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("key %x\n", key)
		return
	}
	p := newPlatform(t)
	path := socketPath(t)
	serve(t, p, path)
	f, _, err := must(Connect(path)).Launch(t.Context(), requestFor(t, testDocument(), nil))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), must(os.Executable()), "-test.run=^TestDeviceReachesAChild$")
	cmd.Env = []string{"CLOISTER_TEST_DEVICE_CHILD=1"}
	null := must(os.Open(os.DevNull))
	defer null.Close()
	cmd.ExtraFiles = []*os.File{null, f}
	out, err := cmd.CombinedOutput()
	f.Close()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := must(start(t, p, testDocument(), nil).SealingKey(t.Context(), tee.SealToMeasurement(), nil))
	if !bytes.Contains(out, fmt.Appendf(nil, "key %x", want)) {
		t.Errorf("child says %s, want key %x", out, want)
	}
	waitFor(t, "the child's instance to end", func() bool { return liveInstances(p) == 1 })
}
