package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/compute/shim"
	"github.com/cloister-cc/cloister/internal/portal"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
	"github.com/cloister-cc/cloister/tee/software"
)

// portalHost is this host as the portal sees it.
type portalHost struct{ *Host }

// Platform implements [portal.Host].
func (p portalHost) Platform() portal.Platform {
	return portal.Platform{
		Version: p.cfg.Portal.Version, Address: p.info.Address, NodeMeasurement: p.info.NodeMeasurement, Simulated: p.info.Simulated,
		DataDir: p.paths.Data, RootFile: p.paths.Root(), PID: p.info.PID,
	}
}

// Kinds implements [portal.Host].
func (p portalHost) Kinds() []tee.Kind {
	kinds := make([]tee.Kind, len(p.drivers))
	for i, d := range p.drivers {
		kinds[i] = d.Kind()
	}
	return kinds
}

// Capabilities implements [portal.Host], as `cloister doctor` does: what has a
// driver is tried, of the rest is said that it has none.
func (p portalHost) Capabilities(ctx context.Context) []compute.Capability {
	var list []compute.Capability
	for _, d := range p.drivers {
		list = append(list, d.Probe(ctx))
	}
	verifiers := all.Verifiers()
	for _, k := range tee.Kinds() {
		if slices.ContainsFunc(p.drivers, func(d compute.Driver) bool { return d.Kind() == k }) {
			continue
		}
		c := compute.Capability{TEE: k, Detail: "this build starts no instances of it"}
		if slices.ContainsFunc(verifiers, func(v tee.Verifier) bool { return v.Kind() == k }) {
			c.Detail += "; it verifies its evidence: cloister attest verify"
		}
		list = append(list, c)
	}
	return list
}

// Instances implements [portal.Host].
func (p portalHost) Instances() []compute.Instance { return p.supervisor.List() }

// Instance implements [portal.Host].
func (p portalHost) Instance(name string) (compute.Instance, error) { return p.supervisor.Get(name) }

// watchPoll is how often the portal looks for instances that it does not follow
// yet; it is told of those that are created.
const watchPoll = time.Second

// Watch implements [portal.Host]: it follows each instance by itself, so that no
// state goes unseen that lasts but a moment.
func (p portalHost) Watch(ctx context.Context, changed func(compute.Instance), gone func(string)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	followed := map[string]bool{} // by id
	for ctx.Err() == nil {
		for _, i := range p.supervisor.List() {
			mu.Lock()
			known := followed[i.ID]
			followed[i.ID] = true
			mu.Unlock()
			if known {
				continue
			}
			wg.Go(func() {
				_, err := p.supervisor.Wait(ctx, i.Name, func(now compute.Instance) bool {
					if now.ID == i.ID {
						changed(now)
					}
					return now.ID != i.ID
				})
				mu.Lock()
				delete(followed, i.ID)
				mu.Unlock()
				if errors.Is(err, compute.ErrNotFound) {
					gone(i.Name)
				}
			})
		}
		select {
		case <-ctx.Done():
		case <-p.created:
		case <-time.After(watchPoll):
		}
	}
}

// Create implements [portal.Host].
func (p portalHost) Create(ctx context.Context, c compute.Create) (compute.Instance, error) {
	i, err := p.supervisor.Create(ctx, c)
	p.tellCreated()
	return i, err
}

// tellCreated has the portal look for a new instance at once: it may be over in
// the blink of an eye.
func (h *Host) tellCreated() {
	select {
	case h.created <- struct{}{}:
	default: // it looks anyway, or there is none
	}
}

// Start implements [portal.Host].
func (p portalHost) Start(name string) error { return p.supervisor.Start(name) }

// Stop implements [portal.Host].
func (p portalHost) Stop(name string) error { return p.supervisor.Stop(name) }

// Delete implements [portal.Host].
func (p portalHost) Delete(name string) error { return p.supervisor.Delete(name) }

