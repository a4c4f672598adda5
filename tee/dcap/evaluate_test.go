package dcap_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/dcap/dcaptest"
)

// levels sets the statuses of the two levels.
func levels(newest, older tee.TCBStatus) func(map[string]any) {
	return func(m map[string]any) {
		l := m["tcbLevels"].([]any)
		l[0].(map[string]any)["tcbStatus"], l[1].(map[string]any)["tcbStatus"] = newest, older
	}
}

// svn sets the quoting enclave's security version.
func svn(n byte) dcaptest.QuoteOptions {
	return dcaptest.QuoteOptions{QuotingEnclave: func(b []byte) { b[258] = n }}
}

// TestStatus merges the platform's level with that of the quoting enclave (QVL,
// convergeTcbStatusWithQeTcbStatus).
func TestStatus(t *testing.T) {
	intel := dcaptest.New(t)
	current := intel.Platform(t, dcaptest.PlatformOptions{})
	older := dcaptest.CurrentComponents
	older[0]--
	old := intel.Platform(t, dcaptest.PlatformOptions{Components: older})
	oldPCE := intel.Platform(t, dcaptest.PlatformOptions{PCESVN: dcaptest.CurrentPCESVN - 1})
	for _, c := range []struct {
		p          *dcaptest.Platform
		qe         byte
		newest     tee.TCBStatus
		want       tee.TCBStatus
		advisories []string
	}{
		{current, 8, tee.TCBUpToDate, tee.TCBUpToDate, nil},
		{current, 9, tee.TCBUpToDate, tee.TCBUpToDate, nil},
		{current, 7, tee.TCBUpToDate, tee.TCBOutOfDate, []string{"INTEL-SA-77777"}},
		{current, 4, tee.TCBUpToDate, tee.TCBRevoked, nil},
		{current, 7, tee.TCBSWHardeningNeeded, tee.TCBOutOfDate, []string{"INTEL-SA-77777"}},
		{current, 7, tee.TCBConfigurationNeeded, tee.TCBOutOfDateConfigurationNeeded, []string{"INTEL-SA-77777"}},
		{current, 7, tee.TCBConfigurationAndSWHardeningNeeded, tee.TCBOutOfDateConfigurationNeeded, []string{"INTEL-SA-77777"}},
		{current, 7, tee.TCBRevoked, tee.TCBRevoked, []string{"INTEL-SA-77777"}},
		{current, 8, tee.TCBRevoked, tee.TCBRevoked, nil},
		{current, 8, tee.TCBConfigurationAndSWHardeningNeeded, tee.TCBConfigurationAndSWHardeningNeeded, nil},
		{old, 8, tee.TCBUpToDate, tee.TCBOutOfDate, []string{"INTEL-SA-99999"}},
		{old, 7, tee.TCBUpToDate, tee.TCBOutOfDate, []string{"INTEL-SA-99999", "INTEL-SA-77777"}},
		{old, 4, tee.TCBUpToDate, tee.TCBRevoked, []string{"INTEL-SA-99999"}},
		{oldPCE, 8, tee.TCBUpToDate, tee.TCBOutOfDate, []string{"INTEL-SA-99999"}},
	} {
		for _, version := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, QE %d, version %d", c.newest, c.qe, version), func(t *testing.T) {
				in := intel.Input(t, dcaptest.CollateralOptions{Version: version, TCBInfo: levels(c.newest, tee.TCBOutOfDate)})
				r := verifies(t, c.p.Evidence(t, svn(c.qe)), in)
				if r.Status != c.want || !slices.Equal(r.Advisories, c.advisories) {
					t.Errorf("%s %v, want %s %v", r.Status, r.Advisories, c.want, c.advisories)
				}
			})
		}
	}
}

// tdBody is a TD's report with these security versions of the TDX module at
// launch and now.
func tdBody(launched, now [3]byte) []byte {
	b := dcaptest.TDBody(dcap.TD15Body)
	copy(b, launched[:])
	copy(b[584:], now[:])
	return b
}

