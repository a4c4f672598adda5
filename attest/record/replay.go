package record

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/tee"
)

func (c *Case) readReportData(text string) error {
	if text == "" {
		return nil
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return fmt.Errorf("%w: report data is not hex", ErrArchive)
	}
	c.ReportData = b
	return nil
}

// Replayed is what came of judging a recorded case again.
type Replayed struct {
	Name      string `json:"name"`
	Same      bool   `json:"same"`                // byte for byte
	Accepted  bool   `json:"accepted"`            // then
	Different string `json:"different,omitempty"` // the first member that differs
}

// Replay judges a recorded case again, at its own time and with its own inputs.
func (a *Archive) Replay(v *attest.Verifier, name string) (Replayed, error) {
	was, want, err := a.Record(name)
	if err != nil {
		return Replayed{}, err
	}
	c, err := a.Case(was)
	if err != nil {
		return Replayed{}, err
	}
	again, _, _ := Judge(v, c)
	again.TokenID = was.TokenID // the token was issued once
	got, err := again.Bytes()
	if err != nil {
		return Replayed{}, err
	}
	r := Replayed{Name: name, Same: bytes.Equal(got, want), Accepted: was.Accepted}
	if !r.Same {
		r.Different = firstDifference(want, got)
	}
	return r, nil
}

// firstDifference names the first member, by name, in which two records differ.
func firstDifference(a, b []byte) string {
	var was, is map[string]json.RawMessage
	if json.Unmarshal(a, &was) != nil || json.Unmarshal(b, &is) != nil {
		return "the form"
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if !bytes.Equal(was[name], is[name]) {
			return name
		}
	}
	return "the order"
}

// Impact is a past verdict that other collateral would change.
type Impact struct {
	Name     string        `json:"name"`
	TEE      tee.Kind      `json:"tee"`
	Platform string        `json:"platform"`
	At       time.Time     `json:"at"`
	TCBWas   tee.TCBStatus `json:"tcb_was"`
	TCBIs    tee.TCBStatus `json:"tcb_is"`
	Refused  []Failure     `json:"refused"`
	TokenID  string        `json:"token_id"`
}

// Impact judges a case that was accepted as if its evidence came today: at the
// time at, with the certificates that it came with, and with the collateral and
// revocation lists that are given in place of its own. The result is nil if it
// would still be accepted, or was not then.
func (a *Archive) Impact(v *attest.Verifier, name string, today tee.Endorsements, at time.Time) (*Impact, error) {
	was, _, err := a.Record(name)
	if err != nil || !was.Accepted {
		return nil, err
	}
	c, err := a.Case(was)
	if err != nil {
		return nil, err
	}
	c.Input.At = at
	c.Input.Endorsements.CRLs, c.Input.Endorsements.Collateral = today.CRLs, today.Collateral
	c.Input.Endorsements.Certificates = append(append([][]byte(nil), c.Input.Endorsements.Certificates...), today.Certificates...)
	is, _, _ := Judge(v, c)
	if is.Accepted {
		return nil, nil
	}
	platform, _ := was.Claims["platform"].(string)
	return &Impact{Name: name, TEE: was.TEE, Platform: platform, At: was.At, TCBWas: was.TCB, TCBIs: is.TCB, Refused: is.Failures, TokenID: was.TokenID}, nil
}
