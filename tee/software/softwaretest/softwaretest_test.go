//go:build linux

package softwaretest_test

import (
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDevice(t *testing.T) {
	p := softwaretest.New(t)
	image := []byte("module")
	doc := launch.New(launch.Wasm, image)
	d := p.Device(t, doc, image, nil)
	ev, err := d.Evidence(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := software.New().Verify(ev, tee.Input{Roots: p.Roots, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := doc.Digest()
	if !claims.Measurement.Equal(software.Expect(softwaretest.Runtime, digest)) || claims.InstanceID != "test-1" {
		t.Errorf("claims %+v", claims)
	}
}

func TestRestart(t *testing.T) {
	p := softwaretest.New(t)
	doc := launch.NewBuiltin(launch.RoleNode)
	if err := p.Device(t, doc, nil, nil).AdvanceCounter(t.Context(), "c", 0, [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = softwaretest.Open(t, p.Dir)
	if v, _, err := p.Instance(t, doc, nil, nil).ReadCounter(t.Context(), "c"); v != 1 || err != nil {
		t.Errorf("counter %d %v after a restart, want 1", v, err)
	}
}
