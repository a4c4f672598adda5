package cloister_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cloister-cc/cloister/"

// levels is the house, from the ground up (docs/ARCHITECTURE.md): a room may
// import rooms of its own level's earlier places and of every level below it,
// never one above. A room that is not listed fails the test: give it a place.
var levels = [][]string{
	{"internal/frame", "internal/unixsock", "internal/relay", "internal/tap", "internal/datadir", "internal/tinywasm", "internal/config", "oblivious"},
	{"tee/launch", "tee", "tee/sealing", "tee/software", "tee/eventlog", "tee/tsm", "tee/snp", "tee/snp/measure", "tee/dcap", "tee/sgx", "tee/tdx", "tee/nitro", "tee/nitro/eif", "tee/tpm", "tee/azure", "tee/cca", "tee/gpu", "tee/all"},
	{"attest/term", "attest", "attest/cmw", "attest/rcar", "attest/azurepolicy/internal/jmespath", "attest/azurepolicy", "attest/releasepolicy", "attest/refvalues", "attest/collateral", "attest/record", "attest/akca", "attest/maa", "attest/channel"},
	{"enclave/call", "enclave/internal/flatjson", "enclave/seal", "enclave", "enclave/wasm"},
	{"ledger"},
	{"keys", "keys/statelog", "internal/problem"},
	{"compute", "compute/initramfs", "compute/qemu/expect", "compute/sandbox", "compute/link", "compute/program", "compute/agent", "compute/machine", "compute/software", "compute/qemu", "compute/shim"},
	{"sql", "learn", "licensing"},
	{"client"},
	{"internal/node", "internal/portal", "internal/server", "internal/demo"},
	{"internal/cli"},
	{"cmd/cloister"},
}

// fakes are rooms for tests of users; no program may import them.
var fakes = []string{"attest/attesttest", "enclave/enclavetest", "tee/software/softwaretest", "tee/snp/snptest", "tee/dcap/dcaptest", "tee/tsm/tsmtest", "tee/nitro/nitrotest", "tee/tpm/tpmtest", "tee/cca/ccatest", "keys/keystest"}

// tops are programs and measurements; nobody imports them.
var tops = []string{"examples/", "bench/", "cmd/"}

// insideBudget is what may end up inside a TEE beside the standard library and
// this module: x/crypto, x/sys, CBOR, COSE, and a named few with their reason.
var insideBudget = map[string]string{
	"golang.org/x/sys":                          "system calls of the sandbox and the TEE devices",
	"golang.org/x/crypto":                       "primitives that the standard library lacks",
	"github.com/fxamacker/cbor/v2":              "CBOR: launch documents, evidence, frames",
	"github.com/x448/float16":                   "of CBOR",
	"github.com/veraison/go-cose":               "COSE: image signatures and evidence",
	"github.com/google/cel-go":                  "appraisal policies",
	"cel.dev/expr":                              "of CEL",
	"github.com/antlr4-go/antlr/v4":             "of CEL",
	"github.com/stoewer/go-strcase":             "of CEL",
	"golang.org/x/exp":                          "of CEL",
	"golang.org/x/text":                         "of CEL",
	"google.golang.org/protobuf":                "of CEL",
	"google.golang.org/genproto/googleapis/api": "of CEL",
	"google.golang.org/genproto/googleapis/rpc": "of CEL",
	"go.yaml.in/yaml/v3":                        "of CEL",
	"github.com/tetratelabs/wazero":             "the Wasm runtime",
	"github.com/google/renameio/v2":             "whole files or none",
}

// inside lists the rooms that end up inside a TEE.
var inside = []string{"tee", "attest", "enclave", "oblivious"}

// guest lists the rooms that are compiled into every enclave program, with the
// only modules that they may bring: a program's owner has to trust them all.
var guest = map[string][]string{
	"enclave": {"golang.org/x/sys", "github.com/fxamacker/cbor/v2", "github.com/x448/float16"},
	"tee":     {},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Standard   bool
	Module     *struct{ Path string }
}

