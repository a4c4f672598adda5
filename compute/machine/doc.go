// Package machine is the first process of a virtual machine: this very program, as
// /init of the initial RAM disk. It mounts what a guest needs, loads the drivers that
// came with it, opens the TPM and the port to the host, and starts the agent (package
// compute/agent) in a sandbox as on any host; when that ends, it turns the machine
// off. Nothing else runs in the machine, and nothing is installed in it.
//
// # What it protects against
//
// A program in the instance that wants the TPM, the port to the host, or the agent's
// memory: it runs behind the same walls as on the software TEE. A host that asks for
// more than the launch document allows: there is no login, no network and, without
// debug in the command line, no console.
//
// # What it does not protect against
//
// A host that can read the machine's memory: whether it can is what the evidence
// says, not this package. With a TPM alone it can.
package machine
