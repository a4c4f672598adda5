package agent

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
)

// serveEvidence gives the host, for whoever asks it, evidence over a nonce.
func (a *agent) serveEvidence(r link.Request, s net.Conn) {
	ev, err := a.tee.Evidence(context.Background(), DescribeBinding(r.Data, a.identity.LaunchDigest, a.identity.InstanceID))
	if err != nil {
		link.Refuse(s, err.Error())
		return
	}
	if link.Accept(s, 0) == nil {
		_ = frame.Write(s, ev)
	}
	_ = s.Close()
}

// DescribeBinding is the report data of evidence that an instance gives to
// anyone who asks with a nonce. It vouches for no key.
func DescribeBinding(nonce, launchDigest []byte, instanceID string) [64]byte {
	return tee.Bind("cloister describe v1", nonce, launchDigest, []byte(instanceID))
}

// report sends an event; for the last one it waits until the host has it.
func (a *agent) report(e link.Event) {
	if a.events == nil {
		return
	}
	_ = a.events.SetDeadline(time.Now().Add(5 * time.Second))
	if frame.Write(a.events, e) != nil {
		return
	}
	if e.State == link.Exited || e.State == link.Failed {
		var got link.Reply
		_ = frame.Read(a.events, link.MaxRequest, &got)
	}
}

// failedEvent describes an error; refusals keep their failures.
func failedEvent(err error) link.Event {
	e := link.Event{State: link.Failed, Code: "agent", Message: err.Error()}
	if f, ok := errors.AsType[*failure](err); ok {
		e.Code, e.Hint, e.Failures, e.Evidence = f.code, f.hint, f.failures, f.evidence
	} else if t, ok := errors.AsType[*tee.Error](err); ok {
		e.Code, e.Hint = string(t.Code), t.Hint
	}
	return e
}
