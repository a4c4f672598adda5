// Package wasm runs WebAssembly modules inside a TEE instance: whole programs
// (WASI preview 1 commands, [RunCommand]) and libraries that are called one
// method at a time (ABI v1 reactors, [Load]). The engine is wazero: pure Go,
// compiled to machine code where the platform allows it.
//
// # What it protects against
//
// The module. It sees its own linear memory, the directories it was given and
// the functions below; every pointer that it passes is checked against its
// memory and copied before use, its memory and its tables are bounded, and
// nothing that it passes or returns can crash the runtime. This is the inner
// wall. The sandbox of the process (package compute/sandbox) is the outer one.
//
// # What it does not protect against
//
// Time: a module that never ends runs until its process is killed, which the
// instance's agent does at the deadline. Interruption inside the engine makes
// guests 2 to 30 times slower, so it is off, and cancelling the context does
// not stop a module. Side channels: no engine promises constant time, so
// cryptography belongs in the imports below, not in guest code. Compiled code
// is never read from or written to disk, because the disk belongs to the host.
//
// # Host functions: the module cloister_v1
//
// Parameters are i32 unless marked i64; pointers and lengths are bytes in the
// module's memory named "memory". Every function returns a status:
//
//	0  ok
//	1  the output buffer is too small; nothing was written but the length
//	2  refused or failed; ask error for the reason
//	3  a pointer or an argument is wrong
//
// An output is three parameters (out, cap, len_ptr): a buffer, its size, and the
// address of a 32-bit word that receives the length of the whole output, also
// when the buffer is too small. Integers are little endian. JSON holds bytes as
// lower-case hex, except evidence, which is base64.
//
//	self(out…)                                    JSON {tee, simulated, debug, measurement, launch_digest, instance_id, runtime_digest, args}
//	secret(name, name_len, out…)                  a secret of the launch document
//	evidence(data, len, out…)                     JSON of tee.Evidence over at most 64 KiB of user data
//	seal(policy, svn, plain, len, aad, len, out…) policy 1: this measurement, 2: this signer at svn or higher
//	unseal(blob, len, aad, len, out…)
//	counter_read(policy, name, len, value_ptr, digest_ptr)    of policy's counters (1: measurement, 2: signer); writes a u64 and 32 bytes
//	counter_advance(policy, name, len, from i64, digest_ptr)  from is the value that the counter stands at
//	random(ptr, len)
//	log(level, ptr, len)                          0 debug, 1 info, 2 warning, 3 error; a line on stderr
//	hash(alg, data, len, out…)                    1 SHA-256, 2 SHA-384, 3 SHA-512
//	aead_seal(key, nonce, aad, len, data, len, out…)  AES-256-GCM: key 32 bytes, nonce 12, tag 16 at the end
//	aead_open(key, nonce, aad, len, data, len, out…)
//	error(out…)                                   JSON {code, message, hint} of the last status 2
//
// sdk/c/cloister.h declares them for C and C++; package enclave uses them when
// it is compiled for wasip1.
//
// # Exports of an ABI v1 reactor
//
//	memory
//	_initialize()                          optional; runs once, before any call
//	cl_alloc(len) ptr                      0: out of memory
//	cl_free(ptr, len)
//	cl_call(method, ptr, len) i64          ptr<<32 | len of the answer
//
// The host owns the buffer that it passes to cl_call and uses it for more than
// one call. An answer may lie inside that buffer; anywhere else it is given
// back with cl_free once it has been copied, unless it is empty. An answer with
// pointer 0 is an error with the code len, or the empty answer when that is 0
// too.
package wasm
