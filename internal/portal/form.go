package portal

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// fault is what is wrong with one field, and what to do.
type fault struct{ Text, Hint string }

// draft is a create form as a person filled it in: it is shown again when
// something is wrong.
type draft struct {
	Name    string
	TEE     string
	Args    string // one in each line
	Memory  string
	Secrets string // NAME=KEY, one in each line
	Ports   string // separated by spaces or commas
	Logs    string
	Debug   bool
	Restart string
	Start   bool
	Faults  map[string]fault
}

// newDraft has the defaults of `cloister instance create`.
func newDraft(kinds []tee.Kind) draft {
	d := draft{Memory: "256", Logs: string(launch.LogsAll), Restart: string(compute.RestartOnFailure), Start: true, Faults: map[string]fault{}}
	if len(kinds) > 0 {
		d.TEE = string(kinds[0])
	}
	return d
}

func readDraft(v url.Values) draft {
	return draft{
		Name: strings.TrimSpace(v.Get("name")), TEE: v.Get("tee"), Args: v.Get("args"), Memory: strings.TrimSpace(v.Get("memory")),
		Secrets: v.Get("secrets"), Ports: v.Get("ports"), Logs: v.Get("logs"), Debug: v.Get("debug") == "yes",
		Restart: v.Get("restart"), Start: v.Get("start") == "yes", Faults: map[string]fault{},
	}
}

func (d draft) fault(field, text, hint string) {
	if _, taken := d.Faults[field]; !taken {
		d.Faults[field] = fault{text, hint}
	}
}

// spec reads the draft into what should run, and notes what is wrong with each
// field. The image is added by the caller.
func (d draft) spec(kinds []tee.Kind) compute.Spec {
	s := compute.Spec{TEE: tee.Kind(d.TEE), Restart: compute.Restart(d.Restart), Launch: launch.New(launch.Wasm, nil)}
	if !validName(d.Name) {
		d.fault("name", "this cannot be the name of an instance", "use lower-case letters, digits and '-', and a letter or digit first; at most 63")
	} else if d.Name == compute.NodeName {
		d.fault("name", "this name is for the node", "choose another name")
	}
	if !slices.Contains(kinds, s.TEE) {
		d.fault("tee", "this host starts no instances in that TEE", "choose one of the list")
	}
	if !slices.Contains([]compute.Restart{compute.RestartNever, compute.RestartOnFailure, compute.RestartAlways}, s.Restart) {
		d.fault("restart", "no such restart policy", "choose never, on-failure or always")
	}
	mib, err := strconv.ParseUint(d.Memory, 10, 32)
	if err != nil || mib < 1 || mib > launch.MaxMemory {
		d.fault("memory", "this is no size of memory", fmt.Sprintf("give whole MiB, 1 to %d", launch.MaxMemory))
	} else {
		s.Launch.MemoryMiB = uint32(mib)
	}
	s.Launch.Args, s.Launch.Logs, s.Launch.Debug = lines(d.Args), launch.Logs(d.Logs), d.Debug
	s.Launch.Secrets = d.secretList()
	s.Launch.Ports = d.portList()
	d.validate(s.Launch)
	return s
}

// validate has the launch document judge each field by itself, so that what it
// says can stand beside the field.
func (d draft) validate(whole launch.Document) {
	for _, field := range []struct {
		name string
		set  func(*launch.Document)
		hint string
	}{
		{"args", func(l *launch.Document) { l.Args = whole.Args }, fmt.Sprintf("at most %d arguments of %d bytes each", launch.MaxItems, launch.MaxString)},
		{"secrets", func(l *launch.Document) { l.Secrets = whole.Secrets }, "a name is lower-case letters, digits, '.', '_' and '-'; a key is one to four names joined by '/'"},
		{"ports", func(l *launch.Document) { l.Ports = whole.Ports }, "each port once"},
		{"logs", func(l *launch.Document) { l.Logs = whole.Logs }, "choose all, stderr or none"},
	} {
		alone := launch.New(launch.Wasm, nil)
		field.set(&alone)
		if err := alone.Validate(); err != nil {
			d.fault(field.name, strings.TrimPrefix(err.Error(), launch.ErrInvalid.Error()+": "), field.hint)
		}
	}
}

func (d draft) secretList() []launch.Secret {
	var out []launch.Secret
	for _, line := range lines(d.Secrets) {
		name, key, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || name == "" || key == "" {
			d.fault("secrets", "a line is not NAME=KEY", "write the name that the program asks for, '=', and the name of the key, such as data-key=hospital-a/records; never a secret itself")
			continue
		}
		out = append(out, launch.Secret{Name: name, Key: key})
	}
	return out
}

func (d draft) portList() []uint16 {
	var out []uint16
	for _, word := range strings.FieldsFunc(d.Ports, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' }) {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil || n == 0 {
			d.fault("ports", "this is no list of ports", "give numbers from 1 to 65535, separated by spaces or commas")
			return nil
		}
		out = append(out, uint16(n))
	}
	return out
}

// lines returns the lines of a field that are not empty. Browsers send CRLF.
func lines(s string) []string {
	var out []string
	for l := range strings.SplitSeq(strings.ReplaceAll(s, "\r\n", "\n"), "\n") {
		if strings.TrimSpace(l) != "" {
			out = append(out, l)
		}
	}
	return out
}

// validName is the rule of package compute, which has the last word.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}
