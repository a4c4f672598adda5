//go:build linux

package software

import (
	"strings"

	"github.com/cloister-cc/cloister/tee/launch"
)

// The operations of the platform's socket. One connection carries one call.
const (
	opPlatform = "platform" // nothing -> platformAnswer
	opLaunch   = "launch"   // launchCall, image by SCM_RIGHTS -> infoAnswer, device by SCM_RIGHTS
	opCertify  = "certify"  // certifyCall -> certifyAnswer
)

// The operations of a device.
const (
	opInfo       = "info"        // nothing -> infoAnswer
	opEvidence   = "evidence"    // evidenceCall -> evidenceAnswer
	opSealingKey = "sealing_key" // sealingKeyCall -> sealingKeyAnswer
	opRead       = "counter_read"
	opAdvance    = "counter_advance"
	opSetSandbox = "set_sandbox" // sandboxCall -> nothing
)

// maxLaunchFrame bounds the frame of a launch call.
const maxLaunchFrame = launch.MaxDocument + launch.MaxSignature + 1024

type launchCall struct {
	Document   []byte `cbor:"1,keyasint"`
	Signature  []byte `cbor:"2,keyasint"`
	InstanceID string `cbor:"3,keyasint"`
}

type certifyCall struct {
	Key []byte `cbor:"1,keyasint"` // PKIX DER
}

type certifyAnswer struct {
	Certificate []byte `cbor:"1,keyasint"` // DER
}

type platformAnswer struct {
	RuntimeDigest [32]byte `cbor:"1,keyasint"`
	Root          []byte   `cbor:"2,keyasint"`
	Platform      []byte   `cbor:"3,keyasint"`
}

func (a platformAnswer) info() PlatformInfo {
	return PlatformInfo{RuntimeDigest: a.RuntimeDigest, RootCertificate: a.Root, PlatformCertificate: a.Platform}
}

type infoAnswer struct {
	Measurement   [32]byte `cbor:"1,keyasint"`
	LaunchDigest  [32]byte `cbor:"2,keyasint"`
	RuntimeDigest [32]byte `cbor:"3,keyasint"`
	InstanceID    string   `cbor:"4,keyasint"`
	Root          []byte   `cbor:"5,keyasint"`
	Platform      []byte   `cbor:"6,keyasint"`
}

func infoAnswerOf(i Info) infoAnswer {
	return infoAnswer{[32]byte(i.Measurement), i.LaunchDigest, i.RuntimeDigest, i.InstanceID, i.RootCertificate, i.PlatformCertificate}
}

func (a infoAnswer) info() Info {
	return Info{a.Measurement[:], a.LaunchDigest, a.RuntimeDigest, a.InstanceID, a.Root, a.Platform}
}

type evidenceCall struct {
	ReportData [64]byte `cbor:"1,keyasint"`
}

type evidenceAnswer struct {
	Data []byte `cbor:"1,keyasint"`
}

type sealingKeyCall struct {
	To      string `cbor:"1,keyasint"`
	SVN     uint32 `cbor:"2,keyasint"`
	Context []byte `cbor:"3,keyasint"`
}

type sealingKeyAnswer struct {
	Key [32]byte `cbor:"1,keyasint"`
}

type readCall struct {
	Scope string `cbor:"1,keyasint"`
	Name  string `cbor:"2,keyasint"`
}

type readAnswer struct {
	Value  uint64   `cbor:"1,keyasint"`
	Digest [32]byte `cbor:"2,keyasint"`
}

type advanceCall struct {
	Scope  string   `cbor:"1,keyasint"`
	Name   string   `cbor:"2,keyasint"`
	From   uint64   `cbor:"3,keyasint"`
	Digest [32]byte `cbor:"4,keyasint"`
}

type sandboxCall struct {
	Walls   []string `cbor:"1,keyasint"`
	Missing []string `cbor:"2,keyasint"`
}

// toValid makes foreign error text safe to encode as CBOR text.
func toValid(s string) string { return strings.ToValidUTF8(s, "?") }
