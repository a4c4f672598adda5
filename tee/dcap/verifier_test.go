package dcap_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// TestEveryVersionAndBody verifies each form of a quote with full collateral.
func TestEveryVersionAndBody(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{PPID: [16]byte{9}})
	for _, o := range []dcaptest.QuoteOptions{
		{Version: 3}, {Version: 4}, {Version: 5},
		{Version: 4, Type: dcap.TD10Body}, {Version: 5, Type: dcap.TD10Body}, {Version: 5, Type: dcap.TD15Body},
	} {
		t.Run(fmt.Sprintf("version %d, body %d", o.Version, o.Type), func(t *testing.T) {
			ev := p.Evidence(t, o)
			r := verifies(t, ev, intel.Input(t, dcaptest.CollateralOptions{TDX: ev.Kind == tee.TDX}))
			if r.Status != tee.TCBUpToDate || len(r.Findings) > 0 || len(r.Advisories) > 0 || r.EvaluationNumber != 20 || r.LevelDate != "2025-05-14T00:00:00Z" {
				t.Errorf("%+v", r)
			}
			if r.PCK.FMSPC != dcaptest.FMSPC || r.PCK.PPID != [16]byte{9} || r.PCK.PCESVN != dcaptest.CurrentPCESVN || r.PCK.Components != dcaptest.CurrentComponents || r.PCK.SGXType != 1 {
				t.Errorf("%+v", r.PCK)
			}
			if r.Quote.Version != o.Version || r.Quote.Kind != ev.Kind || r.QuotingEnclave.ISVSVN != dcaptest.QESVN {
				t.Errorf("%+v", r.Quote)
			}
		})
	}
}

