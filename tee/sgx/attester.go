package sgx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cloister-cc/cloister/tee"
)

// GramineDir is where Gramine shows an enclave's attestation.
const GramineDir = "/dev/attestation"

// Attester gets quotes inside an enclave of Gramine, from the files that it
// shows (Gramine documentation, "Attestation and Secret Provisioning"). It is
// safe for concurrent use: the files keep one report data for everybody, so one
// request is made at a time. Make one Attester for a process.
type Attester struct {
	// Dir is the directory of the files; empty is [GramineDir].
	Dir string

	mu sync.Mutex
}

// Kind is tee.SGX.
func (a *Attester) Kind() tee.Kind { return tee.SGX }

// Evidence returns a quote over reportData. The error is a *tee.Error with
// CodeUnavailable: this is no enclave of Gramine, or one without DCAP quotes.
func (a *Attester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	unavailable := func(err error, hint string) (tee.Evidence, error) {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: "get a quote of this enclave", Err: err, Hint: hint}
	}
	if err := ctx.Err(); err != nil {
		return unavailable(err, "")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	kind, err := a.read("attestation_type", 64)
	if err != nil {
		return unavailable(err, "this is not an enclave of Gramine")
	}
	if k := strings.TrimSpace(string(kind)); k != "dcap" {
		return unavailable(fmt.Errorf("attestation type %.20q, want dcap", k), `set sgx.remote_attestation = "dcap" in the manifest`)
	}
	if err := a.write("user_report_data", reportData[:]); err != nil {
		return unavailable(err, "")
	}
	quote, err := a.read("quote", tee.MaxEvidence)
	if err != nil {
		return unavailable(err, "is the AESM service of the host running?")
	}
	if len(quote) == 0 {
		return unavailable(errors.New("the quote is empty"), "")
	}
	return tee.Evidence{Kind: tee.SGX, Data: quote}, nil
}

func (a *Attester) path(name string) string {
	dir := a.Dir
	if dir == "" {
		dir = GramineDir
	}
	return filepath.Join(dir, name)
}

func (a *Attester) read(name string, limit int64) ([]byte, error) {
	f, err := os.Open(a.path(name))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b, errors.Join(err, f.Close())
}

// write writes a whole value at once, as these files take it.
func (a *Attester) write(name string, b []byte) error {
	f, err := os.OpenFile(a.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// Interface guard.
var _ tee.Attester = (*Attester)(nil)
