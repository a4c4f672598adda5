package compute_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

func signer(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// version is a signed version of a product; its image says which.
func version(t *testing.T, key *ecdsa.PrivateKey, product, svn uint32) (compute.Spec, string) {
	t.Helper()
	image := fmt.Sprintf("image %d.%d", product, svn)
	d := launch.New(launch.Wasm, []byte(image))
	sig, err := launch.SignImage(key, d.Image.Digest, product, svn)
	if err == nil {
		d, err = d.Signed(sig)
	}
	if err != nil {
		t.Fatal(err)
	}
	return compute.Spec{TEE: tee.Software, Launch: d, Signature: sig}, image
}

func TestCheckLineage(t *testing.T) {
	key, other := signer(t), signer(t)
	of := func(key *ecdsa.PrivateKey, product, svn uint32) launch.Document {
		s, _ := version(t, key, product, svn)
		return s.Launch
	}
	base, unsigned := of(key, 1, 3), launch.New(launch.Wasm, []byte("x"))
	args, debug := of(key, 1, 3), of(key, 1, 4)
	args.Args, debug.Debug = []string{"x"}, true
	reformatted, err := compute.ApplyLaunchFile(launch.New(launch.Wasm, []byte("x")), []byte("# another file of the same\n\nmemory_mib:   256\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		before, after launch.Document
		text          string
	}{
		"later":              {base, of(key, 1, 4), ""},
		"same version":       {base, of(key, 1, 3), ""},
		"other arguments":    {base, args, ""},
		"the same, unsigned": {unsigned, unsigned, ""},
		"reformatted":        {unsigned, reformatted, ""},
		"older":              {base, of(key, 1, 2), "security version 2 is below 3"},
		"another product":    {base, of(key, 2, 9), "product 2, not 1"},
		"another signer":     {base, of(other, 1, 9), "another signer"},
		"unsigned":           {base, unsigned, "not signed"},
		"was unsigned":       {unsigned, base, "not signed"},
		"debug":              {base, debug, "debug"},
	} {
		err := compute.CheckLineage(c.before, c.after)
		if c.text == "" && err != nil || c.text != "" && (!errors.Is(err, compute.ErrLineage) || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
}

// TestUpdate: a later version takes the place of one, running or not, with what it keeps;
// anything else is refused and changes nothing.
func TestUpdate(t *testing.T) {
	shims := newFakeShims()
	root := t.TempDir()
	s := open(t, root, shims)
	key := signer(t)
	one, imageOne := version(t, key, 1, 1)
	made, err := s.Create(t.Context(), compute.Create{Name: "worker", Spec: one, Image: strings.NewReader(imageOne), Start: true})
	if err != nil {
		t.Fatal(err)
	}
	running := func(epoch int) compute.Instance {
		t.Helper()
		i, err := s.Wait(t.Context(), "worker", func(i compute.Instance) bool { return i.Status.Epoch >= epoch && i.Status.State == compute.Running })
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	running(1)
	dir := compute.Dir(filepath.Join(root, made.ID))
	kept := filepath.Join(dir.State(), "kept")
	if err := os.WriteFile(kept, []byte("state"), 0o600); err != nil {
		t.Fatal(err)
	}
	two, imageTwo := version(t, key, 1, 2)
	got, err := s.Update(t.Context(), "worker", compute.Update{Spec: two, Image: strings.NewReader(imageTwo)})
	if err != nil || got.ID != made.ID {
		t.Fatalf("%+v, %v", got, err)
	}
	now := running(2)
	if now.Spec.Launch.SVN != 2 || bytes.Equal(now.Expected, made.Expected) {
		t.Errorf("%+v", now)
	}
	holds := func(path, want string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s holds %q (%v), want %q", path, b, err, want)
		}
	}
	holds(kept, "state")
	holds(dir.Image(two.Launch.Image.Digest), imageTwo)
	if _, err := os.Stat(dir.Image(one.Launch.Image.Digest)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old image is still there: %v", err)
	}
	// What is refused changes nothing, and does not even stop it.
	for name, c := range map[string]struct {
		update func() (compute.Spec, io.Reader)
		want   error
	}{
		"older": {func() (compute.Spec, io.Reader) { return one, strings.NewReader(imageOne) }, compute.ErrLineage},
		"unsigned": {func() (compute.Spec, io.Reader) {
			return compute.Spec{TEE: tee.Software, Launch: launch.New(launch.Wasm, []byte("x"))}, strings.NewReader("x")
		}, compute.ErrLineage},
		"no such TEE":   {func() (compute.Spec, io.Reader) { u := two; u.TEE = tee.SNP; return u, strings.NewReader(imageTwo) }, compute.ErrRefused},
		"bad signature": {func() (compute.Spec, io.Reader) { u := two; u.Signature = nil; return u, strings.NewReader(imageTwo) }, compute.ErrRefused},
		"another image": {func() (compute.Spec, io.Reader) { return two, strings.NewReader("another") }, compute.ErrRefused},
		"broken image":  {func() (compute.Spec, io.Reader) { return two, brokenReader{} }, nil},
	} {
		u, image := c.update()
		if _, err := s.Update(t.Context(), "worker", compute.Update{Spec: u, Image: image}); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i := running(2); i.Status.Epoch != 2 || i.Spec.Launch.SVN != 2 {
		t.Errorf("a refusal changed it: %+v", i)
	}
	holds(dir.Image(two.Launch.Image.Digest), imageTwo)
	// One that gives up what is kept takes anything; a stopped one stays stopped.
	if err := s.Stop("worker"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Wait(t.Context(), "worker", func(i compute.Instance) bool { return i.Status.State == compute.Stopped }); err != nil {
		t.Fatal(err)
	}
	plain := compute.Spec{TEE: tee.Software, Launch: launch.New(launch.Wasm, []byte("x"))}
	if got, err := s.Update(t.Context(), "worker", compute.Update{Spec: plain, Image: strings.NewReader("x"), DiscardState: true}); err != nil || got.Status.State != compute.Stopped {
		t.Errorf("%+v, %v", got.Status, err)
	}
	if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was given up is still there: %v", err)
	}
	if _, err := s.Update(t.Context(), "nobody", compute.Update{Spec: plain, Image: strings.NewReader("x")}); !errors.Is(err, compute.ErrNotFound) {
		t.Error(err)
	}
	// What was committed is what the next supervisor finds.
	s.Detach()
	again, err := compute.Open(context.Background(), root, shims, nil, fakeDriver{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Detach()
	if i, err := again.Get("worker"); err != nil || i.Spec.Launch.SVN != 0 || i.ID != made.ID {
		t.Errorf("%+v, %v", i, err)
	}
}
