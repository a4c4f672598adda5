package tee

import (
	"encoding/hex"
	"maps"
)

// TCBStatus says how current the platform's trusted computing base is. The
// words are Intel's (PCS API v4, TCB level status), used for every TEE.
type TCBStatus string

// The TCB statuses that this release can give.
const (
	// TCBUnknown means that no reference was given to compare the TCB with.
	TCBUnknown   TCBStatus = "Unknown"
	TCBUpToDate  TCBStatus = "UpToDate"
	TCBOutOfDate TCBStatus = "OutOfDate"
	TCBRevoked   TCBStatus = "Revoked"
	// The firmware is current; what is missing is named by the advisories of the
	// claims: software that defends itself, or settings of the platform.
	TCBSWHardeningNeeded                 TCBStatus = "SWHardeningNeeded"
	TCBConfigurationNeeded               TCBStatus = "ConfigurationNeeded"
	TCBConfigurationAndSWHardeningNeeded TCBStatus = "ConfigurationAndSWHardeningNeeded"
	// The firmware is old, and settings of the platform are missing as well.
	TCBOutOfDateConfigurationNeeded TCBStatus = "OutOfDateConfigurationNeeded"
	// The platform has been updated while this TD ran: start the TD again.
	TCBTDRelaunchAdvised                    TCBStatus = "TDRelaunchAdvised"
	TCBTDRelaunchAdvisedConfigurationNeeded TCBStatus = "TDRelaunchAdvisedConfigurationNeeded"
	// TCBNotApplicable is the status of the software TEE: there is no TCB worth
	// the name.
	TCBNotApplicable TCBStatus = "NotApplicable"
)

// TCBStatuses returns every status, the best first.
func TCBStatuses() []TCBStatus {
	return []TCBStatus{
		TCBUpToDate, TCBSWHardeningNeeded, TCBConfigurationNeeded, TCBConfigurationAndSWHardeningNeeded,
		TCBTDRelaunchAdvised, TCBTDRelaunchAdvisedConfigurationNeeded, TCBOutOfDate, TCBOutOfDateConfigurationNeeded,
		TCBUnknown, TCBNotApplicable, TCBRevoked,
	}
}

// Claims is what verified evidence proves. Only a [Verifier] makes them; the
// zero value claims nothing and is refused by every policy.
type Claims struct {
	TEE       Kind
	Simulated bool // true for the software TEE and emulated TPMs
	Debug     bool // the host may read or change this instance by design
	// Measurement is the launch measurement of the code that runs.
	Measurement Measurement
	// LaunchDigest is the SHA-256 of the launch document (package launch) that
	// the evidence binds; empty where the TEE carries none.
	LaunchDigest []byte
	// Signer is the SHA-256 of the public key that signed the image, Product and
	// SVN what it signed; Signer is empty for unsigned code.
	Signer  []byte
	Product uint32
	SVN     uint32
	// LaunchByGuest says that LaunchDigest, Signer, Product, SVN and InstanceID are
	// the word of the guest that runs, and not of the TEE: they are worth as much as
	// its Measurement, and a policy that relies on them has to name that.
	LaunchByGuest bool
	// ReportData is the 64 bytes that the attester asked to have signed.
	ReportData []byte
	// InstanceID names the instance where the TEE carries such a name.
	InstanceID string
	// Platform identifies the physical (or simulated) platform: CHIP_ID of AMD,
	// PPID of Intel, the digest of the software TEE's platform key. Hex.
	Platform string
	TCB      TCBStatus
	// Vendor holds the claims that only this TEE has, under snake_case names;
	// values are bool, int64, uint64, string, []any or map[string]any.
	Vendor map[string]any
}

// Tree returns the claims as the one tree that policies, tokens, JSON output
// and the portal use: snake_case names, hex for bytes, the vendor's own claims
// under the TEE's name with "-" as "_". The caller owns the tree.
func (c Claims) Tree() map[string]any {
	t := map[string]any{
		"tee":           string(c.TEE),
		"simulated":     c.Simulated,
		"debug":         c.Debug,
		"measurement":   c.Measurement.String(),
		"launch_digest": hex.EncodeToString(c.LaunchDigest),
		"signer":        hex.EncodeToString(c.Signer),
		"product":       uint64(c.Product),
		"svn":           uint64(c.SVN),
		"report_data":   hex.EncodeToString(c.ReportData),
		"instance_id":   c.InstanceID,
		"platform":      c.Platform,
		"tcb_status":    string(c.TCB),
	}
	if c.TEE != "" {
		t[c.TEE.treeName()] = maps.Clone(c.Vendor)
	}
	return t
}

// treeName is the name of the TEE's own branch in the claims tree.
func (k Kind) treeName() string {
	b := []byte(k)
	for i := range b {
		if b[i] == '-' {
			b[i] = '_'
		}
	}
	return string(b)
}
