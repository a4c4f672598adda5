package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/tinywasm"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
)

const (
	keyName = "bench/key"
	workers = 16
)

// release is a key release end to end: nonce, evidence, verification, appraisal,
// wrapping, a durable receipt and its counter step, over HTTPS and the attested
// channel, from a real node.
func (b *bench) release() ([]figure, error) {
	span := 5 * time.Second
	if b.quick {
		span = time.Second
	}
	pings, pingCPU, releases, cpu, err := b.releases(span, "release")
	if err != nil {
		return nil, err
	}
	_, _, bare, bareCPU, err := b.releases(span, "release-bare", "--keep-verdicts=none")
	if err != nil {
		return nil, err
	}
	perSecond, limit := releases/span.Seconds(), pings/span.Seconds()
	return []figure{
		{Name: "key releases over HTTPS, client and evidence on the same machine", Value: perSecond, Unit: "/s", Against: "empty requests on the same channel", Limit: limit, Ratio: perSecond / limit},
		{Name: "key releases for each CPU second of the node", Value: releases / cpu, Unit: "/s", Against: "empty requests", Limit: pings / pingCPU, Ratio: (releases / cpu) / (pings / pingCPU), Bar: ">= 1000 per core"},
		{Name: "of these, with a record of each verdict", Value: releases / cpu, Unit: "/s", Against: "without records", Limit: bare / bareCPU, Ratio: (releases / cpu) / (bare / bareCPU)},
	}, nil
}

// releases measures empty requests, then releases, of a node of its own.
func (b *bench) releases(span time.Duration, name string, flags ...string) (pings, pingCPU, releases, cpu float64, err error) {
	u, err := b.up(name, flags...)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, u.down()) }()
	r, err := newReleaser(b, u)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer r.node.Close()
	if pings, pingCPU, err = r.measure(span, r.ping); err != nil {
		return 0, 0, 0, 0, err
	}
	releases, cpu, err = r.measure(span, r.one)
	return pings, pingCPU, releases, cpu, err
}

// releaser asks for keys as an instance would: this process has the platform
// measure a launch and gets its TEE device, as every host can; what it may get is
// the business of the key's policy.
type releaser struct {
	node      *client.Node
	device    *software.Device
	recipient keys.Recipient
	program   int // process of the node
}

func newReleaser(b *bench, u *up) (*releaser, error) {
	paths := datadir.Paths{Data: u.dir}
	platform, err := software.Connect(paths.PlatformSocket())
	if err != nil {
		return nil, err
	}
	module := tinywasm.Print("bench")
	image := filepath.Join(b.dir, "image.wasm")
	if err := os.WriteFile(image, module, 0o600); err != nil {
		return nil, err
	}
	doc := launch.New(launch.Wasm, module)
	doc.Secrets = []launch.Secret{{Name: "key", Key: keyName}}
	r := &releaser{}
	if r.device, err = launchDevice(platform, doc, image); err != nil {
		return nil, err
	}
	if r.recipient, _, err = keys.NewRecipient(); err != nil {
		return nil, err
	}
	if err := r.connect(b, u, platform.Platform()); err != nil {
		return nil, err
	}
	if r.program, err = nodeProgram(u.dir); err != nil {
		return nil, err
	}
	policy := attest.Development()
	policy.Measurements = []string{r.device.Info().Measurement.String()}
	encoded, err := json.Marshal(keys.Policy{Appraisal: policy})
	if err != nil {
		return nil, err
	}
	_, err = r.node.PutKey(context.Background(), client.PutKey{Name: keyName, Policy: encoded})
	return r, err
}

func launchDevice(platform *software.Client, doc launch.Document, image string) (*software.Device, error) {
	encoded, err := doc.Encode()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	device, _, err := platform.Launch(context.Background(), software.LaunchRequest{Document: encoded, Image: f, InstanceID: "bench"})
	if err != nil {
		return nil, err
	}
	return software.OpenDevice(device)
}

func (r *releaser) connect(b *bench, u *up, platform software.PlatformInfo) error {
	info, err := u.host.Platform(context.Background())
	if err != nil {
		return err
	}
	block, _ := pem.Decode(info.Root)
	if block == nil {
		return errors.New("the platform has no root certificate")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	identity, err := client.LoadIdentity(filepath.Join(b.dir, "identity.pem"))
	if err != nil {
		return err
	}
	r.node, err = client.NewNode(client.NodeConfig{
		Address: info.Address, Identity: identity, Roots: tee.Roots{root}, Policy: agent.NodePolicy(platform.RuntimeDigest),
	})
	return err
}

// one is one release.
func (r *releaser) one(ctx context.Context) error {
	nonce, err := r.node.Nonce(ctx)
	if err != nil {
		return err
	}
	info := r.device.Info()
	ev, err := r.device.Evidence(ctx, keys.ReleaseBinding(nonce, r.recipient.PublicKey(), info.LaunchDigest[:], info.InstanceID))
	if err != nil {
		return err
	}
	_, err = r.node.Release(ctx, keys.ReleaseRequest{Nonce: nonce, Evidence: ev, PublicKey: r.recipient.PublicKey(), Keys: []string{keyName}})
	return err
}

// ping is two empty requests, as many as a release makes.
func (r *releaser) ping(ctx context.Context) error {
	if _, err := r.node.JWKS(ctx); err != nil {
		return err
	}
	_, err := r.node.JWKS(ctx)
	return err
}

// measure counts how often f succeeds in a span, and the node's CPU seconds.
func (r *releaser) measure(span time.Duration, f func(context.Context) error) (count, cpu float64, err error) {
	if err := f(context.Background()); err != nil {
		return 0, 0, err
	}
	before := cpuSeconds(r.program)
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	var done atomic.Int64
	var failed atomic.Value
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := f(ctx); err == nil {
					done.Add(1)
				} else if ctx.Err() == nil {
					failed.Store(err)
					return
				}
			}
		})
	}
	wg.Wait()
	err, _ = failed.Load().(error)
	return float64(done.Load()), cpuSeconds(r.program) - before, err
}

// nodeProgram finds the process that is the node: the child of the child of its
// shim.
func nodeProgram(dir string) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	parents, shim := map[int]int{}, 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := strings.Split(string(b), "\x00")
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parents[pid] = parentOf(filepath.Dir(file))
		if len(args) > 2 && args[1] == "shim" && args[2] == filepath.Join(dir, "instances", compute.NodeName) {
			shim = pid
		}
	}
	for pid, parent := range parents {
		if shim != 0 && parents[parent] == shim {
			return pid, nil
		}
	}
	return 0, errors.New("the node's process is not found")
}

// cpuSeconds is the CPU time of a process, all threads (proc(5), stat).
func cpuSeconds(pid int) float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	const ticks = 100 // USER_HZ of Linux, on every architecture that Go knows
	return (user + system) / ticks
}
