//go:build !wasip1

package enclave

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/seal"
	"github.com/cloister-cc/cloister/tee"
)

// native talks to the agent over the socket that the program inherited.
type native struct {
	*call.Client
	ports *ports // nil: there is no socket that connections come from
}

func connect() (agent, error) {
	if os.Getenv(call.EnvName) == "" {
		return nil, ErrOutside
	}
	conn, err := inherit(call.SocketFD)
	if err != nil {
		return nil, err
	}
	return native{call.NewClient(conn), &ports{}}, nil
}

// OpenConn is [Open] with an agent at the other end of conn instead of the one
// that this process inherited. Package enclavetest is such an agent, for tests
// of programs. Listen is refused: no connection could arrive.
func OpenConn(conn net.Conn) (*Enclave, error) {
	return introduced(native{call.NewClient(conn), nil})
}

// inherit takes a socket that the agent left open for this program. Anything
// else at that number is not ours and stays open: outside an instance it may
// well be the Go runtime's own.
func inherit(fd uintptr) (net.Conn, error) {
	if _, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return nil, ErrOutside
	}
	f := os.NewFile(fd, "agent")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, errors.Join(ErrOutside, err)
	}
	return conn, nil
}

func (n native) seal(policy tee.SealPolicy, plaintext, aad []byte) ([]byte, error) {
	return seal.Seal(context.Background(), n, policy, plaintext, aad)
}

func (n native) unseal(blob, aad []byte) ([]byte, error) {
	return seal.Unseal(context.Background(), n, blob, aad)
}

// SealingKey implements [tee.Sealer] through the agent.
func (n native) SealingKey(_ context.Context, p tee.SealPolicy, context []byte) ([]byte, error) {
	a, err := n.Do(call.Request{Op: call.SealingKey, Name: p.To, Number: uint64(p.SVN), Data: context})
	return a.Data, err
}

// SealingKey implements [tee.Sealer] for code that derives keys of its own. It
// exists in native programs only; Wasm modules use [Enclave.Seal].
func (e *Enclave) SealingKey(ctx context.Context, p tee.SealPolicy, context []byte) ([]byte, error) {
	return e.agent.(native).SealingKey(ctx, p, context)
}

// Fail tells the agent why this program is about to end, so that the instance's
// status names the reason. The agent takes it from this program's own roles
// only: a user's program has its exit status and its log.
func (e *Enclave) Fail(code tee.Code, message, hint string) error {
	_, err := e.agent.Do(call.Request{Op: call.Fail, Name: string(code), Data: []byte(message), Hint: hint})
	return err
}

// RawAttester returns an attester whose evidence carries report data unchanged.
// The agent refuses it to all but this program's own roles: a user's program
// could otherwise speak for its agent.
func (e *Enclave) RawAttester() tee.Attester { return raw{e} }

type raw struct{ e *Enclave }

func (r raw) Kind() tee.Kind { return r.e.identity.TEE }

func (r raw) Evidence(_ context.Context, reportData [64]byte) (tee.Evidence, error) {
	return r.e.evidence(call.Request{Op: call.EvidenceRaw, Data: reportData[:]})
}

var (
	_ tee.Sealer   = (*Enclave)(nil)
	_ tee.Counters = (*Enclave)(nil)
)
