package refvalues_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest/refvalues"
	"github.com/google/go-cmp/cmp"
)

// refusesUVM wants an error of a kind that says something, and nothing else.
func refusesUVM(t *testing.T, name string, b []byte, i refvalues.UVMIssuer, kind error, says string) {
	t.Helper()
	got, err := refvalues.VerifyUVM(b, i)
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) || !cmp.Equal(got, refvalues.UVM{}) {
		t.Errorf("%s: got %+v, %v; want %v about %q", name, got, err, kind, says)
	}
}

// TestUVMRefusesMessages signs endorsements that must not be taken.
func TestUVMRefusesMessages(t *testing.T) {
	a := newAuthority(t, nil)
	format, trust := refvalues.ErrFormat, refvalues.ErrNotTrusted
	payload := func(s string) func(*endorsement) { return func(e *endorsement) { e.payload = []byte(s) } }
	digest := hex.EncodeToString(m48)
	for name, c := range map[string]struct {
		json   bool
		change func(*endorsement)
		kind   error
		says   string
	}{
		"other feed":            {false, func(e *endorsement) { e.claims()[2] = "feeds" }, trust, "feed"},
		"other issuer":          {false, func(e *endorsement) { e.claims()[1] = did(a.sub) }, trust, "issuer"},
		"no issuer":             {false, func(e *endorsement) { delete(e.claims(), 1) }, format, "iss"},
		"no SVN":                {false, func(e *endorsement) { delete(e.claims(), "svn") }, format, "svn"},
		"negative SVN":          {false, func(e *endorsement) { e.claims()["svn"] = -1 }, format, "svn"},
		"text SVN":              {false, func(e *endorsement) { e.claims()["svn"] = "7" }, format, "svn"},
		"audience":              {false, func(e *endorsement) { e.claims()[3] = "you" }, format, "claim 3"},
		"expires":               {false, func(e *endorsement) { e.claims()[4] = at.Unix() }, format, "claim 4"},
		"not before":            {false, func(e *endorsement) { e.claims()[5] = at.Unix() }, format, "claim 5"},
		"time as text":          {false, func(e *endorsement) { e.claims()[6] = "now" }, format, "iat"},
		"time far away":         {false, func(e *endorsement) { e.claims()[6] = uint64(1) << 63 }, format, "iat"},
		"signed too early":      {false, func(e *endorsement) { e.claims()[6] = epoch(at.AddDate(-2, 0, 0)) }, trust, "signed at"},
		"signed too late":       {true, func(e *endorsement) { e.protected["signingtime"] = epoch(at.AddDate(2, 0, 0)) }, trust, "signed at"},
		"claims are a list":     {false, func(e *endorsement) { e.protected[15] = arr{1} }, format, "CWT"},
		"neither form":          {false, func(e *endorsement) { delete(e.protected, 15) }, format, "issuer"},
		"both forms":            {false, func(e *endorsement) { e.protected["iss"] = did(a.root) }, format, "issuer"},
		"short measurement":     {false, payload(string(m48[:47])), format, "47 bytes"},
		"long measurement":      {false, payload(string(m48) + "x"), format, "49 bytes"},
		"empty":                 {false, payload(""), format, "0 bytes"},
		"SHA-256 envelope":      {false, func(e *endorsement) { e.protected[258] = -16 }, format, "SHA-384"},
		"other preimage":        {false, func(e *endorsement) { e.protected[259] = "text/plain" }, format, "octet-stream"},
		"envelope with type":    {false, func(e *endorsement) { e.protected[3] = "application/json" }, format, "content type"},
		"type not signed":       {false, func(e *endorsement) { e.unprotected[3] = "application/json" }, format, "unprotected"},
		"label in both":         {false, func(e *endorsement) { e.unprotected[258] = -43 }, format, "unprotected"},
		"critical not signed":   {false, func(e *endorsement) { e.unprotected[2] = arr{15} }, format, "unprotected"},
		"critical not known":    {false, func(e *endorsement) { e.protected[2], e.protected["x"] = arr{"x"}, 1 }, format, "critical"},
		"critical and missing":  {false, func(e *endorsement) { e.protected[2] = arr{"feed"} }, format, "critical"},
		"critical is empty":     {false, func(e *endorsement) { e.protected[2] = arr{} }, format, "crit"},
		"critical is nonsense":  {false, func(e *endorsement) { e.protected[2] = arr{arr{1}} }, format, "critical"},
		"no algorithm":          {false, func(e *endorsement) { delete(e.protected, 1) }, format, "algorithm"},
		"algorithm as text":     {false, func(e *endorsement) { e.protected[1] = "ES256" }, format, "algorithm"},
		"algorithm of P-384":    {false, func(e *endorsement) { e.protected[1] = -35 }, trust, "algorithm"},
		"algorithm of RSA":      {false, func(e *endorsement) { e.protected[1] = -37 }, trust, "algorithm"},
		"HMAC":                  {false, func(e *endorsement) { e.protected[1] = -5 }, trust, "algorithm"},
		"EdDSA":                 {false, func(e *endorsement) { e.protected[1] = -8 }, trust, "algorithm"},
		"signed by the issuer":  {false, func(e *endorsement) { e.key = a.sub.key }, trust, "signature"},
		"no chain":              {false, func(e *endorsement) { delete(e.protected, 33) }, format, "x5chain"},
		"leaf alone":            {false, func(e *endorsement) { e.protected[33] = a.leaf.cert.Raw }, format, "x5chain"},
		"leaf alone in a list":  {false, func(e *endorsement) { e.protected[33] = a.chain()[:1] }, format, "1 certificates"},
		"chain of text":         {false, func(e *endorsement) { e.protected[33] = arr{"a", "b"} }, format, "byte strings"},
		"long chain":            {false, func(e *endorsement) { e.protected[33] = slices.Repeat([][]byte{{1}}, 9) }, format, "1 to 8"},
		"other thumbprint":      {false, func(e *endorsement) { e.protected[34] = arr{-44, sha512Of(a.sub.cert.Raw)} }, format, "x5t"},
		"SHA-1 thumbprint":      {false, func(e *endorsement) { e.protected[34] = arr{-14, m32} }, format, "x5t"},
		"thumbprint is text":    {false, func(e *endorsement) { e.protected[34] = "x" }, format, "x5t"},
		"JSON, other feed":      {true, func(e *endorsement) { e.protected["feed"] = "Feed" }, trust, "feed"},
		"JSON, no feed":         {true, func(e *endorsement) { delete(e.protected, "feed") }, format, "feed"},
		"JSON, other type":      {true, func(e *endorsement) { e.protected[3] = "application/json; charset=utf-8" }, format, "content type"},
		"JSON, no type":         {true, func(e *endorsement) { delete(e.protected, 3) }, format, "content type"},
		"JSON, member twice":    {true, payload(uvmJSON(`"7"`, `,"x-ms-sevsnpvm-guestsvn":"8"`)), format, "twice"},
		"JSON, twice inside":    {true, payload(uvmJSON(`"7"`, `,"x":{"a":1,"a":2}`)), format, "twice"},
		"JSON, bytes after it":  {true, payload(uvmJSON(`"7"`, "") + "{}"), format, "payload"},
		"JSON, SVN of 2 digits": {true, payload(uvmJSON(`"07"`, "")), format, "guestsvn"},
		"JSON, SVN with a sign": {true, payload(uvmJSON(`"+7"`, "")), format, "guestsvn"},
		"JSON, SVN as fraction": {true, payload(uvmJSON(`7.0`, "")), format, "guestsvn"},
		"JSON, SVN too large":   {true, payload(uvmJSON(`"18446744073709551616"`, "")), format, "guestsvn"},
		"JSON, SVN is null":     {true, payload(uvmJSON(`null`, "")), format, "guestsvn"},
		"JSON, two SVNs":        {true, payload(uvmJSON(`"7"`, `,"x-ms-sevsnpvm-guestsvn-int":8`)), format, "same number"},
		"JSON, no SVN":          {true, payload(`{"x-ms-sevsnpvm-launchmeasurement":"` + digest + `"}`), format, "guestsvn"},
		"JSON, no measurement":  {true, payload(`{"x-ms-sevsnpvm-guestsvn":"7"}`), format, "launchmeasurement"},
		"JSON, short":           {true, payload(strings.Replace(uvmJSON("7", ""), digest, digest[2:], 1)), format, "launchmeasurement"},
		"JSON, upper case":      {true, payload(strings.Replace(uvmJSON("7", ""), digest, strings.ToUpper(digest), 1)), format, "launchmeasurement"},
		"JSON, other spelling":  {true, payload(strings.Replace(uvmJSON("7", ""), "x-ms", "X-ms", 1)), format, "guestsvn"},
		"JSON in an envelope":   {true, payload(string(m48)), format, "JSON"},
	} {
		e := a.envelope()
		if c.json {
			e = a.json()
		}
		c.change(e)
		refusesUVM(t, name, e.sign(t), a.trusts(), c.kind, c.says)
	}
}

