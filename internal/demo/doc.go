// Package demo is the main job of this program, end to end, on one machine: two
// hospitals let one program in a TEE learn from the data of both, and an
// attacker who owns the machine tries everything to get at it.
//
// The hospitals are this process. The host is a platform of its own, started as
// `cloister up` in a fresh data directory, with all its processes and with a
// recording of everything that passes between them.
//
// # What it protects against
//
// Believing a claim: every step is done, every attack is made against the running
// platform, and the search for secrets on the host's side must find what was
// planted for it, or the demo fails.
//
// # What it does not protect against
//
// The TEE is the software TEE: simulated. The demo shows the protocol and what
// each party sees; on real hardware the same steps keep the instance's memory
// from the host, which here they do not.
package demo

//go:generate go run generate.go
