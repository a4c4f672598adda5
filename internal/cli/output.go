package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/cloister-cc/cloister/client"
)

// show prints v as JSON, or with table as text.
func (a *app) show(v any, table func(w io.Writer)) error {
	if a.output == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	table(tw)
	return tw.Flush()
}

// say prints a line of talk on stderr.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// isTerminal reports whether w is a terminal that takes control sequences.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// progress shows what a command is doing: one line that is replaced on a
// terminal, one line per step elsewhere.
type progress struct {
	w     io.Writer
	tty   bool
	quiet bool
}

func (a *app) progress() *progress {
	return &progress{w: a.stderr, tty: isTerminal(a.stderr), quiet: a.output == "json" && !isTerminal(a.stderr)}
}

func (p *progress) step(format string, args ...any) {
	switch {
	case p.quiet:
	case p.tty:
		fmt.Fprintf(p.w, "\r\x1b[K%s", fmt.Sprintf(format, args...))
	default:
		fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *progress) done() {
	if p.tty && !p.quiet {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// data returns the data directory: the flag, or the user's data home.
func (a *app) data() (string, error) {
	if a.dataDir != "" {
		return filepath.Abs(a.dataDir)
	}
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "cloister"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usageError("no home directory is known", "name a data directory: --data-dir DIR")
	}
	return filepath.Join(home, ".local", "share", "cloister"), nil
}

// host returns a client of the platform on the data directory.
func (a *app) host() (*client.Host, error) {
	d, err := a.data()
	if err != nil {
		return nil, err
	}
	return client.NewHost(d), nil
}

// ago says how long ago t was, in one short word.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return time.Since(t).Round(time.Second).String()
}

// short returns the start of a long hex value for a table.
func short(s string) string {
	const most = 16
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if strings.TrimSpace(s) == "" {
		return "-"
	}
	return s
}
