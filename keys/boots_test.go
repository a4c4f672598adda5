package keys_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/keystest"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// machines is a key service for machines with TPMs.
type machines struct {
	*keys.Service
	log   *keystest.Log
	maker *tpmtest.Authority
	t     testing.TB
}

func newMachines(t testing.TB) *machines {
	t.Helper()
	m := &machines{log: &keystest.Log{}, maker: tpmtest.NewAuthority(t, "authority", nil, tpmtest.CertificateOptions{}), t: t}
	m.restart()
	if _, err := m.Import(t.Context(), alice, "k", []byte("secret"), policy(t, nil)); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machines) restart() {
	m.t.Helper()
	m.Service = keys.New(keys.Config{
		Verifier: attest.NewVerifier(tpm.New()), Input: func(tee.Evidence) tee.Input { return m.maker.Input() },
		Issue: func(*attest.Verified, [32]byte) (keys.Token, error) { return keys.Token{Text: "token", ID: "id"}, nil },
		Now:   m.maker.Input().At.UTC,
	})
	if err := m.log.Open(m.Service); err != nil {
		m.t.Fatal(err)
	}
}

// boot is a machine that has booted as an instance.
type boot struct {
	*tpmtest.TPM
	digest   []byte
	instance string
}

func (m *machines) boot(chip *tpmtest.TPM, instance string) *boot {
	m.t.Helper()
	chip.Boot(true)
	d := launch.New(launch.Wasm, []byte("module"))
	document, err := d.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	digest := must(d.Digest())
	chip.Launch(m.t, launch.Event{Document: document, InstanceID: instance, NodeRoot: make([]byte, 32), NodeRuntime: make([]byte, 32)})
	return &boot{chip, digest[:], instance}
}

// chip is a TPM whose key is certified.
func (m *machines) chip() *tpmtest.TPM {
	c := tpmtest.New(m.t, tpm.ECDSA)
	c.Certificate = m.maker.Certify(m.t, c.Key.Public(), tpmtest.CertificateOptions{})
	return c
}

// ask asks for the key with a boot token.
func (m *machines) ask(b *boot, token []byte, renew bool) error {
	m.t.Helper()
	nonce := must(m.Nonce())
	recipient, _, err := keys.NewRecipient()
	if err != nil {
		m.t.Fatal(err)
	}
	ev := must(b.Evidence(m.t.Context(), keys.ReleaseBinding(nonce, recipient.PublicKey(), b.digest, b.instance)))
	r, err := m.Release(m.t.Context(), keys.ReleaseRequest{Nonce: nonce, Evidence: ev, PublicKey: recipient.PublicKey(), Keys: []string{"k"}, Renew: renew, Boot: token})
	if err != nil {
		wantNothing(m.t, r)
	}
	return err
}

func (m *machines) began(b *boot, token []byte) []byte {
	m.t.Helper()
	next, err := m.BeginBoot(tpm.KeyID(b.Key.Public()), token)
	if err != nil {
		m.t.Fatal(err)
	}
	return next
}

// refused wants a rollback to be named.
func (m *machines) refused(what string, err error, hint string) {
	m.t.Helper()
	if got := attest.Failures(err); len(got) != 1 || got[0].Code != tee.CodeRollback || !strings.Contains(got[0].Hint, hint) {
		m.t.Errorf("%s: %v, want %s with %q", what, err, tee.CodeRollback, hint)
	}
}

// TestBoots: a machine goes from boot to boot with the token that it was given last,
// also over restarts of the node.
func TestBoots(t *testing.T) {
	m := newMachines(t)
	chip := m.chip()
	b := m.boot(chip, "one")
	m.refused("no token", m.ask(b, nil, false), "put back")
	first := m.began(b, nil)
	for _, renew := range []bool{false, true, false} { // the same boot asks as often as it likes
		if err := m.ask(b, first, renew); err != nil {
			t.Fatal(err)
		}
	}
	m.restart()
	if err := m.ask(b, first, true); err != nil {
		t.Fatal(err)
	}
	second := m.began(b, first)
	if err := m.ask(b, first, true); err != nil { // not kept yet: it goes on with the first
		t.Fatal(err)
	}
	m.restart()
	if err := m.ask(b, second, false); err != nil {
		t.Fatal(err)
	}
	m.refused("an older token, now", m.ask(b, first, true), "put back")
	m.restart()
	m.refused("an older token, later", m.ask(b, first, false), "put back")
	// A machine that ends before it has kept its token goes on with the one from before.
	lost := m.began(b, second)
	third := m.began(b, second)
	m.refused("a token that was replaced", m.ask(b, lost, false), "put back")
	if err := m.ask(b, third, false); err != nil {
		t.Fatal(err)
	}
}

// TestRollback: what was put back or copied is refused when it begins, for good.
func TestRollback(t *testing.T) {
	m := newMachines(t)
	chip := m.chip()
	b := m.boot(chip, "one")
	snapshot := m.began(b, nil)
	if err := m.ask(b, snapshot, false); err != nil {
		t.Fatal(err)
	}
	now := m.began(b, snapshot)
	if err := m.ask(b, now, false); err != nil {
		t.Fatal(err)
	}
	for range 3 { // starting it again and again does not help
		_, err := m.BeginBoot(tpm.KeyID(chip.Key.Public()), snapshot)
		m.refused("put back", err, "put back")
		_, err = m.BeginBoot(tpm.KeyID(chip.Key.Public()), nil)
		m.refused("made new", err, "put back")
		m.restart()
	}
	if err := m.ask(b, now, true); err != nil {
		t.Errorf("the machine that was not put back: %v", err)
	}
	// A copy of the directory, started as another instance, with the token of now.
	copied := m.boot(chip, "two")
	m.refused("copied", m.ask(copied, now, false), "directory was copied")
	// Two of one state: the first that asks goes on, the other is refused.
	one, two := m.began(b, now), m.began(b, now)
	b = m.boot(chip, "one")
	if err := m.ask(b, two, false); err != nil {
		t.Fatal(err)
	}
	m.refused("the other of two", m.ask(b, one, false), "put back")
	// Another TPM is another machine.
	other := m.boot(m.chip(), "three")
	if err := m.ask(other, m.began(other, nil), false); err != nil {
		t.Fatal(err)
	}
	if err := m.ask(other, two, false); err == nil {
		t.Error("the token of another machine is good")
	}
}

// TestTokensAreNotKept: who reads the log has no token.
func TestTokensAreNotKept(t *testing.T) {
	m := newMachines(t)
	b := m.boot(m.chip(), "one")
	token := m.began(b, nil)
	if err := m.ask(b, token, false); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.log.Entries() {
		if bytes.Contains(e, token) || bytes.Contains(e, []byte(hex.EncodeToString(token))) {
			t.Error("the log has a token in clear")
		}
	}
}
