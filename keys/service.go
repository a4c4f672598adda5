package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Config is what a [Service] needs.
type Config struct {
	// Verifier decides whether evidence is genuine, with the roots and
	// endorsements that Input gives for it; Input's At is set for every verdict
	// from Now.
	Verifier *attest.Verifier
	Input    func(tee.Evidence) tee.Input
	// Keep keeps records of verdicts that led to releases, whose names are in the
	// receipts, several at a time: when it returns they are durable. After an error
	// nothing is released any more. The record for a release of no keys names no
	// policy. Nil keeps none.
	Keep func([]record.Prepared) error
	// Admit refuses a release for what the claims say, whatever policies say. Nil
	// refuses nothing.
	Admit func(tee.Claims) error
	// Refused is told of each verdict that led to none. Nil is told nothing.
	Refused func(record.Case, record.Record)
	// Issue makes the attestation result that goes with a release.
	Issue func(v *attest.Verified, policyDigest [32]byte) (Token, error)
	// Now is the service's clock; nil means time.Now.
	Now func() time.Time
}

// Token is an attestation result.
type Token struct {
	Text string
	ID   string // its jti
}

// Service is the key service. It is safe for concurrent use. Replay the log's
// entries into it first, then call [Service.Begin].
type Service struct {
	cfg    Config
	nonces *nonces
	log    *committer

	admin sync.Mutex // one change of keys or policies at a time

	mu       sync.RWMutex
	keys     map[string]*key
	receipts []Ref                // of receipt number i+1
	head     [32]byte             // digest of the last receipt
	number   uint64               // of the last receipt
	boots    map[string]bootEntry // by platform
}

// key is one key with its current policy.
type key struct {
	info      Key
	owner     []byte
	material  Secret
	appraiser *attest.Appraiser
	digest    [32]byte // of the policy
}

// New returns a service without keys.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, nonces: newNonces(cfg.Now), keys: map[string]*key{}, boots: map[string]bootEntry{}}
}

// Replay takes one entry of the log, oldest first.
func (s *Service) Replay(ref Ref, b []byte) error {
	e, err := decodeEntry(b)
	if err != nil {
		return err
	}
	switch {
	case e.Key != nil:
		return s.applyKey(*e.Key)
	case e.Policy != nil:
		return s.applyPolicy(*e.Policy)
	case e.Boot != nil:
		s.boots[e.Boot.Platform] = *e.Boot
		return nil
	case e.Receipt != nil:
		if e.Receipt.Number != s.number+1 || string(e.Receipt.Previous) != string(s.head[:]) {
			return errors.New("receipts are not in order")
		}
		s.number, s.head = e.Receipt.Number, e.Receipt.Digest()
		s.receipts = append(s.receipts, ref)
		return nil
	default:
		return errors.New("an entry of an unknown kind: made by a newer version?")
	}
}

// Begin ends the replay: from now on, changes go to log.
func (s *Service) Begin(log Log) { s.log = &committer{log: log, keep: s.cfg.Keep} }

