//go:build linux

// Package examples_test builds every example for everything that it runs on and
// runs it on a real platform.
package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// forms are what each example is built as.
var forms = []string{"go-wasm", "go-native", "c-wasm"}

// program builds an example, once, and returns its path. It skips the test where
// there is nothing to build C with.
func program(t *testing.T, name, form string) string {
	t.Helper()
	if form == "c-wasm" {
		if err := cToolchain(); err != nil {
			t.Skipf("C examples need clang for Wasm (Debian: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32): %v", err)
		}
	}
	path, err := built(name + "/" + form)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	builtMu sync.Mutex
	builtBy = map[string]func() (string, error){}
)

// built builds what is named EXAMPLE/FORM, once.
func built(what string) (string, error) {
	builtMu.Lock()
	build, ok := builtBy[what]
	if !ok {
		build = sync.OnceValues(func() (string, error) {
			name, form, _ := strings.Cut(what, "/")
			path := filepath.Join(builds, name+"-"+form)
			switch form {
			case "go-wasm":
				return path, goBuild(path, "./examples/"+name, "GOOS=wasip1", "GOARCH=wasm")
			case "go-native":
				return path, goBuild(path, "./examples/"+name)
			}
			return path, cBuild(path, name)
		})
		builtBy[what] = build
	}
	builtMu.Unlock()
	return build()
}

// cToolchain says what is missing to build C programs, by building one.
var cToolchain = sync.OnceValue(func() error {
	source := filepath.Join(builds, "probe.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { return puts(\"x\") < 0; }\n"), 0o600); err != nil {
		return err
	}
	return clang("-o", filepath.Join(builds, "probe"), source)
})

// cBuild compiles with -O and links without, as sdk/c/README.md says.
func cBuild(path, name string) error {
	sources, err := filepath.Glob(filepath.Join(name, "c", "*.c"))
	if err != nil {
		return err
	}
	link := []string{"-Wl,--strip-all", "-o", path}
	for _, s := range sources {
		object := filepath.Join(builds, name+"-"+filepath.Base(s)+".o")
		if err := clang("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-I", "../sdk/c", "-c", s, "-o", object); err != nil {
			return err
		}
		link = append(link, object)
	}
	return clang(append(link, "-lm")...)
}

func clang(args ...string) error {
	out, err := exec.Command("clang", append([]string{"--target=wasm32-wasi"}, args...)...).CombinedOutput()
	if err != nil && len(out) > 0 {
		return &buildError{string(out), err}
	}
	return err
}

type buildError struct {
	said string
	err  error
}

func (e *buildError) Error() string { return e.err.Error() + ": " + e.said }
func (e *buildError) Unwrap() error { return e.err }

func TestHello(t *testing.T) {
	p := up(t)
	for _, form := range forms {
		t.Run(form, func(t *testing.T) {
			image := program(t, "hello", form)
			flags := []string{"--operator-env", "GREETING=good morning", image, "--", "one", "two words"}
			got := p.must(t, append([]string{"run"}, flags...)...)
			want := "hello from a TEE: software (simulated)\n" +
				"measurement: " + p.measurement(t, flags...) + "\n" +
				"argument: one\nargument: two words\n" +
				"greeting from the host: good morning\n"
			if got != want {
				t.Errorf("it says\n%swant\n%s", got, want)
			}
			if got := p.must(t, "run", image); strings.Contains(got, "greeting") || strings.Contains(got, "argument") {
				t.Errorf("without arguments and environment it says\n%s", got)
			}
		})
	}
}

// TestNativeProgramsAreStatic: an instance has no libraries to load.
func TestNativeProgramsAreStatic(t *testing.T) {
	b, err := os.ReadFile(program(t, "hello", "go-native"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "/lib64/ld-linux") {
		t.Error("the program names a dynamic loader")
	}
}

// TestProgramsOutsideAnInstance say what to do.
func TestProgramsOutsideAnInstance(t *testing.T) {
	for _, name := range []string{"hello", "sealing", "cohort"} {
		cmd := exec.CommandContext(t.Context(), program(t, name, "go-native"))
		cmd.Env = []string{}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "cloister run") {
			t.Errorf("%s outside an instance: %v, says %q", name, err, out)
		}
	}
}
