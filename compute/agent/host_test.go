package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/compute/link"
	"github.com/cloister-cc/cloister/internal/frame"
	"github.com/cloister-cc/cloister/tee/launch"
	"github.com/cloister-cc/cloister/tee/software/softwaretest"
)

// codeOf returns the reason code that an error would be reported with.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return failedEvent(err).Code
}

// What the host gives is compared with what the TEE has measured.
func TestDocumentAndImageAreCompared(t *testing.T) {
	measured := launch.New(launch.Wasm, []byte("image"))
	measured.Args = []string{"--safe"}
	other := measured
	other.Args = []string{"--unsafe"}
	good, err := measured.Encode()
	if err != nil {
		t.Fatal(err)
	}
	bad, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p := softwaretest.New(t)
	for _, c := range []struct {
		name, document, image string
		code                  string
	}{
		{"as measured", string(good), "image", ""},
		{"another document", string(bad), "image", "launch_mismatch"},
		{"document with a tail", string(good) + "\x00", "image", "launch_mismatch"},
		{"document cut short", string(good[:len(good)-1]), "image", "launch_mismatch"},
		{"no document", "", "image", "launch_mismatch"},
		{"endless document", string(good) + strings.Repeat("x", 2*link.MaxLaunch), "image", "agent"},
		{"another image", string(good), "Image", "image_mismatch"},
		{"image with a tail", string(good), "image ", "image_mismatch"},
		{"image cut short", string(good), "imag", "image_mismatch"},
		{"no image", string(good), "", "image_mismatch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var frames bytes.Buffer
			if err := frame.Write(&frames, link.Launch{Document: []byte(c.document), InstanceID: "another's"}); err != nil {
				t.Fatal(err)
			}
			a := newAgent(t, give(map[string]string{"launch ": frames.String(), "image ": c.image}))
			device := p.Device(t, measured, []byte("image"), nil)
			a.tee = softwareTEE{device}
			err := a.begin()
			path := ""
			if err == nil {
				path, err = a.loadImage()
			}
			if codeOf(err) != c.code {
				t.Fatalf("got %v, want code %q", err, c.code)
			}
			if err != nil {
				return
			}
			if info := device.Info(); a.identity.InstanceID != info.InstanceID || !bytes.Equal(a.identity.LaunchDigest, info.LaunchDigest[:]) || !bytes.Equal(a.trust.Root, info.RootCertificate) {
				t.Errorf("identity %+v is not what the platform says", a.identity)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != "image" || filepath.Dir(path) != a.paths.Work {
				t.Errorf("%s holds %q (%v)", path, b, err)
			}
		})
	}
}