// TestTDXStatus compares TEE_TCB_SVN with the levels of the platform, and, where
// the module has a version, with the levels of the module.
func TestTDXStatus(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	for _, c := range []struct {
		name     string
		launched [3]byte // security version, module version, third component
		now      [3]byte
		newest   tee.TCBStatus
		qe       byte
		want     tee.TCBStatus
	}{
		{"module 0, current", [3]byte{5, 0, 6}, [3]byte{5, 0, 6}, tee.TCBUpToDate, 8, tee.TCBUpToDate},
		{"module 0, old third component", [3]byte{5, 0, 5}, [3]byte{5, 0, 5}, tee.TCBUpToDate, 8, tee.TCBOutOfDate},
		{"module 1, current", [3]byte{5, 1, 6}, [3]byte{5, 1, 6}, tee.TCBUpToDate, 8, tee.TCBUpToDate},
		{"module 1, its first components are not compared", [3]byte{9, 1, 6}, [3]byte{9, 1, 6}, tee.TCBUpToDate, 8, tee.TCBUpToDate},
		{"module 1, old", [3]byte{4, 1, 6}, [3]byte{4, 1, 6}, tee.TCBUpToDate, 8, tee.TCBOutOfDate},
		{"module 1, old, configuration", [3]byte{4, 1, 6}, [3]byte{4, 1, 6}, tee.TCBConfigurationNeeded, 8, tee.TCBOutOfDateConfigurationNeeded},
		{"updated while it ran", [3]byte{4, 1, 6}, [3]byte{5, 1, 6}, tee.TCBUpToDate, 8, tee.TCBTDRelaunchAdvised},
		{"updated while it ran, hardening", [3]byte{4, 1, 6}, [3]byte{5, 1, 6}, tee.TCBSWHardeningNeeded, 8, tee.TCBTDRelaunchAdvised},
		{"updated while it ran, configuration", [3]byte{4, 1, 6}, [3]byte{5, 1, 6}, tee.TCBConfigurationNeeded, 8, tee.TCBTDRelaunchAdvisedConfigurationNeeded},
		{"updated to module 0", [3]byte{4, 1, 6}, [3]byte{5, 0, 6}, tee.TCBUpToDate, 8, tee.TCBTDRelaunchAdvised},
		{"updated to an old module 0", [3]byte{4, 1, 6}, [3]byte{4, 0, 6}, tee.TCBUpToDate, 8, tee.TCBOutOfDate},
		{"updated, but not enough", [3]byte{3, 1, 6}, [3]byte{4, 1, 6}, tee.TCBUpToDate, 8, tee.TCBOutOfDate},
		{"updated, third component old", [3]byte{4, 1, 6}, [3]byte{5, 1, 5}, tee.TCBUpToDate, 8, tee.TCBOutOfDate},
		{"updated, quoting enclave old", [3]byte{4, 1, 6}, [3]byte{5, 1, 6}, tee.TCBUpToDate, 7, tee.TCBOutOfDate},
		{"updated, quoting enclave revoked", [3]byte{4, 1, 6}, [3]byte{5, 1, 6}, tee.TCBUpToDate, 4, tee.TCBRevoked},
		{"platform out of date itself", [3]byte{4, 1, 6}, [3]byte{5, 1, 6}, tee.TCBOutOfDate, 8, tee.TCBOutOfDate},
		{"platform revoked", [3]byte{4, 1, 6}, [3]byte{5, 1, 6}, tee.TCBRevoked, 8, tee.TCBRevoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := svn(c.qe)
			o.Version, o.Type, o.Body = 5, dcap.TD15Body, tdBody(c.launched, c.now)
			in := intel.Input(t, dcaptest.CollateralOptions{TDX: true, TCBInfo: levels(c.newest, tee.TCBOutOfDate)})
			if r := verifies(t, p.Evidence(t, o), in); r.Status != c.want {
				t.Errorf("%s %v, want %s", r.Status, r.Advisories, c.want)
			}
		})
	}
}

