package refvalues

import (
	"crypto"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cloister-cc/cloister/tee"
)

// Types of an in-toto statement with reference values. in-toto has no predicate
// for launch measurements; this one is ours:
//
//	{"values": [{"tee": "sev-snp", "measurements": ["…"], "min_svn": 3,
//	             "launch_digests": ["…"], "signer": "…", "product": 7, "tcb": ["UpToDate"]}]}
//
// Each value needs a tee, and measurements or a signer with a product.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://cloister.cc/reference-values/v1"
)

// FromDSSE reads an in-toto statement in a DSSE envelope that one of the keys
// signed: *ecdsa.PublicKey on P-256 or P-384, or ed25519.PublicKey.
func FromDSSE(b []byte, keys []crypto.PublicKey) (Values, error) {
	if len(b) > MaxDocument {
		return Values{}, malformed("%d bytes, at most %d", len(b), MaxDocument)
	}
	payload, err := openDSSE(b, keys)
	if err != nil {
		return Values{}, err
	}
	return statement(payload)
}

// statement reads a statement whose signature was checked.
func statement(b []byte) (Values, error) {
	m, err := members(b, "_type", "subject", "predicateType", "predicate")
	if err != nil {
		return Values{}, malformed("statement: %v", err)
	}
	if typ, err := text(m, "_type", maxText); err != nil || typ != StatementType {
		return Values{}, malformed("statement: _type is not %q", StatementType)
	}
	if typ, err := text(m, "predicateType", maxText); err != nil || typ != PredicateType {
		return Values{}, malformed("statement: predicateType is not %q", PredicateType)
	}
	// Subjects name artifacts by digests that no TEE measures: they have to be
	// there, and nothing here depends on them.
	if _, err := list(m, "subject", MaxEntries); err != nil {
		return Values{}, malformed("statement: %v", err)
	}
	p, err := members(m["predicate"], "values")
	if err != nil {
		return Values{}, malformed("predicate: %v", err)
	}
	items, err := list(p, "values", MaxEntries)
	if err != nil {
		return Values{}, malformed("predicate: %v", err)
	}
	var out Values
	for i, raw := range items {
		e, err := predicateEntry(raw)
		if err != nil {
			return Values{}, malformed("predicate: values[%d]: %v", i, err)
		}
		e.Source = "values[" + strconv.Itoa(i) + "]"
		out.Entries = append(out.Entries, e)
	}
	return out.finish()
}

func predicateEntry(raw []byte) (Entry, error) {
	m, err := members(raw, "tee", "measurements", "launch_digests", "signer", "product", "min_svn", "tcb")
	if err != nil {
		return Entry{}, err
	}
	kind, err := text(m, "tee", maxText)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{}
	if e.TEE, err = tee.ParseKind(kind); err != nil {
		return Entry{}, err
	}
	for _, l := range []struct {
		member, claim string
		check         func(string) error
	}{
		{"measurements", claimMeasurement, func(s string) error { return checkDigest(s, 32, 48) }},
		{"launch_digests", claimLaunchDigest, func(s string) error { return checkDigest(s, 32) }},
		{"tcb", claimTCB, checkTCB},
	} {
		if err := e.texts(m, l.member, l.claim, l.check); err != nil {
			return Entry{}, err
		}
	}
	if _, ok := m["signer"]; ok {
		s, err := text(m, "signer", maxText)
		if err == nil {
			err = checkDigest(s, 32)
		}
		if err != nil {
			return Entry{}, fmt.Errorf("signer: %w", err)
		}
		e.equal(claimSigner, s)
	}
	return e, e.numbers(m)
}

// texts adds a condition for a list of texts, if there is one.
func (e *Entry) texts(m map[string]json.RawMessage, member, claim string, check func(string) error) error {
	if _, ok := m[member]; !ok {
		return nil
	}
	items, err := list(m, member, MaxEntries)
	if err != nil {
		return err
	}
	var values []any
	for i := range items {
		s, err := text(map[string]json.RawMessage{member: items[i]}, member, maxText)
		if err == nil {
			err = check(s)
		}
		if err != nil {
			return fmt.Errorf("%s[%d]: %w", member, i, err)
		}
		values = append(values, s)
	}
	e.equal(claim, values...)
	return nil
}

func (e *Entry) numbers(m map[string]json.RawMessage) error {
	for _, name := range []string{"product", "min_svn"} {
		raw, ok := m[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(string(raw), 10, 32)
		if err != nil {
			return fmt.Errorf("%s is not a number of 32 bits", name)
		}
		if name == "product" {
			e.equal(claimProduct, n)
		} else {
			e.atLeast(claimSVN, n)
		}
	}
	return nil
}

func checkTCB(s string) error {
	for _, known := range tee.TCBStatuses() {
		if s == string(known) {
			return nil
		}
	}
	return fmt.Errorf("%q is no TCB status", clip(s))
}
