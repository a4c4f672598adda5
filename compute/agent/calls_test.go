package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// verified returns the report data of evidence of a platform.
func verified(t *testing.T, p *softwaretest.Platform, ev *tee.Evidence) []byte {
	t.Helper()
	if ev == nil {
		t.Fatal("no evidence")
	}
	claims, _, err := software.New().Verify(*ev, tee.Input{Roots: p.Roots, At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return claims.ReportData
}

func TestAnswers(t *testing.T) {
	p, image := softwaretest.New(t), []byte("image")
	doc := launch.New(launch.Wasm, image)
	doc.Ports = []uint16{80}
	a := newAgent(t, give(nil))
	a.onTEE(t, p, doc, image)
	a.program = newProgram()
	a.secrets["data"] = []byte("value")

	if got := a.answer(call.Request{Op: call.Self}); got.Identity == nil || got.Identity.InstanceID != a.identity.InstanceID {
		t.Errorf("self: %+v", got)
	}
	if got := a.answer(call.Request{Op: call.Secret, Name: "data"}); string(got.Data) != "value" || got.Code != "" {
		t.Errorf("secret: %+v", got)
	}
	if got := a.answer(call.Request{Op: call.Secret, Name: "other"}); got.Code != tee.CodeUnavailable || got.Hint == "" || got.Data != nil {
		t.Errorf("unknown secret: %+v", got)
	}
	// A program's evidence is bound in a context of its own: it cannot speak for
	// its agent.
	data := []byte("user data")
	want := tee.Bind(call.ProgramContext, data)
	if got := verified(t, p, a.answer(call.Request{Op: call.Evidence, Data: data}).Evidence); !bytes.Equal(got, want[:]) {
		t.Errorf("report data %x", got)
	}
	key := a.answer(call.Request{Op: call.SealingKey, Name: "measurement", Data: []byte("context")})
	if key.Code != "" || len(key.Data) != 32 {
		t.Errorf("sealing key: %+v", key)
	}
	if got := a.answer(call.Request{Op: call.SealingKey, Name: "signer"}); got.Code != tee.CodeSealPolicy || got.Data != nil {
		t.Errorf("sealing key of a signer that there is not: %+v", got)
	}
	digest := bytes.Repeat([]byte{'d'}, 32)
	if got := a.answer(call.Request{Op: call.CounterAdvance, To: "measurement", Name: "c", Data: digest}); got.Code != "" {
		t.Errorf("advance: %+v", got)
	}
	if got := a.answer(call.Request{Op: call.CounterRead, To: "measurement", Name: "c"}); got.Number != 1 || !bytes.Equal(got.Data, digest) {
		t.Errorf("read: %+v", got)
	}
	if got := a.answer(call.Request{Op: call.CounterAdvance, To: "measurement", Name: "c", Data: digest}); got.Code != tee.CodeCounter {
		t.Errorf("advance from where it does not stand: %+v", got)
	}
	if got := a.answer(call.Request{Op: call.Listen, Number: 80}); got.Code != "" || !a.program.listened[80] {
		t.Errorf("listen: %+v", got)
	}
}

// What a user's program may not ask, and what nobody may.
func TestRefusals(t *testing.T) {
	p, image := softwaretest.New(t), []byte("image")
	doc := launch.New(launch.Wasm, image)
	doc.Ports = []uint16{80}
	a := newAgent(t, give(nil))
	a.onTEE(t, p, doc, image)
	a.program = newProgram()
	raw := bytes.Repeat([]byte{'r'}, 64)
	for name, r := range map[string]call.Request{
		"raw evidence": {Op: call.EvidenceRaw, Data: raw}, "reason": {Op: call.Fail, Name: "disk"}, "short digest": {Op: call.CounterAdvance, To: "measurement", Name: "c", Data: raw[:31]},
		"counter of nobody": {Op: call.CounterRead, Name: "c"}, "step of nobody's counter": {Op: call.CounterAdvance, To: "anybody", Name: "c", Data: raw[:32]},
		"port that is not listed": {Op: call.Listen, Number: 81}, "port that wraps around": {Op: call.Listen, Number: 80 + 1<<16}, "unknown": {Op: "open the door"}, "await again": {Op: call.Await},
	} {
		if got := a.answer(r); got.Code == "" || got.Message == "" || got.Data != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if a.said != nil || len(a.program.listened) != 0 {
		t.Error("a refused request left something behind")
	}

	a.doc = launch.NewBuiltin(launch.RoleNode) // the platform's own roles may
	if got := verified(t, p, a.answer(call.Request{Op: call.EvidenceRaw, Data: raw}).Evidence); !bytes.Equal(got, raw) {
		t.Errorf("report data %q", got)
	}
	if got := a.answer(call.Request{Op: call.EvidenceRaw, Data: raw[:63]}); got.Code == "" {
		t.Errorf("short report data: %+v", got)
	}
	if got := a.answer(call.Request{Op: call.Fail, Name: "disk", Data: []byte("no room"), Hint: "make some"}); got.Code != "" || a.said.code != "disk" || a.said.hint != "make some" || a.said.Error() != "no room" {
		t.Errorf("%+v, %+v", got, a.said)
	}
}

// The program is told what to be once, before any other answer.
func TestServeProgram(t *testing.T) {
	a := newAgent(t, give(nil))
	ours, theirs := net.Pipe()
	a.program = newProgram()
	a.program.calls = ours
	done := make(chan struct{})
	go func() { a.serveProgram(); close(done) }()
	if err := frame.Write(theirs, call.Request{Op: call.Await}); err != nil {
		t.Fatal(err)
	}
	a.start <- call.Start{Kind: "wasm", Image: "/image"}
	var first call.Answer
	if err := frame.Read(theirs, call.MaxFrame, &first); err != nil || first.Start == nil || first.Start.Image != "/image" {
		t.Errorf("%+v, %v", first, err)
	}
	if got, err := call.NewClient(theirs).Do(call.Request{Op: call.Self}); err != nil || got.Identity == nil {
		t.Errorf("%+v, %v", got, err)
	}
	_ = theirs.Close()
	<-done
	_ = ours.Close()
}

// Until the instance is ready there is no answer, and none when it never is.
func TestServeProgramOfAnInstanceThatEnds(t *testing.T) {
	for name, first := range map[string]call.Op{"asks": call.Await, "asks for something else": call.Secret} {
		a := newAgent(t, give(nil))
		ours, theirs := net.Pipe()
		a.program = newProgram()
		a.program.calls = ours
		heard := make(chan []byte)
		go func() {
			_ = frame.Write(theirs, call.Request{Op: first, Name: "data"})
			b, _ := io.ReadAll(theirs)
			heard <- b
		}()
		close(a.ended)
		a.serveProgram()
		_ = ours.Close()
		if b := <-heard; len(b) != 0 {
			t.Errorf("%s: answered %q", name, b)
		}
		_ = theirs.Close()
	}
}

// The process beside the agent must ask before it can be anything.
func TestAwaitQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		send any
		ok   bool
	}{"asks": {call.Request{Op: call.Await}, true}, "asks for something else": {call.Request{Op: call.Secret, Name: "data"}, false}, "nonsense": {"hello", false}} {
		ours, theirs := net.Pipe()
		go func() { _ = frame.Write(theirs, c.send); _ = theirs.Close() }()
		p := newProgram()
		p.calls = ours
		if err := p.awaitQuestion(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		_ = ours.Close()
	}
}

func TestServeEvidence(t *testing.T) {
	p := softwaretest.New(t)
	a := newAgent(t, give(nil))
	a.onTEE(t, p, launch.NewBuiltin(launch.RoleNode), nil)
	ask := func() (link.Reply, *tee.Evidence, error) {
		ours, theirs := net.Pipe()
		defer func() { _ = ours.Close() }()
		go a.serveHost(link.Request{Op: link.OpEvidence, Data: []byte("nonce of whoever asks")}, theirs)
		var reply link.Reply
		var ev tee.Evidence
		err := frame.Read(ours, link.MaxRequest, &reply)
		if err == nil && reply.Error == "" {
			err = frame.Read(ours, link.MaxEvent, &ev)
		}
		return reply, &ev, err
	}
	reply, ev, err := ask()
	if err != nil || reply.Error != "" {
		t.Fatal(errors.Join(err, errors.New(reply.Error)))
	}
	want := DescribeBinding([]byte("nonce of whoever asks"), a.identity.LaunchDigest, a.identity.InstanceID)
	if got := verified(t, p, ev); !bytes.Equal(got, want[:]) {
		t.Errorf("report data %x", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if reply, _, err := ask(); err != nil || reply.Error == "" {
		t.Errorf("without a TEE: %+v, %v", reply, err)
	}
}