// TestWhatIsMissing: collateral that was not given is a finding that names it,
// and the status is Unknown.
func TestWhatIsMissing(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	for name, c := range map[string]struct {
		take     func(*tee.Endorsements)
		status   tee.TCBStatus
		findings int
	}{
		"nothing":         {func(*tee.Endorsements) {}, tee.TCBUpToDate, 0},
		"all":             {func(e *tee.Endorsements) { *e = tee.Endorsements{} }, tee.TCBUnknown, 3},
		"both documents":  {func(e *tee.Endorsements) { e.Collateral = nil }, tee.TCBUnknown, 1},
		"TCB information": {func(e *tee.Endorsements) { delete(e.Collateral, "tcbinfo.json") }, tee.TCBUnknown, 1},
		"identity":        {func(e *tee.Endorsements) { delete(e.Collateral, "qeidentity.json") }, tee.TCBUnknown, 1},
		"root list":       {func(e *tee.Endorsements) { e.CRLs = e.CRLs[1:] }, tee.TCBUpToDate, 1},
		"platform list":   {func(e *tee.Endorsements) { e.CRLs = e.CRLs[:1] }, tee.TCBUpToDate, 1},
		"another TEE's": {func(e *tee.Endorsements) {
			e.Collateral = map[string][]byte{"other.json": []byte(`{"a":1}`), "array.json": []byte(`[]`), "text": []byte("text")}
		}, tee.TCBUnknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			in := intel.Input(t, dcaptest.CollateralOptions{})
			c.take(&in.Endorsements)
			r := verifies(t, p.Evidence(t, dcaptest.QuoteOptions{}), in)
			if r.Status != c.status || len(r.Findings) != c.findings {
				t.Errorf("%s, %v", r.Status, r.Findings)
			}
			for _, f := range r.Findings {
				if f.Code != tee.CodeCollateralMissing {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestTrailingBytes are not signed: they are ignored, and said.
func TestTrailingBytes(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	ev := p.Evidence(t, dcaptest.QuoteOptions{Trailing: []byte{1, 2, 3}})
	if r := verifies(t, ev, intel.Input(t, dcaptest.CollateralOptions{})); !slices.Equal(findingCodes(r.Findings), []tee.Code{tee.CodeTrailing}) {
		t.Errorf("%v", r.Findings)
	}
	refuses(t, p.Evidence(t, dcaptest.QuoteOptions{Trailing: make([]byte, 16<<10+1)}), intel.Input(t, dcaptest.CollateralOptions{}), tee.CodeParse)
}

// TestChainGivenApart: certification data of type 1 names a certificate that the
// relying party has to have.
func TestChainGivenApart(t *testing.T) {
	intel := dcaptest.New(t)
	p, other := intel.Platform(t, dcaptest.PlatformOptions{}), intel.Platform(t, dcaptest.PlatformOptions{})
	ev := p.Evidence(t, dcaptest.QuoteOptions{WithoutChain: true})
	in := intel.Input(t, dcaptest.CollateralOptions{})
	refuses(t, ev, in, tee.CodeCollateralMissing)
	in.Endorsements.Certificates = append(in.Endorsements.Certificates, other.Certificate.Raw, p.Certificate.Raw)
	refuses(t, ev, in, tee.CodeChain) // whose authority nobody gave
	in.Endorsements.Certificates = append(in.Endorsements.Certificates, intel.PlatformCA.Certificate.Raw)
	if r := verifies(t, ev, in); r.Status != tee.TCBUpToDate {
		t.Errorf("%+v", r)
	}
	ev.Certificates = [][]byte{p.Certificate.Raw, intel.PlatformCA.Certificate.Raw}
	in = intel.Input(t, dcaptest.CollateralOptions{})
	verifies(t, ev, in)
	in.Endorsements.Certificates = slices.Repeat([][]byte{p.Certificate.Raw}, 65)
	refuses(t, ev, in, tee.CodeParse, tee.CodeCollateralMissing)
}

// TestNothingIsRemembered that another input would not say: what verified with
// one root, list or document does not verify with another.
func TestNothingIsRemembered(t *testing.T) {
	intel, other := dcaptest.New(t), dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	ev := p.Evidence(t, dcaptest.QuoteOptions{})
	good := intel.Input(t, dcaptest.CollateralOptions{})
	var v dcap.Verifier
	for range 2 {
		if _, err := v.Verify(tee.SGX, ev, good); err != nil {
			t.Fatal(err)
		}
		in := good
		in.Roots = other.Roots()
		r, err := v.Verify(tee.SGX, ev, in)
		wantCodes(t, r, err, tee.CodeChain)
		in = good
		in.Roots = nil // Intel's own
		r, err = v.Verify(tee.SGX, ev, in)
		wantCodes(t, r, err, tee.CodeChain)
		in = good
		in.At = in.At.AddDate(0, 0, 29)
		r, err = v.Verify(tee.SGX, ev, in)
		wantCodes(t, r, err, tee.CodeCollateralExpired)
		in = good
		in.Endorsements = intel.Endorsements(t, dcaptest.CollateralOptions{Signer: other.TCBSigner})
		r, err = v.Verify(tee.SGX, ev, in)
		wantCodes(t, r, err, tee.CodeTCBSignature)
	}
}

// TestGrace: collateral that is late verifies within the grace and says so, and
// beyond it is refused as without one.
func TestGrace(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	in := intel.Input(t, dcaptest.CollateralOptions{CRLs: dcaptest.Validity{To: dcaptest.At.AddDate(0, 0, 9)}})
	ev := p.Evidence(t, dcaptest.QuoteOptions{})
	late := in
	late.At = in.At.AddDate(0, 0, 29)
	late.Grace = 30 * 24 * time.Hour
	for name, c := range map[string]struct {
		in       tee.Input
		refused  bool
		findings int
	}{
		"on time":        {in: in},
		"within grace":   {in: late, findings: 4}, // two documents, two lists
		"no grace":       {in: tee.Input{Endorsements: in.Endorsements, Roots: in.Roots, At: late.At}, refused: true},
		"beyond":         {in: tee.Input{Endorsements: in.Endorsements, Roots: in.Roots, At: late.At, Grace: time.Hour}, refused: true},
		"negative":       {in: tee.Input{Endorsements: in.Endorsements, Roots: in.Roots, At: in.At, Grace: -1000 * time.Hour}},
		"not yet issued": {in: tee.Input{Endorsements: in.Endorsements, Roots: in.Roots, At: in.At.AddDate(-1, 0, 0), Grace: 10000 * time.Hour}, refused: true},
	} {
		r, err := new(dcap.Verifier).Verify(tee.SGX, ev, c.in)
		if (err != nil) != c.refused || err == nil && len(r.Findings) != c.findings {
			t.Errorf("%s: %v, findings %v", name, err, r)
			continue
		}
		if err == nil {
			for _, f := range r.Findings {
				if f.Code != tee.CodeCollateralExpired {
					t.Errorf("%s: finding %v", name, f)
				}
			}
		}
	}
}

// TestBestDocument: of several documents the newest that holds counts, and those
// of other platforms do not matter beside the right one.
func TestBestDocument(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	in := intel.Input(t, dcaptest.CollateralOptions{})
	level := func(status tee.TCBStatus, issued time.Time) func(map[string]any) {
		return func(m map[string]any) {
			m["issueDate"] = issued.Format(time.RFC3339)
			m["tcbLevels"].([]any)[0].(map[string]any)["tcbStatus"] = status
		}
	}
	add := func(name string, o dcaptest.CollateralOptions) {
		in.Endorsements.Collateral[name] = intel.Endorsements(t, o).Collateral["tcbinfo.json"]
	}
	add("a newer", dcaptest.CollateralOptions{TCBInfo: level(tee.TCBConfigurationNeeded, dcaptest.At.AddDate(0, 0, -1))})
	add("b older", dcaptest.CollateralOptions{TCBInfo: level(tee.TCBOutOfDate, dcaptest.At.AddDate(0, 0, -9))})
	add("c of tomorrow", dcaptest.CollateralOptions{TCBInfo: level(tee.TCBRevoked, dcaptest.At.AddDate(0, 0, 1))})
	add("d other family", dcaptest.CollateralOptions{TCBInfo: func(m map[string]any) { m["fmspc"] = "00606A000000" }})
	add("e TDX", dcaptest.CollateralOptions{TDX: true})
	if r := verifies(t, p.Evidence(t, dcaptest.QuoteOptions{}), in); r.Status != tee.TCBConfigurationNeeded {
		t.Errorf("%s", r.Status)
	}
}

func TestPeriod(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	in := intel.Input(t, dcaptest.CollateralOptions{Identity: func(m map[string]any) { m["nextUpdate"] = "2026-06-02T00:00:00Z" }})
	r := verifies(t, p.Evidence(t, dcaptest.QuoteOptions{}), in)
	if !r.ValidFrom.Equal(dcaptest.At.AddDate(0, 0, -2)) || !r.ValidUntil.Equal(dcaptest.At.AddDate(0, 0, 1)) {
		t.Errorf("from %s to %s", r.ValidFrom, r.ValidUntil)
	}
}
