package collateral

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-cc/cloister/tee"
)

// Kind says what an item is.
type Kind string

// The kinds. Intel's are what its Provisioning Certification Service (PCS) gives
// out, AMD's what its Key Distribution Service (KDS) does.
const (
	IntelTCBInfo    Kind = "intel-tcb-info"    // JSON of a family of platforms, for SGX or TDX
	IntelQEIdentity Kind = "intel-qe-identity" // JSON of the quoting enclave of SGX or TDX
	IntelPCKCRL     Kind = "intel-pck-crl"     // DER
	IntelRootCRL    Kind = "intel-root-crl"    // DER
	AMDChain        Kind = "amd-cert-chain"    // PEM: the signing certificate and the root
	AMDCRL          Kind = "amd-crl"           // DER
	AMDVCEK         Kind = "amd-vcek"          // DER
)

// Item is one endorsement, as its vendor gave it.
type Item struct {
	Kind Kind `json:"kind"`
	// Name tells items of a kind apart: tdx/b0c06f000000, sgx, platform, Milan.
	Name string `json:"name"`
	// Source is the URL that it was fetched from, or the file that it was in.
	Source string `json:"source"`
	// FetchedAt is when, by the clock of who fetched it.
	FetchedAt time.Time `json:"fetched_at"`
	// IssuedAt and NextUpdate are the vendor's own. Next update is zero for what
	// has none: a certificate is replaced when it expires.
	IssuedAt   time.Time `json:"issued_at,omitzero"`
	NextUpdate time.Time `json:"next_update,omitzero"`
	// Digest is the SHA-256 of Data, hex.
	Digest string `json:"sha256"`
	Data   []byte `json:"data"`
	// Chain is the PEM of the certificates that lead from whoever signed Data to
	// the vendor's root.
	Chain string `json:"chain,omitempty"`
}

// key is what makes two items versions of the same thing.
func (i Item) key() string { return string(i.Kind) + " " + i.Name }

// newItem reads the dates of what a vendor gave, and fails when it is not of its
// kind.
func newItem(kind Kind, name, source string, fetched time.Time, data []byte, chain string) (Item, error) {
	sum := sha256.Sum256(data)
	i := Item{Kind: kind, Name: name, Source: source, FetchedAt: fetched.UTC().Truncate(time.Second), Digest: hex.EncodeToString(sum[:]), Data: data, Chain: chain}
	return i, i.readDates()
}

// readDates takes the dates out of Data and checks that it has its kind's form.
func (i *Item) readDates() error {
	var err error
	switch i.Kind {
	case IntelTCBInfo:
		err = i.readDocument("tcbInfo")
	case IntelQEIdentity:
		err = i.readDocument("enclaveIdentity")
	case IntelPCKCRL, IntelRootCRL, AMDCRL:
		var l *x509.RevocationList
		if l, err = x509.ParseRevocationList(i.Data); err == nil {
			i.IssuedAt, i.NextUpdate = l.ThisUpdate.UTC(), l.NextUpdate.UTC()
		}
	case AMDVCEK:
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(i.Data); err == nil {
			i.IssuedAt, i.NextUpdate = c.NotBefore.UTC(), c.NotAfter.UTC()
		}
	case AMDChain:
		if block, _ := pem.Decode(i.Data); block == nil {
			err = errors.New("no certificates")
		}
	default:
		err = errors.New("the kind is not known")
	}
	if err != nil {
		return fmt.Errorf("%.64q %.64q: %w", string(i.Kind), i.Name, err)
	}
	return nil
}

func (i *Item) readDocument(member string) error {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(i.Data, &outer); err != nil {
		return err
	}
	var d struct {
		IssueDate  time.Time `json:"issueDate"`
		NextUpdate time.Time `json:"nextUpdate"`
	}
	if err := json.Unmarshal(outer[member], &d); err != nil || d.NextUpdate.IsZero() {
		return fmt.Errorf("not an answer with %s and its dates", member)
	}
	i.IssuedAt, i.NextUpdate = d.IssueDate.UTC(), d.NextUpdate.UTC()
	return nil
}

// check compares everything that an item says of itself with its bytes.
func (i Item) check() error {
	fresh, err := newItem(i.Kind, i.Name, i.Source, i.FetchedAt, i.Data, i.Chain)
	switch {
	case err != nil:
		return err
	case fresh.Digest != i.Digest:
		return fmt.Errorf("%.64q: its bytes do not have its digest", i.key())
	case !fresh.IssuedAt.Equal(i.IssuedAt) || !fresh.NextUpdate.Equal(i.NextUpdate):
		return fmt.Errorf("%.64q: its dates are not those of its bytes", i.key())
	}
	return nil
}

// State says how an item stands at a time.
type State string

// The states.
const (
	Current State = "current"
	Stale   State = "stale"  // past its next update: verifiers refuse it
	Future  State = "future" // not issued yet by that clock
)

// State is how the item stands at a time.
func (i Item) State(at time.Time) State {
	switch {
	case !i.IssuedAt.IsZero() && at.Before(i.IssuedAt):
		return Future
	case !i.NextUpdate.IsZero() && at.After(i.NextUpdate):
		return Stale
	default:
		return Current
	}
}

// add puts the item among endorsements.
func (i Item) add(e *tee.Endorsements) error {
	if i.Chain != "" && !readPEM(e, []byte(i.Chain)) {
		return fmt.Errorf("%.64q: its chain holds no certificate", i.key())
	}
	return Read(e, i.key(), i.Data)
}

// newest keeps, of items for the same thing, the one that the vendor issued
// last; of those with one date, the one that was fetched last.
func newest(items []Item) []Item {
	best := map[string]Item{}
	for _, i := range items {
		b, ok := best[i.key()]
		if !ok || i.IssuedAt.After(b.IssuedAt) || i.IssuedAt.Equal(b.IssuedAt) && i.FetchedAt.After(b.FetchedAt) {
			best[i.key()] = i
		}
	}
	out := make([]Item, 0, len(best))
	for _, i := range best {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Item) int { return strings.Compare(a.key(), b.key()) })
	return out
}
