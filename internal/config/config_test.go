package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/internal/config"
)

func TestParse(t *testing.T) {
	got, err := config.Parse([]byte("data-dir: /srv\nup:\n  listen: 127.0.0.1:7443\nkey import:\n  lease: 600\n  allow-simulated: true\n  policy: \"quoted: yes\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{" data-dir=/srv", "up listen=127.0.0.1:7443", "key import lease=600", "key import allow-simulated=true", "key import policy=quoted: yes"}
	if len(got) != len(want) {
		t.Fatalf("%d settings, want %d: %+v", len(got), len(want), got)
	}
	for i, s := range got {
		if line := s.Command + " " + s.Flag + "=" + s.Value; line != want[i] {
			t.Errorf("setting %d is %q, want %q", i, line, want[i])
		}
	}
	for _, empty := range []string{"", "# only a comment\n"} {
		if got, err := config.Parse([]byte(empty)); err != nil || len(got) != 0 {
			t.Errorf("%q: %v, %v", empty, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"list":          {"a: 1\nup: [x]", "line 2"},
		"nested":        {"up:\n  listen:\n    deep: 1", "line 2"},
		"twice":         {"a: 1\na: 2", "already defined"},
		"no mapping":    {"just text", "want flags"},
		"two documents": {"a: 1\n---\nb: 2", "more than one"},
		"not YAML":      {"a: [", "[1:4]"},
		"null":          {"a:\n", "want one value"},
		"too long":      {strings.Repeat("#", config.MaxFile+1), "at most"},
	} {
		if _, err := config.Parse([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestRefusePointsAtTheLine(t *testing.T) {
	s, err := config.Parse([]byte("data-dir: /srv\nup:\n  listne: x\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := s[1].Refuse("there is no such flag").Error()
	for _, want := range []string{"line 3", "no such flag", "listne: x", "^"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cloister.yaml")
	if err := os.WriteFile(path, []byte("output: json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := config.Read(path); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := config.Read(path + ".none"); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("data-dir: /srv\nup:\n  listen: x\n"))
	f.Add([]byte("a: &x 1\nb: *x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		settings, err := config.Parse(b)
		if err != nil {
			return
		}
		for _, s := range settings {
			if s.Refuse("x") == nil {
				t.Fatal("a refusal is no error")
			}
		}
	})
}

func Example() {
	settings, err := config.Parse([]byte("up:\n  listen: 127.0.0.1:7443\n"))
	fmt.Println(settings[0].Command, settings[0].Flag, settings[0].Value, err)
	// Output: up listen 127.0.0.1:7443 <nil>
}
