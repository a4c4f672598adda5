package tpm

// Bounds on what comes from outside, in bytes where nothing else is said.
const (
	maxName         = 2 + 64 // a TPM2B_NAME: algorithm and digest
	maxExtraData    = 2 + 64 // TPM2B_DATA has room for a TPMT_HA
	maxBanks        = 8      // in a selection and beside a quote
	maxPCR          = 31     // the highest index
	maxKeyBytes     = 512    // RSA-4096
	maxQuotes       = 8      // in a protobuf message
	maxCertificates = 16     // of evidence and endorsements together
	maxCertificate  = 16 << 10
	maxCRLs         = 16
	maxCRL          = 256 << 10
	maxTrusted      = 1024    // enrolled keys
	maxTrustedPEM   = 1 << 20 // of the document that lists them
	maxCommand      = 4 << 10 // of the device
)
