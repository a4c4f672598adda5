package node

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/cloister-cc/cloister/attest/akca"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/tpm"
	"github.com/cloister-cc/cloister/tee/tpm/tpmtest"
)

// TestChallengesOverHTTP: what is no TPM's is refused with reasons, before anything.
func TestChallengesOverHTTP(t *testing.T) {
	w, _ := newWorld(t)
	c := w.caller(nil)
	p := c.refused(http.MethodPost, akca.PathChallenge, []byte(`{}`), http.StatusForbidden, "not_verified")
	if len(p.Failures) < 3 {
		t.Errorf("failures %v", p.Failures)
	}
	c.refused(http.MethodPost, akca.PathChallenge, []byte(`{"ek":1}`), http.StatusBadRequest, "invalid")
	c.refused(http.MethodPost, akca.PathCertify, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA==","secret":""}`), http.StatusForbidden, "challenge")
	c.refused(http.MethodPost, akca.PathCertify, []byte(`{}`), http.StatusForbidden, "challenge")
}

// machine is a machine on a real TPM that this platform made.
type machine struct {
	*tpm.Attester
	w     *world
	event launch.Event
	log   *eventlog.Log
}

func (w *world) machine(change func(*launch.Event)) *machine {
	w.t.Helper()
	conn, _ := tpmtest.Software(w.t, w.t.TempDir())
	m := &machine{w: w, log: &eventlog.Log{Registers: eventlog.PCRs, Agile: true, Algorithms: []eventlog.Algorithm{eventlog.SHA256}}}
	var err error
	m.Attester, err = tpm.NewAttester(conn, tpm.Options{
		PCRs: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, eventlog.LaunchRegister}, EventLog: func() ([]byte, error) { return m.log.Encode(), nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = m.Close() })
	document, err := launch.New(launch.Wasm, []byte("module")).Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	info := w.platform.Info()
	root := sha256.Sum256(info.RootCertificate)
	m.event = launch.Event{Document: document, InstanceID: "machine", NodeRoot: root[:], NodeRuntime: info.RuntimeDigest[:]}
	if change != nil {
		change(&m.event)
	}
	b, err := m.event.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	e := eventlog.NewEvent(eventlog.LaunchRegister, eventlog.TypeIPL, b, b, eventlog.SHA256)
	m.log.Events = append(m.log.Events, e)
	if err := m.Extend(w.t.Context(), eventlog.LaunchRegister, map[eventlog.Algorithm][]byte{eventlog.SHA256: e.Digest(eventlog.SHA256)}); err != nil {
		w.t.Fatal(err)
	}
	return m
}

// certified gets the machine's key certified by the node, over HTTP.
func (m *machine) certified() akca.Certified {
	t := m.w.t
	t.Helper()
	ek, err := m.EK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(ek.Key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := m.w.platform.CertifyTPM(spki)
	if err != nil {
		t.Fatal(err)
	}
	c := m.w.caller(nil)
	post := func(path string, body, into any) {
		t.Helper()
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		status, answer := c.do(http.MethodPost, path, b)
		if err := json.Unmarshal(answer, into); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
	}
	var challenge akca.Challenge
	post(akca.PathChallenge, akca.ChallengeRequest{EKCertificates: [][]byte{certificate}, EKPublic: ek.Bytes(), AKPublic: m.AK().Bytes()}, &challenge)
	secret, err := m.ActivateCredential(t.Context(), challenge.CredentialBlob, challenge.EncryptedSecret)
	if err != nil {
		t.Fatal(err)
	}
	var out akca.Certified
	post(akca.PathCertify, akca.CertifyRequest{ID: challenge.ID, Secret: secret}, &out)
	return out
}

// ask asks for a key with a boot token.
func (m *machine) ask(c akca.Certified, boot []byte) (keys.ReleaseRequest, []byte) {
	t := m.w.t
	t.Helper()
	nonce, err := m.w.client(nil).Nonce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	recipient, private, err := keys.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(m.event.Document)
	ev, err := m.Evidence(t.Context(), keys.ReleaseBinding(nonce, recipient.PublicKey(), digest[:], m.event.InstanceID))
	if err != nil {
		t.Fatal(err)
	}
	ev.Certificates = [][]byte{c.Certificate}
	return keys.ReleaseRequest{Nonce: nonce, Evidence: ev, PublicKey: recipient.PublicKey(), Keys: []string{"app/key"}, Boot: boot}, private
}

// TestMachines: a machine whose TPM this platform made gets a key, as simulated; one
// that believes another node does not, nor one without its boot token.
func TestMachines(t *testing.T) {
	w, _ := newWorld(t)
	only := policy(t, func(p *keys.Policy) { p.Appraisal.Accept, p.Appraisal.AllowSimulated = []tee.Kind{tee.TPM}, true })
	material := []byte("material of the key")
	if _, err := w.client(identity(t)).PutKey(t.Context(), client.PutKey{Name: "app/key", Material: material, Policy: only}); err != nil {
		t.Fatal(err)
	}
	m := w.machine(nil)
	c := m.certified()
	req, private := m.ask(c, c.Boot)
	got, err := w.client(nil).Release(t.Context(), req)
	if err != nil || len(got.Keys) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if key, err := keys.Unwrap(private, req.Nonce, got.Keys[0]); err != nil || !bytes.Equal(key, material) {
		t.Errorf("unwrapped %q, %v", key, err)
	}
	req, _ = m.ask(c, nil)
	_, err = w.client(nil).Release(t.Context(), req)
	if p := wantCode(t, err, http.StatusForbidden, "not_verified"); len(p.Failures) != 1 || p.Failures[0].Code != tee.CodeRollback {
		t.Errorf("failures %v", p.Failures)
	}
	for name, change := range map[string]func(*launch.Event){
		"root": func(e *launch.Event) { e.NodeRoot = make([]byte, 32) }, "runtime": func(e *launch.Event) { e.NodeRuntime = make([]byte, 32) },
	} {
		m := w.machine(change)
		c := m.certified()
		req, _ := m.ask(c, c.Boot)
		_, err = w.client(nil).Release(t.Context(), req)
		if p := wantCode(t, err, http.StatusForbidden, "not_verified"); len(p.Failures) != 1 || p.Failures[0].Code != codeOtherNode {
			t.Errorf("%s: failures %v", name, p.Failures)
		}
	}
}
