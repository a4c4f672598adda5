// Package node is the node: attestation and keys, as a program inside an
// instance of the built-in image of that role. Its TLS ends here; its state is
// sealed to this very code, and counted against rollback.
//
// # What it protects against
//
// The host it runs on: what a client tells the node, what the node keeps, and
// which policy decides are out of the host's reach; a client proves before it
// speaks (package attest/channel) that this code answers.
//
// # What it does not protect against
//
// A host that denies service, and on the software TEE one that reads this
// process's memory. The node's clock is the host's.
package node
