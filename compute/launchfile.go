package compute

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"

	"github.com/cloister-cc/cloister/tee/launch"
)

// MaxLaunchFile is the largest launch file in bytes.
const MaxLaunchFile = 256 << 10

// launchFile is the YAML form of the parts of a launch document that an author
// writes; the image, its digest and its signature come from the image itself.
type launchFile struct {
	Args        []string          `yaml:"args"`
	Env         map[string]string `yaml:"env"`
	OperatorEnv []string          `yaml:"operator_env"`
	Inputs      []string          `yaml:"inputs"`
	Outputs     []string          `yaml:"outputs"`
	Secrets     []launchSecret    `yaml:"secrets"`
	Ports       []uint16          `yaml:"ports"`
	MemoryMiB   *uint32           `yaml:"memory_mib"`
	TimeLimit   uint32            `yaml:"time_limit_s"`
	Logs        *launch.Logs      `yaml:"logs"`
	Debug       bool              `yaml:"debug"`
}

type launchSecret struct {
	Name string `yaml:"name"`
	Key  string `yaml:"key"`
}

// ApplyLaunchFile fills a document with what a launch file says. It refuses
// unknown and duplicate fields, naming line and column. Formatting, comments
// and the order of fields do not matter: what is measured is the document.
func ApplyLaunchFile(d launch.Document, file []byte) (launch.Document, error) {
	if len(file) > MaxLaunchFile {
		return d, fmt.Errorf("launch file: %d bytes, at most %d", len(file), MaxLaunchFile)
	}
	var f launchFile
	dec := yaml.NewDecoder(bytes.NewReader(file), yaml.Strict())
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return d, fmt.Errorf("launch file: %s", yaml.FormatError(err, false, true))
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return d, errors.New("launch file: more than one YAML document")
	}
	d.Args, d.Env, d.OperatorEnv, d.Inputs, d.Outputs = f.Args, f.Env, f.OperatorEnv, f.Inputs, f.Outputs
	d.Ports, d.TimeLimit, d.Debug = f.Ports, f.TimeLimit, f.Debug
	d.Secrets = nil
	for _, s := range f.Secrets {
		d.Secrets = append(d.Secrets, launch.Secret{Name: s.Name, Key: s.Key})
	}
	if f.MemoryMiB != nil {
		d.MemoryMiB = *f.MemoryMiB
	}
	if f.Logs != nil {
		d.Logs = *f.Logs
	}
	return d, d.Validate()
}
