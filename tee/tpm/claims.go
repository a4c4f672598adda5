package tpm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/eventlog"
	"github.com/cloister-cc/cloister/tee/launch"
)

// bootPCRs are the registers that Measurement is over: 0 to 7 are the firmware's,
// 8 and 9 the boot loader's and the kernel's (PFP section 3.3.4). What follows is
// of the running system and changes.
const bootPCRs = 10

// Measurement is the SHA-256 of PCR 0 to 9 of the SHA-256 bank after each other,
// nil if one of them is missing: see [Verifier].
func Measurement(values Banks) tee.Measurement {
	var parts [][]byte
	for i := range uint32(bootPCRs) {
		v := values[eventlog.SHA256][i]
		if len(v) != eventlog.SHA256.Size() {
			return nil
		}
		parts = append(parts, v)
	}
	return eventlog.SHA256.Sum(parts...)
}

// CheckLog reads an event log and replays it to registers that a quote proves, in
// every bank that both have. It returns the facts that follow, from the best
// bank; nil facts and no failures mean that there is no log. Failures are
// CodeParse and CodeEventLog.
func CheckLog(b []byte, proven Banks) (*eventlog.Facts, []tee.Failure) {
	if len(b) == 0 || proven == nil { // without a quote there is nothing to compare with
		return nil, nil
	}
	log, err := eventlog.Parse(b)
	if err != nil {
		return nil, []tee.Failure{eventlog.FailureOf(err)}
	}
	var facts *eventlog.Facts
	var failures []tee.Failure
	common := false
	for _, a := range bankOrder() {
		if len(proven[a]) == 0 || !slices.Contains(log.Algorithms, a) {
			continue
		}
		common = true
		f, more := log.Verify(a, proven[a])
		failures = append(failures, more...)
		if facts == nil {
			facts = f
		}
	}
	if !common {
		return nil, []tee.Failure{{Code: tee.CodeEventLog, Claim: "event log", Want: "digests of a bank that is quoted", Got: "others"}}
	}
	if len(failures) > 0 {
		return nil, failures
	}
	return facts, nil
}

// weakBanks is the finding for a quote of SHA-1 registers alone.
func weakBanks(proven Banks) []tee.Finding {
	if len(proven) > 1 || len(proven[eventlog.SHA1]) == 0 {
		return nil
	}
	return []tee.Finding{{Code: tee.CodeUnsupported, Detail: "only PCRs with SHA-1 are quoted: they prove what honest firmware measured, and not what an attacker wrote"}}
}

func claimsFrom(q *Quote, proven Banks, ak *attestationKey, s *Signature, facts *eventlog.Facts) tee.Claims {
	c := tee.Claims{
		TEE:         tee.TPM,
		Simulated:   ak.emulated,
		Measurement: Measurement(proven),
		ReportData:  q.ExtraData,
		Platform:    KeyID(ak.key),
		TCB:         tee.TCBUnknown,
		Vendor: map[string]any{
			"pcrs":             proven.Claims(),
			"clock":            q.Clock,
			"reset_count":      uint64(q.ResetCount),
			"restart_count":    uint64(q.RestartCount),
			"safe":             q.Safe,
			"firmware_version": q.FirmwareVersion,
			"ak_trust":         ak.trust,
			"signature_scheme": s.Scheme.String() + "-" + s.Hash.String(),
			"event_log":        facts != nil,
		},
	}
	if facts != nil {
		c.Debug = facts.Debug
		maps.Copy(c.Vendor, facts.Claims())
	}
	return c
}

// addLaunch adds what a guest of ours measured of its launch to the claims. An
// event that cannot be read is a failure: an agent makes none.
func addLaunch(c *tee.Claims, facts *eventlog.Facts) []tee.Failure {
	if facts == nil || !bytes.HasPrefix(facts.Launch, []byte(launch.EventPrefix)) {
		return nil
	}
	e, d, err := launch.ParseEvent(facts.Launch)
	if err != nil {
		return []tee.Failure{{Code: tee.CodeParse, Claim: "launch event", Want: "one that an agent makes", Got: fmt.Sprintf("%.200s", err.Error())}}
	}
	digest := sha256.Sum256(e.Document)
	c.LaunchDigest, c.Signer, c.Product, c.SVN = digest[:], d.Signer, d.Product, d.SVN
	c.InstanceID, c.Debug, c.LaunchByGuest = e.InstanceID, c.Debug || d.Debug, true
	maps.Copy(c.Vendor, map[string]any{
		"role": string(d.Role), "node_root": hex.EncodeToString(e.NodeRoot), "node_runtime": hex.EncodeToString(e.NodeRuntime),
		"walls": anyList(e.Walls), "missing_walls": anyList(e.Missing),
	})
	return nil
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// Claims are the values in hex, by the name of the bank and the index.
func (b Banks) Claims() map[string]any {
	out := make(map[string]any, len(b))
	for a, bank := range b {
		values := make(map[string]any, len(bank))
		for i, v := range bank {
			values[strconv.FormatUint(uint64(i), 10)] = hex.EncodeToString(v)
		}
		out[a.String()] = values
	}
	return out
}
