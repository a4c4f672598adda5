package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/tinywasm"
)

// TestMain makes this test binary the command cloister inside the scripts, and
// in every process that the command starts of itself.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"cloister": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs testdata/script: every command with a success, a refusal and
// a misuse.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("CLOISTER_DATA_DIR", filepath.Join(env.WorkDir, "data"))
			env.Defer(func() { killAll(filepath.Join(env.WorkDir, "data")) })
			return os.Mkdir(home, 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"module":   makeModule,
			"firmware": copyFirmware,
			"vendor":   vendorService,
			"changed":  changed,
			"waitup":   waitUp,
			"json":     checkJSON,
			"status":   exitStatus,
			"flip":     flipByte,
			"noorphan": noOrphan,
			"portal":   visitPortal,
		},
	})
}

// makeModule is "module FILE print TEXT", "module FILE exit N", or "module FILE
// trap|endless|hungry": a tiny WASI command.
func makeModule(ts *testscript.TestScript, _ bool, args []string) {
	var b []byte
	switch args[1] {
	case "print":
		b = tinywasm.Print(args[2])
	case "exit":
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		b = tinywasm.Exit(uint8(n))
	case "trap":
		b = tinywasm.Trap()
	case "endless":
		b = tinywasm.Endless()
	case "hungry":
		b = tinywasm.Hungry()
	default:
		ts.Fatalf("no module %q", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// copyFirmware is "firmware NAME": the end of an OVMF image, from tee/snp/measure.
func copyFirmware(ts *testscript.TestScript, _ bool, args []string) {
	b, err := os.ReadFile(filepath.Join("..", "..", "tee", "snp", "measure", "testdata", args[0]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// waitUp is "waitup [DATADIR]": it waits until a platform answers there.
func waitUp(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.Getenv("CLOISTER_DATA_DIR")
	if len(args) > 0 {
		dir = ts.MkAbs(args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	host := client.NewHost(dir)
	for ctx.Err() == nil {
		if _, err := host.Platform(ctx); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("no platform comes up on %s", dir)
}

// checkJSON is "json PATH WANT" on the last command's standard output: PATH is
// member names and indices joined by dots.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	for part := range strings.SplitSeq(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(x) {
				ts.Fatalf("no element %s in a list of %d", part, len(x))
			}
			v = x[i]
		default:
			ts.Fatalf("no member %s in %v", part, v)
		}
	}
	got, err := json.Marshal(v)
	ts.Check(err)
	if same := strings.Trim(string(got), `"`) == args[1]; same == neg {
		ts.Fatalf("%s is %s, want %s (negated: %t)", args[0], got, args[1], neg)
	}
}

// exitStatus is "status N COMMAND…": the command ends with exactly this status,
// which is a contract.
func exitStatus(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// flipByte is "flip FILE OFFSET": it changes one byte of a file.
func flipByte(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	b[at] ^= 1
	ts.Check(os.WriteFile(path, b, 0o600))
}

// noOrphan waits until no process of the platform is left.
func noOrphan(ts *testscript.TestScript, _ bool, _ []string) {
	dir := ts.Getenv("CLOISTER_DATA_DIR")
	for range 1000 {
		if len(processesOf(dir)) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("processes are left: %v", processesOf(dir))
}

// processesOf lists the shims and the platform of a data directory.
func processesOf(dir string) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, err := os.ReadFile(f)
		args := strings.Split(string(b), "\x00")
		if err != nil || len(args) < 3 || !strings.HasPrefix(args[2], dir) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killAll leaves nothing of a script running that failed half way.
func killAll(dir string) {
	_ = dir
	for _, pid := range processesOf(datadir.Paths{Data: dir}.Data) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
