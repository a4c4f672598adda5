// Package sandbox builds the walls of the software TEE around a child process:
// user, PID, mount, network, IPC, UTS and cgroup namespaces, an empty root,
// Landlock, a seccomp allow-list, no capabilities, no new privileges, no core
// dumps. It works for root and for an ordinary user.
//
// # What it protects against
//
// The program inside: it cannot see or touch the host's files, network,
// processes or devices, cannot gain privileges and cannot outlive its parent.
//
// # What it does not protect against
//
// The host. Whoever may read the process's memory outside (root, or the user
// who started it) reads every byte of it: these walls protect the host from
// the enclave, not the enclave from the host. A kernel bug in an allowed system
// call opens every wall at once.
//
// A wall that the host does not offer is never skipped in silence: it is
// returned as missing, goes into the instance's evidence, and `cloister doctor`
// shows it.
package sandbox