// TestUVMRefusesBytes has what nobody signed.
func TestUVMRefusesBytes(t *testing.T) {
	a := newAuthority(t, nil)
	e := a.envelope()
	good := e.sign(t)
	format := refvalues.ErrFormat
	refusesUVM(t, "nothing", nil, a.trusts(), format, "CBOR")
	refusesUVM(t, "bytes after it", append(bytes.Clone(good), 0), a.trusts(), format, "after")
	refusesUVM(t, "no tag", good[1:], a.trusts(), format, "COSE_Sign1")
	refusesUVM(t, "other tag", append([]byte{0xD1}, good[1:]...), a.trusts(), format, "COSE_Sign1")
	refusesUVM(t, "detached", encode(t, tag{Number: 18, Content: arr{encode(t, e.protected), obj{}, nil, m48}}), a.trusts(), format, "want headers")
	refusesUVM(t, "no signature", encode(t, tag{Number: 18, Content: arr{encode(t, e.protected), obj{}, m48, nil}}), a.trusts(), format, "want headers")
	refusesUVM(t, "header not encoded", encode(t, tag{Number: 18, Content: arr{e.protected, obj{}, m48, m48}}), a.trusts(), format, "want headers")
	refusesUVM(t, "fifth part", encode(t, tag{Number: 18, Content: arr{encode(t, e.protected), obj{}, m48, m48, m48}}), a.trusts(), format, "COSE_Sign1")
	refusesUVM(t, "header is a list", signRaw(t, e.alg, e.key, encode(t, arr{1}), obj{}, m48), a.trusts(), format, "header")
	refusesUVM(t, "empty header", signRaw(t, e.alg, e.key, []byte{}, obj{}, m48), a.trusts(), format, "CBOR")
	refusesUVM(t, "bytes after the header", signRaw(t, e.alg, e.key, append(encode(t, e.protected), 0), obj{}, m48), a.trusts(), format, "after")
	twice := append([]byte{0xA6, 0x01, 0x26}, encode(t, e.protected)[1:]...)
	refusesUVM(t, "label twice", signRaw(t, e.alg, e.key, twice, obj{}, m48), a.trusts(), format, "CBOR")
	e.unprotected["padding"] = make([]byte, refvalues.MaxUVM)
	refusesUVM(t, "too large", e.sign(t), a.trusts(), format, "at most 65536")
	refusesUVM(t, "no issuer", good, refvalues.UVMIssuer{}, format, "feed")
	refusesUVM(t, "no DID", good, refvalues.UVMIssuer{Feed: "feed"}, format, "did:x509")
	refusesUVM(t, "no feed", good, refvalues.UVMIssuer{DID: did(a.root)}, format, "feed")
}
