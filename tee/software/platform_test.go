//go:build linux

package software

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/google/go-cmp/cmp"
)

func TestPlatformSurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "platform")
	p := open(t, dir)
	before := p.Info()
	key := must(start(t, p, testDocument(), nil).SealingKey(t.Context(), tee.SealToMeasurement(), nil))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	p = open(t, dir)
	if diff := cmp.Diff(before, p.Info()); diff != "" {
		t.Error(diff)
	}
	again := must(start(t, p, testDocument(), nil).SealingKey(t.Context(), tee.SealToMeasurement(), nil))
	if !bytes.Equal(key, again) {
		t.Error("another sealing key after a restart")
	}
	for name, mode := range map[string]os.FileMode{".": 0o700 | os.ModeDir, fusesFile: 0o600, countersFile: 0o600, anchorFile: 0o600, rootFile: 0o644} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil || st.Mode()|mode != mode || st.Mode().Type() != mode.Type() { // a umask may take more
			t.Errorf("%s: %v %v, want mode %v", name, st, err, mode)
		}
	}
	entries := must(os.ReadDir(dir))
	if len(entries) != 4 {
		t.Errorf("files left behind: %v", entries)
	}
	block, _ := pem.Decode(must(os.ReadFile(filepath.Join(dir, rootFile))))
	if block == nil || !bytes.Equal(block.Bytes, before.RootCertificate) {
		t.Error("root.pem is not the root certificate")
	}
	if !bytes.Contains(before.RootCertificate, []byte("(SIMULATED)")) || !bytes.Contains(before.PlatformCertificate, []byte("(SIMULATED)")) {
		t.Error("a certificate does not say that it is simulated")
	}
}

func TestRootCertificateIsPublishedAgain(t *testing.T) {
	p := newPlatform(t)
	path := filepath.Join(p.dir.path, rootFile)
	want := must(os.ReadFile(path))
	p.Close()
	if err := os.WriteFile(path, []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, p.dir.path)
	if got := must(os.ReadFile(path)); !bytes.Equal(got, want) {
		t.Errorf("root.pem holds %q", got)
	}
}

func TestOnePlatformPerDirectory(t *testing.T) {
	p := newPlatform(t)
	_, err := OpenPlatform(p.dir.path, Options{Runtime: testRuntime})
	wantCode(t, err, tee.CodeUnavailable)
	if !strings.Contains(err.Error(), "another platform runs") {
		t.Errorf("error does not say why: %v", err)
	}
	p.Close()
	open(t, p.dir.path)
}

func TestOpenRefusesDirectory(t *testing.T) {
	dir := t.TempDir() // mode 0755
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err := OpenPlatform(dir, Options{Runtime: testRuntime})
	wantCode(t, err, tee.CodeUnavailable)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenPlatform(file, Options{Runtime: testRuntime})
	wantCode(t, err, tee.CodeUnavailable)
}

