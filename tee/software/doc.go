// Package software is a complete TEE for development: a platform ("security
// processor") in a process of its own, a device inside each instance, and a
// verifier. It does everything a hardware TEE does: it measures launches, signs
// evidence, derives sealing keys and keeps rollback-protected counters.
//
// # What it protects against
//
// It protects the host from the enclave (together with the sandbox of package
// compute), and it protects developers from surprises: code that works here has
// attested, sealed and counted with the same interfaces as on hardware. The
// measurement covers the running executable and the launch document; a launch
// whose image, document or signature differs gets other keys or none. The
// counters notice when one of their files, or this program's own state on disk,
// is put back to an older one, and survive a crash at any step.
//
// # What it does not protect against
//
// It does not protect the enclave from the host. Everything is simulated: the
// "fuses" are a file, the keys are in ordinary memory, and whoever runs the
// platform can read and forge all of it. Every piece of evidence says
// simulated, chains to a development root of its own, and cannot be made to say
// otherwise: [Verifier] refuses evidence without that claim and always sets
// Claims.Simulated. Restoring the whole platform directory while the platform is
// stopped brings its counters back with it, and nothing here can notice. The
// runtime digest is that of the platform's own executable; that the instance
// runs the same one is the word of whoever starts both.
//
// # Pieces
//
//   - [OpenPlatform] opens the platform's directory; [Platform.Launch] measures a
//     launch, [Platform.Serve] does so for other processes.
//   - [Connect] and [Client.Launch] are for the process that starts instances:
//     they give the launch's TEE device as a file to hand to the child.
//   - [OpenDevice] is for the child: a [Device] is a tee.Attester, tee.Sealer and
//     tee.Counters.
//   - [New] makes the [Verifier] for relying parties, [Expect] the measurement
//     to expect, offline.
//
// Everything except [New], [Expect] and [RuntimeDigest] needs Linux.
package software
