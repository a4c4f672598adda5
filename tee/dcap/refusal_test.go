package dcap_test

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// TestRefusesQuotes has quotes that are wrong in one way each.
func TestRefusesQuotes(t *testing.T) {
	intel, other := dcaptest.New(t), dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	flip := func(at int) func(b []byte) { return func(b []byte) { b[at] ^= 1 } }
	const body = 48
	sig := body + dcap.EnclaveBodySize + 4
	for name, c := range map[string]struct {
		o     dcaptest.QuoteOptions
		alter func([]byte)
		codes []tee.Code
	}{
		"one bit of MRENCLAVE":         {alter: flip(body + 64), codes: []tee.Code{tee.CodeSignature}},
		"one bit of the header":        {alter: flip(40), codes: []tee.Code{tee.CodeSignature}},
		"one bit of the signature":     {alter: flip(sig), codes: []tee.Code{tee.CodeSignature}},
		"r and s zero":                 {alter: func(b []byte) { clear(b[sig : sig+64]) }, codes: []tee.Code{tee.CodeSignature}},
		"signed by another key":        {o: dcaptest.QuoteOptions{SignWith: dcaptest.NewKey(t)}, codes: []tee.Code{tee.CodeSignature}},
		"key not on the curve":         {alter: flip(sig + 64), codes: []tee.Code{tee.CodeSignature, tee.CodeBinding}},
		"report of the QE altered":     {alter: flip(sig + 128 + 20), codes: []tee.Code{tee.CodeSignature}},
		"signature of the QE altered":  {alter: flip(sig + 128 + 384), codes: []tee.Code{tee.CodeSignature}},
		"authentication data altered":  {alter: flip(sig + 128 + 384 + 64 + 2), codes: []tee.Code{tee.CodeBinding}},
		"key not bound":                {o: dcaptest.QuoteOptions{QuotingEnclave: flip(320)}, codes: []tee.Code{tee.CodeBinding}},
		"second half of report data":   {o: dcaptest.QuoteOptions{QuotingEnclave: flip(360)}, codes: []tee.Code{tee.CodeBinding}},
		"debug QE":                     {o: dcaptest.QuoteOptions{QuotingEnclave: func(b []byte) { b[48] |= 2 }}, codes: []tee.Code{tee.CodeQEIdentity}},
		"QE of another signer":         {o: dcaptest.QuoteOptions{QuotingEnclave: flip(128)}, codes: []tee.Code{tee.CodeQEIdentity}},
		"QE of another product":        {o: dcaptest.QuoteOptions{QuotingEnclave: flip(256)}, codes: []tee.Code{tee.CodeQEIdentity}},
		"QE with another miscselect":   {o: dcaptest.QuoteOptions{QuotingEnclave: flip(16)}, codes: []tee.Code{tee.CodeQEIdentity}},
		"QE with another attribute":    {o: dcaptest.QuoteOptions{QuotingEnclave: func(b []byte) { b[48] ^= 0x10 }}, codes: []tee.Code{tee.CodeQEIdentity}},
		"QE older than every level":    {o: dcaptest.QuoteOptions{QuotingEnclave: func(b []byte) { b[258] = 1 }}, codes: []tee.Code{tee.CodeQEIdentity}},
		"version 2":                    {alter: func(b []byte) { b[0] = 2 }, codes: []tee.Code{tee.CodeParse}},
		"version 6":                    {alter: func(b []byte) { b[0] = 6 }, codes: []tee.Code{tee.CodeParse}},
		"attestation key of P-384":     {alter: func(b []byte) { b[2] = 3 }, codes: []tee.Code{tee.CodeUnsupported}},
		"QE of another vendor":         {alter: flip(12), codes: []tee.Code{tee.CodeUnsupported}},
		"TDX of version 3":             {alter: func(b []byte) { b[4] = 0x81 }, codes: []tee.Code{tee.CodeParse}},
		"another TEE type":             {alter: func(b []byte) { b[4] = 1 }, codes: []tee.Code{tee.CodeParse}},
		"signature data too long":      {alter: func(b []byte) { b[sig-1] = 0xff }, codes: []tee.Code{tee.CodeParse}},
		"signature data shorter":       {alter: func(b []byte) { b[sig-4]-- }, codes: []tee.Code{tee.CodeParse}},
		"no certificates":              {o: dcaptest.QuoteOptions{Certificates: []byte("none")}, codes: []tee.Code{tee.CodeParse}},
		"nine certificates":            {o: dcaptest.QuoteOptions{Certificates: bytes.Repeat(pemOf(p.Certificate), 9)}, codes: []tee.Code{tee.CodeParse}},
		"a malformed certificate":      {o: dcaptest.QuoteOptions{Certificates: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30}})}, codes: []tee.Code{tee.CodeChain}},
		"a key for a certificate":      {o: dcaptest.QuoteOptions{Certificates: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p.Certificate.Raw})}, codes: []tee.Code{tee.CodeChain}},
		"without the authority":        {o: dcaptest.QuoteOptions{Certificates: pemOf(p.Certificate, intel.Root.Certificate)}, codes: []tee.Code{tee.CodeChain}},
		"authority of another Intel":   {o: dcaptest.QuoteOptions{Certificates: pemOf(p.Certificate, other.PlatformCA.Certificate)}, codes: []tee.Code{tee.CodeChain}},
		"TCB signer in place of a PCK": {o: dcaptest.QuoteOptions{Certificates: pemOf(intel.TCBSigner.Certificate, intel.Root.Certificate)}, codes: []tee.Code{tee.CodeNoSGXExtension}},
	} {
		t.Run(name, func(t *testing.T) {
			ev := p.Evidence(t, c.o)
			if c.alter != nil {
				c.alter(ev.Data)
			}
			refuses(t, ev, intel.Input(t, dcaptest.CollateralOptions{}), c.codes...)
		})
	}
}

