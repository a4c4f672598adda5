// Package collateral reads the endorsements that a verdict needs: certificates,
// revocation lists and documents of vendors, from files as vendors, caches and
// other verifiers write them.
//
// # What it protects against
//
// A file that is taken for something else than it is: what a file is, its
// content says, never its name or where it came from. Nothing here is believed;
// the verifiers check every signature and date.
//
// # What it does not protect against
//
// Endorsements that are left out: a verifier reports those that it misses as
// findings, and a policy decides.
package collateral
