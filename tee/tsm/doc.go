// Package tsm asks Linux for attestation reports: the interface configfs-tsm
// (Documentation/ABI/testing/configfs-tsm-report, Linux 6.7 and later), which is
// the same for guests of SEV-SNP and TDX. Packages snp and tdx make attesters of
// it.
//
// # What it protects against
//
// Two users of one report: every request makes an entry of its own and compares
// its generation before it believes what it read, so that nobody's report data
// can take the place of another's. Answers are bounded.
//
// # What it does not protect against
//
// A kernel that lies: what comes back is evidence, which a verifier checks.
package tsm
