package maa

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
)

// Config is what a [Service] needs. All of it is required but Judged and Now.
type Config struct {
	// Verifier decides whether evidence is genuine, with the roots and endorsements
	// that Input gives for it; Input's At is set for every verdict from Now.
	Verifier *attest.Verifier
	Input    func(tee.Evidence) tee.Input
	// Judged is told of every verdict, of a token before it is issued: after an error
	// none is. [ReadCase] reads such cases again. Nil tells nobody.
	Judged func(record.Case, record.Record) error
	// Caller is the identity of whoever makes a request; nil for nobody.
	Caller func(*http.Request) []byte
	// Now is the service's clock; nil means time.Now.
	Now func() time.Time
}

// Service has the attestation providers of a node. It is safe for concurrent
// use. Replay its log into it first, then call [Service.Begin].
type Service struct {
	cfg        Config
	challenges challenges

	change sync.Mutex // one change at a time, in the order of the log
	log    Log

	mu        sync.RWMutex
	providers map[string]*provider
}

// New returns a service without providers.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, providers: map[string]*provider{}}
}

// Replay takes one entry of the log, oldest first.
func (s *Service) Replay(entry []byte) error {
	st, err := decodeState(entry)
	if err != nil {
		return err
	}
	return s.show(st)
}

// Begin ends the replay: from now on changes go to log. It makes the shared
// provider the first time.
func (s *Service) Begin(log Log) error {
	s.log = log
	if _, err := rand.Read(s.challenges.key[:]); err != nil {
		return err
	}
	if s.find(Shared) != nil {
		return nil
	}
	return s.create(nil, Settings{Name: Shared})
}

// find returns a provider, nil if there is none.
func (s *Service) find(name string) *provider {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.providers[name]
}

// show makes a state the present one.
func (s *Service) show(st state) error {
	if st.Deleted {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.providers, st.Name)
		return nil
	}
	p, err := st.load()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.providers[st.Name] = p
	return nil
}

// commit makes a new state durable and then shows it.
func (s *Service) commit(st state) error {
	if _, err := st.load(); err != nil { // what cannot be loaded again is not kept
		return err
	}
	st.Changed = s.cfg.Now().Unix()
	b, err := st.encode()
	if err != nil {
		return err
	}
	if err := s.log.Append(b); err != nil {
		return fmt.Errorf("keep attestation provider: %w", err)
	}
	return s.show(st)
}

// Settings say what a provider is to be.
type Settings struct {
	// Name is 1 to 63 lower-case letters, digits and hyphens, a letter or digit
	// at both ends.
	Name string `json:"name"`
	// Algorithm signs its tokens: ES256 (also where it is empty), ES384 or RS256.
	Algorithm string `json:"algorithm,omitempty"`
	// Issuer is the iss of its tokens, an https URL without a query; empty: the
	// URL under which a client asks.
	Issuer string `json:"issuer,omitempty"`
	// GraceDays is by how many days collateral may be past its next update.
	GraceDays int `json:"collateral_grace_days,omitempty"`
	// Signers are certificates (DER) of who may sign its policies. With any, the
	// provider is isolated: it takes no others.
	Signers [][]byte `json:"signers,omitempty"`
}

func (c Settings) check() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, a...))
	}
	if !validName(c.Name) {
		return bad("name: want 1 to 63 lower-case letters, digits and hyphens")
	}
	if c.GraceDays < 0 || c.GraceDays > attest.MaxGraceDays {
		return bad("collateral_grace_days: want 0 to %d", attest.MaxGraceDays)
	}
	if c.Issuer != "" {
		u, err := url.Parse(c.Issuer)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || len(c.Issuer) > maxIssuer {
			return bad("issuer: want an https URL of at most %d bytes without a query", maxIssuer)
		}
	}
	if len(c.Signers) > MaxSigners {
		return bad("signers: %d, at most %d", len(c.Signers), MaxSigners)
	}
	for _, der := range c.Signers {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("signers: not a certificate")
		}
		if _, err := keyJWK(cert); err != nil {
			return err
		}
	}
	return nil
}