func TestImageOfEachKind(t *testing.T) {
	a := newAgent(t, give(map[string]string{"image ": "image"}))
	a.doc = launch.New(launch.ELF, []byte("image"))
	path, err := a.loadImage()
	if err != nil || filepath.Dir(path) != a.paths.App {
		t.Fatalf("%s, %v", path, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o500 {
		t.Errorf("an executable has mode %v (%v)", st.Mode(), err)
	}
	refusing := newAgent(t, give(nil))
	if _, err := refusing.loadImage(); !errors.Is(err, link.ErrRefused) {
		t.Errorf("the host gives none: %v", err)
	}
	refusing.doc = launch.NewBuiltin(launch.RoleNode)
	if path, err := refusing.loadImage(); path != "" || err != nil {
		t.Errorf("a built-in image is %q, %v", path, err)
	}
}

func TestInputs(t *testing.T) {
	a := newAgent(t, give(map[string]string{"input one": "first", "input two": "", "input unlisted": "CANARY"}))
	a.doc.Inputs = []string{"one", "two"}
	if err := a.loadInputs(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"one": "first", "two": ""} {
		path := filepath.Join(a.paths.Work, "in", name)
		b, err := os.ReadFile(path)
		st, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(b) != want || st.Mode().Perm() != 0o400 {
			t.Errorf("%s holds %q, %v, %v", name, b, err, statErr)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(a.paths.Work, "in")); len(entries) != 2 {
		t.Errorf("inputs %v", entries)
	}
	missing := newAgent(t, give(nil))
	missing.doc.Inputs = []string{"one"}
	if e := failedEvent(missing.loadInputs()); e.Code != "input_missing" || !strings.Contains(e.Hint, "--in one=FILE") {
		t.Errorf("%+v", e)
	}
	short := newAgent(t, func(_ link.Request, c net.Conn) {
		_ = link.Accept(c, 100)
		_, _ = io.WriteString(c, "less")
	})
	short.doc.Inputs = []string{"one"}
	if err := short.loadInputs(); codeOf(err) != "input" {
		t.Errorf("less than announced: %v", err)
	}
}

func TestOperatorEnvironment(t *testing.T) {
	given := map[string]string{"WANTED": "v", "LD_PRELOAD": "evil.so", "LONG": strings.Repeat("x", launch.MaxString+1)}
	asked := 0
	host := func(_ link.Request, c net.Conn) {
		asked++
		_ = link.Accept(c, 0)
		_ = frame.Write(c, given)
	}
	a := newAgent(t, host)
	if env, err := a.operatorEnv(); env != nil || err != nil || asked != 0 {
		t.Errorf("a document that leaves nothing to the operator: %v, %v", env, err)
	}
	a.doc.OperatorEnv = []string{"ABSENT", "LONG", "WANTED"}
	if env, err := a.operatorEnv(); err != nil || !slices.Equal(env, []string{"WANTED=v"}) {
		t.Errorf("got %v, %v", env, err)
	}
	malformed := newAgent(t, func(_ link.Request, c net.Conn) { _ = link.Accept(c, 0); _, _ = c.Write([]byte{0, 0, 0, 1, 0xff}) })
	malformed.doc.OperatorEnv = []string{"WANTED"}
	if env, err := malformed.operatorEnv(); err == nil {
		t.Errorf("got %v", env)
	}
}

func TestOutputs(t *testing.T) {
	var mu sync.Mutex
	stored := map[string]string{}
	refuse := ""
	a := newAgent(t, func(r link.Request, c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		if r.Op != link.OpOutput || link.Accept(c, 0) != nil {
			return
		}
		b := make([]byte, r.Size)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		if refuse != "" {
			link.Refuse(c, refuse)
			return
		}
		stored[r.Name] = string(b)
		_ = link.Accept(c, 0)
	})
	a.doc.Outputs = []string{"empty", "large", "unwritten"}
	out := filepath.Join(a.paths.Work, "out")
	large := strings.Repeat("0123456789", 100_000)
	write(t, filepath.Join(out, "large"), large)
	write(t, filepath.Join(out, "empty"), "")
	write(t, filepath.Join(out, "unlisted"), "CANARY")
	if err := a.sendOutputs(); err != nil {
		t.Fatal(err)
	}
	if len(stored) != 2 || stored["large"] != large {
		t.Errorf("%d outputs are stored", len(stored))
	}
	refuse = "no space left on device"
	if err := a.sendOutputs(); err == nil || !strings.Contains(err.Error(), refuse) || !strings.Contains(err.Error(), "empty") {
		t.Errorf("a host that cannot store: %v", err)
	}
	if err := errors.Join(os.Remove(filepath.Join(out, "empty")), os.Mkdir(filepath.Join(out, "empty"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := a.sendOutputs(); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a directory as output: %v", err)
	}
}

// Only what the launch document allows reaches the host in clear.
func TestLogs(t *testing.T) {
	for level, want := range map[launch.Logs]string{launch.LogsAll: "stderr:err stdout:out", launch.LogsStderr: "stderr:err", launch.LogsNone: ""} {
		t.Run(string(level), func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			var streams sync.WaitGroup
			streams.Add(len(strings.Fields(want)))
			a := newAgent(t, func(r link.Request, c net.Conn) {
				defer streams.Done()
				if r.Op != link.OpLog || link.Accept(c, 0) != nil {
					return
				}
				b, _ := io.ReadAll(c)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, r.Name+":"+string(b))
			})
			a.doc.Logs = level
			a.program = newProgram()
			for text, f := range map[string]**os.File{"out": &a.program.output, "err": &a.program.errors} {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				*f = r
				_, _ = io.WriteString(w, text)
				_ = w.Close()
			}
			a.copyLogs()
			a.logs.Wait()
			streams.Wait()
			slices.Sort(got)
			if strings.Join(got, " ") != want {
				t.Errorf("the host has %q, want %q", got, want)
			}
		})
	}
}

// A host that does not read logs does not stop the program.
func TestLogsOfADeafHost(t *testing.T) {
	a := newAgent(t, func(_ link.Request, c net.Conn) { link.Refuse(c, "not now") })
	a.program = newProgram()
	done := make(chan struct{})
	for _, f := range []**os.File{&a.program.output, &a.program.errors} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		*f = r
		go func() {
			_, _ = w.Write(bytes.Repeat([]byte{'x'}, 1<<20)) // more than a pipe holds
			_ = w.Close()
			done <- struct{}{}
		}()
	}
	a.copyLogs()
	<-done
	<-done
	a.logs.Wait()
}
