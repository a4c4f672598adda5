package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/akca"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// booted is a machine that has just booted, on a real TPM whose memory is in dir; what
// is booted goes into PCR 4.
func booted(t *testing.T, dir, what string) *bootedTEE {
	t.Helper()
	conn, wait := tpmtest.Software(t, dir)
	v, err := newVault()
	if err != nil {
		t.Fatal(err)
	}
	log := &eventlog.Log{Registers: eventlog.PCRs, Agile: true, Algorithms: []eventlog.Algorithm{eventlog.SHA256}}
	m := &bootedTEE{machineTEE: &machineTEE{vault: v}}
	m.Attester, err = tpm.NewAttester(conn, tpm.Options{PCRs: quoted(), EventLog: func() ([]byte, error) { return m.log, nil }})
	if err != nil {
		t.Fatal(err)
	}
	e := eventlog.NewEvent(4, eventlog.TypeIPL, []byte(what), []byte(what), eventlog.SHA256)
	log.Events = append(log.Events, e)
	if err := m.Extend(t.Context(), 4, map[eventlog.Algorithm][]byte{eventlog.SHA256: e.Digest(eventlog.SHA256)}); err != nil {
		t.Fatal(err)
	}
	m.log = log.Encode()
	m.turnOff = sync.OnceFunc(func() { _ = m.Close(); wait() })
	t.Cleanup(m.turnOff)
	return m
}

// bootedTEE is a machine that can be turned off.
type bootedTEE struct {
	*machineTEE
	turnOff func()
}

// launches is what a host says is to be launched.
func launches(t *testing.T, change func(*launch.Document)) link.Launch {
	t.Helper()
	d := launch.New(launch.Wasm, []byte("image"))
	if change != nil {
		change(&d)
	}
	document, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	root := tpmtest.NewAuthority(t, "node", nil, tpmtest.CertificateOptions{})
	return link.Launch{Document: document, InstanceID: "instance", NodeRoot: root.Certificate.Raw, NodeRuntime: bytes.Repeat([]byte{3}, 32)}
}

// lab is a node's attestation CA, and the maker of TPMs that it trusts.
type lab struct {
	*akca.Authority
	maker  *tpmtest.Authority
	issuer *x509.Certificate
	tokens [][]byte // that machines had
}

func newLab(t *testing.T) *lab {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{maker: tpmtest.NewAuthority(t, "maker", nil, tpmtest.CertificateOptions{})}
	if l.issuer, err = akca.NewIssuer(key); err != nil {
		t.Fatal(err)
	}
	l.Authority = akca.New(akca.Config{Issuer: l.issuer, Signer: key, Makers: func() tee.Input { return tee.Input{Roots: tee.Roots{l.maker.Certificate}} },
		Began: func(_ *tpm.Public, boot []byte) ([]byte, error) {
			l.tokens = append(l.tokens, bytes.Clone(boot))
			return fmt.Appendf(nil, "token %d", len(l.tokens)), nil
		}})
	return l
}

// equips gives a TPM its maker's certificate.
func (l *lab) equips(t *testing.T, m *bootedTEE) {
	t.Helper()
	ek, err := m.EK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o := tpmtest.Endorsement()
	o.Emulated, o.To = true, tpmtest.At.AddDate(50, 0, 0)
	if err := m.WriteNV(t.Context(), tpm.EKCertificateIndex, l.maker.Certify(t, ek.Key, o)); err != nil {
		t.Fatal(err)
	}
}

// ask answers what an agent asks of its node.
func (l *lab) ask(path string, body, into any) (err error) {
	switch path {
	case akca.PathChallenge:
		*into.(*akca.Challenge), err = l.Challenge(body.(akca.ChallengeRequest))
	case akca.PathCertify:
		*into.(*akca.Certified), err = l.Certify(body.(akca.CertifyRequest))
	default:
		err = errors.New("no such path")
	}
	return err
}