// TestNoRelaunchOf10: a report of TDX 1.0 cannot say what the TD runs on now.
func TestNoRelaunchOf10(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	o := dcaptest.QuoteOptions{Version: 5, Type: dcap.TD10Body, Body: tdBody([3]byte{4, 1, 6}, [3]byte{5, 1, 6})[:dcap.TD10BodySize]}
	if r := verifies(t, p.Evidence(t, o), intel.Input(t, dcaptest.CollateralOptions{TDX: true})); r.Status != tee.TCBOutOfDate || !slices.Contains(r.Advisories, "INTEL-SA-88888") {
		t.Errorf("%s %v", r.Status, r.Advisories)
	}
}

// TestRefusesModules has TDX modules that Intel does not name, or not any more.
func TestRefusesModules(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	flipped := func(at int) []byte {
		b := tdBody([3]byte{5, 0, 6}, [3]byte{5, 0, 6})
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		body []byte
		info func(map[string]any)
		code tee.Code
	}{
		"another signer":                {flipped(64), nil, tee.CodeModuleIdentity},
		"another attribute":             {flipped(112), nil, tee.CodeModuleIdentity},
		"a version that nobody knows":   {tdBody([3]byte{5, 2, 6}, [3]byte{5, 2, 6}), nil, tee.CodeModuleIdentity},
		"updated to an unknown version": {tdBody([3]byte{4, 1, 6}, [3]byte{5, 2, 6}), nil, tee.CodeModuleIdentity},
		"older than every level":        {tdBody([3]byte{2, 1, 6}, [3]byte{2, 1, 6}), nil, tee.CodeTCBUnsupported},
		"below every platform level":    {tdBody([3]byte{5, 0, 1}, [3]byte{5, 0, 1}), nil, tee.CodeTCBUnsupported},
		"updated to one without levels": {tdBody([3]byte{4, 1, 6}, [3]byte{5, 2, 6}), func(m map[string]any) {
			m["tdxModuleIdentities"] = append(m["tdxModuleIdentities"].([]any), dcaptest.Module("TDX_02"))
		}, tee.CodeTCBUnsupported},
		"no module in the information": {flipped(200), func(m map[string]any) { delete(m, "tdxModule") }, tee.CodeParse},
		"a module twice": {flipped(200), func(m map[string]any) {
			m["tdxModuleIdentities"] = []any{dcaptest.Module("TDX_01"), dcaptest.Module("TDX_01")}
		}, tee.CodeParse},
		"a module with a short mask": {flipped(200), func(m map[string]any) { m["tdxModule"].(map[string]any)["attributesMask"] = "00" }, tee.CodeParse},
		"levels without TDX components": {flipped(200), func(m map[string]any) {
			delete(m["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any), "tdxtcbcomponents")
		}, tee.CodeParse},
	} {
		t.Run(name, func(t *testing.T) {
			ev := p.Evidence(t, dcaptest.QuoteOptions{Version: 5, Type: dcap.TD15Body, Body: c.body})
			refuses(t, ev, intel.Input(t, dcaptest.CollateralOptions{TDX: true, TCBInfo: c.info}), c.code)
		})
	}
	// Bits outside the mask are free.
	ev := p.Evidence(t, dcaptest.QuoteOptions{Version: 5, Type: dcap.TD15Body, Body: flipped(112)})
	verifies(t, ev, intel.Input(t, dcaptest.CollateralOptions{TDX: true, TCBInfo: func(m map[string]any) {
		m["tdxModule"].(map[string]any)["attributesMask"] = "feffffffffffffff"
	}}))
}

// TestWrongCollateralKind: collateral of SGX says nothing about a TD.
func TestWrongCollateralKind(t *testing.T) {
	intel := dcaptest.New(t)
	p := intel.Platform(t, dcaptest.PlatformOptions{})
	if r := verifies(t, p.Evidence(t, td), intel.Input(t, dcaptest.CollateralOptions{})); r.Status != tee.TCBUnknown || len(r.Findings) != 2 {
		t.Errorf("%s %v", r.Status, r.Findings)
	}
}