func pemOf(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// TestRefusesPlatforms has certificates that must not vouch for a platform.
func TestRefusesPlatforms(t *testing.T) {
	intel, other := dcaptest.New(t), dcaptest.New(t)
	expired := dcaptest.Validity{From: dcaptest.At.AddDate(0, 0, -9), To: dcaptest.At.AddDate(0, 0, -1)}
	first := intel.Platform(t, dcaptest.PlatformOptions{})
	for name, c := range map[string]struct {
		o     dcaptest.PlatformOptions
		codes []tee.Code
	}{
		"of another root":            {dcaptest.PlatformOptions{Issuer: other.PlatformCA}, []tee.Code{tee.CodeChain}},
		"issued by the root itself":  {dcaptest.PlatformOptions{Issuer: intel.Root}, []tee.Code{tee.CodeChain}},
		"issued by a PCK":            {dcaptest.PlatformOptions{Issuer: first.Authority}, []tee.Code{tee.CodeChain}},
		"issued by the TCB signer":   {dcaptest.PlatformOptions{Issuer: intel.TCBSigner}, []tee.Code{tee.CodeChain}},
		"that is an authority":       {dcaptest.PlatformOptions{CA: true}, []tee.Code{tee.CodeChain}},
		"expired":                    {dcaptest.PlatformOptions{Validity: expired}, []tee.Code{tee.CodeExpired}},
		"not yet valid":              {dcaptest.PlatformOptions{Validity: dcaptest.Validity{From: dcaptest.At.AddDate(0, 0, 1)}}, []tee.Code{tee.CodeExpired}},
		"without a PPID":             {dcaptest.PlatformOptions{Extension: map[int]any{1: nil}}, []tee.Code{tee.CodeParse}},
		"without FMSPC":              {dcaptest.PlatformOptions{Extension: map[int]any{4: nil}}, []tee.Code{tee.CodeParse}},
		"short FMSPC":                {dcaptest.PlatformOptions{Extension: map[int]any{4: []byte{1}}}, []tee.Code{tee.CodeParse}},
		"FMSPC a number":             {dcaptest.PlatformOptions{Extension: map[int]any{4: 7}}, []tee.Code{tee.CodeParse}},
		"TCB a number":               {dcaptest.PlatformOptions{Extension: map[int]any{2: 7}}, []tee.Code{tee.CodeParse}},
		"TCB from 0 to 17":           {dcaptest.PlatformOptions{Extension: map[int]any{2: tcbOf(0)}}, []tee.Code{tee.CodeParse}},
		"TCB from 2 to 19":           {dcaptest.PlatformOptions{Extension: map[int]any{2: tcbOf(2)}}, []tee.Code{tee.CodeParse}},
		"SGX type a number":          {dcaptest.PlatformOptions{Extension: map[int]any{5: 7}}, []tee.Code{tee.CodeParse}},
		"short platform instance id": {dcaptest.PlatformOptions{Extension: map[int]any{6: []byte{1}}}, []tee.Code{tee.CodeParse}},
		"configuration a number":     {dcaptest.PlatformOptions{Extension: map[int]any{7: 1}}, []tee.Code{tee.CodeParse}},
		"below every level":          {dcaptest.PlatformOptions{Components: [16]uint8{1, 1}}, []tee.Code{tee.CodeTCBUnsupported}},
		"PCE below every level":      {dcaptest.PlatformOptions{PCESVN: 1}, []tee.Code{tee.CodeTCBUnsupported}},
		"of another family":          {dcaptest.PlatformOptions{FMSPC: [6]byte{1}}, []tee.Code{tee.CodeFMSPC}},
		"of another PCE":             {dcaptest.PlatformOptions{Extension: map[int]any{3: []byte{0, 1}}}, []tee.Code{tee.CodeFMSPC}},
	} {
		t.Run(name, func(t *testing.T) {
			p := intel.Platform(t, c.o)
			refuses(t, p.Evidence(t, dcaptest.QuoteOptions{}), intel.Input(t, dcaptest.CollateralOptions{}), c.codes...)
		})
	}
	// A member that a later profile adds is not a reason.
	p := intel.Platform(t, dcaptest.PlatformOptions{Extension: map[int]any{6: make([]byte, 16), 9: 1}})
	if r := verifies(t, p.Evidence(t, dcaptest.QuoteOptions{}), intel.Input(t, dcaptest.CollateralOptions{})); r.PCK.PlatformInstanceID == nil {
		t.Error("no platform instance id")
	}
}

// tcbOf is a TCB of as many members as there are to be, which are numbers, and
// numbered from first on.
func tcbOf(first int) any {
	type member struct {
		ID    asn1.ObjectIdentifier
		Value int
	}
	out := make([]member, 18)
	for i := range out {
		out[i] = member{asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1, 2, first + i}, 1}
	}
	return out
}