func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		inner := i > 0 && i < len(s)-1
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || !inner) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// Create makes a provider of an owner.
func (s *Service) Create(owner []byte, c Settings) (Info, error) {
	if len(owner) == 0 {
		return Info{}, ErrNoIdentity
	}
	if err := c.check(); err != nil {
		return Info{}, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	if s.find(c.Name) != nil {
		return Info{}, ErrExists
	}
	s.mu.RLock()
	full := len(s.providers) >= MaxProviders
	s.mu.RUnlock()
	if full {
		return Info{}, fmt.Errorf("%w: this node has %d attestation providers, and no room for more", ErrInvalid, MaxProviders)
	}
	if err := s.create(owner, c); err != nil {
		return Info{}, err
	}
	return s.find(c.Name).info(), nil
}

func (s *Service) create(owner []byte, c Settings) error {
	if c.Algorithm == "" {
		c.Algorithm = ES256
	}
	now := s.cfg.Now()
	key, err := newKey(c.Algorithm, c.Name, now)
	if err != nil {
		return err
	}
	return s.commit(state{
		Name: c.Name, Owner: owner, Algorithm: c.Algorithm, Issuer: strings.TrimSuffix(c.Issuer, "/"), Isolated: len(c.Signers) > 0, GraceDays: c.GraceDays,
		Created: now.Unix(), Signers: c.Signers, Keys: []keyState{key},
	})
}

// owned returns a provider if owner owns it. Whether there is one is nobody
// else's business.
func (s *Service) owned(owner []byte, name string) (*provider, error) {
	if len(owner) == 0 {
		return nil, ErrNoIdentity
	}
	p := s.find(name)
	if p == nil || string(p.state.Owner) != string(owner) {
		return nil, ErrNotFound
	}
	return p, nil
}

// Get describes a provider to its owner.
func (s *Service) Get(owner []byte, name string) (Info, error) {
	p, err := s.owned(owner, name)
	if err != nil {
		return Info{}, err
	}
	return p.info(), nil
}

// List describes the providers of an owner, by name.
func (s *Service) List(owner []byte) ([]Info, error) {
	if len(owner) == 0 {
		return nil, ErrNoIdentity
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := []Info{}
	for _, p := range s.providers {
		if string(p.state.Owner) == string(owner) {
			out = append(out, p.info())
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Rotate gives a provider a new signing key. The one before stays in the key set
// until the last token that it can have signed has expired.
func (s *Service) Rotate(owner []byte, name string) (Info, error) {
	return s.update(owner, name, func(st *state) error {
		now := s.cfg.Now()
		key, err := newKey(st.Algorithm, st.Name, now)
		if err != nil {
			return err
		}
		keys := []keyState{key}
		for _, k := range st.Keys {
			if k.Retired == 0 {
				k.Private, k.Retired = nil, now.Unix()
			}
			if len(keys) < maxKeys && now.Before(time.Unix(k.Retired, 0).Add(attest.MaxTokenLifetime)) {
				keys = append(keys, k)
			}
		}
		st.Keys = keys
		return nil
	})
}

// update changes a provider of an owner.
func (s *Service) update(owner []byte, name string, change func(*state) error) (Info, error) {
	s.change.Lock()
	defer s.change.Unlock()
	p, err := s.owned(owner, name)
	if err != nil {
		return Info{}, err
	}
	st := p.state.clone()
	if err := change(&st); err != nil {
		return Info{}, err
	}
	if err := s.commit(st); err != nil {
		return Info{}, err
	}
	return s.find(name).info(), nil
}

// Delete removes a provider. Its tokens can no longer be verified.
func (s *Service) Delete(owner []byte, name string) error {
	s.change.Lock()
	defer s.change.Unlock()
	if _, err := s.owned(owner, name); err != nil {
		return err
	}
	b, err := state{Name: name, Deleted: true, Changed: s.cfg.Now().Unix()}.encode()
	if err != nil {
		return err
	}
	if err := s.log.Append(b); err != nil {
		return fmt.Errorf("delete attestation provider: %w", err)
	}
	return s.show(state{Name: name, Deleted: true})
}
