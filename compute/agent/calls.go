package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// answer handles one request of the program.
func (a *agent) answer(r call.Request) call.Answer { return call.Result(a.handle(r)) }

func (a *agent) handle(r call.Request) (call.Answer, error) {
	ctx := context.Background()
	switch r.Op {
	case call.Self:
		id := a.identity
		return call.Answer{Identity: &id}, nil
	case call.Secret:
		return a.secret(r.Name)
	case call.EvidenceRaw:
		if a.doc.Image.Kind != launch.Builtin || len(r.Data) != 64 {
			return call.Answer{}, errors.New("raw evidence is for the platform's own roles")
		}
		ev, err := a.tee.Evidence(ctx, [64]byte(r.Data))
		return call.Answer{Evidence: &ev}, err
	case call.Listen:
		if r.Number > 65535 || !slices.Contains(a.doc.Ports, uint16(r.Number)) {
			return call.Answer{}, fmt.Errorf("port %d is not in the launch document", r.Number)
		}
		a.program.listen(uint16(r.Number))
		return call.Answer{}, nil
	case call.Fail:
		if a.doc.Image.Kind != launch.Builtin {
			return call.Answer{}, errors.New("giving a reason is for the platform's own roles")
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.said = &failure{code: r.Name, err: errors.New(string(r.Data)), hint: r.Hint}
		return call.Answer{}, nil
	default:
		return call.FromTEE(ctx, a.tee, r)
	}
}

func (a *agent) secret(name string) (call.Answer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	value, ok := a.secrets[name]
	if !ok {
		return call.Answer{}, &tee.Error{
			Code: tee.CodeUnavailable, Op: "secret", Err: errors.New("the launch document asks for no secret of that name"),
			Hint: "add it: cloister run --secret NAME=KEY",
		}
	}
	return call.Answer{Data: value}, nil
}

// serveProgram answers the program's first question, what to be, when the
// instance is ready, and then all others.
func (a *agent) serveProgram() {
	if err := a.program.awaitQuestion(); err != nil {
		return // its end says the rest
	}
	select {
	case s := <-a.start:
		if frame.Write(a.program.calls, call.Answer{Start: &s}) != nil {
			return
		}
	case <-a.ended:
		return
	}
	call.Serve(a.program.calls, a.answer)
}
