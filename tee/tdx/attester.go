package tdx

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/tsm"
)

// eventLogFile is where the kernel shows the log that the firmware kept of what
// it measured into the RTMRs (ACPI table CCEL).
const eventLogFile = "/sys/firmware/acpi/tables/data/CCEL"

// Attester gets quotes inside a TD from the kernel (configfs-tsm), which asks
// the quoting enclave by way of the host. The zero value asks the running
// kernel. It is safe for concurrent use.
type Attester struct {
	// TSM asks for reports; tests put a fake in its place.
	TSM tsm.Client
	// EventLog is the file of the event log; empty is the kernel's.
	EventLog string
}

// Kind is tee.TDX.
func (a Attester) Kind() tee.Kind { return tee.TDX }

// Evidence returns a quote over reportData, with the event log where there is
// one. The error is a *tee.Error with CodeUnavailable: this is no TD, or no
// quoting enclave answers.
func (a Attester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	const op = "get a quote of this TD"
	r, err := a.TSM.Report(ctx, reportData)
	if err != nil {
		return tee.Evidence{}, err
	}
	if r.Provider != tsm.TDXGuest {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: errors.New("the kernel's reports are by " + r.Provider), Hint: "this is not a TD"}
	}
	log, err := a.eventLog()
	if err != nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
	}
	return tee.Evidence{Kind: tee.TDX, Data: r.Evidence, EventLog: log}, nil
}

// eventLog is nil where the firmware kept none.
func (a Attester) eventLog() ([]byte, error) {
	name := a.EventLog
	if name == "" {
		name = eventLogFile
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, tee.MaxEventLog+1))
	if err == nil && len(b) > tee.MaxEventLog {
		err = errors.New("the event log is larger than any verifier reads")
	}
	return b, errors.Join(err, f.Close())
}

// Interface guard.
var _ tee.Attester = Attester{}
