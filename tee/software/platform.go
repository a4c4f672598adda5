//go:build linux

package software

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Options are the optional settings of a platform. The zero value is what a
// program wants; the fields exist for tests and logs.
type Options struct {
	// Runtime is the runtime digest to measure with; zero means the digest of
	// the running executable, [RuntimeDigest].
	Runtime [32]byte
	// Logger receives one line per launch and per refused request; nil discards.
	Logger *slog.Logger
	// Now is the clock for the validity of certificates that are made when the
	// directory is new; nil means time.Now.
	Now func() time.Time
	// Record makes a pair of writers for a stream of messages between the
	// platform and another process ("launch" or "device"): what it received and
	// what it answered. Nil records nothing. It is for searching what passes;
	// sealing keys do, as inside a processor.
	Record func(stream string) (received, sent io.Writer)
}

// Platform is a software security processor: one directory of keys and
// counters. It is safe for concurrent use. Close it to release the directory.
type Platform struct {
	dir      *directory
	fuses    fuses
	counters *counterStore
	runtime  [32]byte
	id       [32]byte // SHA-256 of the platform's public key (SPKI DER)
	logger   *slog.Logger
	record   func(stream string) (received, sent io.Writer)

	mu     sync.Mutex
	closed bool
	live   map[*Instance]struct{}
	wg     sync.WaitGroup // device goroutines
	done   chan struct{}  // closed by Close
}

// OpenPlatform opens the platform in dir, or makes a new one when dir does not
// exist or is empty. The directory must belong to the caller and be closed to
// everyone else (mode 0700). It holds:
//
//   - fuses: the device secret and the private keys (mode 0600)
//   - root.pem: the development root certificate, to give to relying parties
//   - counters and anchor: the monotonic counters
//
// Errors are *tee.Error: CodeUnavailable when another platform runs in dir or
// the disk fails, CodeParse when the fuses are damaged or missing (they are
// never made anew: restore the directory, or remove it and lose what was sealed
// under it), CodeSealed when counters or anchor were altered, CodeRollback when
// one of them is older than the other.
func OpenPlatform(dir string, o Options) (*Platform, error) {
	runtime := o.Runtime
	if runtime == ([32]byte{}) {
		var err error
		if runtime, err = RuntimeDigest(); err != nil {
			return nil, &tee.Error{Code: tee.CodeUnavailable, Op: "open software TEE platform", Err: err}
		}
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	p, err := openIn(d, runtime, now())
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	if p.logger = o.Logger; p.logger == nil {
		p.logger = slog.New(slog.DiscardHandler)
	}
	if p.record = o.Record; p.record == nil {
		p.record = func(string) (received, sent io.Writer) { return io.Discard, io.Discard }
	}
	return p, nil
}

func openIn(d *directory, runtime [32]byte, now time.Time) (*Platform, error) {
	f, err := loadFuses(d, now)
	if err != nil {
		return nil, err
	}
	c, err := openCounters(d, f.Secret)
	if err != nil {
		return nil, err
	}
	if err := publishRoot(d, f.RootCertificate); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(f.PlatformCertificate)
	if err != nil {
		return nil, fusesError(d, fmt.Errorf("platform certificate: %w", err))
	}
	return &Platform{
		dir: d, fuses: f, counters: c, runtime: runtime,
		id:   sha256.Sum256(cert.RawSubjectPublicKeyInfo),
		live: make(map[*Instance]struct{}),
		done: make(chan struct{}),
	}, nil
}

// Info returns the runtime digest and the certificates of the platform.
func (p *Platform) Info() PlatformInfo {
	return PlatformInfo{
		RuntimeDigest:       p.runtime,
		RootCertificate:     p.fuses.RootCertificate,
		PlatformCertificate: p.fuses.PlatformCertificate,
	}
}

// Close ends every instance and device, waits for them and releases the
// directory. A device that loses its platform answers CodeUnavailable; an
// instance treats that as a reset of its TEE. Close may be called again.
func (p *Platform) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.done)
	instances := make([]*Instance, 0, len(p.live))
	for in := range p.live {
		instances = append(instances, in)
	}
	p.mu.Unlock()
	for _, in := range instances {
		_ = in.Close()
	}
	p.wg.Wait()
	p.counters.mu.Lock() // no change is under way
	defer p.counters.mu.Unlock()
	return p.dir.close()
}

// admit registers a new instance, within the bound and before Close.
func (p *Platform) admit(in *Instance) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	if len(p.live) >= MaxInstances {
		return fmt.Errorf("%d instances are alive, at most %d", len(p.live), MaxInstances)
	}
	p.live[in] = struct{}{}
	return nil
}

// spawn runs f in a goroutine that Close waits for.
func (p *Platform) spawn(f func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return os.ErrClosed
	}
	p.wg.Go(f)
	return nil
}

// forget takes a closed instance out of the list.
func (p *Platform) forget(in *Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, in)
}

// attestationKey is the key that signs evidence.
func (p *Platform) attestationKey() *ecdsa.PrivateKey { return p.fuses.platformKey }
