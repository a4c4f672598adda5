package agent

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest/akca"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/sealing"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// machineTEE is a virtual machine with a TPM: the firmware has measured the machine,
// with this very program in it, and the agent measures the launch, once.
type machineTEE struct {
	*tpm.Attester
	vault *vault

	mu           sync.Mutex
	log          []byte   // the firmware's events and ours
	certificates [][]byte // of the attestation key
	renewAt      time.Time
	token        []byte // of this boot
	key          []byte // of this machine and platform, in the vault
	doc          launch.Document
	digest       [32]byte // of the launch document
}

// quoted are the registers of the evidence: what was booted, and what is launched.
func quoted() []uint32 {
	pcrs := []uint32{eventlog.LaunchRegister}
	for i := range uint32(10) {
		pcrs = append(pcrs, i)
	}
	return pcrs
}

func openTPM(v *vault) (platform, error) {
	m := &machineTEE{vault: v}
	log, err := io.ReadAll(io.LimitReader(os.NewFile(thirdFD, "event log"), tee.MaxEventLog+1))
	if err == nil && len(log) > tee.MaxEventLog {
		err = fmt.Errorf("more than %d bytes", tee.MaxEventLog)
	}
	if err != nil {
		return nil, fmt.Errorf("read the firmware's event log: %w", err)
	}
	m.log = log
	m.Attester, err = tpm.NewAttester(os.NewFile(deviceFD, "TPM"), tpm.Options{PCRs: quoted(), EventLog: func() ([]byte, error) { return m.log, nil }})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// begin checks the launch and measures it into PCR 15, the first that is measured
// there. The key for sealing is taken before: afterwards the TPM makes it no more,
// whoever asks.
func (m *machineTEE) begin(ctx context.Context, l link.Launch, walls sandbox.Report) (begun, error) {
	doc, err := launch.Parse(l.Document)
	if err != nil {
		return begun{}, err
	}
	if err := doc.CheckSignature(l.Signature); err != nil {
		return begun{}, &failure{code: string(tee.CodeSignature), err: err, hint: "sign this very image: cloister enclave sign"}
	}
	if doc.Image.Kind == launch.Builtin {
		return begun{}, &failure{code: string(tee.CodeUnsupported), err: errors.New("the platform's own roles do not run in virtual machines")}
	}
	if _, err := x509.ParseCertificate(l.NodeRoot); err != nil || len(l.NodeRuntime) != sha256.Size {
		return begun{}, &failure{code: "node_unknown", err: errors.New("the host did not say which node to trust")}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key, err := m.PlatformKey(ctx, quoted(), "cloister sealing key v1")
	if err != nil {
		return begun{}, err
	}
	if m.key, err = m.vault.put(key); err != nil {
		return begun{}, err
	}
	root := sha256.Sum256(l.NodeRoot)
	event := launch.Event{
		Document: l.Document, InstanceID: l.InstanceID, NodeRoot: root[:], NodeRuntime: l.NodeRuntime,
		Walls: sandbox.Strings(walls.Applied), Missing: sandbox.Strings(walls.Missing),
	}
	if err := m.measure(ctx, event); err != nil {
		return begun{}, err
	}
	m.doc, m.digest = doc, sha256.Sum256(l.Document)
	s, err := m.Quote(ctx, nil)
	if err != nil {
		return begun{}, err
	}
	return begun{
		document: doc, node: compute.Node{Root: l.NodeRoot, Runtime: l.NodeRuntime},
		identity: call.Identity{
			TEE: tee.TPM, Measurement: tpm.Measurement(s.PCRs), LaunchDigest: m.digest[:], InstanceID: l.InstanceID,
			Simulated: m.emulated(ctx),
		},
	}, nil
}

// measure extends PCR 15 in every bank of the log, and writes the event into the log.
func (m *machineTEE) measure(ctx context.Context, e launch.Event) error {
	b, err := e.Encode()
	if err != nil {
		return err
	}
	log, err := eventlog.Parse(m.log)
	if err != nil {
		return err
	}
	event := eventlog.NewEvent(eventlog.LaunchRegister, eventlog.TypeIPL, b, b, log.Algorithms...)
	digests := map[eventlog.Algorithm][]byte{}
	for _, a := range log.Algorithms {
		if d := event.Digest(a); d != nil {
			digests[a] = d
		}
	}
	if err := m.Extend(ctx, eventlog.LaunchRegister, digests); err != nil {
		return err
	}
	log.Events = append(log.Events, event)
	m.log = log.Encode()
	return nil
}

// emulated reports what the TPM's own certificate says. It is what the program is
// told; others believe the evidence.
func (m *machineTEE) emulated(ctx context.Context) bool {
	der, err := m.makersCertificate(ctx)
	if err != nil {
		return true // nobody vouches for it
	}
	c, err := x509.ParseCertificate(der)
	return err != nil || tee.IsEmulatedTPM(c)
}

func (m *machineTEE) makersCertificate(ctx context.Context) ([]byte, error) {
	b, err := m.ReadNV(ctx, tpm.EKCertificateIndex, tpm.MaxCertificate)
	if err != nil {
		return nil, err
	}
	return tpm.TrimCertificate(b)
}

// enrol gets a certificate of the attestation key from the node, when there is none
// or the one that there is has lived for half of its time.
func (m *machineTEE) enrol(ctx context.Context, ask func(path string, body, into any) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.certificates) > 0 && time.Now().Before(m.renewAt) {
		return nil
	}
	certificate, err := m.makersCertificate(ctx)
	if err != nil {
		return &failure{code: "no_ek_certificate", err: fmt.Errorf("the TPM has no certificate of its maker: %w", err)}
	}
	ek, err := m.EK(ctx)
	if err != nil {
		return err
	}
	var challenge akca.Challenge
	request := akca.ChallengeRequest{EKCertificates: [][]byte{certificate}, EKPublic: ek.Bytes(), AKPublic: m.AK().Bytes()}
	if err := ask(akca.PathChallenge, request, &challenge); err != nil {
		return err
	}
	secret, err := m.ActivateCredential(ctx, challenge.CredentialBlob, challenge.EncryptedSecret)
	if err != nil {
		return err
	}
	kept, err := m.keptToken(ctx)
	if err != nil {
		return err
	}
	var certified akca.Certified
	if err := ask(akca.PathCertify, akca.CertifyRequest{ID: challenge.ID, Secret: secret, Boot: kept}, &certified); err != nil {
		return err
	}
	// Kept before anything is asked for with it: a machine that ends in between goes on
	// with the one that it has.
	if err := m.WriteNV(ctx, tokenIndex, certified.Boot); err != nil {
		return err
	}
	m.token, m.certificates = certified.Boot, [][]byte{certified.Certificate}
	m.renewAt = time.Now().Add(akca.Lifetime / 2)
	return nil
}

// tokenIndex is the NV index of the boot token: the last that the owner hands out.
const tokenIndex = 0x01BFFFFF

// keptToken is the boot token from before, nil for a new TPM.
func (m *machineTEE) keptToken(ctx context.Context) ([]byte, error) {
	b, err := m.ReadNV(ctx, tokenIndex, keys.BootTokenSize)
	if tpm.NoIndex(err) {
		return nil, nil
	}
	return b, err
}

func (m *machineTEE) boot() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token
}

