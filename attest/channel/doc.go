// Package channel is the attested channel: ordinary TLS 1.3, then an exchange
// of evidence that is bound to this very connection, before the first byte of
// application data.
//
// The report data of the evidence is [tee.Bind] over the attester's role, the
// peer's fresh nonce, the TLS exporter of the connection (RFC 8446 section 7.5)
// and the digest of the attester's own leaf certificate. The exporter alone
// would allow reflection, the certificate alone relaying; a key in the report
// data of a certificate ("RA-TLS") proves no channel at all.
//
// # What it protects against
//
// A host that poses as the code inside a TEE, relays the evidence of one,
// replays evidence of an earlier connection or reflects a peer's own: each
// fails before any secret is sent.
//
// # What it does not protect against
//
// Traffic analysis and denial of service. Connections that do not negotiate
// [Protocol] are plain HTTPS: [FromContext] tells a handler that nothing was
// proven about such a peer, and such a peer that nothing was proven to it.
package channel
