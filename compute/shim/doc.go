// Package shim is the process that owns one instance on the host: it starts it
// through a driver, serves its channel, writes its log and status, and answers
// the supervisor on a socket. It outlives the supervisor; when it dies, its
// instance dies with it.
//
// # What it protects against
//
// Two processes running one instance (it holds a lock for as long as it lives),
// an instance that outlives the knowledge of it, and a log that fills the disk.
//
// # What it does not protect against
//
// It is part of the host: nothing it says or passes on is trusted inside.
package shim