// Evidence is a quote with the log and the certificate of the attestation key.
func (m *machineTEE) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	ev, err := m.Attester.Evidence(ctx, reportData)
	m.mu.Lock()
	defer m.mu.Unlock()
	ev.Certificates = m.certificates
	return ev, err
}

// SealingKey derives a key of this machine, see package tee/sealing.
func (m *machineTEE) SealingKey(_ context.Context, policy tee.SealPolicy, context []byte) ([]byte, error) {
	l := sealing.Launch{Domain: "cloister TPM sealing key v1", Document: m.doc, Measurement: m.digest[:]}
	return sealing.Key(m.key, l, policy, context)
}

// ReadCounter and AdvanceCounter are those of this launch.
func (m *machineTEE) ReadCounter(ctx context.Context, name string) (uint64, [32]byte, error) {
	return m.counters().ReadCounter(ctx, name)
}

func (m *machineTEE) AdvanceCounter(ctx context.Context, name string, from uint64, digest [32]byte) error {
	return m.counters().AdvanceCounter(ctx, name, from, digest)
}

func (m *machineTEE) counters() tee.Counters {
	owner := tee.Bind("cloister counters of a launch v1", m.digest[:])
	return tpm.NewCounters(m.Attester, m.key, owner[:])
}

// SignerCounters are those of this signer's product.
func (m *machineTEE) SignerCounters() tee.Counters {
	if len(m.doc.Signer) == 0 {
		return unsigned{}
	}
	owner := tee.Bind("cloister counters of a signer v1", m.doc.Signer, fmt.Append(nil, m.doc.Product), fmt.Append(nil, m.doc.Debug))
	return tpm.NewCounters(m.Attester, m.key, owner[:])
}

// lost is for the host to notice: who runs the TPM ends the machine with it.
func (m *machineTEE) lost(context.Context) bool { return false }

// unsigned are the counters of a signer that there is not.
type unsigned struct{}

func (unsigned) ReadCounter(context.Context, string) (uint64, [32]byte, error) {
	return 0, [32]byte{}, &tee.Error{Code: tee.CodeSealPolicy, Op: "read counter", Err: sealing.ErrUnsigned}
}

func (unsigned) AdvanceCounter(context.Context, string, uint64, [32]byte) error {
	return &tee.Error{Code: tee.CodeSealPolicy, Op: "advance counter", Err: sealing.ErrUnsigned}
}
