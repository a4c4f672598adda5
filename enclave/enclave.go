package enclave

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/tee"
)

// ErrOutside means that this program does not run in an instance. Start it with
// `cloister run`.
var ErrOutside = errors.New("not inside an instance: start this program with `cloister run`")

// Identity is what an instance knows about itself. Measurement, LaunchDigest
// and RuntimeDigest are raw bytes.
type Identity = call.Identity

// Enclave is a program's connection to the TEE it runs in. Use [Open]; the zero
// value is of no use. It is safe for concurrent use.
type Enclave struct {
	agent    agent
	identity Identity
}

// agent answers requests: over a socket for native programs, by function calls
// for Wasm modules.
type agent interface {
	Do(call.Request) (call.Answer, error)
	seal(policy tee.SealPolicy, plaintext, aad []byte) ([]byte, error)
	unseal(blob, aad []byte) ([]byte, error)
}

// Open connects to the instance's agent. It returns [ErrOutside] when there is
// none.
func Open() (*Enclave, error) {
	a, err := connect()
	if err != nil {
		return nil, err
	}
	return introduced(a)
}

// introduced asks an agent who this instance is.
func introduced(a agent) (*Enclave, error) {
	answer, err := a.Do(call.Request{Op: call.Self})
	if err != nil {
		return nil, err
	}
	if answer.Identity == nil {
		return nil, errors.New("open enclave: the agent sent no identity")
	}
	return &Enclave{agent: a, identity: *answer.Identity}, nil
}

// Self returns the instance's identity. It is what this TEE says; a relying
// party believes evidence only.
func (e *Enclave) Self() Identity { return e.identity }

// Secret returns the secret that the launch document asks for under name. An
// unknown name is an error with [tee.CodeUnavailable].
func (e *Enclave) Secret(name string) ([]byte, error) {
	a, err := e.agent.Do(call.Request{Op: call.Secret, Name: name})
	return a.Data, err
}

// Evidence returns evidence that carries userData, at most 64 KiB, for a
// relying party that has chosen the freshness part of it: its report data is
// [ReportData] of userData.
func (e *Enclave) Evidence(_ context.Context, userData []byte) (tee.Evidence, error) {
	if len(userData) > call.MaxUserData {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeParse, Op: "evidence", Err: errors.New("the user data is longer than 64 KiB")}
	}
	return e.evidence(call.Request{Op: call.Evidence, Data: userData})
}

func (e *Enclave) evidence(r call.Request) (tee.Evidence, error) {
	a, err := e.agent.Do(r)
	if err != nil {
		return tee.Evidence{}, err
	}
	if a.Evidence == nil {
		return tee.Evidence{}, &tee.Error{Code: tee.CodeUnavailable, Op: "evidence", Err: errors.New("the agent sent none")}
	}
	return *a.Evidence, nil
}

// ReportData is the report data that evidence from [Enclave.Evidence] carries:
// a relying party computes it from the user data it expects.
func ReportData(userData []byte) [64]byte { return tee.Bind(call.ProgramContext, userData) }

// Seal encrypts plaintext so that only code that meets policy, on this platform,
// can [Enclave.Unseal] it; aad is bound to it and must be given again. It does
// not protect against rollback: see [Enclave.AdvanceCounter].
func (e *Enclave) Seal(policy tee.SealPolicy, plaintext, aad []byte) ([]byte, error) {
	return e.agent.seal(policy, plaintext, aad)
}

// Unseal opens what [Enclave.Seal] made. Altered bytes, other code and other
// aad give an error with [tee.CodeSealed].
func (e *Enclave) Unseal(blob, aad []byte) ([]byte, error) { return e.agent.unseal(blob, aad) }

// ReadCounter returns a monotonic counter of this measurement and the digest
// stored with it; see [tee.Counters].
func (e *Enclave) ReadCounter(ctx context.Context, name string) (uint64, [32]byte, error) {
	return e.counters(tee.SealToMeasurement()).ReadCounter(ctx, name)
}

// AdvanceCounter moves a counter of this measurement from from to from+1 and
// stores the digest of the state that the new value stands for; see
// [tee.Counters]. It goes with state that is sealed to the measurement: another
// version of the program has counters of its own.
func (e *Enclave) AdvanceCounter(ctx context.Context, name string, from uint64, digest [32]byte) error {
	return e.counters(tee.SealToMeasurement()).AdvanceCounter(ctx, name, from, digest)
}

// SignerCounters returns the counters that all programs of this signer and
// product share, whatever their version: they go with state that is sealed to
// the signer. An older version may advance them too, so let the sealed state say
// which value it stands for. An unsigned program gets [tee.CodeSealPolicy].
func (e *Enclave) SignerCounters() tee.Counters { return e.counters(tee.SealToSigner(0)) }

func (e *Enclave) counters(policy tee.SealPolicy) tee.Counters { return counters{e.agent, policy.To} }

// counters are those of one measurement or signer.
type counters struct {
	agent agent
	to    string
}

// ReadCounter implements [tee.Counters].
func (c counters) ReadCounter(_ context.Context, name string) (uint64, [32]byte, error) {
	a, err := c.agent.Do(call.Request{Op: call.CounterRead, To: c.to, Name: name})
	if err != nil {
		return 0, [32]byte{}, err
	}
	if len(a.Data) != 32 {
		return 0, [32]byte{}, &tee.Error{Code: tee.CodeUnavailable, Op: "read counter", Err: errors.New("the agent sent no digest")}
	}
	return a.Number, [32]byte(a.Data), nil
}

// AdvanceCounter implements [tee.Counters].
func (c counters) AdvanceCounter(_ context.Context, name string, from uint64, digest [32]byte) error {
	_, err := c.agent.Do(call.Request{Op: call.CounterAdvance, To: c.to, Name: name, Number: from, Data: digest[:]})
	return err
}

// Input returns the bytes of the input that the launch document lists as name.
// They come from the host: untrusted until checked.
func (e *Enclave) Input(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(dir(call.EnvInputs, "/in"), filepath.Base(name)))
}

// Output hands the host the output that the launch document lists as name, when
// the program has ended. The host reads it: encrypt what it must not see.
func (e *Enclave) Output(name string, data []byte) error {
	return os.WriteFile(filepath.Join(dir(call.EnvOutputs, "/out"), filepath.Base(name)), data, 0o600)
}

// StateDir is a directory that survives the instance. The host can read, change
// and roll back what lies there: seal it.
func (e *Enclave) StateDir() string { return dir(call.EnvState, "/state") }

func dir(env, otherwise string) string {
	if d := os.Getenv(env); d != "" {
		return d
	}
	return otherwise
}
