// Package cmw reads and writes conceptual message wrappers (draft-ietf-rats-msg-wrap-23): evidence,
// endorsements and results of any attestation technology behind a media type,
// alone (a [Record]) or several under labels (a [Collection]), in JSON or CBOR.
// [Evidence] takes out what package attest can verify, [FromEvidence] wraps it.
//
// # What it protects against
//
// A wrapper that two readers take for different things. [Parse] tells JSON from
// CBOR by the first byte, as draft-ietf-rats-msg-wrap-23 shows, and refuses duplicate and
// differently escaped labels, indefinite lengths, padded or non-canonical
// base64url, unknown indicators, unknown tags, bytes behind the message, and
// nesting, numbers and sizes beyond its bounds. [Evidence] refuses a collection
// with anything in it that it does not use.
//
// # What it does not protect against
//
// A wrapper is not signed. Whoever carries it can swap its parts for others, so
// nothing may follow from which parts lie side by side: what belongs together is
// for the verifier of the evidence to prove.
//
// # Media types
//
// Registered with IANA and read by [Evidence]:
//
//	application/vnd.veraison.tsm-report+json   what Linux's configfs-tsm gave, of
//	application/vnd.veraison.tsm-report+cbor   the providers sev_guest and tdx_guest
//	application/pkix-cert                      a certificate beside evidence (RFC 2585)
//
// Nobody has registered types for the bare evidence of TEEs. Ours are
//
//	application/vnd.cloister.evidence; tee=KIND   tee.Evidence.Data of that tee.Kind
//	application/vnd.cloister.event-log            tee.Evidence.EventLog
//
// and are not registered either. EAT types (RFC 9782: application/eat+cwt and
// others) parse as records; no TEE that package attest verifies makes them.
package cmw
