package nitro

// Bounds of AWS's specification, in bytes where nothing else is said.
const (
	maxPayload     = 16 << 10 // of the COSE message
	maxCertificate = 1 << 10  // each
	maxPublicKey   = 1 << 10
	maxUserData    = 512
	maxNonce       = 512
	maxPCRs        = 32 // how many, so the highest index is 31
)

// Bounds of this package, so that no input makes a verifier work or remember
// without end.
const (
	maxDocument   = maxPayload + 1<<10 // the payload and what COSE adds
	maxModuleID   = 256
	maxBundle     = 8 // certificates; AWS's bundles have 4
	maxRoots      = 16
	maxCRLs       = 16
	maxCRL        = 256 << 10
	maxRemembered = 256 // issuing certificates; there is one per parent instance and day
	maxLists      = 64  // remembered revocation lists
)
