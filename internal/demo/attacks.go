package demo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/tinywasm"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// attack is one attempt. try returns the reason codes with which it was refused,
// none if it got through; an error means that it could not be made.
type attack struct {
	name string
	want string
	try  func(ctx context.Context) (codes []string, detail string, err error)
}

// attacks lists everything that the machine's owner tries on the running
// platform.
func (d *demo) attacks() []attack {
	return []attack{
		{"one bit of the program changed", "measurement", d.changedProgram},
		{"another program under the same name", "measurement", d.otherProgram},
		{"the same program, launched with debug on", "debug", d.debugLaunch},
		{"simulated evidence where the owner wants hardware", "simulated", d.hardwareOnly},
		{"evidence of the real release, replayed", "binding", d.replay},
		{"fresh evidence of another instance", "binding", d.borrowed},
		{"a nonce that was used before", "nonce", d.staleNonce},
		{"a host that poses as the node", "binding", d.impostor},
		{"one bit of the stored keys and policies changed", "sealed", d.editedStore},
		{"stored keys and policies set back to an older copy", "rollback", d.rolledBackStore},
	}
}

// tryAll makes every attack and records what came of it.
func (d *demo) tryAll(ctx context.Context) error {
	for _, a := range d.attacks() {
		d.step("attack: %s", a.name)
		codes, detail, err := a.try(ctx)
		if err != nil {
			return fmt.Errorf("attack %q could not be made: %w", a.name, err)
		}
		out := Attack{Name: a.name, Want: a.want, Detail: detail, Refused: slices.Contains(codes, a.want)}
		switch {
		case out.Refused:
			out.Code = a.want
		case len(codes) > 0:
			out.Code = codes[0]
		default:
			out.Code = "none"
		}
		d.report.Attacks = append(d.report.Attacks, out)
	}
	return nil
}

// launchAndReport runs a job that must not get its secrets.
func (d *demo) launchAndReport(ctx context.Context, j job) ([]string, string, error) {
	i, err := d.host.run(ctx, j)
	if err != nil {
		return nil, "", err
	}
	if i.Status.State != compute.Failed {
		return nil, "it ran", nil
	}
	return append(codesOf(i.Status.Failures), i.Status.Code), i.Status.Message, nil
}

func codesOf(failures []tee.Failure) []string {
	out := make([]string, len(failures))
	for i, f := range failures {
		out[i] = string(f.Code)
	}
	return out
}

func (d *demo) changedProgram(ctx context.Context) ([]string, string, error) {
	j := d.job("bit-flipped")
	j.image = bytes.Clone(j.image)
	j.image[len(j.image)/2] ^= 1
	j.doc.Image = launch.New(launch.Wasm, j.image).Image
	return d.launchAndReport(ctx, j)
}

func (d *demo) otherProgram(ctx context.Context) ([]string, string, error) {
	if err := d.host.api.Delete(ctx, jobName); err != nil {
		return nil, "", err
	}
	j := d.job(jobName)
	j.image = tinywasm.Print("give me the records")
	j.doc.Image = launch.New(launch.Wasm, j.image).Image
	return d.launchAndReport(ctx, j)
}

func (d *demo) debugLaunch(ctx context.Context) ([]string, string, error) {
	j := d.job("debug")
	j.doc.Debug = true
	return d.launchAndReport(ctx, j)
}

// hardwareOnly asks for a key whose owner accepts this very program, but on real
// hardware only.
func (d *demo) hardwareOnly(ctx context.Context) ([]string, string, error) {
	j := d.job("hardware-only")
	const key = "hospital-a/hardware-only"
	j.doc.Secrets[0].Key = key
	m, err := d.expect(j.doc)
	if err != nil {
		return nil, "", err
	}
	policy := attest.HardwareDefault()
	policy.Measurements = []string{m.String()}
	if err := d.a.entrust(ctx, key, policy); err != nil {
		return nil, "", err
	}
	return d.launchAndReport(ctx, j)
}

// ask requests both data keys for a key pair of the attacker's.
func (d *demo) ask(ctx context.Context, nonce []byte, ev tee.Evidence) ([]string, string, error) {
	to, private, err := keys.NewRecipient()
	if err != nil {
		return nil, "", err
	}
	clear(private)
	_, err = d.thief.Release(ctx, keys.ReleaseRequest{
		Nonce: nonce, Evidence: ev, PublicKey: to.PublicKey(), Keys: []string{d.a.keyName(), d.b.keyName()},
	})
	return refusalOf(err)
}

