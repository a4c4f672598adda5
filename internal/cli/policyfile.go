package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/keys"
)

// readJSONFile returns a policy file as JSON. YAML is accepted: its duplicate
// fields are refused here, unknown ones by whoever parses the JSON.
func readJSONFile(path string) ([]byte, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(io.LimitReader(os.Stdin, attest.MaxPolicy+1))
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, &coded{status: exitUsage, code: "policy", err: fmt.Errorf("read policy: %w", err)}
	}
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '{' {
		return b, nil
	}
	out, err := yaml.YAMLToJSON(b)
	if err != nil {
		return nil, policyError(path, fmt.Errorf("%s", yaml.FormatError(err, false, true)))
	}
	return out, nil
}

func policyError(path string, err error) error {
	return &coded{status: exitUsage, code: "policy", err: fmt.Errorf("policy %s: %w", path, err), hint: "see docs/guide/policies.md for every field"}
}

func readPolicy(path string) (attest.Policy, error) {
	b, err := readJSONFile(path)
	if err != nil {
		return attest.Policy{}, err
	}
	p, err := attest.ParsePolicy(b)
	if err == nil {
		_, err = attest.Compile(p)
	}
	if err != nil {
		return attest.Policy{}, policyError(path, err)
	}
	return p, nil
}

// readReleasePolicy accepts a release policy, or an appraisal policy alone.
func readReleasePolicy(path string) (keys.Policy, error) {
	b, err := readJSONFile(path)
	if err != nil {
		return keys.Policy{}, err
	}
	var parts map[string]json.RawMessage
	var p keys.Policy
	if json.Unmarshal(b, &parts) == nil && parts["appraisal"] != nil {
		p, err = keys.ParsePolicy(b)
	} else {
		p.Appraisal, err = attest.ParsePolicy(b)
	}
	if err == nil {
		_, err = attest.Compile(p.Appraisal)
	}
	if err != nil {
		return keys.Policy{}, policyError(path, err)
	}
	return p, nil
}
