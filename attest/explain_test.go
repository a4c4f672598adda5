package attest_test

import (
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/term"
	"github.com/cloister-cc/cloister/tee"
)

// TestExplain names what refuses, and agrees with Appraise in every case.
func TestExplain(t *testing.T) {
	good := func() *attest.Verified {
		return &attest.Verified{Claims: tee.Claims{
			TEE: tee.SNP, Measurement: make([]byte, 48), TCB: tee.TCBUpToDate, Platform: "aabb", LaunchDigest: make([]byte, 32),
			Signer: make([]byte, 32), Product: 1, SVN: 3, Vendor: map[string]any{"vmpl": uint64(0), "product": "Milan"},
		}}
	}
	zeros := strings.Repeat("00", 32)
	p := attest.Policy{
		Version: 1, Name: "p", Accept: []tee.Kind{tee.SNP}, Measurements: []string{strings.Repeat("00", 48)}, LaunchDigests: []string{zeros},
		Signers: []attest.SignerRule{{Signer: zeros, Product: 1, MinSVN: 3}}, TCB: []string{"UpToDate"}, Platforms: []string{"aabb"}, RefuseFindings: []string{"trailing_bytes"},
		Rules: []attest.Rule{{Name: "level", Expr: `claims.sev_snp.vmpl == 0 && (claims.sev_snp.product == "Milan" || claims.svn > 9) && claims.svn >= 3`}},
	}
	a, err := attest.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*attest.Verified)
		want   string // the first leaf to blame
	}{
		"accepted":       {func(*attest.Verified) {}, ""},
		"TEE":            {func(v *attest.Verified) { v.Claims.TEE = tee.TDX }, "term 1: tee: want [sev-snp]"},
		"simulated":      {func(v *attest.Verified) { v.Claims.Simulated = true }, "term 2: simulated: want false, got true"},
		"debug":          {func(v *attest.Verified) { v.Claims.Debug = true }, "term 3: debug: want false, got true"},
		"measurement":    {func(v *attest.Verified) { v.Claims.Measurement = make([]byte, 32) }, "term 4: measurement: want 0000"},
		"launch digest":  {func(v *attest.Verified) { v.Claims.LaunchDigest = nil }, "term 5: launch_digest: want 0000"},
		"svn":            {func(v *attest.Verified) { v.Claims.SVN = 2 }, "term 6: svn: want at least 3, got 2"},
		"tcb":            {func(v *attest.Verified) { v.Claims.TCB = tee.TCBOutOfDate }, "term 7: tcb_status: want UpToDate, got OutOfDate"},
		"platform":       {func(v *attest.Verified) { v.Claims.Platform = "cc" }, "term 8: platform: want aabb, got cc"},
		"finding":        {func(v *attest.Verified) { v.Findings = []tee.Finding{{Code: tee.CodeTrailing, Detail: "3 bytes"}} }, "term 9: findings: want no trailing_bytes, got 3 bytes"},
		"first operand":  {func(v *attest.Verified) { v.Claims.Vendor["vmpl"] = uint64(1) }, "term 10.1.1: claims.sev_snp.vmpl == 0: want true, got false"},
		"second operand": {func(v *attest.Verified) { v.Claims.Vendor["product"] = "Genoa" }, `term 10.1.2: claims.sev_snp.product == "Milan" || claims.svn > 9: want true, got false`},
		"error":          {func(v *attest.Verified) { delete(v.Claims.Vendor, "vmpl") }, "term 10.1.1: claims.sev_snp.vmpl == 0: want true, got error"},
	} {
		t.Run(name, func(t *testing.T) {
			v := good()
			c.change(v)
			n := a.Explain(v)
			if accepted := a.Appraise(v) == nil; accepted != (n.Result == term.True) || accepted != (c.want == "") {
				t.Fatalf("accepted %t, explained as %s", accepted, n.Result)
			}
			leaf, refused := n.FirstRefusal()
			if refused != (c.want != "") || !strings.HasPrefix(leaf.String(), c.want) && refused {
				t.Errorf("%q, want %q\n%s", leaf, c.want, n)
			}
		})
	}
	for _, none := range []*attest.Appraiser{nil, {}} {
		if n := none.Explain(good()); n.Result != term.False {
			t.Errorf("no policy: %s", n.Result)
		}
	}
	if n := a.Explain(nil); n.Result != term.False {
		t.Errorf("nothing verified: %s", n.Result)
	}
}
