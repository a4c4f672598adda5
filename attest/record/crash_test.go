package record_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/cloister-cc/cloister/attest/record"
)

// addForever is set for the child that TestKilled kills.
const addForever = "CLOISTER_TEST_ADD_FOREVER"

// TestMain is the child of TestKilled, if it was told so: it adds records and says
// which are there.
func TestMain(m *testing.M) {
	dir := os.Getenv(addForever)
	if dir == "" {
		os.Exit(m.Run())
	}
	a, err := record.OpenArchive(dir)
	for i := 0; err == nil; i++ {
		c, r := small(os.Getpid()*1_000_000 + i)
		var name string
		if name, err = a.Add(c, r); err == nil {
			fmt.Println(name)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilled kills processes while two of them at a time add to one archive. What
// they said is there is there.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var said []string
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				for _, name := range addUntilKilled(t, dir, 5+3*round) {
					mu.Lock()
					said = append(said, name)
					mu.Unlock()
				}
			})
		}
		both.Wait()
		a, err := record.OpenArchive(dir)
		if err != nil {
			t.Fatal(err)
		}
		names, err := a.Names()
		if _, torn := errors.AsType[*record.TornError](err); err != nil && !torn {
			t.Fatal(err)
		}
		for _, name := range said {
			if !slices.Contains(names, name) {
				t.Fatalf("record %s was acknowledged, and is gone", name)
			}
			if r, err := a.Replay(verifier(), name); err != nil || r.Different != "" && r.Different != "token_id" {
				t.Fatalf("%+v, %v", r, err)
			}
		}
	}
	if len(said) < 2*rounds {
		t.Errorf("only %d records were added", len(said))
	}
}

// addUntilKilled returns what a child said before it was killed, after it had said
// n names.
func addUntilKilled(t *testing.T, dir string, n int) []string {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), addForever+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Error(err)
		return nil
	}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return nil
	}
	var names []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if len(lines.Text()) == 64 { // whole
			names = append(names, lines.Text())
		}
		if len(names) == n {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	if len(names) < n {
		t.Errorf("%d names: %s", len(names), stderr.Bytes())
	}
	return names
}
