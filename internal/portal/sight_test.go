package portal

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloister-cc/cloister/compute"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/launch"
)

func seen(t *testing.T, i compute.Instance, what string) Seen {
	t.Helper()
	for _, s := range Sights(i) {
		if strings.HasPrefix(s.What, what) {
			if s.Why == "" || s.Changes == "" {
				t.Errorf("%s: no reason", what)
			}
			return s.Seen
		}
	}
	return ""
}

// The table is honest: memory and secrets are hidden on hardware that hides them,
// and nowhere else.
func TestSights(t *testing.T) {
	hides := []tee.Kind{tee.SNP, tee.TDX, tee.SGX, tee.Nitro, tee.AzureSNP, tee.AzureTDX, tee.ArmCCA}
	for _, kind := range append(tee.Kinds(), tee.NvidiaGPU, "", "of a later release") {
		for _, simulated := range []bool{false, true} {
			for _, debug := range []bool{false, true} {
				i := everything(compute.Running)
				i.Spec.TEE, i.Simulated, i.Spec.Launch.Debug = kind, simulated, debug
				want := SeenClear
				if slices.Contains(hides, kind) && !simulated && !debug {
					want = SeenHidden
				}
				for _, what := range []string{"Memory", "Values of its secrets", "What it prints on standard output"} {
					if got := seen(t, i, what); got != want {
						t.Errorf("%s, simulated %t, debug %t: %s is seen %q, want %q", kind, simulated, debug, what, got, want)
					}
				}
				for _, what := range []string{"Values of REGION", "Inputs: records", "Outputs: result", "State directory", "The program", "Launch document", "Connections to ports 8443, 9000", "What it prints on standard error"} {
					if got := seen(t, i, what); got != SeenClear {
						t.Errorf("%s: %s is seen %q", kind, what, got)
					}
				}
			}
		}
	}
}

func TestSightsOfLogs(t *testing.T) {
	for level, want := range map[launch.Logs]map[string]Seen{
		launch.LogsAll:    {"What it prints, on standard output and": SeenClear},
		launch.LogsStderr: {"What it prints on standard error": SeenClear, "What it prints on standard output": SeenHidden},
		launch.LogsNone:   {"What it prints": SeenHidden},
		"unknown":         {"What it prints": SeenClear},
	} {
		i := worker(compute.Running)
		i.Spec.TEE, i.Simulated, i.Spec.Launch.Logs = tee.SNP, false, level
		for what, s := range want {
			if got := seen(t, i, what); got != s {
				t.Errorf("%s: %s is seen %q, want %q", level, what, got, s)
			}
		}
	}
}

func TestSightPage(t *testing.T) {
	i := everything(compute.Running)
	l := newLab(t, i)
	wants(t, l.page("/instances/full/host"), "Can this host read its memory? Yes", "picture-open", "operator values", "traffic")
	l.host.list[0].Simulated, l.host.list[0].Spec.TEE, l.host.list[0].Spec.Launch.Debug = false, tee.TDX, false
	wants(t, l.page("/instances/full/host"), "Can this host read its memory? No", "not because this page says so")
}
