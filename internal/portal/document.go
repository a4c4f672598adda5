package portal

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// variable is an environment variable of a launch document.
type variable struct{ Name, Value string }

type launchPage struct {
	Document launch.Document
	Digest   string
	Image    string
	Signer   string
	Env      []variable
	Commands []string
}

func (p *Portal) launch(w http.ResponseWriter, r *http.Request) error {
	i, err := p.instance(r)
	if err != nil {
		return err
	}
	d := i.Spec.Launch
	b := launchPage{Document: d, Digest: launchDigest(i), Image: hex.EncodeToString(d.Image.Digest), Signer: hex.EncodeToString(d.Signer)}
	for _, name := range slices.Sorted(maps.Keys(d.Env)) {
		b.Env = append(b.Env, variable{name, d.Env[name]})
	}
	if d.Image.Kind != launch.Builtin {
		b.Commands = []string{measureCommand(i)}
	}
	return p.tab(w, r, i, "launch", "launch document", 0, b)
}

// launchDigest is the digest of an instance's launch document; empty for one that
// is not valid, which is only in files of other releases.
func launchDigest(i compute.Instance) string {
	d, err := i.Spec.Launch.Digest()
	if err != nil {
		return ""
	}
	return hex.EncodeToString(d[:])
}

// measureCommand is the command line with which an owner computes the measurement
// from a copy of the image, on a machine of their own.
func measureCommand(i compute.Instance) string {
	d := i.Spec.Launch
	words := []string{"cloister", "instance", "measure"}
	add := func(flag, value string) { words = append(words, "--"+flag, quote(value)) }
	if i.Spec.TEE != tee.Software {
		add("tee", string(i.Spec.TEE))
	}
	if n := i.Spec.Size.VCPUs; n > 0 {
		add("vcpus", fmt.Sprint(n))
	}
	if n := i.Spec.Size.MemoryMiB; n > 0 {
		add("vm-memory", fmt.Sprint(n))
	}
	for _, n := range d.Inputs {
		add("in", n+"=FILE")
	}
	for _, n := range d.Outputs {
		add("out", n+"=FILE")
	}
	for _, s := range d.Secrets {
		add("secret", s.Name+"="+s.Key)
	}
	for _, n := range slices.Sorted(maps.Keys(d.Env)) {
		add("env", n+"="+d.Env[n])
	}
	for _, n := range d.OperatorEnv {
		add("operator-env", n+"=ANY")
	}
	for _, port := range d.Ports {
		add("port", fmt.Sprint(port))
	}
	add("memory", fmt.Sprint(d.MemoryMiB))
	if d.TimeLimit > 0 {
		add("time-limit", fmt.Sprint(d.TimeLimit))
	}
	add("logs", string(d.Logs))
	if d.Debug {
		words = append(words, "--debug")
	}
	if len(d.Signer) > 0 {
		add("signature", "FILE")
	}
	words = append(words, "IMAGE")
	if len(d.Args) > 0 {
		words = append(words, "--")
		for _, a := range d.Args {
			words = append(words, quote(a))
		}
	}
	return strings.Join(words, " ")
}
