package azure

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/tpm"
)

// Where the paravisor keeps things in the vTPM ("Guest attestation for confidential
// VMs", learn.microsoft.com).
const (
	AKHandle      uint32 = 0x81000003 // the key that its report names as HCLAkPub
	ReportIndex   uint32 = 0x01400001 // its report; reading it makes a new one, at most every 2 s
	UserDataIndex uint32 = 0x01400002 // 64 bytes that go into the next report
)

// tdReportSize is how many bytes of the report's hardware part a TDREPORT takes.
const tdReportSize = 1024

// How long a paravisor may take to make a report with our user data, and how often
// we look.
const (
	reportWait = 5 * time.Second
	reportPoll = 250 * time.Millisecond
)

// Options say how an [Attester] works. The zero value is good.
type Options struct {
	// PCRs are the registers of the SHA-256 bank to quote; nil: all 24, as Azure's
	// guest software does.
	PCRs []uint32
	// Metadata is the URL of the host's metadata service without a path; empty:
	// [MetadataURL].
	Metadata string
}

// Attester makes evidence of an Azure confidential VM: it asks the vTPM for the
// paravisor's report and a quote, and the host's metadata service for the VCEK or
// the TD quote. It is safe for concurrent use; requests take turns.
type Attester struct {
	mu       sync.Mutex
	kind     tee.Kind
	tpm      *tpm.Attester
	metadata *metadata
	wait     time.Duration
}

// OpenSNP returns an attester for VMs on SEV-SNP that uses this machine's TPM. The
// error is a *tee.Error, mostly with CodeUnavailable: this is no such VM.
func OpenSNP(o Options) (*Attester, error) { return open(tee.AzureSNP, o) }

// OpenTDX is [OpenSNP] for VMs on TDX.
func OpenTDX(o Options) (*Attester, error) { return open(tee.AzureTDX, o) }

func open(kind tee.Kind, o Options) (*Attester, error) {
	t, err := tpm.Open(TPMOptions(o))
	if err != nil {
		return nil, err
	}
	a, err := NewAttester(kind, t, o)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return a, nil
}

// TPMOptions are the options of the TPM's attester that [NewAttester] needs.
func TPMOptions(o Options) tpm.Options {
	if o.PCRs == nil {
		for i := range uint32(maxPCRs) {
			o.PCRs = append(o.PCRs, i)
		}
	}
	return tpm.Options{AK: AKHandle, PCRs: o.PCRs}
}

// NewAttester returns an attester of the given kind on a TPM that was opened with
// [TPMOptions], and closes it when it is closed. The error is a *tee.Error:
// CodeUnsupported for another kind, else CodeUnavailable when the TPM has no report
// of a paravisor on that hardware.
func NewAttester(kind tee.Kind, t *tpm.Attester, o Options) (*Attester, error) {
	const op = "look for a paravisor"
	if kind != tee.AzureSNP && kind != tee.AzureTDX {
		return nil, &tee.Error{Code: tee.CodeUnsupported, Op: op, Err: fmt.Errorf("%.32q is no VM of Azure", string(kind))}
	}
	a := &Attester{kind: kind, tpm: t, metadata: newMetadata(o.Metadata), wait: reportWait}
	if _, _, err := a.report(context.Background()); err != nil {
		return nil, err
	}
	return a, nil
}

// Kind is tee.AzureSNP or tee.AzureTDX.
func (a *Attester) Kind() tee.Kind { return a.kind }

// Close closes the TPM.
func (a *Attester) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tpm.Close()
}

