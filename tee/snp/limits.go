package snp

// Bounds on what comes from outside, so that no input makes a verifier work or
// remember without end.
const (
	maxCertificates = 16       // of evidence and endorsements together
	maxCertificate  = 16 << 10 // bytes; AMD's are below 2 KiB
	maxCRLs         = 16
	maxCRL          = 256 << 10 // bytes; AMD's are about 1 KiB
	maxLeaves       = 256       // remembered chip and provider keys
	maxLists        = 64        // remembered revocation lists
	maxAnchors      = 16        // remembered sets of roots
)