// Bounds of the end of a log.
const (
	logTail      = 256 << 10 // bytes that are read
	logTailLines = 500       // lines that are shown
)

// Log implements [portal.Host].
func (p portalHost) Log(name string) (portal.Log, error) {
	dir, err := p.supervisor.Dir(name)
	if err != nil {
		return portal.Log{}, err
	}
	var log portal.Log
	if _, err := os.Stat(dir.Log() + ".1"); err == nil {
		log.Cut = true
	}
	b, cut, err := readTail(dir.Log(), logTail)
	if errors.Is(err, os.ErrNotExist) {
		return log, nil
	}
	if err != nil {
		return portal.Log{}, fmt.Errorf("read log: %w", err)
	}
	log.Cut = log.Cut || cut
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, logTail+1)
	for lines.Scan() {
		var l shim.LogLine
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue // a line that a crash tore
		}
		log.Lines = append(log.Lines, portal.LogLine{Time: l.Time, Stream: l.Stream, Text: l.Text + string(l.Bytes)})
	}
	if n := len(log.Lines) - logTailLines; n > 0 {
		log.Lines, log.Cut = log.Lines[n:], true
	}
	return log, nil
}

// readTail reads the last bytes of a file, from the start of a line.
func readTail(path string, most int64) (b []byte, cut bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	if st.Size() > most {
		cut = true
		if _, err := f.Seek(st.Size()-most, io.SeekStart); err != nil {
			return nil, false, err
		}
	}
	if b, err = io.ReadAll(io.LimitReader(f, most)); err != nil {
		return nil, false, err
	}
	if cut {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	return b, cut, nil
}

// Evidence implements [portal.Host].
func (p portalHost) Evidence(ctx context.Context, name string, nonce []byte) (tee.Evidence, [64]byte, error) {
	i, err := p.supervisor.Get(name)
	if err != nil {
		return tee.Evidence{}, [64]byte{}, err
	}
	dir, err := p.supervisor.Dir(name)
	if err != nil {
		return tee.Evidence{}, [64]byte{}, err
	}
	digest, err := i.Spec.Launch.Digest()
	if err != nil {
		return tee.Evidence{}, [64]byte{}, err
	}
	ev, err := shim.Evidence(ctx, dir, nonce)
	return ev, agent.DescribeBinding(nonce, digest[:], i.ID), err
}

// trustTime bounds how long the node may take to give its certificate.
const trustTime = 5 * time.Second

// Trust implements [portal.Host]: the software TEE has the root of this platform, a
// TPM that of the node, all others those of their vendors.
func (p portalHost) Trust(ctx context.Context, ev tee.Evidence) tee.Input {
	switch ev.Kind {
	case tee.Software:
		return tee.Input{Roots: rootOf(p.info.Root)}
	case tee.TPM:
		ctx, cancel := context.WithTimeout(ctx, trustTime)
		defer cancel()
		authority, err := p.tpmAuthority(ctx)
		if err != nil {
			p.logger.WarnContext(ctx, "portal: the node gives no certificate", slog.Any("error", err))
		}
		return tee.Input{Roots: rootOf(authority)}
	default:
		return tee.Input{}
	}
}

// tpmAuthority asks the node, once it has proven itself, for the certificate under
// which it certifies attestation keys of TPMs.
func (p portalHost) tpmAuthority(ctx context.Context) ([]byte, error) {
	runtime, err := software.RuntimeDigest()
	if err != nil {
		return nil, err
	}
	n, err := client.NewNode(client.NodeConfig{Address: p.info.Address, Roots: rootOf(p.info.Root), Policy: agent.NodePolicy(runtime)})
	if err != nil {
		return nil, err
	}
	defer n.Close()
	return n.TPMAuthority(ctx)
}

// rootOf reads a certificate (PEM); none where there is none.
func rootOf(text []byte) tee.Roots {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return tee.Roots{c}
}
