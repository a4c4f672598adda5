package refvalues

import (
	"fmt"
	"strings"

	"github.com/cloister-cc/cloister/tee"
)

// Keys of the Intel profile's measurement extensions.
const (
	intelModel     = -71
	intelVendor    = -70
	intelISVSVN    = -73
	intelMRTEE     = -83
	intelMRSigner  = -84
	intelISVProdID = -85
	intelEvalNum   = -86
	intelTCBStatus = -88

	tagNumericExpression = 60010
	tagSetDigest         = 60020
	tagSetText           = 60021

	opGreaterOrEqual = 2
	opMember         = 6
)

// intelMeasurement reads a measurement-values-map of the Intel profile for an
// SGX enclave or a TD. Attributes and MISCSELECT come with masks, which a policy
// cannot express: they are refused.
func intelMeasurement(m cmap, e *Entry) error {
	for _, d := range []struct {
		key   int64
		claim string
	}{{intelMRTEE, claimMeasurement}, {intelMRSigner, claimSigner}} {
		if v, ok := m.take(d.key); ok {
			if err := e.intelDigests(v, fmt.Sprintf("%s: %d", m.at, d.key), d.claim); err != nil {
				return err
			}
		}
	}
	for _, n := range []struct {
		key   int64
		claim string
	}{{intelISVSVN, claimSVN}, {intelISVProdID, claimProduct}, {intelEvalNum, strings.ReplaceAll(string(e.TEE), "-", "_") + ".tcb_evaluation_data_number"}} {
		if v, ok := m.take(n.key); ok {
			if err := e.intelNumber(v, fmt.Sprintf("%s: %d", m.at, n.key), n.claim); err != nil {
				return err
			}
		}
	}
	if v, ok := m.take(intelTCBStatus); ok {
		if err := e.intelStatus(v, m.at+": tcbstatus"); err != nil {
			return err
		}
	}
	if v, ok := m.take(mvalRegisters); ok {
		if err := e.registers(v, m.at+": integrity-registers"); err != nil {
			return err
		}
	}
	m.take(intelVendor) // they describe the class again
	m.take(intelModel)
	return plainMeasurement(m, e)
}

// intelDigests reads tee-digest-type: a digest, digests, or "is one of these".
func (e *Entry) intelDigests(v any, at, claim string) error {
	anyOf := false
	for _, tag := range []uint64{tagSetDigest, tagNumericExpression} { // the examples use the latter for sets, too
		if inner, ok := tagged(v, tag); ok {
			pair, ok := inner.([]any)
			if !ok || len(pair) != 2 || pair[0] != uint64(opMember) {
				return malformed("%s: only \"is a member of\" is supported", at)
			}
			v, anyOf = pair[1], true
		}
	}
	if !anyOf {
		return e.digests(v, at, claim)
	}
	values, err := e.digestList(v, at)
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return malformed("%s: no digest by the algorithm that %s measures with", at, e.TEE)
	}
	e.equal(claim, values...)
	return nil
}

// intelNumber reads a number that must be met exactly, or "at least".
func (e *Entry) intelNumber(v any, at, claim string) error {
	inner, ok := tagged(v, tagNumericExpression)
	if !ok {
		return e.svn(v, at, claim)
	}
	pair, ok := inner.([]any)
	if !ok || len(pair) != 2 || pair[0] != uint64(opGreaterOrEqual) {
		return malformed("%s: only \"at least\" is supported", at)
	}
	n, err := uintOf(pair[1], at)
	if err == nil {
		e.atLeast(claim, n)
	}
	return err
}

// intelStatus reads the TCB status: one, or "is one of these". A plain list of
// several is a platform that has all of them, which our statuses spell otherwise.
func (e *Entry) intelStatus(v any, at string) error {
	anyOf := false
	if inner, ok := tagged(v, tagSetText); ok {
		pair, ok := inner.([]any)
		if !ok || len(pair) != 2 || pair[0] != uint64(opMember) {
			return malformed("%s: only \"is a member of\" is supported", at)
		}
		v, anyOf = pair[1], true
	}
	items, err := arrayOf(v, at, MaxConditions)
	if err != nil {
		return err
	}
	if len(items) > 1 && !anyOf {
		return malformed("%s: several statuses at once are not supported", at)
	}
	for _, item := range items {
		s, err := textOf(item, at)
		if err != nil {
			return err
		}
		if err := checkTCB(s); err != nil {
			return malformed("%s: %v", at, err)
		}
	}
	e.equal(claimTCB, items...)
	return nil
}

// registers reads integrity registers: RTMR0 to RTMR3 of a TD.
func (e *Entry) registers(v any, at string) error {
	m, err := mapOf(v, at)
	if err != nil {
		return err
	}
	if e.TEE != tee.TDX {
		return malformed("%s: only a TD has registers", at)
	}
	for i := range int64(4) {
		if v, ok := m.take(i); ok {
			if err := e.digests(v, fmt.Sprintf("%s: %d", at, i), fmt.Sprintf("tdx.rtmr%d", i)); err != nil {
				return err
			}
		}
	}
	return m.done()
}