// list runs `go list` for this module.
func list(t *testing.T, env []string, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps,Standard,Module"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.Bytes())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// place is where a room stands: its level and its place on it.
func place(room string) (level, at int, ok bool) {
	for l, rooms := range levels {
		if i := slices.Index(rooms, room); i >= 0 {
			return l, i, true
		}
	}
	return 0, 0, false
}

func isTop(room string) bool {
	return slices.ContainsFunc(tops, func(t string) bool { return strings.HasPrefix(room+"/", t) })
}

func TestArrowsPointDown(t *testing.T) {
	for _, p := range list(t, nil, "./...") {
		room, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || isTop(room) || slices.Contains(fakes, room) {
			continue
		}
		level, at, known := place(room)
		if !known {
			t.Errorf("%s has no place in the house: add it to levels", room)
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if slices.Contains(fakes, other) || isTop(other) {
				t.Errorf("%s imports %s, which is for tests or nobody", room, other)
				continue
			}
			if l, i, ok := place(other); ok && (l > level || l == level && i > at) {
				t.Errorf("%s imports %s: the arrow points up", room, other)
			}
		}
	}
}

func TestApplicationsDoNotKnowEachOther(t *testing.T) {
	applications := []string{"sql", "learn", "licensing"}
	for _, p := range list(t, nil, "./...") {
		room := strings.TrimPrefix(p.ImportPath, module)
		own, _, _ := strings.Cut(room, "/")
		if !slices.Contains(applications, own) {
			continue
		}
		for _, imported := range p.Imports {
			other, _, _ := strings.Cut(strings.TrimPrefix(imported, module), "/")
			if slices.Contains(applications, other) && other != own {
				t.Errorf("%s imports %s", room, imported)
			}
		}
	}
}

func TestBudgetInsideTheTEE(t *testing.T) {
	for _, root := range inside {
		if _, err := os.Stat(root); err != nil {
			continue // not built yet
		}
		for _, p := range list(t, nil, "-deps", "./"+root+"/...") {
			if p.Standard || p.Module == nil || p.Module.Path == strings.TrimSuffix(module, "/") {
				continue
			}
			if insideBudget[p.Module.Path] == "" {
				t.Errorf("%s brings %s into the TEE, beyond the budget", root, p.Module.Path)
			}
		}
	}
}

func TestBudgetOfEnclavePrograms(t *testing.T) {
	for room, allowed := range guest {
		for target, env := range map[string][]string{"native": nil, "wasip1": {"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}} {
			for _, p := range list(t, env, "-deps", "./"+room) {
				if p.Standard || p.Module == nil || p.Module.Path == strings.TrimSuffix(module, "/") {
					continue
				}
				if !slices.Contains(allowed, p.Module.Path) || target == "wasip1" {
					t.Errorf("%s (%s) brings %s into every enclave program", room, target, p.Module.Path)
				}
			}
		}
	}
}

func TestObliviousIsStandardLibraryOnly(t *testing.T) {
	if _, err := os.Stat("oblivious"); err != nil {
		t.Skip("the room oblivious is not built yet")
	}
	for _, p := range list(t, nil, "-deps", "./oblivious/...") {
		if !p.Standard && !strings.HasPrefix(p.ImportPath, module+"oblivious") {
			t.Errorf("oblivious depends on %s", p.ImportPath)
		}
	}
}

func TestTheCommandTalksThroughTheClient(t *testing.T) {
	// The command line starts processes of its own and otherwise talks to
	// services through package client only.
	forbidden := []string{"keys/statelog", "enclave/seal", "compute/link"}
	for _, p := range list(t, nil, "./internal/cli") {
		for _, imported := range p.Imports {
			if slices.Contains(forbidden, strings.TrimPrefix(imported, module)) {
				t.Errorf("internal/cli imports %s", imported)
			}
		}
	}
}

func TestEveryRoomSaysWhatItIs(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "assets") {
			return filepath.SkipDir
		}
		sources, err := filepath.Glob(filepath.Join(path, "*.go"))
		if err != nil {
			return err
		}
		sources = slices.DeleteFunc(sources, func(s string) bool { return strings.HasSuffix(s, "_test.go") })
		if len(sources) == 0 {
			return nil
		}
		for _, s := range sources {
			b, err := os.ReadFile(s)
			if err != nil {
				return err
			}
			if bytes.HasPrefix(b, []byte("// Package ")) || bytes.HasPrefix(b, []byte("// Command ")) || bytes.Contains(b, []byte("\n// Package ")) || bytes.Contains(b, []byte("\n// Command ")) {
				return nil
			}
		}
		t.Errorf("%s has no package comment", path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