func TestRuntimeDigest(t *testing.T) {
	want := sha256.Sum256(must(os.ReadFile(must(os.Executable()))))
	got, err := RuntimeDigest()
	if err != nil || got != want {
		t.Errorf("got %x %v, want %x", got, err, want)
	}
	p, err := OpenPlatform(filepath.Join(t.TempDir(), "p"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Info().RuntimeDigest != want {
		t.Error("the platform does not measure the running executable")
	}
}

func TestExpectVector(t *testing.T) {
	// Recomputed by hand: SHA-256 over three fields with their lengths.
	var b []byte
	for _, f := range [][]byte{[]byte("cloister software TEE measurement v1"), make([]byte, 32), bytes.Repeat([]byte{1}, 32)} {
		b = append(b, 0, 0, 0, 0, 0, 0, 0, byte(len(f)))
		b = append(b, f...)
	}
	want := sha256.Sum256(b)
	if got := Expect([32]byte{}, [32]byte(bytes.Repeat([]byte{1}, 32))); !got.Equal(want[:]) {
		t.Errorf("got %s, want %x", got, want)
	}
}

func TestDamagedFusesAreRefused(t *testing.T) {
	p := newPlatform(t)
	p.Close()
	path := filepath.Join(p.dir.path, fusesFile)
	good := must(os.ReadFile(path))
	try := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenPlatform(p.dir.path, Options{Runtime: testRuntime})
		wantCode(t, err, tee.CodeParse)
		if got := must(os.ReadFile(path)); !bytes.Equal(got, b) {
			t.Fatalf("%s: the fuses were made anew", name)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		if _, err := parseFuses(b); err == nil {
			t.Fatalf("byte %d: damage not noticed", i)
		}
	}
	try("one bit", append(bytes.Clone(good[:100]), append([]byte{good[100] ^ 1}, good[101:]...)...))
	try("empty", nil)
	try("truncated", good[:len(good)/2])
	try("too long", make([]byte, maxFuses+1))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err := OpenPlatform(p.dir.path, Options{Runtime: testRuntime})
	wantCode(t, err, tee.CodeParse)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("lost fuses were made anew")
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, p.dir.path)
}

func TestFusesPartsMustBelongTogether(t *testing.T) {
	a, b := must(newFuses(time.Now())), must(newFuses(time.Now()))
	file := func(f fuses) []byte {
		body := must(encode(f))
		return must(encode(checked{Body: body, Digest: sha256.Sum256(body)}))
	}
	if _, err := parseFuses(file(a)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*fuses){
		"root key":             func(f *fuses) { f.RootKey = b.RootKey },
		"platform key":         func(f *fuses) { f.PlatformKey = b.PlatformKey },
		"root certificate":     func(f *fuses) { f.RootCertificate = b.RootCertificate },
		"platform certificate": func(f *fuses) { f.PlatformCertificate = b.PlatformCertificate },
		"root of another":      func(f *fuses) { f.RootKey, f.RootCertificate = b.RootKey, b.RootCertificate },
		"one key for both":     func(f *fuses) { f.PlatformKey, f.PlatformCertificate = f.RootKey, f.RootCertificate },
		"zero key":             func(f *fuses) { f.RootKey = make([]byte, 32) },
		"short secret":         func(f *fuses) { f.Secret = f.Secret[1:] },
		"no secret":            func(f *fuses) { f.Secret = nil },
		"version":              func(f *fuses) { f.Version = 2 },
	} {
		f := a
		change(&f)
		if _, err := parseFuses(file(f)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestCreationIsAtomic stops dead before every change of the disk while a
// platform is made: the next start must give a whole platform.
func TestCreationIsAtomic(t *testing.T) {
	steps := 0
	for stop := 0; ; stop++ {
		dir := filepath.Join(t.TempDir(), "p")
		d := must(openDirectory(dir))
		n := 0
		d.step = func(string, string) error {
			if n++; n > stop {
				return errors.New("stopped dead")
			}
			return nil
		}
		_, err := openIn(d, testRuntime, time.Now())
		d.close()
		if err == nil {
			steps = stop
			break
		}
		p := open(t, dir)
		if err := start(t, p, testDocument(), nil).AdvanceCounter(t.Context(), "c", 0, [32]byte{}); err != nil {
			t.Fatalf("after a stop before step %d: %v", stop, err)
		}
		p.Close()
	}
	if steps < 15 {
		t.Errorf("only %d steps seen", steps)
	}
}

func TestLaunchRefuses(t *testing.T) {
	p := newPlatform(t)
	key := newKey(t)
	signed, sig := signedDocument(t, key, 1, 2)
	newer := signed
	newer.SVN = 3
	wrongBuiltin := launch.NewBuiltin(launch.RoleNode)
	wrongBuiltin.Image.Digest = make([]byte, 32)
	directory := must(os.Open(t.TempDir()))
	defer directory.Close()
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	huge := fileOf(t, nil)
	if err := os.Truncate(huge.Name(), launch.MaxImage+1); err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	cases := []struct {
		name   string
		doc    launch.Document
		sig    []byte
		ctx    context.Context
		change func(*LaunchRequest)
		code   tee.Code
	}{
		{"no document", testDocument(), nil, nil, func(r *LaunchRequest) { r.Document = nil }, tee.CodeParse},
		{"trailing byte", testDocument(), nil, nil, func(r *LaunchRequest) { r.Document = append(r.Document, 0) }, tee.CodeParse},
		{"no instance id", testDocument(), nil, nil, func(r *LaunchRequest) { r.InstanceID = "" }, tee.CodeParse},
		{"long instance id", testDocument(), nil, nil, func(r *LaunchRequest) { r.InstanceID = strings.Repeat("i", 129) }, tee.CodeParse},
		{"line in instance id", testDocument(), nil, nil, func(r *LaunchRequest) { r.InstanceID = "a\nb" }, tee.CodeParse},
		{"no image", testDocument(), nil, nil, func(r *LaunchRequest) { r.Image = nil }, tee.CodeParse},
		{"empty image", testDocument(), nil, nil, func(r *LaunchRequest) { r.Image = fileOf(t, nil) }, tee.CodeParse},
		{"huge image", testDocument(), nil, nil, func(r *LaunchRequest) { r.Image = huge }, tee.CodeParse},
		{"image is a directory", testDocument(), nil, nil, func(r *LaunchRequest) { r.Image = directory }, tee.CodeParse},
		{"image is a pipe", testDocument(), nil, nil, func(r *LaunchRequest) { r.Image = pipe }, tee.CodeParse},
		{"other image", testDocument(), nil, nil, func(r *LaunchRequest) { r.Image = fileOf(t, []byte("other")) }, tee.CodeBinding},
		{"image with one more byte", testDocument(), nil, nil, func(r *LaunchRequest) { r.Image = fileOf(t, append(bytes.Clone(testImage), 0)) }, tee.CodeBinding},
		{"builtin with image", launch.NewBuiltin(launch.RoleNode), nil, nil, func(r *LaunchRequest) { r.Image = fileOf(t, testImage) }, tee.CodeParse},
		{"other builtin", wrongBuiltin, nil, nil, func(*LaunchRequest) {}, tee.CodeBinding},
		{"signature missing", signed, nil, nil, func(*LaunchRequest) {}, tee.CodeSignature},
		{"signature for another svn", newer, sig, nil, func(*LaunchRequest) {}, tee.CodeSignature},
		{"signature of unsigned document", testDocument(), sig, nil, func(*LaunchRequest) {}, tee.CodeSignature},
		{"context done", testDocument(), nil, done, func(*LaunchRequest) {}, tee.CodeUnavailable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := requestFor(t, c.doc, c.sig)
			c.change(&r)
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			in, err := p.Launch(ctx, r)
			wantCode(t, err, c.code)
			if in != nil {
				t.Error("a handle beside an error")
			}
		})
	}
	if len(p.live) != 0 {
		t.Errorf("%d instances after refusals", len(p.live))
	}
	for _, d := range []launch.Document{testDocument(), launch.NewBuiltin(launch.RoleNode)} {
		start(t, p, d, nil)
	}
	start(t, p, signed, sig)
}

func TestImageOffsetStays(t *testing.T) {
	p := newPlatform(t)
	r := requestFor(t, testDocument(), nil)
	if _, err := r.Image.Seek(3, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Launch(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if at := must(r.Image.Seek(0, 1)); at != 3 {
		t.Errorf("offset %d, want 3", at)
	}
}

func TestInstanceBound(t *testing.T) {
	p := newPlatform(t)
	for i := range MaxInstances {
		p.live[&Instance{p: p, info: Info{InstanceID: fmt.Sprint(i)}}] = struct{}{}
	}
	_, err := p.Launch(t.Context(), requestFor(t, testDocument(), nil))
	wantCode(t, err, tee.CodeUnavailable)
}

func TestClosedInstanceGivesNothing(t *testing.T) {
	p := newPlatform(t)
	in := start(t, p, testDocument(), nil)
	in.Close()
	in.Close()
	if len(p.live) != 0 {
		t.Error("closed instance is listed")
	}
	checkGone(t, in)
	_, err := in.Device()
	wantCode(t, err, tee.CodeUnavailable)
	in = start(t, p, testDocument(), nil)
	p.Close()
	checkGone(t, in)
	_, err = p.Launch(t.Context(), requestFor(t, testDocument(), nil))
	wantCode(t, err, tee.CodeUnavailable)
}

// checkGone wants CodeUnavailable of every operation.
func checkGone(t *testing.T, d interface {
	tee.Attester
	tee.Sealer
	tee.Counters
	SetSandbox(context.Context, []string, []string) error
	SignerCounters() tee.Counters
}) {
	t.Helper()
	ctx := t.Context()
	_, err := d.Evidence(ctx, [64]byte{})
	wantCode(t, err, tee.CodeUnavailable)
	_, err = d.SealingKey(ctx, tee.SealToMeasurement(), nil)
	wantCode(t, err, tee.CodeUnavailable)
	_, _, err = d.ReadCounter(ctx, "c")
	wantCode(t, err, tee.CodeUnavailable)
	wantCode(t, d.AdvanceCounter(ctx, "c", 0, [32]byte{}), tee.CodeUnavailable)
	wantCode(t, d.SignerCounters().AdvanceCounter(ctx, "c", 0, [32]byte{}), tee.CodeUnavailable)
	wantCode(t, d.SetSandbox(ctx, nil, nil), tee.CodeUnavailable)
}

func TestSetSandboxBounds(t *testing.T) {
	in := start(t, newPlatform(t), testDocument(), nil)
	for name, walls := range map[string][]string{
		"too many": make([]string, MaxWalls+1), "empty name": {""}, "long name": {strings.Repeat("w", MaxWall+1)}, "control byte": {"a\x00b"},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, in.SetSandbox(t.Context(), walls, nil), tee.CodeParse)
			wantCode(t, in.SetSandbox(t.Context(), nil, walls), tee.CodeParse)
		})
	}
	if err := in.SetSandbox(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	wantCode(t, in.SetSandbox(t.Context(), nil, nil), tee.CodeUnsupported)
}