func (s *Service) applyKey(e keyEntry) error {
	k, err := newKey(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.keys[e.Name]; ok {
		k.info.Created = old.info.Created
	}
	s.keys[e.Name] = k
	return nil
}

func newKey(e keyEntry) (*key, error) {
	// Copies: whoever imports a key clears its own bytes afterwards.
	k := &key{owner: bytes.Clone(e.Owner), material: bytes.Clone(e.Material)}
	at := time.Unix(0, e.At).UTC()
	k.info = Key{Name: e.Name, Version: e.Version, Owner: hex.EncodeToString(e.Owner), Created: at, Changed: at, Bytes: len(e.Material)}
	return k, k.setPolicy(e.Policy)
}

func (s *Service) applyPolicy(e policyEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.keys[e.Name]
	if !ok {
		return fmt.Errorf("policy for unknown key %q", e.Name)
	}
	k := *old
	k.info.Changed = time.Unix(0, e.At).UTC()
	if err := k.setPolicy(e.Policy); err != nil {
		return err
	}
	s.keys[e.Name] = &k
	return nil
}

func (k *key) setPolicy(b []byte) error {
	p, err := ParsePolicy(b)
	if err != nil {
		return err
	}
	if k.appraiser, err = attest.Compile(p.Appraisal); err != nil {
		return err
	}
	k.digest = p.Digest()
	k.info.Policy, k.info.PolicyDigest = p, hex.EncodeToString(k.digest[:])
	return nil
}

// Digest names a release policy in receipts: SHA-256 over the appraisal
// policy's digest and the lease.
func (p Policy) Digest() [32]byte {
	a := p.Appraisal.Digest()
	b := tee.Bind("cloister release policy v1", a[:], fmt.Append(nil, int(p.lease().Seconds())))
	return [32]byte(b[:32])
}

// ParsePolicy reads a release policy from JSON, strictly.
func ParsePolicy(b []byte) (Policy, error) {
	var raw struct {
		Appraisal    json.RawMessage `json:"appraisal"`
		LeaseSeconds int             `json:"lease_seconds"`
	}
	if err := attest.DecodeStrict(b, &raw); err != nil {
		return Policy{}, fmt.Errorf("%w: release policy: %w", ErrInvalid, err)
	}
	a, err := attest.ParsePolicy(raw.Appraisal)
	if err != nil {
		return Policy{}, fmt.Errorf("%w: release policy: %w", ErrInvalid, err)
	}
	p := Policy{Appraisal: a, LeaseSeconds: raw.LeaseSeconds}
	// Compared as a number: as a duration it could wrap around into the bounds.
	if n := raw.LeaseSeconds; n != 0 && (n < int(MinLease.Seconds()) || n > int(MaxLease.Seconds())) {
		return Policy{}, fmt.Errorf("%w: lease_seconds %d: want %d to %d", ErrInvalid, raw.LeaseSeconds, int(MinLease.Seconds()), int(MaxLease.Seconds()))
	}
	return p, nil
}

// Create makes a key of random bytes (0 means 32) that nobody outside attested
// code ever sees.
func (s *Service) Create(_ context.Context, owner []byte, name string, size int, policy []byte) (Key, error) {
	if size == 0 {
		size = 32
	}
	if size < 16 || size > MaxKey {
		return Key{}, fmt.Errorf("%w: key of %d bytes: want 16 to %d", ErrInvalid, size, MaxKey)
	}
	material := make([]byte, size)
	if _, err := rand.Read(material); err != nil {
		return Key{}, err
	}
	return s.add(owner, name, material, policy, "create")
}

// Import stores a copy of a key that its owner made; the caller clears its own.
func (s *Service) Import(_ context.Context, owner []byte, name string, material Secret, policy []byte) (Key, error) {
	if len(material) == 0 || len(material) > MaxKey {
		return Key{}, fmt.Errorf("%w: key of %d bytes: want 1 to %d", ErrInvalid, len(material), MaxKey)
	}
	return s.add(owner, name, material, policy, "import")
}

func (s *Service) add(owner []byte, name string, material Secret, policy []byte, action string) (Key, error) {
	if len(owner) != sha256.Size {
		return Key{}, ErrNoIdentity
	}
	if !launch.ValidKeyName(name) {
		return Key{}, fmt.Errorf("%w: key name: want 1 to 4 parts of lower-case letters, digits, '.', '_', '-', joined by '/'", ErrInvalid)
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	s.mu.RLock()
	_, taken := s.keys[name]
	s.mu.RUnlock()
	if taken {
		return Key{}, ErrExists
	}
	e := keyEntry{Name: name, Version: 1, Material: material, Owner: owner, Policy: policy, At: s.cfg.Now().UnixNano()}
	return s.putKey(e, action)
}

// putKey commits a key version with its receipt and then shows it.
func (s *Service) putKey(e keyEntry, action string) (Key, error) {
	k, err := newKey(e)
	if err != nil {
		return Key{}, err
	}
	if err := s.commit(entry{Key: &e}, Receipt{Action: action, Key: e.Name, Version: e.Version, Owner: e.Owner, PolicyDigest: k.digest[:]}); err != nil {
		return Key{}, err
	}
	if err := s.applyKey(e); err != nil {
		return Key{}, err
	}
	return s.Get(e.Owner, e.Name)
}

// Rotate gives a key a new version with random bytes of the same length. What
// was released before stays with whoever has it until its lease ends; renewals
// go on under the new version's policy, which is the old one.
func (s *Service) Rotate(_ context.Context, owner []byte, name string) (Key, error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	k, err := s.owned(owner, name)
	if err != nil {
		return Key{}, err
	}
	policy, err := json.Marshal(k.info.Policy)
	if err != nil {
		return Key{}, err
	}
	material := make([]byte, len(k.material))
	if _, err := rand.Read(material); err != nil {
		return Key{}, err
	}
	e := keyEntry{Name: name, Version: k.info.Version + 1, Material: material, Owner: owner, Policy: policy, At: s.cfg.Now().UnixNano()}
	return s.putKey(e, "rotate")
}

// SetPolicy replaces a key's release policy. Leases that the new policy would
// not give end at their next renewal.
func (s *Service) SetPolicy(_ context.Context, owner []byte, name string, policy []byte) (Key, error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	k, err := s.owned(owner, name)
	if err != nil {
		return Key{}, err
	}
	changed := *k
	if err := changed.setPolicy(policy); err != nil {
		return Key{}, err
	}
	e := policyEntry{Name: name, Policy: policy, At: s.cfg.Now().UnixNano()}
	r := Receipt{Action: "policy", Key: name, Version: k.info.Version, Owner: owner, PolicyDigest: changed.digest[:]}
	if err := s.commit(entry{Policy: &e}, r); err != nil {
		return Key{}, err
	}
	if err := s.applyPolicy(e); err != nil {
		return Key{}, err
	}
	return s.Get(owner, name)
}

// Get describes a key to its owner.
func (s *Service) Get(owner []byte, name string) (Key, error) {
	k, err := s.owned(owner, name)
	if err != nil {
		return Key{}, err
	}
	return k.info, nil
}

// List describes the keys of an owner, by name.
func (s *Service) List(owner []byte) []Key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := []Key{}
	for _, k := range s.keys {
		if string(k.owner) == string(owner) {
			list = append(list, k.info)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// owned returns a key if owner owns it. Whether a key exists is nobody else's
// business.
func (s *Service) owned(owner []byte, name string) (*key, error) {
	if len(owner) != sha256.Size {
		return nil, ErrNoIdentity
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, ok := s.keys[name]
	if !ok || string(k.owner) != string(owner) {
		return nil, ErrNotFound
	}
	return k, nil
}

// Nonce gives out a nonce for one release.
func (s *Service) Nonce() ([]byte, error) { return s.nonces.give() }

// TakeNonce reports whether a nonce is good, and makes it useless.
func (s *Service) TakeNonce(nonce []byte) bool { return s.nonces.take(nonce) }
