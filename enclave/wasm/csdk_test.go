//go:build linux

package wasm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cloister-cc/cloister/enclave/enclavetest"
)

// clang runs clang for WASI, in this directory.
func clang(args ...string) error {
	out, err := exec.Command("clang", append([]string{"--target=wasm32-wasi"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("clang: %w: %s", err, out)
	}
	return nil
}

// needClang skips a test where C cannot be built for WASI.
func needClang(t *testing.T) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "probe.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { return puts(\"x\") < 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clang("-o", filepath.Join(t.TempDir(), "probe"), source); err != nil {
		t.Skipf("the C SDK is tested with clang for Wasm (Debian: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32): %v", err)
	}
}

// TestHeaderCompilesWithoutALibrary, as C and as C++, without a warning.
func TestHeaderCompilesWithoutALibrary(t *testing.T) {
	needClang(t)
	source := filepath.Join(t.TempDir(), "empty.c")
	if err := os.WriteFile(source, []byte("#include \"cloister.h\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	strict := []string{"-Wall", "-Wextra", "-Wpedantic", "-Werror", "-ffreestanding", "-nostdlibinc", "-fsyntax-only", "-I", filepath.Dir(header)}
	for _, language := range [][]string{{"-xc", "-std=c11"}, {"-xc++", "-std=c++17"}, {"-xc++", "-std=c++20"}} {
		if err := clang(append(append(language, strict...), source)...); err != nil {
			t.Errorf("%v: %v", language, err)
		}
	}
}

// TestHeaderHelpers runs testdata/sdk.c, which says what is wrong.
func TestHeaderHelpers(t *testing.T) {
	needClang(t)
	for name, language := range map[string][]string{"C": {"-xc", "-std=c11"}, "C++": {"-xc++", "-std=c++17", "-fno-exceptions", "-Wno-missing-field-initializers"}} {
		t.Run(name, func(t *testing.T) {
			object, program := filepath.Join(t.TempDir(), "sdk.o"), filepath.Join(t.TempDir(), "sdk.wasm")
			compile := append(language, "-O2", "-Wall", "-Wextra", "-Werror", "-I", filepath.Dir(header), "-c", "testdata/sdk.c", "-o", object)
			if err := clang(compile...); err != nil {
				t.Fatal(err)
			}
			if err := clang("-o", program, object); err != nil {
				t.Fatal(err)
			}
			module, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			e := enclavetest.New(t, enclavetest.Program{Secrets: map[string][]byte{"key": []byte("value")}})
			var stdout, stderr bytes.Buffer
			status, err := RunCommand(t.Context(), e, Command{Module: module, Args: []string{"sdk"}, MemoryMiB: testMiB, Stdout: &stdout, Stderr: &stderr})
			if status != 0 || err != nil || stdout.String() != "all good\n" {
				t.Errorf("status %d, %v:\n%s", status, err, stdout.String())
			}
			if want := `warning: a line\nno second line` + "\n"; stderr.String() != want {
				t.Errorf("logged %q, want %q", stderr.String(), want)
			}
		})
	}
}