// Evidence returns a quote with reportData as extra data, the paravisor's report,
// and what the hardware's part of it needs. reportData goes into the report as user
// data too, so that its TCB is of today; a paravisor that takes none gives an older
// report, which is evidence as well: what is fresh is the quote. The firmware's log
// is sent along if it replays to what is quoted.
//
// The error is a *tee.Error: CodeBinding when the report names another key than the
// one that quotes, else CodeUnavailable.
func (a *Attester) Evidence(ctx context.Context, reportData [64]byte) (tee.Evidence, error) {
	const op = "get evidence of this VM"
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.tpm.WriteNV(ctx, UserDataIndex, reportData[:]); err != nil {
		return tee.Evidence{}, err
	}
	raw, report, err := a.reportWith(ctx, reportData)
	if err != nil {
		return tee.Evidence{}, err
	}
	quote, err := a.tpm.Quote(ctx, reportData[:])
	if err != nil {
		return tee.Evidence{}, err
	}
	e := &Envelope{HCLReport: raw, Message: quote.Quote, PCRs: inOrder(quote.PCRs)}
	sig, err := tpm.ParseSignature(quote.Signature)
	if err == nil && (sig.Scheme != tpm.RSASSA || sig.Hash != eventlog.SHA256) {
		err = fmt.Errorf("the vTPM signs with %s and %s", sig.Scheme, sig.Hash)
	}
	if err != nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: op, Err: err}
	}
	e.Signature = sig.RSA
	if report.TDX {
		e.TDQuote, err = a.metadata.tdQuote(ctx, report.Hardware[:tdReportSize])
	} else {
		e.VCEK, err = a.metadata.vcek(ctx)
	}
	if err != nil {
		return tee.Evidence{}, err
	}
	data, err := e.Encode()
	if err != nil {
		return tee.Evidence{}, err
	}
	ev := tee.Evidence{Kind: a.kind, Data: data}
	if _, failures := tpm.CheckLog(quote.EventLog, quote.PCRs); len(failures) == 0 {
		ev.EventLog = quote.EventLog
	}
	return ev, nil
}

// inOrder are the values of the SHA-256 bank from 0 up to the last; what is not
// quoted is empty.
func inOrder(banks tpm.Banks) [][]byte {
	var out [][]byte
	for i := range uint32(maxPCRs) {
		if v := banks[eventlog.SHA256][i]; v != nil {
			out = append(out, slices.Repeat([][]byte{nil}, int(i)-len(out))...)
			out = append(out, v)
		}
	}
	return out
}

// reportWith reads the report until it has our user data, or for as long as a
// paravisor needs that takes some.
func (a *Attester) reportWith(ctx context.Context, reportData [64]byte) ([]byte, *Report, error) {
	want := hex.EncodeToString(reportData[:])
	for deadline := time.Now().Add(a.wait); ; {
		raw, report, err := a.report(ctx)
		if err != nil {
			return nil, nil, err
		}
		runtime, err := parseRuntimeData(a.kind, report.RuntimeData)
		if err != nil {
			return nil, nil, &tee.Error{Code: tee.CodeUnavailable, Op: "read the paravisor's report", Err: err}
		}
		if !runtime.ak.Equal(a.tpm.AK().Key) {
			return nil, nil, &tee.Error{Code: tee.CodeBinding, Op: "read the paravisor's report", Err: fmt.Errorf("it names another key than the one at %#x", AKHandle)}
		}
		if strings.EqualFold(runtime.userData, want) || time.Now().After(deadline) {
			return raw, report, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, &tee.Error{Code: tee.CodeUnavailable, Op: "wait for the paravisor's report", Err: ctx.Err()}
		case <-time.After(reportPoll):
		}
	}
}

// report reads the paravisor's report, which has to be of this attester's kind.
func (a *Attester) report(ctx context.Context) ([]byte, *Report, error) {
	raw, err := a.tpm.ReadNV(ctx, ReportIndex, maxReport)
	if err != nil {
		return nil, nil, err
	}
	r, err := ParseReport(a.kind, raw)
	if err == nil && r.TDX != (a.kind == tee.AzureTDX) {
		err = errors.New("it is on other hardware")
	}
	if err != nil {
		return nil, nil, &tee.Error{Code: tee.CodeUnavailable, Op: "read the paravisor's report", Err: err, Hint: "this is no confidential VM of Azure on the hardware of " + string(a.kind)}
	}
	// The zeroes that follow are the index's, not the report's.
	return raw[:offData+len(r.RuntimeData)], r, nil
}

// Interface guard.
var _ tee.Attester = (*Attester)(nil)
