package software_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/compute/software"
	"github.com/cloister-cc/cloister/internal/unixsock"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	swtee "github.com/cloister-cc/cloister/tee/software"
)

// TestMain is also the processes that the driver starts of this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case sandbox.ProbeCommand:
			os.Exit(sandbox.ProbeMain())
		case agent.Command:
			os.Exit(fakeAgent())
		}
	}
	goleak.VerifyTestMain(m)
}

// fakeAgent says who it is on its channel, then does what it is told there.
func fakeAgent() int {
	f := os.NewFile(sandbox.FirstFile, "channel")
	channel, err := net.FileConn(f)
	if err != nil {
		return 1
	}
	for fd := sandbox.FirstFile + 1; fd <= sandbox.FirstFile+2; fd++ { // TEE device and lock
		if _, err := os.NewFile(uintptr(fd), "file").Stat(); err != nil {
			return 1
		}
	}
	if _, err := fmt.Fprintf(channel, "hello %d", os.Getpid()); err != nil {
		return 1
	}
	order := make([]byte, 4)
	if _, err := io.ReadFull(channel, order); err != nil {
		return 1
	}
	if string(order) == "fail" {
		return 3
	}
	return 0
}

// platform runs a software TEE that measures this very program.
func platform(t *testing.T) (socket string, p *swtee.Platform) {
	t.Helper()
	dir := t.TempDir()
	p, err := swtee.OpenPlatform(filepath.Join(dir, "platform"), swtee.Options{})
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "platform.sock")
	l, err := unixsock.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, p.Close()); err != nil {
			t.Error(err)
		}
	})
	return socket, p
}

// What is computed offline, before anything starts, is what evidence carries.
func TestExpect(t *testing.T) {
	socket, p := platform(t)
	root, err := x509.ParseCertificate(p.Info().RootCertificate)
	if err != nil {
		t.Fatal(err)
	}
	client, err := swtee.Connect(socket)
	if err != nil {
		t.Fatal(err)
	}
	image := []byte("image")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain := launch.New(launch.Wasm, image)
	signature, err := launch.SignImage(key, plain.Image.Digest, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := plain.Signed(signature)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*launch.Document)) launch.Document {
		d := launch.New(launch.Wasm, image)
		change(&d)
		return d
	}
	driver := software.New(socket)
	seen := map[string]string{}
	for name, d := range map[string]launch.Document{
		"plain": plain, "arguments": changed(func(d *launch.Document) { d.Args = []string{"x"} }), "debug": changed(func(d *launch.Document) { d.Debug = true }),
		"memory": changed(func(d *launch.Document) { d.MemoryMiB++ }), "signed": signed, "another image": launch.New(launch.Wasm, []byte("other")),
		"node": launch.NewBuiltin(launch.RoleNode),
	} {
		expected, err := driver.Expect(compute.Spec{Launch: d})
		if err != nil {
			t.Fatal(err)
		}
		want := expected.Measurement
		if twin, ok := seen[string(want)]; ok {
			t.Errorf("%s and %s have one measurement", name, twin)
		}
		seen[string(want)] = name
		if got := measured(t, client, root, name, d, image, signature); name != "another image" && !got.Equal(want) {
			t.Errorf("%s: evidence carries %s, expected %s", name, got, want)
		}
	}
	if _, err := driver.Expect(compute.Spec{}); !errors.Is(err, launch.ErrInvalid) {
		t.Errorf("a document that is not valid: %v", err)
	}
	if _, err := driver.Expect(compute.Spec{Launch: plain, Size: compute.Size{VCPUs: 2}}); err == nil {
		t.Error("a process takes the size of a machine")
	}
	if driver.Kind() != tee.Software {
		t.Errorf("kind %s", driver.Kind())
	}
}

