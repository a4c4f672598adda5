package demo

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

// Config says how to run the demo.
type Config struct {
	// Receipts is the directory that receipts are left in.
	Receipts string
	// Keep leaves the platform running, with its data directory and the
	// hospitals' identities.
	Keep bool
	// Step is told what happens, one line each; nil tells nobody.
	Step func(format string, args ...any)
}

// demo is one run.
type demo struct {
	cfg        Config
	dir        string // of this run
	host       *host
	a, b       *hospital
	thief      *client.Node // the machine's owner, as a client without an identity
	roots      tee.Roots
	nodePolicy attest.Policy
	runtime    [32]byte
	module     []byte
	shown      tee.Evidence // what the genuine instance showed, as the host recorded it
	plaintext  []byte       // of the result
	report     Report
}

// jobName is what the hospitals' program is called on this host.
const jobName = "cohort"

// Run runs the demo. The error says what kept it from being done; what came out
// is in the report.
func Run(ctx context.Context, cfg Config) (report Report, err error) {
	start := time.Now()
	d := &demo{cfg: cfg}
	d.report = Report{Simulated: true, Problems: []string{}, Attacks: []Attack{}, Receipts: []Receipt{}}
	if d.dir, err = os.MkdirTemp("", "cloister-demo-"); err != nil {
		return d.report, err
	}
	defer func() { err = errors.Join(err, d.cleanUp(err != nil)) }()
	for _, part := range []func(context.Context) error{d.start, d.learn, d.tryAll, d.hunt, d.collectReceipts} {
		if err := part(ctx); err != nil {
			return d.report, err
		}
	}
	d.judge()
	d.report.Seconds = time.Since(start).Seconds()
	if cfg.Keep {
		d.report.Kept = d.host.kept(d.a, d.b)
	}
	return d.report, nil
}

func (d *demo) step(format string, args ...any) {
	if d.cfg.Step != nil {
		d.cfg.Step(format, args...)
	}
}

// cleanUp ends the platform and removes everything, unless it is to be kept.
func (d *demo) cleanUp(failed bool) error {
	for _, n := range []*client.Node{d.thief, nodeOf(d.a), nodeOf(d.b)} {
		if n != nil {
			n.Close()
		}
	}
	if d.cfg.Keep && !failed {
		return nil
	}
	var err error
	if d.host != nil {
		d.step("stopping the platform")
		err = d.host.stop()
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}

func nodeOf(h *hospital) *client.Node {
	if h == nil {
		return nil
	}
	return h.node
}

// start brings up a fresh platform and lets each hospital check its node.
func (d *demo) start(ctx context.Context) (err error) {
	d.step("starting a fresh platform (software TEE: simulated)")
	if d.host, err = startHost(ctx, d.dir, d.cfg.Keep); err != nil {
		return err
	}
	if d.module, err = unpack(); err != nil {
		return err
	}
	if d.runtime, err = software.RuntimeDigest(); err != nil {
		return err
	}
	d.nodePolicy = agent.NodePolicy(d.runtime)
	block, _ := pem.Decode(d.host.info.Root)
	if block == nil {
		return errors.New("the platform has no root certificate")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("parse root certificate: %w", err)
	}
	d.roots = tee.Roots{root}
	if d.a, d.b, err = newHospitals(d.dir); err != nil {
		return err
	}
	for _, h := range []*hospital{d.a, d.b} {
		if err := h.connect(d.host.info.Address, d.roots, d.nodePolicy); err != nil {
			return err
		}
	}
	d.thief, err = client.NewNode(client.NodeConfig{Address: d.host.info.Address, Roots: d.roots, Policy: d.nodePolicy})
	return err
}

// job is the launch that both hospitals have agreed on.
func (d *demo) job(name string) job {
	doc := launch.New(launch.Wasm, d.module)
	doc.Inputs = []string{"a", "b"}
	doc.Outputs = []string{"result-a", "result-b"}
	doc.Secrets = []launch.Secret{{Name: "key-a", Key: d.a.keyName()}, {Name: "key-b", Key: d.b.keyName()}}
	doc.Logs = launch.LogsStderr
	return job{name: name, doc: doc, image: d.module, inputs: map[string][]byte{"a": d.a.sealed, "b": d.b.sealed}}
}

// expect is the measurement of a launch, computed before it starts.
func (d *demo) expect(doc launch.Document) (tee.Measurement, error) {
	digest, err := doc.Digest()
	if err != nil {
		return nil, err
	}
	return software.Expect(d.runtime, digest), nil
}

// learn is the main job: keys under a policy, attestation, release, result.
func (d *demo) learn(ctx context.Context) error {
	j := d.job(jobName)
	m, err := d.expect(j.doc)
	if err != nil {
		return err
	}
	d.report.Measurement = m.String()
	for _, h := range []*hospital{d.a, d.b} {
		d.step("hospital %s encrypts its records and entrusts its key to the node, for measurement %s… only", strings.ToUpper(h.letter), m.String()[:16])
		if h.sealed, err = h.records(); err != nil {
			return err
		}
		if err := h.entrust(ctx, h.keyName(), onlyThis(m)); err != nil {
			return fmt.Errorf("hospital %s: entrust key: %w", h.letter, err)
		}
	}
	d.step("the program attests, gets both keys and computes on both hospitals' records")
	i, err := d.host.run(ctx, d.job(jobName))
	if err != nil {
		return err
	}
	if i.Status.State != compute.Stopped || i.Status.Evidence == nil {
		return fmt.Errorf("the program failed: %s: %s: %s", i.Status.Code, i.Status.Message, d.host.said(ctx, jobName))
	}
	d.shown = *i.Status.Evidence
	return d.takeResults(ctx)
}

// takeResults lets each hospital open its copy; both must say the same.
func (d *demo) takeResults(ctx context.Context) error {
	var plain [2][]byte
	for n, h := range []*hospital{d.a, d.b} {
		sealed, err := d.host.output(ctx, jobName, "result-"+h.letter)
		if err != nil {
			return fmt.Errorf("hospital %s: take result: %w", h.letter, err)
		}
		if d.report.Result, plain[n], err = h.open(sealed); err != nil {
			return fmt.Errorf("hospital %s: %w", h.letter, err)
		}
	}
	if !bytes.Equal(plain[0], plain[1]) {
		return errors.New("the hospitals got different results")
	}
	d.plaintext = plain[0]
	return nil
}
