package eventlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cloister-cc/cloister/tee"
)

// startupLocality opens the data of the event that says from which locality the
// TPM was started (PFP section 10.4.5.3).
var startupLocality = []byte("StartupLocality\x00")

// RTMR is the register of a CCEL log that RTMR n of a TD is (UEFI 2.10 section
// 38.4.1, with Intel's mapping: 0 is MRTD).
func RTMR(n int) uint32 { return uint32(n) + 1 }

// Name is what a register of this log is called in failures: "pcr 7", "rtmr 0".
func (l *Log) Name(register uint32) string {
	switch {
	case l.Registers != RTMRs:
		return fmt.Sprintf("pcr %d", register)
	case register == 0:
		return "mrtd"
	default:
		return fmt.Sprintf("rtmr %d", register-1)
	}
}

// Replay returns what the registers of an algorithm hold when the log is true:
// those that it has an event for, each starting from zeroes. A startup locality
// changes how PCR 0 starts; it is not measured, and needs not be, because a wrong
// one gives another value. The error is a *tee.Error: CodeUnsupported when the
// log has no digests of the algorithm, CodeEventLog for a startup locality that
// cannot be.
func (l *Log) Replay(a Algorithm) (map[uint32][]byte, error) {
	if !a.Known() || !slices.Contains(l.Algorithms, a) {
		return nil, refuse(tee.CodeUnsupported, fmt.Errorf("it has no digests of %v", a))
	}
	registers := make(map[uint32][]byte)
	started := false
	for i := range l.Events {
		e := &l.Events[i]
		if e.Type == TypeNoAction {
			if locality, ok := bytes.CutPrefix(e.Data, startupLocality); ok && e.Register == 0 && l.Registers == PCRs {
				if started || registers[0] != nil || len(locality) != 1 || locality[0] != 0 && locality[0] != 3 && locality[0] != 4 {
					return nil, refuse(tee.CodeEventLog, errors.New("startup locality is late, given twice or none that a TPM has"))
				}
				started = true
				registers[0] = make([]byte, a.Size())
				registers[0][a.Size()-1] = locality[0]
			}
			continue // is not measured
		}
		old, ok := registers[e.Register]
		if !ok {
			old = make([]byte, a.Size())
		}
		registers[e.Register] = a.Sum(old, e.Digest(a))
	}
	return registers, nil
}

// Verify replays the log and compares every register that it has events for with
// the values that evidence proves, by register. It returns the facts that follow
// (see [Facts]); registers that were not given prove nothing. Failures are
// CodeEventLog for each register that differs, and the errors of [Log.Replay];
// then there are no facts.
func (l *Log) Verify(a Algorithm, proven map[uint32][]byte) (*Facts, []tee.Failure) {
	replayed, err := l.Replay(a)
	if err != nil {
		return nil, []tee.Failure{FailureOf(err)}
	}
	var failures []tee.Failure
	good := make(map[uint32]bool)
	for _, register := range slices.Sorted(maps.Keys(replayed)) {
		want, given := proven[register]
		switch got := replayed[register]; {
		case !given:
		case bytes.Equal(want, got):
			good[register] = true
		default:
			failures = append(failures, tee.Failure{
				Code: tee.CodeEventLog, Claim: l.Name(register), Want: hex.EncodeToString(want), Got: hex.EncodeToString(got),
				Hint: "the log is not the one of this boot, was altered, or lacks what was measured after it was read",
			})
		}
	}
	if len(failures) > 0 {
		return nil, failures
	}
	return l.facts(a, good), nil
}

// FailureOf is the failure for an error of this package.
func FailureOf(err error) tee.Failure {
	f := tee.Failure{Code: tee.CodeEventLog, Claim: "event log", Got: err.Error()}
	if e, ok := errors.AsType[*tee.Error](err); ok {
		f.Code = e.Code
		if e.Err != nil {
			f.Got = fmt.Sprintf("%.200s", e.Err.Error())
		}
	}
	return f
}