// refusalOf splits an error into reason codes; other errors are passed on.
func refusalOf(err error) ([]string, string, error) {
	if err == nil {
		return nil, "it was granted", nil
	}
	if p, ok := errors.AsType[*client.Problem](err); ok {
		return append(codesOf(p.Failures), p.Code), p.Error(), nil
	}
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		return codesOf(e.Failures), e.Error(), nil
	}
	return nil, "", err
}

// replay presents what the genuine instance showed for its own release.
func (d *demo) replay(ctx context.Context) ([]string, string, error) {
	nonce, err := d.thief.Nonce(ctx)
	if err != nil {
		return nil, "", err
	}
	return d.ask(ctx, nonce, d.shown)
}

// borrowed has another instance of this machine, the node itself, make evidence
// over the right nonce.
func (d *demo) borrowed(ctx context.Context) ([]string, string, error) {
	nonce, err := d.thief.Nonce(ctx)
	if err != nil {
		return nil, "", err
	}
	ev, err := d.host.api.Evidence(ctx, compute.NodeName, nonce)
	if err != nil {
		return nil, "", err
	}
	return d.ask(ctx, nonce, ev)
}

func (d *demo) staleNonce(ctx context.Context) ([]string, string, error) {
	nonce, err := d.thief.Nonce(ctx)
	if err != nil {
		return nil, "", err
	}
	if codes, detail, err := d.ask(ctx, nonce, d.shown); err != nil || !slices.Contains(codes, "binding") {
		return codes, detail, errors.Join(errors.New("the nonce was not used up"), err)
	}
	return d.ask(ctx, nonce, d.shown)
}

// impostor answers a hospital in the node's place, with the node's own protocol
// but no TEE behind it.
func (d *demo) impostor(ctx context.Context) ([]string, string, error) {
	cert, err := selfSigned()
	if err != nil {
		return nil, "", err
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	l := channel.NewListener(tcp, channel.ServerTLS(cert), channel.Config{}, nil)
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()
	node, err := client.NewNode(client.NodeConfig{Address: tcp.Addr().String(), Identity: d.a.identity, Roots: d.roots, Policy: d.nodePolicy})
	if err != nil {
		return nil, "", err
	}
	defer node.Close()
	_, err = node.Nonce(ctx)
	return refusalOf(err)
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// editedStore flips one bit in the node's stored state, and repairs it
// afterwards.
func (d *demo) editedStore(ctx context.Context) ([]string, string, error) {
	var good []byte
	return d.damage(ctx, func(state string) (err error) {
		if good, err = os.ReadFile(state); err != nil {
			return err
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		return os.WriteFile(state, bad, 0o600)
	}, func(state string) error { return os.WriteFile(state, good, 0o600) })
}

// rolledBackStore lets an owner tighten a policy, then restores the disk from
// before.
func (d *demo) rolledBackStore(ctx context.Context) ([]string, string, error) {
	var older, newest []byte
	if _, err := d.host.restartNode(ctx, func(state string) (err error) {
		older, err = os.ReadFile(state)
		return err
	}); err != nil {
		return nil, "", err
	}
	nobody := onlyThis(bytes.Repeat([]byte{0xff}, 32))
	if _, err := d.a.node.SetPolicy(ctx, "hospital-a/hardware-only", keys.Policy{Appraisal: nobody}); err != nil {
		return nil, "", err
	}
	return d.damage(ctx, func(state string) (err error) {
		if newest, err = os.ReadFile(state); err != nil {
			return err
		}
		return os.WriteFile(state, older, 0o600)
	}, func(state string) error { return os.WriteFile(state, newest, 0o600) })
}

// damage does something to the node's disk, sees how the node takes it, repairs
// the disk and wants the node back.
func (d *demo) damage(ctx context.Context, harm, repair func(state string) error) ([]string, string, error) {
	harmed, err := d.host.restartNode(ctx, harm)
	if err != nil {
		return nil, "", err
	}
	healed, err := d.host.restartNode(ctx, repair)
	if err != nil {
		return nil, "", err
	}
	if healed.Status.State != compute.Running {
		return nil, "", fmt.Errorf("the node does not come back: %s %s", healed.Status.Code, healed.Status.Message)
	}
	if harmed.Status.State == compute.Running {
		return nil, "the node served it", nil
	}
	return []string{harmed.Status.Code}, harmed.Status.Message, nil
}
