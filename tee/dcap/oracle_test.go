package dcap_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
)

// oracle is another verifier, in JavaScript: test/oracle with its packages
// installed. `make oracle` runs these tests.
type oracle struct {
	in  io.Writer
	out *bufio.Scanner
}

type opinion struct {
	Status     tee.TCBStatus `json:"status"`
	Advisories []string      `json:"advisories"`
	Error      string        `json:"error"`
}

func newOracle(t *testing.T, collateral []byte) *oracle {
	t.Helper()
	dir := os.Getenv("CLOISTER_ORACLE")
	if dir == "" {
		t.Skip("the other verifier is not installed: make oracle")
	}
	var line bytes.Buffer
	if err := json.Compact(&line, collateral); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join(dir, "verify.js"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	o := &oracle{in: in, out: bufio.NewScanner(out)}
	if _, err := in.Write(append(line.Bytes(), '\n')); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *oracle) ask(t require, quote []byte, at int64) opinion {
	b, err := json.Marshal(map[string]any{"quote": hex.EncodeToString(quote), "at": at})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.in.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
	if !o.out.Scan() {
		t.Fatal("the other verifier ended")
	}
	var answer opinion
	if err := json.Unmarshal(o.out.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// require is what tests and properties have in common.
type require interface {
	Fatal(args ...any)
	Errorf(format string, args ...any)
}

// recordedCase is a quote with its collateral, of testdata in the rooms above.
type recordedCase struct{ dir, version string }

func (c recordedCase) read(t *testing.T) (quote, collateral []byte, in tee.Input) {
	t.Helper()
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("..", c.dir, "testdata", c.version+name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	collateral = read("-collateral.json")
	return read("-quote.bin"), collateral, tee.Input{At: recordedAt, Endorsements: recordedEndorsements(t, collateral)}
}

// TestAgreesWithTheOracle on recorded quotes, and on ones that differ from them in
// one byte anywhere. The other verifier may accept more where nothing is signed,
// for it does not look at all of it: in the text of the certificate chain, and
// where ours refuses the form. Ours lets white space between lines of base64 be
// any white space.
func TestAgreesWithTheOracle(t *testing.T) {
	for _, c := range []recordedCase{{"sgx", "v3"}, {"tdx", "v4"}} {
		t.Run(c.dir, func(t *testing.T) {
			quote, collateral, in := c.read(t)
			other := newOracle(t, collateral)
			var v dcap.Verifier
			r, err := v.Verify(tee.Kind(c.dir), tee.Evidence{Kind: tee.Kind(c.dir), Data: quote}, in)
			if err != nil {
				t.Fatal(err)
			}
			if theirs := other.ask(t, quote, in.At.Unix()); theirs.Status != r.Status || !slices.Equal(theirs.Advisories, append([]string{}, r.Advisories...)) {
				t.Errorf("ours %s %v, theirs %+v", r.Status, r.Advisories, theirs)
			}
			certs := len(quote) - dcap.CertificateBytes(r.Quote)
			rapid.Check(t, func(t *rapid.T) {
				for range 10 {
					changed := bytes.Clone(quote)
					at := rapid.IntRange(0, len(quote)-1).Draw(t, "byte")
					changed[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "change"))
					ours, err := v.Verify(tee.Kind(c.dir), tee.Evidence{Kind: tee.Kind(c.dir), Data: changed}, in)
					theirs := other.ask(t, changed, in.At.Unix())
					switch {
					case err != nil && theirs.Error == "" && at < certs && !onlyForm(err):
						t.Errorf("byte %d: ours %v, theirs %+v", at, err, theirs)
					case err == nil && theirs.Error == "" && ours.Status != theirs.Status:
						t.Errorf("byte %d: ours %s, theirs %+v", at, ours.Status, theirs)
					case err == nil && theirs.Error != "" && quote[at] > ' ':
						t.Errorf("byte %d: ours accepts, theirs %+v", at, theirs)
					}
				}
			})
		})
	}
}

func onlyForm(err error) bool {
	e, ok := errors.AsType[*tee.VerifyError](err)
	return ok && len(e.Failures) == 1 && e.Failures[0].Code == tee.CodeParse
}
