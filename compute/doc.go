// Package compute deploys and manages instances: one type over all TEEs, one
// life cycle, one evidence pipeline. A [Supervisor] keeps what should run in
// line with what does run; one shim process per instance (package
// compute/shim) owns the real thing, so that a supervisor can die and come back
// without an instance noticing; a [Driver] per TEE knows how to start it.
//
// # What it protects against
//
// Losing track: the intent to run an instance is on disk before anything is
// started, every name derives from the instance's id, and a supervisor that
// starts adopts what runs and removes what should not.
//
// # What it does not protect against
//
// Nothing here is trusted by anyone outside the host: the supervisor, the shims
// and their files are the host. What an instance is, its evidence says.
package compute
