package record

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/cloister-cc/cloister/attest"
)

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
