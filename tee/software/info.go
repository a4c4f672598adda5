package software

import "github.com/cloister-cc/cloister/tee"

// Info says which launch a device or handle belongs to and which certificates
// its evidence chains to. It holds no secret. The slices are shared: do not
// change them.
type Info struct {
	Measurement   tee.Measurement // see [Expect]
	LaunchDigest  [32]byte        // SHA-256 of the launch document
	RuntimeDigest [32]byte        // SHA-256 of the platform's executable
	InstanceID    string
	// RootCertificate and PlatformCertificate are DER: the development root that
	// a relying party must be given, and the certificate below it that signs
	// this platform's evidence.
	RootCertificate     []byte
	PlatformCertificate []byte
}

// PlatformInfo is the part of [Info] that is the same for every launch.
type PlatformInfo struct {
	RuntimeDigest       [32]byte // SHA-256 of the platform's executable
	RootCertificate     []byte   // DER
	PlatformCertificate []byte   // DER
}
