// Package server is the host side of a platform: it starts the software TEE's
// platform process, supervises instances, keeps the node running, passes
// connections on to it, and serves the API of this host on a unix socket.
//
// # What it protects against
//
// Other users of this machine: the data directory and its sockets belong to one
// user. Two supervisors on one data directory.
//
// # What it does not protect against
//
// Its own operator. Everything here is the untrusted host of the trust model:
// it sees names, sizes, times and ciphertext. Keys and policies live in the
// node, whose TLS ends inside its TEE.
package server