func TestExpiredAuthority(t *testing.T) {
	intel := dcaptest.New(t)
	intel.PlatformCA = dcaptest.NewAuthority(t, dcaptest.CertificateOptions{
		Name: "Old CA", CA: true, Issuer: intel.Root, Validity: dcaptest.Validity{To: dcaptest.At.AddDate(0, 0, -1)},
	})
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	refuses(t, p.Evidence(t, dcaptest.QuoteOptions{}), intel.Input(t, dcaptest.CollateralOptions{}), tee.CodeExpired)
}

// TestRefusesCollateral has collateral that must not be believed.
func TestRefusesCollateral(t *testing.T) {
	intel, other := dcaptest.New(t), dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	set := func(member string, v any) func(map[string]any) {
		return func(m map[string]any) { m[member] = v }
	}
	yesterday := dcaptest.At.AddDate(0, 0, -1).Format("2006-01-02T15:04:05Z")
	oldSigner := dcaptest.NewAuthority(t, dcaptest.CertificateOptions{Name: "Old Signer", Issuer: intel.Root, Validity: dcaptest.Validity{To: dcaptest.At.AddDate(0, 0, -1)}})
	under := dcaptest.NewAuthority(t, dcaptest.CertificateOptions{Name: "Signer", Issuer: intel.PlatformCA})
	for name, c := range map[string]struct {
		o     dcaptest.CollateralOptions
		codes []tee.Code
	}{
		"PCK revoked":                 {dcaptest.CollateralOptions{Revoked: []*x509.Certificate{p.Certificate}}, []tee.Code{tee.CodeRevoked}},
		"PCK authority revoked":       {dcaptest.CollateralOptions{Revoked: []*x509.Certificate{intel.PlatformCA.Certificate}}, []tee.Code{tee.CodeRevoked}},
		"TCB signer revoked":          {dcaptest.CollateralOptions{Revoked: []*x509.Certificate{intel.TCBSigner.Certificate}}, []tee.Code{tee.CodeRevoked}},
		"lists expired":               {dcaptest.CollateralOptions{CRLs: dcaptest.Validity{To: dcaptest.At.AddDate(0, 0, -1)}}, []tee.Code{tee.CodeCollateralExpired}},
		"lists of tomorrow":           {dcaptest.CollateralOptions{CRLs: dcaptest.Validity{From: dcaptest.At.AddDate(0, 0, 1)}}, []tee.Code{tee.CodeCollateralExpired}},
		"signed by another Intel":     {dcaptest.CollateralOptions{Signer: other.TCBSigner}, []tee.Code{tee.CodeTCBSignature}},
		"signed by the PCK":           {dcaptest.CollateralOptions{Signer: p.Authority}, []tee.Code{tee.CodeTCBSignature}},
		"signed by the PCK authority": {dcaptest.CollateralOptions{Signer: intel.PlatformCA}, []tee.Code{tee.CodeTCBSignature}},
		"signed under the authority":  {dcaptest.CollateralOptions{Signer: under}, []tee.Code{tee.CodeTCBSignature}},
		"signed by the root":          {dcaptest.CollateralOptions{Signer: intel.Root}, []tee.Code{tee.CodeTCBSignature}},
		"signer expired":              {dcaptest.CollateralOptions{Signer: oldSigner}, []tee.Code{tee.CodeExpired}},
		"TCB information expired":     {dcaptest.CollateralOptions{TCBInfo: set("nextUpdate", yesterday)}, []tee.Code{tee.CodeCollateralExpired}},
		"identity expired":            {dcaptest.CollateralOptions{Identity: set("nextUpdate", yesterday)}, []tee.Code{tee.CodeCollateralExpired}},
		"of another family":           {dcaptest.CollateralOptions{TCBInfo: set("fmspc", "00606A000000")}, []tee.Code{tee.CodeFMSPC}},
		"version 4":                   {dcaptest.CollateralOptions{TCBInfo: set("version", 4)}, []tee.Code{tee.CodeParse}},
		"another id":                  {dcaptest.CollateralOptions{TCBInfo: set("id", "SEV")}, []tee.Code{tee.CodeParse}},
		"another TCB type":            {dcaptest.CollateralOptions{TCBInfo: set("tcbType", 1)}, []tee.Code{tee.CodeParse}},
		"no levels":                   {dcaptest.CollateralOptions{TCBInfo: set("tcbLevels", []any{})}, []tee.Code{tee.CodeParse}},
		"no dates":                    {dcaptest.CollateralOptions{TCBInfo: set("issueDate", nil)}, []tee.Code{tee.CodeParse}},
		"a status that nobody knows":  {dcaptest.CollateralOptions{TCBInfo: func(m map[string]any) { m["tcbLevels"].([]any)[1].(map[string]any)["tcbStatus"] = "Fine" }}, []tee.Code{tee.CodeParse}},
		"15 components": {dcaptest.CollateralOptions{TCBInfo: func(m map[string]any) {
			tcb := m["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)
			tcb["sgxtcbcomponents"] = tcb["sgxtcbcomponents"].([]any)[1:]
		}}, []tee.Code{tee.CodeParse}},
		"component out of range": {dcaptest.CollateralOptions{TCBInfo: func(m map[string]any) {
			m["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)["sgxtcbcomponents"].([]any)[0] = map[string]any{"svn": 256}
		}}, []tee.Code{tee.CodeParse}},
		"version 2, a component missing": {dcaptest.CollateralOptions{Version: 2, TCBInfo: func(m map[string]any) {
			delete(m["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any), "sgxtcbcomp16svn")
		}}, []tee.Code{tee.CodeParse}},
		"identity of version 1":       {dcaptest.CollateralOptions{Identity: set("version", 1)}, []tee.Code{tee.CodeParse}},
		"identity without a product":  {dcaptest.CollateralOptions{Identity: set("isvprodid", nil)}, []tee.Code{tee.CodeParse}},
		"identity with short signer":  {dcaptest.CollateralOptions{Identity: set("mrsigner", "00")}, []tee.Code{tee.CodeParse}},
		"identity without levels":     {dcaptest.CollateralOptions{Identity: set("tcbLevels", nil)}, []tee.Code{tee.CodeParse}},
		"identity level without svn":  {dcaptest.CollateralOptions{Identity: set("tcbLevels", []any{map[string]any{"tcb": map[string]any{}, "tcbStatus": "UpToDate"}})}, []tee.Code{tee.CodeParse}},
		"attributes that are not hex": {dcaptest.CollateralOptions{Identity: set("attributes", "xx")}, []tee.Code{tee.CodeParse}},
	} {
		t.Run(name, func(t *testing.T) {
			refuses(t, p.Evidence(t, dcaptest.QuoteOptions{}), intel.Input(t, c.o), c.codes...)
		})
	}
}

// TestRefusesInputs has what is wrong beside the evidence.
func TestRefusesInputs(t *testing.T) {
	intel, other := dcaptest.New(t), dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	for name, c := range map[string]struct {
		alter func(*tee.Input)
		codes []tee.Code
	}{
		"no time":                {func(in *tee.Input) { in.At = time.Time{} }, []tee.Code{tee.CodeTime}},
		"no root":                {func(in *tee.Input) { in.Roots = tee.Roots{} }, []tee.Code{tee.CodeChain}},
		"an empty root":          {func(in *tee.Input) { in.Roots = tee.Roots{{}} }, []tee.Code{tee.CodeChain}},
		"a nil root":             {func(in *tee.Input) { in.Roots = tee.Roots{nil} }, []tee.Code{tee.CodeChain}},
		"an authority as a root": {func(in *tee.Input) { in.Roots = tee.Roots{intel.PlatformCA.Certificate} }, []tee.Code{tee.CodeChain}},
		"a leaf as a root":       {func(in *tee.Input) { in.Roots = tee.Roots{p.Certificate} }, []tee.Code{tee.CodeChain}},
		"junk for a list":        {func(in *tee.Input) { in.Endorsements.CRLs = append(in.Endorsements.CRLs, []byte("junk")) }, []tee.Code{tee.CodeParse}},
		"a list too large":       {func(in *tee.Input) { in.Endorsements.CRLs = append(in.Endorsements.CRLs, make([]byte, 1<<20+1)) }, []tee.Code{tee.CodeParse}},
		"too many lists":         {func(in *tee.Input) { in.Endorsements.CRLs = make([][]byte, 17) }, []tee.Code{tee.CodeParse}},
		"too many documents": {func(in *tee.Input) {
			for i := range 65 {
				in.Endorsements.Collateral[string(rune('A'+i))] = nil
			}
		}, []tee.Code{tee.CodeParse}},
		"an altered list": {func(in *tee.Input) {
			l := bytes.Clone(in.Endorsements.CRLs[1])
			l[len(l)-1] ^= 1
			in.Endorsements.CRLs = append(in.Endorsements.CRLs, l)
		}, []tee.Code{tee.CodeSignature}},
		"a list by another Intel": {func(in *tee.Input) {
			in.Endorsements.CRLs = append(in.Endorsements.CRLs, other.Root.CRL(t, dcaptest.Validity{}))
		}, []tee.Code{tee.CodeSignature}},
		"an altered document": {func(in *tee.Input) {
			c := in.Endorsements.Collateral
			c["tcbinfo.json"] = bytes.Replace(c["tcbinfo.json"], []byte("OutOfDate"), []byte("UpToDate"), 1)
		}, []tee.Code{tee.CodeTCBSignature}},
		"both in one answer": {func(in *tee.Input) {
			in.Endorsements.Collateral["x"] = dcaptest.Answer(t, intel.TCBSigner, `tcbInfo":{},"enclaveIdentity`, map[string]any{})
		}, []tee.Code{tee.CodeParse}},
		"a short signature": {func(in *tee.Input) { in.Endorsements.Collateral["x"] = []byte(`{"tcbInfo":{},"signature":"00"}`) }, []tee.Code{tee.CodeParse}},
	} {
		t.Run(name, func(t *testing.T) {
			in := intel.Input(t, dcaptest.CollateralOptions{})
			c.alter(&in)
			refuses(t, p.Evidence(t, dcaptest.QuoteOptions{}), in, c.codes...)
		})
	}
	ev := p.Evidence(t, td)
	ev.Kind = tee.SGX
	refuses(t, ev, intel.Input(t, dcaptest.CollateralOptions{}), tee.CodeUnknownFormat)
	refuses(t, tee.Evidence{Kind: tee.SGX, Data: make([]byte, tee.MaxEvidence+1)}, intel.Input(t, dcaptest.CollateralOptions{}), tee.CodeParse)
}
