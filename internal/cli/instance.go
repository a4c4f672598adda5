package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/client"
	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/compute/shim"
)

func (a *app) instanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "instance", Aliases: []string{"instances"}, Short: "Create, inspect and delete TEE instances",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.instanceCreate(), a.instanceList(), a.instanceDescribe(), a.instanceLogs(), a.instanceOutput(), a.instanceUpdate(), a.instanceForward(), a.instanceTop(),
		a.instanceChange("start", "Start a stopped instance", "is starting", (*client.Host).Start),
		a.instanceChange("stop", "Stop an instance; its state directory stays", "is stopping", (*client.Host).Stop),
		a.instanceChange("delete", "Delete an instance and everything of it", "deleted", (*client.Host).Delete),
		a.measureCommand())
	return cmd
}

func (a *app) instanceCreate() *cobra.Command {
	var flags launchFlags
	var name, restart string
	var noStart, wait bool
	cmd := &cobra.Command{
		Use: "create IMAGE [-- ARG...]", Short: "Create an instance from a Wasm module or static executable",
		Example: "  cloister instance create --name worker app.wasm --in data=records.enc --secret data-key=hospital-a/records",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				return usageError("--name is missing", "give the instance a name: --name worker")
			}
			p, err := flags.prepare(args[0], args[1:])
			if err != nil {
				return err
			}
			p.spec.Restart = compute.Restart(restart)
			host, err := a.host()
			if err != nil {
				return err
			}
			i, err := p.create(cmd, host, name, !noStart)
			if err != nil {
				return err
			}
			if wait && !noStart {
				if i, err = host.Wait(cmd.Context(), name, client.UntilRunning); err != nil {
					return err
				}
			}
			if err := a.show(i, func(w io.Writer) { describeInstance(w, i) }); err != nil {
				return err
			}
			return a.finalStatus(i)
		},
	}
	flags.register(cmd)
	flags.registerHost(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the instance: lower-case letters, digits and '-'")
	cmd.Flags().StringVar(&restart, "restart", string(compute.RestartOnFailure), "when to start it again: never, on-failure or always")
	cmd.Flags().BoolVar(&noStart, "no-start", false, "only create it")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until it is attested and runs")
	return cmd
}

// finalStatus gives a command that waited for an instance the right exit
// status when the instance failed.
func (a *app) finalStatus(i compute.Instance) error {
	s := i.Status
	if s.State != compute.Failed {
		return nil
	}
	c := &coded{status: exitFailure, code: s.Code, hint: s.Hint, failures: s.Failures, err: fmt.Errorf("instance %s failed: %s: %s", i.Name, s.Code, s.Message)}
	if len(s.Failures) > 0 {
		c.status = exitRefused
	}
	printError(a.stderr, c)
	return withStatus(c.status)
}

func (a *app) instanceList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List all instances", Args: cobra.NoArgs,
		Example: "  cloister instance list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			list, err := host.Instances(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tTEE\tSTATE\tSINCE\tMEASUREMENT\tREASON")
				for _, i := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, kindLabel(i), i.Status.State, ago(i.Status.Since), short(i.Expected.String()), orDash(i.Status.Code))
				}
			})
		},
	}
}

// kindLabel says simulated wherever a TEE is shown.
func kindLabel(i compute.Instance) string {
	if i.Simulated {
		return string(i.Spec.TEE) + " (simulated)"
	}
	return string(i.Spec.TEE)
}

func (a *app) instanceDescribe() *cobra.Command {
	return &cobra.Command{
		Use: "describe NAME", Short: "Show an instance with its state, reason and measurement", Args: cobra.ExactArgs(1),
		Example: "  cloister instance describe worker -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			i, err := host.Instance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(i, func(w io.Writer) { describeInstance(w, i) })
		},
	}
}

func describeInstance(w io.Writer, i compute.Instance) {
	row := func(k, format string, v ...any) { fmt.Fprintf(w, "%s:\t%s\n", k, oneLine(fmt.Sprintf(format, v...))) }
	row("Name", "%s", i.Name)
	row("ID", "%s", i.ID)
	if i.Spec.Project != "" {
		row("Project", "%s", i.Spec.Project)
	}
	row("TEE", "%s", kindLabel(i))
	row("State", "%s since %s", i.Status.State, ago(i.Status.Since))
	if i.Status.Code != "" {
		row("Reason", "%s: %s", i.Status.Code, i.Status.Message)
	}
	for _, f := range i.Status.Failures {
		row("Refused", "%s", f)
	}
	for _, f := range i.Status.Differences {
		row("Differs", "%s: %s (want %s, got %s)", f.Claim, f.Hint, short(f.Want), short(f.Got))
	}
	if i.Status.Hint != "" {
		row("Hint", "%s", i.Status.Hint)
	}
	if i.Status.ExitCode != nil {
		row("Exit status", "%d", *i.Status.ExitCode)
	}
	row("Image", "%s sha256:%x", i.Spec.Launch.Image.Kind, i.Spec.Launch.Image.Digest)
	if d, err := i.Spec.Launch.Digest(); err == nil {
		row("Launch digest", "%x", d)
	}
	row("Measurement", "%s (expected; the evidence must carry it)", i.Expected)
	for _, n := range slices.Sorted(maps.Keys(i.ExpectedRegisters)) {
		row("  PCR "+n, "%s", i.ExpectedRegisters[n])
	}
	row("Debug", "%s", yesNo(i.Spec.Launch.Debug))
	if !i.Status.ReadyAt.IsZero() {
		row("Attested", "%s after %s", i.Status.ReadyAt.Format("15:04:05"), i.Status.ReadyAt.Sub(i.Status.StartedAt).Round(100_000))
	}
	if !i.Status.Lease.IsZero() {
		row("Lease until", "%s", i.Status.Lease.Format("2006-01-02 15:04:05 UTC"))
	}
}

func (a *app) instanceChange(verb, what, outcome string, f func(*client.Host, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME...", Short: what, Args: cobra.MinimumNArgs(1),
		Example: "  cloister instance " + verb + " worker",
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := f(host, cmd.Context(), name); err != nil {
					return fmt.Errorf("%s %s: %w", verb, name, err)
				}
				a.say("%s %s", name, outcome)
			}
			return nil
		},
	}
}

func (a *app) instanceLogs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "logs NAME", Short: "Print what the program printed, as far as its launch document lets it out", Args: cobra.ExactArgs(1),
		Example: "  cloister instance logs -f worker",
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			r, err := host.Logs(cmd.Context(), args[0], follow)
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }()
			if a.output == "json" {
				_, err := io.Copy(a.stdout, r)
				return err
			}
			return printLog(r, a.stdout, a.stderr)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the instance has ended")
	return cmd
}

// maxLogLine bounds one line of a console log in bytes.
const maxLogLine = 256 << 10

// printLog writes a program's output to where the program wrote it.
func printLog(r io.Reader, stdout, stderr io.Writer) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		var l shim.LogLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		w := stdout
		if l.Stream == "stderr" {
			w = stderr
		}
		if _, err := w.Write(append(l.Bytes, l.Text...)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (a *app) instanceOutput() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "output NAME OUTPUT", Short: "Get an output of an instance that has ended", Args: cobra.ExactArgs(2),
		Example: "  cloister instance output worker result --to result.bin",
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			if file != "" {
				return saveOutput(cmd, host, args[0], args[1], file)
			}
			r, err := host.Output(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }()
			_, err = io.Copy(a.stdout, r)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "to", "", "file to write (default stdout)")
	return cmd
}
