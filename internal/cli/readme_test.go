package cli

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestREADME keeps the front page short and true: the two commands that do
// everything, and no command that does not exist.
func TestREADME(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if n := strings.Count(text, "\n"); n > 150 {
		t.Errorf("README.md has %d lines, want at most 150", n)
	}
	for _, want := range []string{"go run ./cmd/cloister demo", "go test ./...", "simulated", "docs/LIMITATIONS.md"} {
		if !strings.Contains(text, want) {
			t.Errorf("README.md does not say %q", want)
		}
	}
}

// TestDocumentedCommandsExist looks up every command line in the documents.
func TestDocumentedCommandsExist(t *testing.T) {
	line := regexp.MustCompile("(?:^|`|\\$ )(?:\\./)?cloister ([a-z]+(?: [a-z]+)?)")
	found := 0
	for _, file := range []string{"README.md", "docs/ARCHITECTURE.md", "docs/THREAT-MODEL.md", "docs/LIMITATIONS.md", "docs/guide/policies.md", "docs/guide/attestation.md", "docs/guide/portal.md", "CHANGELOG.md"} {
		b, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			for _, m := range line.FindAllStringSubmatch(l, -1) {
				found++
				checkCommand(t, file, strings.Fields(m[1]))
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d commands were found in the documents: does the test still read them?", found)
	}
}

func checkCommand(t *testing.T, file string, words []string) {
	t.Helper()
	if slices.Contains([]string{"platform", "shim", "agent", "program"}, words[0]) {
		return // processes that the command starts of itself
	}
	root := (&app{}).root()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(words)
	if err != nil || cmd == root {
		t.Errorf("%s: there is no command %q", file, strings.Join(words, " "))
		return
	}
	if len(rest) > 0 && cmd.HasSubCommands() {
		t.Errorf("%s: there is no command %q", file, strings.Join(words, " "))
	}
}