// measured launches a document and returns the measurement in its evidence.
func measured(t *testing.T, client *swtee.Client, root *x509.Certificate, name string, d launch.Document, image, signature []byte) tee.Measurement {
	t.Helper()
	document, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := swtee.LaunchRequest{Document: document, InstanceID: "i-1"}
	if d.Image.Kind != launch.Builtin {
		if r.Image, err = os.Create(filepath.Join(t.TempDir(), "image")); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Image.Close() }()
		if _, err := r.Image.Write(image); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.Signer) > 0 {
		r.Signature = signature
	}
	f, _, err := client.Launch(t.Context(), r)
	if name == "another image" {
		if err == nil {
			t.Error("an image that is not the document's is launched")
			_ = f.Close()
		}
		return nil
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	device, err := swtee.OpenDevice(f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = device.Close() }()
	ev, err := device.Evidence(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := swtee.New().Verify(ev, tee.Input{Roots: tee.Roots{root}, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return claims.Measurement
}

// boot starts an instance whose agent is fakeAgent.
func boot(t *testing.T, driver *software.Driver) (compute.Machine, error) {
	t.Helper()
	dir := compute.Dir(filepath.Join(t.TempDir(), "0123456789abcdef"))
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	d := launch.NewBuiltin(launch.RoleNode)
	document, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := compute.Lock(dir.Lock())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	m, err := driver.Boot(t.Context(), compute.Boot{ID: "0123456789abcdef", Dir: dir, Document: document, Spec: compute.Spec{Launch: d}, Output: os.Stderr, Lock: lock})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { m.Kill(); _ = m.Channel().Close() })
	b := make([]byte, len("hello 1"))
	if _, err := io.ReadFull(m.Channel(), b); err != nil || string(b) != "hello 1" {
		t.Fatalf("the agent says %q (%v); want it as process 1 of its own", b, err)
	}
	return m, nil
}

func TestMachine(t *testing.T) {
	socket, _ := platform(t)
	driver := software.New(socket)
	for name, c := range map[string]struct {
		end  func(compute.Machine)
		code string
	}{
		"ends":   {func(m compute.Machine) { _, _ = io.WriteString(m.Channel(), "done") }, ""},
		"fails":  {func(m compute.Machine) { _, _ = io.WriteString(m.Channel(), "fail") }, compute.CodeAgentLost},
		"killed": {func(m compute.Machine) { m.Kill(); m.Kill() }, compute.CodeAgentLost},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := boot(t, driver)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-m.Done():
				t.Fatal("it ended at once")
			default:
			}
			c.end(m)
			<-m.Done()
			code, message := m.Postmortem()
			if code != c.code || (message == "") != (code == "") {
				t.Errorf("postmortem %q %q, want %q", code, message, c.code)
			}
		})
	}
}

func TestBootThatFails(t *testing.T) {
	none := software.New(filepath.Join(t.TempDir(), "none.sock"))
	if _, err := boot(t, none); err == nil {
		t.Error("booted without a platform")
	}
	socket, _ := platform(t)
	d := launch.New(launch.Wasm, []byte("image"))
	document, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	dir := compute.Dir(t.TempDir())
	if _, err := software.New(socket).Boot(t.Context(), compute.Boot{ID: "i", Dir: dir, Document: document, Spec: compute.Spec{Launch: d}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without an image: %v", err)
	}
}

// The probe answers for every wall: none is forgotten, none is in both lists.
func TestProbe(t *testing.T) {
	c := software.New("").Probe(t.Context())
	if c.TEE != tee.Software || !c.Simulated || c.Detail == "" {
		t.Errorf("%+v", c)
	}
	if !c.Available {
		t.Skipf("no sandbox on this host: %s", c.Detail)
	}
	got := slices.Sorted(slices.Values(append(slices.Clone(c.Walls), c.Missing...)))
	if want := slices.Sorted(slices.Values(sandbox.Strings(sandbox.All()))); !slices.Equal(got, want) {
		t.Errorf("walls %v, want %v", got, want)
	}
}

func TestProbeWithoutADirectory(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	if c := software.New("").Probe(t.Context()); c.Available || c.Detail == "" || len(c.Walls) != 0 {
		t.Errorf("%+v", c)
	}
}
