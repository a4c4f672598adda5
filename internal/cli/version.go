package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/internal/server"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/software"
)

// Version is the release; the build sets it.
const version = "0.1.0-dev"

// versionInfo is the output of `version`. The digests are reference values:
// what evidence of this very build must say.
type versionInfo struct {
	Version         string          `json:"version"`
	Go              string          `json:"go"`
	Platform        string          `json:"platform"`
	Revision        string          `json:"revision,omitempty"`
	RuntimeDigest   string          `json:"runtime_digest"`
	NodeMeasurement tee.Measurement `json:"node_measurement"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version and this build's reference values", Args: cobra.NoArgs,
		Example: "  cloister version -o json",
		RunE: func(*cobra.Command, []string) error {
			v, err := buildInfo()
			if err != nil {
				return err
			}
			return a.show(v, func(w io.Writer) {
				fmt.Fprintf(w, "cloister %s (%s, %s)\nRuntime digest:\t%s\nNode measurement:\t%s\n", v.Version, v.Go, v.Platform, v.RuntimeDigest, v.NodeMeasurement)
			})
		},
	}
}

func buildInfo() (versionInfo, error) {
	digest, err := software.RuntimeDigest()
	if err != nil {
		return versionInfo{}, err
	}
	node, err := server.NodeLaunch().Digest()
	if err != nil {
		return versionInfo{}, err
	}
	v := versionInfo{
		Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		RuntimeDigest: hex.EncodeToString(digest[:]), NodeMeasurement: software.Expect(digest, node),
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	return v, nil
}
