package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloister-cc/cloister/internal/config"
)

// settle gives flags that were not on the command line the value of their
// environment variable (CLOISTER_DATA_DIR for --data-dir), or else of the
// configuration file.
func (a *app) settle(cmd *cobra.Command) error {
	fromFile, err := a.fileSettings(cmd)
	if err != nil {
		return err
	}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || failed != nil || f.Name == "help" {
			return
		}
		name := "CLOISTER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := os.Getenv(name); v != "" {
			if err := cmd.Flags().Set(f.Name, v); err != nil {
				failed = usageError(fmt.Sprintf("%s=%q: %v", name, v, err), "it stands for the flag --"+f.Name)
			}
			return
		}
		if s, ok := fromFile[f.Name]; ok {
			if err := cmd.Flags().Set(f.Name, s.Value); err != nil {
				failed = configError(a.configFile, s.Refuse(err.Error()))
			}
		}
	})
	return failed
}

// fileSettings reads the configuration file: the one that is named, or the one in
// the user's configuration directory if it is there. Every setting must be of a
// command and a flag that exist; those of this command are returned, its own
// before everybody's.
func (a *app) fileSettings(cmd *cobra.Command) (map[string]config.Setting, error) {
	named := a.configFile != "" || os.Getenv("CLOISTER_CONFIG") != ""
	if a.configFile == "" {
		a.configFile = os.Getenv("CLOISTER_CONFIG")
	}
	if !named {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, nil //nolint:nilerr // nobody has to have a configuration
		}
		a.configFile = filepath.Join(dir, "cloister", "cloister.yaml")
	}
	settings, err := config.Read(a.configFile)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil
	}
	if err != nil {
		return nil, configError(a.configFile, err)
	}
	out, own := map[string]config.Setting{}, map[string]bool{}
	for _, s := range settings {
		target, err := targetOf(cmd.Root(), s)
		if err != nil {
			return nil, configError(a.configFile, err)
		}
		switch {
		case target == cmd:
			out[s.Flag], own[s.Flag] = s, true
		case s.Command == "" && !own[s.Flag]:
			out[s.Flag] = s
		}
	}
	return out, nil
}

// targetOf finds the command that a setting is for, and checks its flag.
func targetOf(root *cobra.Command, s config.Setting) (*cobra.Command, error) {
	target := root
	if s.Command != "" {
		found, rest, err := root.Find(strings.Fields(s.Command))
		if err != nil || found == root || len(rest) > 0 {
			return nil, s.Refuse(fmt.Sprintf("there is no command %q", s.Command))
		}
		target = found
	}
	if target.Flags().Lookup(s.Flag) == nil && target.PersistentFlags().Lookup(s.Flag) == nil && target.InheritedFlags().Lookup(s.Flag) == nil {
		return nil, s.Refuse(fmt.Sprintf("there is no flag --%s here", s.Flag))
	}
	return target, nil
}

func configError(path string, err error) error {
	return &coded{status: exitUsage, code: "config", err: fmt.Errorf("configuration %s: %w", path, err), hint: "settings are flags: names without dashes, those of one command below its name"}
}
