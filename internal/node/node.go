package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/enclave"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/keys/statelog"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// stateCounter is the monotonic counter of the node's state log.
const stateCounter = "node-state"

// Run runs the node until ctx ends, or until its state can no longer be kept:
// then what is on disk decides, so it ends, and whoever restarts it finds out.
func Run(ctx context.Context, e *enclave.Enclave) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s, err := open(ctx, e, end, logger)
	if err != nil {
		return err
	}
	// One node serves many clients from a small heap: collecting it at every few
	// megabytes would cost a tenth of each release.
	debug.SetGCPercent(400)
	defer s.close()
	if err := s.listenForHost(ctx, e.Listen, logger); err != nil {
		return err
	}
	inner, err := e.Listen(compute.NodePort)
	if err != nil {
		return err
	}
	return s.serve(ctx, inner, logger)
}

// serve answers clients that come through inner until ctx ends. It returns why,
// when the reason is the node's state.
func (s *service) serve(ctx context.Context, inner net.Listener, logger *slog.Logger) error {
	l := channel.NewListener(inner, s.certificates.config(), channel.Config{Attester: s.enclave.RawAttester()}, func(_ net.Addr, err error) {
		logger.InfoContext(ctx, "client turned away", slog.Any("error", err))
	})
	server := &http.Server{
		Handler: s.routes(), ConnContext: channel.ConnContext,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelInfo),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { shutdown(server); close(stopped) })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) || ctx.Err() == nil {
		return fmt.Errorf("serve: %w", err)
	}
	<-stopped
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return &tee.Error{Code: compute.CodeDisk, Op: "keep the node's state", Err: cause, Hint: "free space in the data directory; the node starts again by itself"}
	}
	return nil
}

// shutdownGrace is how long requests under way may take to be answered.
const shutdownGrace = time.Second

func shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
}

// service is everything that the node's HTTP API needs.
type service struct {
	enclave  *enclave.Enclave
	keys     *keys.Service
	log      *statelog.Log
	issuer   *attest.Issuer
	key      *ecdsa.PrivateKey
	verifier *attest.Verifier
	input    func(tee.Evidence) tee.Input
	spki     []byte // of the service key

	shelf        collateral.Shelf
	providers    *maa.Service
	guest        http.Handler // of Confidential Containers
	verdicts     *verdicts
	access       access
	tpms         *tpms
	certificates *certificates
	closers      []func() error
}

// close closes what is open.
func (s *service) close() {
	for _, c := range s.closers {
		_ = c()
	}
	s.closers = nil
}

func open(ctx context.Context, e *enclave.Enclave, end context.CancelCauseFunc, logger *slog.Logger) (*service, error) {
	key, err := serviceKey(e)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	s := &service{enclave: e, key: key, spki: spki, verifier: attest.NewVerifier(all.Verifiers()...)}
	if err := s.open(ctx, end, logger); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open opens what the service has on the disk, and makes the rest of it. What it
// has opened when it fails is left to close.
func (s *service) open(ctx context.Context, end context.CancelCauseFunc, logger *slog.Logger) error {
	e, key := s.enclave, s.key
	var err error
	if s.tpms, err = newTPMs(key, e.Self().Root, func(ak *tpm.Public, boot []byte) ([]byte, error) { return s.keys.BeginBoot(tpm.KeyID(ak.Key), boot) }); err != nil {
		return err
	}
	if s.input, err = s.inputs(); err != nil {
		return err
	}
	if s.issuer, err = newIssuer(key); err != nil {
		return err
	}
	if s.verdicts, err = openVerdicts(e.StateDir(), end, logger); err != nil {
		return err
	}
	s.closers = append(s.closers, s.verdicts.close)
	s.keys = keys.New(s.keysConfig())
	path := filepath.Join(e.StateDir(), "state.log")
	s.log, err = statelog.Open(ctx, e, path, stateCounter, func(p statelog.Position, b []byte) error { return s.keys.Replay(p, b) })
	if err != nil {
		return sealedByOther(err)
	}
	s.closers = append(s.closers, s.log.Close)
	s.keys.Begin(logAdapter{context.WithoutCancel(ctx), s.log, end})
	if s.access, err = newAccess(key); err != nil {
		return err
	}
	if s.certificates, err = newCertificates(key); err != nil {
		return err
	}
	if s.guest, err = s.guests(); err != nil {
		return err
	}
	return s.openProviders(ctx, end)
}

func (s *service) keysConfig() keys.Config {
	c := keys.Config{Verifier: s.verifier, Input: s.input, Issue: s.issue, Admit: s.admit}
	switch s.verdicts.keep {
	case datadir.KeepReleases:
		c.Keep = s.verdicts.released
	case datadir.KeepAll:
		c.Keep, c.Refused = s.verdicts.released, s.verdicts.refused
	case datadir.KeepNone:
	}
	return c
}

// inputs is what this node's verdicts depend on beside the evidence: the vendors'
// embedded roots and what they publish of the platform, and the development root
// of the node's own simulated platform, if it is on one. Other simulated platforms
// prove nothing here.
func (s *service) inputs() (func(tee.Evidence) tee.Input, error) {
	var development tee.Roots
	if der := s.enclave.Self().Root; len(der) > 0 {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse development root: %w", err)
		}
		development = tee.Roots{root}
	}
	return func(ev tee.Evidence) tee.Input {
		if ev.Kind == tee.Software {
			return tee.Input{Roots: development}
		}
		e, err := s.shelf.For(ev, time.Now())
		if err != nil {
			return tee.Input{} // refused for what is missing
		}
		in := tee.Input{Endorsements: e}
		if ev.Kind == tee.TPM {
			in.Roots = tee.Roots{s.tpms.issuer}
		}
		return in
	}, nil
}

// logAdapter makes a state log the key service's log.
type logAdapter struct {
	ctx context.Context
	log *statelog.Log
	end context.CancelCauseFunc // ends the node
}

func (l logAdapter) Append(entries [][]byte) ([]keys.Ref, error) {
	positions, err := l.log.Append(l.ctx, entries)
	if err != nil {
		l.end(err)
		return nil, err
	}
	refs := make([]keys.Ref, len(positions))
	for i, p := range positions {
		refs[i] = p
	}
	return refs, nil
}

func (l logAdapter) Read(r keys.Ref) ([]byte, error) { return l.log.Read(r.(statelog.Position)) }
