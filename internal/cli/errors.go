package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/channel"
	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/internal/server"
	"github.com/cloister-cc/cloister/tee"
)

// The exit statuses; they are a contract.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnavailable = 4
	exitInterrupted = 130
)

// coded is an error with its exit status and what to do about it.
type coded struct {
	status   int
	code     string
	hint     string
	failures []tee.Failure
	err      error
	silent   bool // the command has printed everything already
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

func usageError(message, hint string) error {
	return &coded{status: exitUsage, code: "usage", err: errors.New(message), hint: hint}
}

// withStatus ends the command with a status, after it has printed its result.
func withStatus(status int) error {
	return &coded{status: status, err: errors.New("status"), silent: true}
}

// classify gives an error its exit status, code and hint.
func classify(err error) *coded {
	if c, ok := errors.AsType[*coded](err); ok {
		return c
	}
	c := &coded{status: exitFailure, code: "failure", err: err}
	if p, ok := errors.AsType[*client.Problem](err); ok {
		c.code, c.hint, c.failures = p.Code, p.Hint, p.Failures
		switch p.Status {
		case http.StatusForbidden:
			c.status = exitRefused
		case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			c.status = exitUnavailable
		}
		return c
	}
	if e, ok := errors.AsType[*attest.AppraisalError](err); ok {
		c.status, c.code, c.failures = exitRefused, "refused", e.Failures
		return c
	}
	if e, ok := errors.AsType[*tee.VerifyError](err); ok {
		c.status, c.code, c.failures = exitRefused, "not_verified", e.Failures
		return c
	}
	if e, ok := errors.AsType[*tee.Error](err); ok {
		c.code, c.hint = string(e.Code), e.Hint
		if e.Code == tee.CodeUnavailable || e.Code == compute.CodeNoDriver {
			c.status = exitUnavailable
		}
		return c
	}
	switch {
	case errors.Is(err, client.ErrNotRunning):
		c.status, c.code, c.hint = exitUnavailable, "not_running", "start one in another terminal: cloister up"
	case errors.Is(err, server.ErrInUse):
		c.status, c.code, c.hint = exitUnavailable, "in_use", "use it, or choose another --data-dir"
	case errors.Is(err, collateral.ErrUnavailable):
		c.status, c.code, c.hint = exitUnavailable, "vendor_service", "try again later; what is in the cache stays good until its next update"
	case errors.Is(err, collateral.ErrStore):
		c.code, c.hint = "collateral_store", "move the file that it names away, and fetch or import again"
	case errors.Is(err, channel.ErrChannel):
		c.status, c.code, c.hint = exitUnavailable, "channel", "is that a node of this release? does the platform run?"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		c.code, c.hint = compute.CodeDisk, "free space on that disk and try again"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		c.code, c.hint = compute.CodeDisk, "choose a directory that this user can write: --data-dir"
	case errors.Is(err, context.DeadlineExceeded):
		c.status, c.code = exitUnavailable, "timeout"
	}
	return c
}

// fail prints an error and returns its exit status. With -o json it is an
// object on stdout, so that a script finds it where it looks for the result.
func (a *app) fail(err error) int {
	c := classify(err)
	if c.silent {
		return c.status
	}
	if a.output == "json" && c.status != exitUsage {
		_ = json.NewEncoder(a.stdout).Encode(map[string]any{
			"error": c.Error(), "code": c.code, "hint": c.hint, "failures": append([]tee.Failure{}, c.failures...),
		})
	}
	printError(a.stderr, c)
	return c.status
}

func printError(w io.Writer, c *coded) {
	text := oneLine(c.Error())
	if c.status == exitUsage {
		text = ownLines(c.Error()) // about the user's own file: show its lines
	}
	fmt.Fprintf(w, "cloister: error: %s\n", text)
	for _, f := range c.failures {
		fmt.Fprintf(w, "cloister: refused: %s\n", oneLine(f.String()))
		if f.Hint != "" {
			fmt.Fprintf(w, "cloister: hint: %s\n", oneLine(f.Hint))
		}
	}
	if c.hint != "" {
		fmt.Fprintf(w, "cloister: hint: %s\n", oneLine(c.hint))
	}
}

// oneLine keeps an error from another machine from drawing on the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if r < 0x20 || r == 0x7f {
			return -1
		}
		return r
	}, strings.TrimSpace(s))
}

// ownLines is oneLine for text that quotes the user's own file: line breaks stay.
func ownLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(strings.Map(func(r rune) rune {
			if r == '\t' {
				return ' '
			}
			if r < 0x20 || r == 0x7f {
				return -1
			}
			return r
		}, l), " ")
	}
	return strings.Join(lines, "\n")
}

// refuseRepeatedFlags makes a flag that is given twice an error: which one
// counts is a guess that a person should not have to make.
func refuseRepeatedFlags(cmd *cobra.Command) {
	wrap := func(f *pflag.Flag) {
		switch f.Value.Type() {
		case "stringArray", "stringSlice", "stringToString", "count":
			return
		}
		if _, done := f.Value.(*once); !done {
			f.Value = &once{Value: f.Value, name: f.Name}
		}
	}
	cmd.Flags().VisitAll(wrap)
	cmd.PersistentFlags().VisitAll(wrap)
	for _, c := range cmd.Commands() {
		refuseRepeatedFlags(c)
	}
}

// once is a flag value that can be set one time.
type once struct {
	pflag.Value
	name string
	set  bool
}

func (o *once) Set(s string) error {
	if o.set {
		return errors.New("given twice")
	}
	o.set = true
	return o.Value.Set(s)
}

// IsBoolFlag keeps "--flag" without a value possible.
func (o *once) IsBoolFlag() bool { return o.Type() == "bool" }

// usageArgs gives mistakes in positional arguments the usage status.
func usageArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError(err.Error(), "see: "+c.CommandPath()+" --help")
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		usageArgs(c)
	}
}
