// Package cli is the command line: one file per noun. It talks to services only
// through package client.
//
// Data goes to stdout, everything else to stderr; errors are "cloister: error:"
// lines followed by a "cloister: hint:" line where there is something to do.
// Exit status: 0 ok, 1 failure, 2 usage, 3 refused by appraisal or policy,
// 4 unavailable, 130 interrupted.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/agent"
	"github.com/cloister-cc/cloister/compute/machine"
	"github.com/cloister-cc/cloister/compute/program"
	"github.com/cloister-cc/cloister/compute/qemu"
	"github.com/cloister-cc/cloister/compute/sandbox"
	"github.com/cloister-cc/cloister/compute/shim"
	csoftware "github.com/cloister-cc/cloister/compute/software"
	"github.com/cloister-cc/cloister/internal/datadir"
	"github.com/cloister-cc/cloister/internal/demo"
	"github.com/cloister-cc/cloister/internal/node"
	"github.com/cloister-cc/cloister/internal/server"
	"github.com/cloister-cc/cloister/internal/tap"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

// Main runs one command and returns its exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if code, was := inner(args); was {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := app.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	return app.fail(err)
}

// inner runs the processes that this program starts of itself. They are not
// commands for people, and start fast.
func inner(args []string) (code int, was bool) {
	if machine.IsFirst() {
		machine.Main()
	}
	if len(args) == 0 {
		return 0, false
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	switch args[0] {
	case agent.Command:
		return agent.Main(args[1:]), true
	case agent.ProgramCommand:
		return program.Main(map[launch.Role]program.Role{launch.RoleNode: node.Run}), true
	case demo.ControlCommand:
		return demo.ControlMain(), true
	case sandbox.ProbeCommand:
		return sandbox.ProbeMain(), true
	case server.PlatformCommand:
		return server.PlatformMain(args[1:], logger), true
	case shim.Command:
		return shim.Main(args[1:], func(dir compute.Dir, record tap.Dir) error {
			return shim.Run(context.Background(), dir, driversFor(dir), record, logger)
		}), true
	default:
		return 0, false
	}
}

// driversFor returns the drivers that a shim can start its instance with.
func driversFor(dir compute.Dir) func(tee.Kind) (compute.Driver, error) {
	return func(k tee.Kind) (compute.Driver, error) {
		paths := datadir.Of(string(dir))
		switch k {
		case tee.Software:
			return csoftware.New(paths.PlatformSocket()), nil
		case tee.TPM:
			kernel, err := paths.Kernel()
			return qemu.New(qemu.Config{Platform: paths.PlatformSocket(), Cache: paths.Machines(), Kernel: kernel}), err
		default:
			return nil, &tee.Error{Code: compute.CodeNoDriver, Op: "start instance", Err: fmt.Errorf("this build runs no %s instances", k)}
		}
	}
}

// app is what all commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	configFile     string
	dataDir        string
	output         string
	logLevel       string
	logFormat      string
}

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cloister",
		Short: "Confidential computing that anyone can run",
		Long: "Cloister runs code in trusted execution environments (TEEs), proves which code runs\n" +
			"where, and releases secrets to proven code only.\n\n" +
			"Try it: cloister demo",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.SetIn(a.stdin)
	cmd.SetOut(a.stdout)
	cmd.SetErr(a.stderr)
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError(err.Error(), "see: "+c.CommandPath()+" --help")
	})
	f := cmd.PersistentFlags()
	f.StringVar(&a.configFile, "config", "", "configuration file (default $CLOISTER_CONFIG or cloister/cloister.yaml in your configuration directory)")
	f.StringVar(&a.dataDir, "data-dir", "", "the platform's data directory (default $CLOISTER_DATA_DIR or ~/.local/share/cloister)")
	f.StringVarP(&a.output, "output", "o", "table", "output format: table or json")
	f.StringVar(&a.logLevel, "log-level", "warn", "least severe log line on stderr: debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "log format: text or json")
	cmd.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := a.settle(c); err != nil {
			return err
		}
		return a.check()
	}
	groups := []*cobra.Group{
		{ID: "start", Title: "Start here:"}, {ID: "work", Title: "Work with it:"}, {ID: "about", Title: "About:"},
	}
	cmd.AddGroup(groups...)
	cmd.SetHelpCommandGroupID("about")
	cmd.SetCompletionCommandGroupID("about")
	add := func(group string, cs ...*cobra.Command) {
		for _, c := range cs {
			c.GroupID = group
			cmd.AddCommand(c)
		}
	}
	add("start", a.demoCommand(), a.upCommand(), a.runCommand(), a.doctorCommand(), a.portalCommand())
	add("work", a.instanceCommand(), a.keyCommand(), a.attestCommand(), a.auditCommand(), a.enclaveCommand())
	add("about", a.versionCommand(), a.manCommand())
	refuseRepeatedFlags(cmd)
	usageArgs(cmd)
	return cmd
}

// check refuses global flags that make no sense, before anything happens.
func (a *app) check() error {
	if a.output != "table" && a.output != "json" {
		return usageError(fmt.Sprintf("--output %q: want table or json", a.output), "")
	}
	_, err := a.logger()
	return err
}

// logger writes to stderr as the flags say.
func (a *app) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, usageError(fmt.Sprintf("--log-level %q: want debug, info, warn or error", a.logLevel), "")
	}
	opts := &slog.HandlerOptions{Level: level}
	switch a.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(a.stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(a.stderr, opts)), nil
	default:
		return nil, usageError(fmt.Sprintf("--log-format %q: want text or json", a.logFormat), "")
	}
}
