// Package agent is the first process of an instance, and the only one that
// speaks for it: it opens the TEE device, checks that what the host gave it is
// what was measured, makes a key pair, proves itself to the node, receives the
// secrets that release policies allow this very code, and only then lets the
// program start.
//
// # What it protects against
//
// A host that swaps the image or the launch document, replays an old release,
// poses as the node, keeps an instance running after its lease, or asks for
// another program's evidence. Before READY not a byte of the program has run;
// before release no secret exists in the instance.
//
// # What it does not protect against
//
// On the software TEE, a host that reads this process's memory; everywhere, a
// host that denies service, and a program that gives its secrets away.
package agent
