package tpm

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cloister-cc/cloister/tee/eventlog"
)

// dump is go-attestation's record of a machine (its type Dump), of which only what
// a quote needs is read. Other fields are ignored.
type dump struct {
	Static struct{ TPMVersion int }
	AK     struct{ Public []byte }
	Quote  struct{ Quote, Signature []byte }
	Log    struct {
		PCRs []struct {
			Index     uint32
			Digest    []byte
			DigestAlg crypto.Hash
		}
		Raw []byte
	}
}

// isDump recognises the JSON of a dump by a name that no other evidence has.
func isDump(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) && bytes.Contains(b, []byte(`"TPMVersion"`))
}

func parseDump(b []byte) (*Statement, error) {
	var d dump
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, malformed("evidence", "a dump of go-attestation", err)
	}
	if d.Static.TPMVersion != 2 {
		return nil, unsupported("TPM version", "2", fmt.Sprint(d.Static.TPMVersion))
	}
	s := &Statement{Quote: d.Quote.Quote, Signature: d.Quote.Signature, AKPublic: d.AK.Public, EventLog: d.Log.Raw, PCRs: make(Banks)}
	for _, p := range d.Log.PCRs {
		a := algorithmOf(p.DigestAlg)
		if a == 0 || p.Index > maxPCR || s.PCRs[a][p.Index] != nil {
			return nil, malformed("pcrs", "each PCR of a known hash once", errors.New("others"))
		}
		if s.PCRs[a] == nil {
			s.PCRs[a] = make(map[uint32][]byte)
		}
		s.PCRs[a][p.Index] = p.Digest
	}
	return s, nil
}

// algorithmOf is the TPM's name for a hash of package crypto, 0 if there is none.
func algorithmOf(h crypto.Hash) eventlog.Algorithm {
	for _, a := range eventlog.Algorithms() {
		if a.Hash() == h {
			return a
		}
	}
	return 0
}
