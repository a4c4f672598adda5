// Package client is the Go client of a platform: [Host] speaks to the untrusted
// host's API on its unix socket (instances), [Node] to the node inside its TEE
// (keys, attestation) over a channel that proves, before a byte of any request
// is sent, which code answers.
//
// # What it protects against
//
// A host that poses as the node: [Node] refuses a peer whose evidence does not
// verify, does not belong to this very connection, or is of other code than the
// caller expects.
//
// # What it does not protect against
//
// What [Host] reports is the host's word: states, logs, names. Believe evidence.
package client
