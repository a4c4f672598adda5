package shim

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
)

func TestFilesForTheInstance(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	a.refused(link.Request{Op: link.OpImage}) // not given yet
	a.refused(link.Request{Op: link.OpInput, Name: "data"})
	for path, content := range map[string]string{r.dir.Image(document().Image.Digest): module, r.dir.Input("data"): "input", filepath.Join(string(r.dir), "in", "unlisted"): "CANARY"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	document, err := document().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for want, req := range map[string]link.Request{module: {Op: link.OpImage}, "input": {Op: link.OpInput, Name: "data"}} {
		c, reply, err := a.Open(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); err != nil || string(b) != want || reply.Size != int64(len(want)) {
			t.Errorf("%s: %q of %d bytes (%v)", req.Op, b, reply.Size, err)
		}
		_ = c.Close()
	}
	c := a.open(link.Request{Op: link.OpLaunch})
	var l link.Launch
	if err := frame.Read(c, link.MaxLaunch, &l); err != nil || string(l.Document) != string(document) || l.InstanceID != r.intent().ID || string(l.NodeRoot) != "root" || string(l.NodeRuntime) != "runtime" {
		t.Errorf("launch %+v (%v)", l, err)
	}
	_ = c.Close()
	c = a.open(link.Request{Op: link.OpEnv})
	var env map[string]string
	if err := frame.Read(c, 1<<20, &env); err != nil || len(env) != 1 || env["NAME"] != "value" {
		t.Errorf("environment %v (%v)", env, err)
	}
	_ = c.Close()
	for _, req := range []link.Request{
		{Op: link.OpInput, Name: "unlisted"}, {Op: link.OpInput, Name: "../intent.json"}, {Op: link.OpInput},
		{Op: link.OpLog, Name: "journal"}, {Op: link.OpStop}, {Op: link.OpEvidence}, {Op: link.OpPort, Port: 80}, {Op: opWatch}, {Op: opKill}, {Op: "unheard of"},
	} {
		a.refused(req)
	}
	a.m.end(false)
	r.end(t)
}

// output sends an output as an agent does and returns what the host says of it.
func (a *agent) output(name string, size int64, content string) error {
	c, _, err := a.Open(link.Request{Op: link.OpOutput, Name: name, Size: size})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, content); err != nil {
		return err
	}
	if int64(len(content)) < size {
		_ = c.Close() // there is no more
	}
	var reply link.Reply
	if err := frame.Read(c, link.MaxRequest, &reply); err != nil {
		return err
	}
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	return nil
}

func TestOutputs(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	for _, content := range []string{"first", "", strings.Repeat("large", 1<<18)} {
		if err := a.output("result", int64(len(content)), content); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(r.dir.Output("result")); err != nil || string(b) != content {
			t.Errorf("stored %d bytes of %d (%v)", len(b), len(content), err)
		}
	}
	if st, err := os.Stat(r.dir.Output("result")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", st.Mode(), err)
	}
	// What the launch document does not list, or nobody would want to store.
	for _, req := range []link.Request{
		{Op: link.OpOutput, Name: "unlisted", Size: 1}, {Op: link.OpOutput, Name: "../intent.json", Size: 1}, {Op: link.OpOutput, Name: "", Size: 1},
		{Op: link.OpOutput, Name: "result", Size: maxOutput + 1}, {Op: link.OpOutput, Name: "result", Size: -1},
	} {
		a.refused(req)
	}
	// Half an output replaces nothing and leaves nothing.
	if err := a.output("result", 100, "half"); err == nil {
		t.Error("half an output is stored")
	}
	if b, err := os.ReadFile(r.dir.Output("result")); err != nil || len(b) != 5<<18 {
		t.Errorf("after half an output: %d bytes (%v)", len(b), err)
	}
	entries, err := os.ReadDir(filepath.Dir(r.dir.Output("result")))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v (%v)", entries, err)
	}
	// A host's disk that takes nothing says so.
	if err := os.RemoveAll(filepath.Dir(r.dir.Output("result"))); err != nil {
		t.Fatal(err)
	}
	if err := a.output("result", 1, "x"); err == nil || !strings.Contains(err.Error(), "store output") {
		t.Errorf("an output that cannot be stored: %v", err)
	}
	a.m.end(false)
	r.end(t)
}

// The last lines of a program are in its log when the shim has ended, and the
// events of a broken agent do not end the instance.
func TestLogsAndBrokenEvents(t *testing.T) {
	r := start(t, &fakeDriver{})
	a := r.agent(t, nil)
	bad := a.open(link.Request{Op: link.OpEvents})
	if _, err := bad.Write([]byte{0xff, 0xff, 0xff, 0xff, 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(bad); err != nil { // the host closes it
		t.Error(err)
	}
	_ = bad.Close()
	out, errs := a.open(link.Request{Op: link.OpLog, Name: "stdout"}), a.open(link.Request{Op: link.OpLog, Name: "stderr"})
	text := strings.Repeat("0123456789abcdef", 1<<14)
	for _, write := range []struct {
		c    io.WriteCloser
		text string
	}{{out, text}, {errs, "warning"}} {
		if _, err := io.WriteString(write.c, write.text); err != nil {
			t.Fatal(err)
		}
		_ = write.c.Close()
	}
	a.report(link.Event{State: link.Exited})
	a.m.end(false)
	r.end(t)
	got := map[string]string{}
	for _, l := range lines(t, r.dir.Log()) {
		got[l.Stream] += l.Text
	}
	if got["stdout"] != text || got["stderr"] != "warning" {
		t.Errorf("%d bytes of stdout, want %d; stderr %q", len(got["stdout"]), len(text), got["stderr"])
	}
	if _, err := os.Stat(r.dir.Log() + ".1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a short log was rotated: %v", err)
	}
}