// TestMachine: an agent in a machine measures its launch, gets its key certified, and
// its evidence says all of it.
func TestMachine(t *testing.T) {
	l, dir := newLab(t), t.TempDir()
	m := booted(t, dir, "kernel")
	l.equips(t, m)
	given := launches(t, func(d *launch.Document) { d.Args = []string{"x"} })
	walls := sandbox.Report{Applied: []sandbox.Wall{sandbox.Seccomp}, Missing: []sandbox.Wall{sandbox.Landlock}}
	b, err := m.begin(t.Context(), given, walls)
	if err != nil {
		t.Fatal(err)
	}
	if b.identity.TEE != tee.TPM || !b.identity.Simulated || b.identity.InstanceID != "instance" || len(b.identity.Measurement) != 32 || b.document.Args[0] != "x" || !bytes.Equal(b.node.Root, given.NodeRoot) {
		t.Errorf("began as %+v", b)
	}
	for range 3 { // asked before each release, answered once
		if err := m.enrol(t.Context(), l.ask); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.tokens) != 1 || l.tokens[0] != nil || string(m.boot()) != "token 1" {
		t.Errorf("tokens %q, now %q", l.tokens, m.boot())
	}
	ev, err := m.Evidence(t.Context(), [64]byte{5})
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.NewVerifier(tpm.New()).Verify(ev, tee.Input{At: l.issuer.NotBefore.AddDate(200, 0, 0), Roots: tee.Roots{l.issuer}}, attest.BindTo([64]byte{5}))
	if err == nil {
		t.Errorf("a certificate of now is good in 200 years: %+v", v)
	}
	c := certifiedClaims(t, l, ev)
	if !c.Simulated || !c.LaunchByGuest || !bytes.Equal(c.LaunchDigest, b.identity.LaunchDigest) || c.InstanceID != "instance" || !bytes.Equal(c.Measurement, b.identity.Measurement) ||
		fmt.Sprint(c.Vendor["walls"], c.Vendor["missing_walls"]) != "[seccomp] [landlock]" {
		t.Errorf("claims %+v", c)
	}
	// The next boot has the token of this one.
	m.turnOff()
	again := booted(t, dir, "kernel")
	if _, err := again.begin(t.Context(), given, walls); err != nil {
		t.Fatal(err)
	}
	if err := again.enrol(t.Context(), l.ask); err != nil || len(l.tokens) != 2 || string(l.tokens[1]) != "token 1" {
		t.Errorf("tokens %q, %v", l.tokens, err)
	}
	// A TPM without a certificate of its maker has nobody to vouch for it.
	bare := booted(t, t.TempDir(), "kernel")
	if b, err := bare.begin(t.Context(), given, walls); err != nil || !b.identity.Simulated {
		t.Errorf("nobody vouches for it: %+v, %v", b.identity, err)
	}
	if err := bare.enrol(t.Context(), l.ask); codeOf(err) != "no_ek_certificate" {
		t.Error(err)
	}
}

