package nitro_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/nitro"
)

// vectorsDir holds real evidence. It is beside the repository, not in it.
const vectorsDir = "../../../shared/vectors/attest"

// vector is one case of the vectors with the verdict that its case.json gives in
// words; no codes mean that it verifies.
type vector struct {
	id    string
	codes []tee.Code
	debug bool
}

var vectors = []vector{
	{id: "nitro-2021"},
	{id: "nitro-2024-debug", debug: true},
	{id: "nitro-expired", codes: []tee.Code{tee.CodeExpired}},
	{id: "nitro-tamper-pcr", codes: []tee.Code{tee.CodeSignature}},
}

// notDocuments are the cases that have no document.
var notDocuments = []string{"nitro-root"}

func TestVectors(t *testing.T) {
	v := nitro.New()
	for _, c := range vectors {
		t.Run(c.id, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(vectorsDir, c.id, "doc.bin"))
			if err != nil {
				t.Skipf("no vectors: %v; this test needs ../shared/vectors/attest beside the repository", err)
			}
			description, err := os.ReadFile(filepath.Join(vectorsDir, c.id, "case.json"))
			if err != nil {
				t.Fatal(err)
			}
			var of struct{ At time.Time }
			if err := json.Unmarshal(description, &of); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time by remembered certificates
				if !v.Detect(data) {
					t.Error("not detected")
				}
				claims, _, err := v.Verify(tee.Evidence{Kind: tee.Nitro, Data: data}, tee.Input{At: of.At})
				if len(c.codes) > 0 {
					wantCodes(t, claims, err, c.codes...)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if claims.TEE != tee.Nitro || claims.Simulated || claims.Debug != c.debug || len(claims.Measurement) != 48 {
					t.Errorf("claims %+v", claims)
				}
			}
		})
	}
}

// TestVectorsAreComplete fails when a case was added that no test names.
func TestVectorsAreComplete(t *testing.T) {
	dirs, _ := filepath.Glob(filepath.Join(vectorsDir, "nitro-*"))
	if len(dirs) == 0 {
		t.Skip("no vectors: this test needs ../shared/vectors/attest beside the repository")
	}
	for _, d := range dirs {
		id := filepath.Base(d)
		if !slices.Contains(notDocuments, id) && !slices.ContainsFunc(vectors, func(v vector) bool { return v.id == id }) {
			t.Errorf("%s is not tested", id)
		}
	}
}
