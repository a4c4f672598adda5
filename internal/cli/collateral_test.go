package cli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// vendorService is "vendor QUOTE": it writes the recorded quote of a real TD to a
// file, and sets VENDOR to the address of a service that replays what Intel's
// answered on that day.
func vendorService(ts *testscript.TestScript, _ bool, args []string) {
	quote, err := os.ReadFile(filepath.Join(repository, "tee", "tdx", "testdata", "v4-quote.bin"))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), quote, 0o600))
	raw, err := os.ReadFile(filepath.Join(repository, "tee", "tdx", "testdata", "v4-collateral.json"))
	ts.Check(err)
	var set map[string]string
	ts.Check(json.Unmarshal(raw, &set))
	mux := http.NewServeMux()
	answer := func(pattern, header, chain string, body []byte) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, strings.ReplaceAll(url.QueryEscape(set[chain]), "+", "%20"))
			_, _ = w.Write(body)
		})
	}
	list := func(name string) []byte {
		b, err := hex.DecodeString(set[name])
		ts.Check(err)
		return b
	}
	answer("/tdx/certification/v4/tcb", "TCB-Info-Issuer-Chain", "tcb_info_issuer_chain", fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, set["tcb_info"], set["tcb_info_signature"]))
	answer("/tdx/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain", "qe_identity_issuer_chain", fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, set["qe_identity"], set["qe_identity_signature"]))
	answer("/sgx/certification/v4/pckcrl", "SGX-PCK-CRL-Issuer-Chain", "pck_crl_issuer_chain", list("pck_crl"))
	answer("/root.der", "X-None", "", list("root_ca_crl"))
	s := httptest.NewServer(mux)
	ts.Defer(s.Close)
	ts.Setenv("VENDOR", s.URL)
}

// repository is the root of this repository, from the directory of the tests.
var repository = func() string {
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		panic(err)
	}
	return dir
}()

// changed is "changed FILE OLD NEW": it replaces text in a file.
func changed(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	out := bytes.Replace(b, []byte(args[1]), []byte(args[2]), 1)
	if bytes.Equal(out, b) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out, 0o600))
}
