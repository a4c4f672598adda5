package wasm

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/enclave/call"
	"github.com/cloister-cc/cloister/enclave/seal"
)

const header = "../../sdk/c/cloister.h"

func readHeader(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var declaration = regexp.MustCompile(`CLOISTER_IMPORT\("(\w+)"\) uint32_t (\w+)\(([^)]*)\);`)

// TestHeaderDeclaresEveryFunction: sdk/c/cloister.h has the functions of the
// runtime in its order, with their parameters, and no others.
func TestHeaderDeclaresEveryFunction(t *testing.T) {
	h := readHeader(t)
	if n := strings.Count(h, `CLOISTER_IMPORT("`); n != len(declaration.FindAllString(h, -1)) {
		t.Errorf("%d imports, but this test reads %d of them", n, len(declaration.FindAllString(h, -1)))
	}
	var got, want []string
	for _, d := range declaration.FindAllStringSubmatch(h, -1) {
		import_, name, params := d[1], d[2], strings.Split(d[3], ",")
		if name != "cloister_"+import_ {
			t.Errorf("the import %s is called %s", import_, name)
		}
		types := make([]string, len(params))
		for i, p := range params {
			switch p = strings.TrimSpace(p); {
			case strings.Contains(p, "*"), strings.HasPrefix(p, "uint32_t "):
				types[i] = "i32"
			case strings.HasPrefix(p, "uint64_t "):
				types[i] = "i64"
			default:
				t.Errorf("%s: parameter %q is of no type of the ABI", name, p)
			}
		}
		got = append(got, import_+" "+strings.Join(types, " "))
	}
	for _, f := range (&host{}).functions() {
		s := f.name
		for _, p := range f.params {
			if p == i64 {
				s += " i64"
			} else {
				s += " i32"
			}
		}
		want = append(want, s)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the header declares\n%s\nthe runtime offers\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestHeaderHasTheConstants of the runtime.
func TestHeaderHasTheConstants(t *testing.T) {
	h := readHeader(t)
	for name, want := range map[string]int{
		"CLOISTER_OK": int(call.OK), "CLOISTER_TOO_SMALL": int(call.TooSmall), "CLOISTER_FAILED": int(call.Failed), "CLOISTER_ARGUMENT": int(call.Argument),
		"CLOISTER_MEASUREMENT": call.PolicyMeasurement, "CLOISTER_SIGNER": call.PolicySigner,
		"CLOISTER_SHA256": call.SHA256, "CLOISTER_SHA384": call.SHA384, "CLOISTER_SHA512": call.SHA512,
		"CLOISTER_DEBUG": slices.Index(levels[:], "debug"), "CLOISTER_INFO": slices.Index(levels[:], "info"),
		"CLOISTER_WARNING": slices.Index(levels[:], "warning"), "CLOISTER_ERROR": slices.Index(levels[:], "error"),
		"CLOISTER_MAX_NAME": call.MaxName, "CLOISTER_MAX_USER_DATA": call.MaxUserData, "CLOISTER_MAX_RANDOM": maxRandom,
		"CLOISTER_SEAL_OVERHEAD": seal.Overhead, "CLOISTER_AEAD_KEY": aeadKey, "CLOISTER_AEAD_NONCE": aeadNonce, "CLOISTER_AEAD_TAG": aeadTag,
		"CLOISTER_DIGEST": 32,
	} {
		m := regexp.MustCompile(`\b`+name+` = (\d+)\b`).FindAllStringSubmatch(h, -1)
		if len(m) != 1 || m[0][1] != strconv.Itoa(want) {
			t.Errorf("%s: the header says %v, want %d", name, m, want)
		}
	}
	if !strings.Contains(h, `import_module("`+call.ABI+`")`) {
		t.Errorf("the header does not import from %s", call.ABI)
	}
	for _, name := range []string{allocFunction, freeFunction, callFunction} {
		if !strings.Contains(h, `CLOISTER_EXPORT("`+name+`")`) {
			t.Errorf("the header does not say how to export %s", name)
		}
	}
}

// TestDocListsEveryFunction: so does the package comment, which is the reference.
func TestDocListsEveryFunction(t *testing.T) {
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, doc, _ := strings.Cut(string(b), "# Host functions")
	doc, _, _ = strings.Cut(doc, "# Exports")
	var got, want []string
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+)\(([^)]*)\)`).FindAllStringSubmatch(doc, -1) {
		n := len(strings.Split(m[2], ","))
		if strings.HasSuffix(m[2], "out…") {
			n += 2
		}
		got = append(got, m[1]+" "+strconv.Itoa(n))
	}
	for _, f := range (&host{}).functions() {
		want = append(want, f.name+" "+strconv.Itoa(len(f.params)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the package comment lists\n%v\nthe runtime offers\n%v", got, want)
	}
}