func certifiedClaims(t *testing.T, l *lab, ev tee.Evidence) tee.Claims {
	t.Helper()
	s, err := x509.ParseCertificate(ev.Certificates[0])
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := tpm.New().Verify(ev, tee.Input{At: s.NotBefore.AddDate(0, 0, 1), Roots: tee.Roots{l.issuer}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMachineSeals: keys and counters belong to what was booted and launched, survive a
// restart, and after the launch the TPM makes them no more.
func TestMachineSeals(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	version := func(svn uint32) link.Launch {
		image := fmt.Appendf(nil, "image %d", svn)
		d := launch.New(launch.Wasm, image)
		sig, err := launch.SignImage(key, d.Image.Digest, 1, svn)
		if err == nil {
			d, err = d.Signed(sig)
		}
		if err != nil {
			t.Fatal(err)
		}
		l := launches(t, func(o *launch.Document) { *o = d })
		l.Signature = sig
		return l
	}
	keyOf := func(dir, what string, l link.Launch, policy tee.SealPolicy) string {
		t.Helper()
		m := booted(t, dir, what)
		defer m.turnOff()
		if _, err := m.begin(t.Context(), l, sandbox.Report{}); err != nil {
			t.Fatal(err)
		}
		k, err := m.SealingKey(t.Context(), policy, []byte("disk"))
		if err != nil {
			t.Fatal(err)
		}
		late, err := m.PlatformKey(t.Context(), quoted(), "cloister sealing key v1")
		if err != nil || bytes.Equal(late, m.key) {
			t.Errorf("the TPM still makes the machine's key: %v", err)
		}
		return string(k)
	}
	exact, signer := tee.SealToMeasurement(), tee.SealToSigner(1)
	one, two := version(1), version(2)
	seen := map[string]string{}
	for name, k := range map[string]string{
		"measurement": keyOf(dir, "kernel", one, exact), "signer": keyOf(dir, "kernel", one, signer), "other launch": keyOf(dir, "kernel", two, exact),
		"other kernel": keyOf(dir, "evil kernel", one, exact), "other kernel, signer": keyOf(dir, "evil kernel", one, signer), "other TPM": keyOf(t.TempDir(), "kernel", one, exact),
	} {
		if twin, dup := seen[k]; dup {
			t.Errorf("%s and %s have one key", name, twin)
		}
		seen[k] = name
	}
	if seen[keyOf(dir, "kernel", one, exact)] != "measurement" || seen[keyOf(dir, "kernel", two, signer)] != "signer" {
		t.Error("a restart, or an update of the same signer, finds another key")
	}
	for i, l := range []link.Launch{one, two, two} { // the signer's counter goes on over an update
		m := booted(t, dir, "kernel")
		if _, err := m.begin(t.Context(), l, sandbox.Report{}); err != nil {
			t.Fatal(err)
		}
		if err := m.SignerCounters().AdvanceCounter(t.Context(), "state", uint64(i), [32]byte{byte(i)}); err != nil {
			t.Error(err)
		}
		if v, _, err := m.ReadCounter(t.Context(), "state"); err != nil || v != 0 {
			t.Errorf("the launch's own counter stands at %d, %v", v, err)
		}
		m.turnOff()
	}
	m := booted(t, dir, "kernel")
	if _, err := m.begin(t.Context(), launches(t, nil), sandbox.Report{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.SignerCounters().ReadCounter(t.Context(), "state"); !errors.Is(err, &tee.Error{Code: tee.CodeSealPolicy}) {
		t.Errorf("an unsigned launch has a signer's counters: %v", err)
	}
	if err := m.SignerCounters().AdvanceCounter(t.Context(), "state", 0, [32]byte{}); !errors.Is(err, &tee.Error{Code: tee.CodeSealPolicy}) {
		t.Error(err)
	}
}

// TestMachineRefuses what it should not launch, before it measures anything.
func TestMachineRefuses(t *testing.T) {
	m := booted(t, t.TempDir(), "kernel")
	for name, c := range map[string]struct {
		change func(*link.Launch)
		code   string
	}{
		"no document":        {func(l *link.Launch) { l.Document = nil }, "agent"},
		"another's encoding": {func(l *link.Launch) { l.Document = append(l.Document, 0) }, "agent"},
		"signature too many": {func(l *link.Launch) { l.Signature = []byte{1} }, "signature"},
		"no signature": {func(l *link.Launch) {
			*l = launches(t, func(d *launch.Document) { d.Signer = bytes.Repeat([]byte{1}, 32) })
		}, "signature"},
		"a role": {func(l *link.Launch) {
			*l = launches(t, func(d *launch.Document) { *d = launch.NewBuiltin(launch.RoleNode) })
		}, "unsupported"},
		"no node":            {func(l *link.Launch) { l.NodeRoot = nil }, "node_unknown"},
		"half a node":        {func(l *link.Launch) { l.NodeRuntime = nil }, "node_unknown"},
		"no instance's name": {func(l *link.Launch) { l.InstanceID = "" }, "agent"},
	} {
		l := launches(t, nil)
		c.change(&l)
		if b, err := m.begin(t.Context(), l, sandbox.Report{}); codeOf(err) != c.code || b.identity.TEE != "" {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
		s, err := m.Quote(t.Context(), nil)
		if err != nil || !bytes.Equal(s.PCRs[eventlog.SHA256][eventlog.LaunchRegister], make([]byte, 32)) {
			t.Errorf("%s: measured all the same, %v", name, err)
		}
	}
}
