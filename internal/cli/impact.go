package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/keys"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

// impactOutput is the output of `attest impact`.
type impactOutput struct {
	Records int           `json:"records"`
	Refused int           `json:"refused"`
	At      time.Time     `json:"at"`
	Impacts []impactEntry `json:"impacts"`
}

// impactEntry is a verdict that would be refused, and what was released for it.
type impactEntry struct {
	record.Impact
	Releases []impactRelease `json:"releases"`
}

// impactRelease is a release, or the renewal of one, by its receipt.
type impactRelease struct {
	Receipt  uint64 `json:"receipt"`
	Time     string `json:"time"`
	Action   string `json:"action"`
	Key      string `json:"key"`
	Version  uint32 `json:"version"`
	Instance string `json:"instance_id"`
}

func (a *app) attestImpact() *cobra.Command {
	var collaterals []string
	var at, receipts string
	cmd := &cobra.Command{
		Use: "impact ARCHIVE --collateral FILE", Short: "List past verdicts that today's collateral would refuse", Args: cobra.ExactArgs(1),
		Long: "Impact judges every accepted case of an archive again as if its evidence came today, with the\n" +
			"revocation lists and TCB information that are given, and lists those that would be refused:\n" +
			"what was released to them may have to be replaced. With receipts, it says what that is.\n\n" +
			"The exit status is 0 if there are none and 3 if there are.",
		Example: "  cloister attest impact archive --collateral bundle.json\n" +
			"  cloister audit list -o json >receipts.json\n" +
			"  cloister attest impact data/instances/node/state/verdicts --collateral bundle.json --receipts receipts.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(collaterals) == 0 {
				return usageError("--collateral is missing", "name a bundle, or files of the vendor: --collateral FILE")
			}
			out := impactOutput{At: time.Now().UTC(), Impacts: []impactEntry{}}
			if at != "" {
				var err error
				if out.At, err = time.Parse(time.RFC3339, at); err != nil {
					return usageError(fmt.Sprintf("--at %q: want RFC 3339, for example 2026-01-31T12:00:00Z", at), "")
				}
			}
			var today tee.Endorsements
			for _, path := range collaterals {
				if err := addEndorsements(&today, path); err != nil {
					return &coded{status: exitUsage, code: "endorsements", err: err}
				}
			}
			released, err := readReleases(receipts)
			if err != nil {
				return &coded{status: exitUsage, code: "receipts", err: err, hint: "cloister audit list -o json makes it"}
			}
			return a.impact(cmd.Context(), args[0], today, released, out)
		},
	}
	cmd.Flags().StringArrayVar(&collaterals, "collateral", nil, "bundle, file or directory with today's collateral, repeatable")
	cmd.Flags().StringVar(&receipts, "receipts", "", "receipts (audit list -o json) of releases, to say what was released for each verdict")
	cmd.Flags().StringVar(&at, "at", "", "judge at this time (RFC 3339; default now)")
	return cmd
}

func (a *app) impact(ctx context.Context, dir string, today tee.Endorsements, released releases, out impactOutput) error {
	archive, names, err := a.openRecords(dir, nil)
	if err != nil {
		return err
	}
	p, began := a.progress(), time.Now()
	v := attest.NewVerifier(all.Verifiers()...)
	err = archive.ImpactAll(ctx, v, today, out.At, func(_ string, i *record.Impact) error {
		if i != nil {
			out.Refused++
			out.Impacts = append(out.Impacts, impactEntry{*i, append([]impactRelease{}, released[i.Name]...)})
		}
		if out.Records++; p.tty && out.Records%impactStep == 0 && time.Since(began) > time.Second {
			p.step("judged %d of %d records, %d would be refused", out.Records, len(names), out.Refused)
		}
		return nil
	})
	p.done()
	// What is torn was said when the records were listed.
	if err != nil && !record.Torn(err) {
		return archiveError(err)
	}
	if err := a.show(out, out.table); err != nil {
		return err
	}
	if out.Refused > 0 {
		return withStatus(exitRefused)
	}
	return nil
}

// impactStep is after how many records progress is shown anew.
const impactStep = 5000

func (o impactOutput) table(w io.Writer) {
	fmt.Fprintln(w, "RECORD\tTEE\tPLATFORM\tACCEPTED AT\tWOULD BE REFUSED FOR\tRELEASED")
	for _, i := range o.Impacts {
		reason := "-"
		if len(i.Refused) > 0 {
			reason = string(i.Refused[0].Code) + ": " + i.Refused[0].Claim
		}
		fmt.Fprintf(w, "%.16s…\t%s\t%.16s\t%s\t%s\t%s\n", i.Name, i.TEE, orDash(i.Platform), i.At.Format(time.RFC3339), oneLine(reason), orDash(releasedKeys(i.Releases)))
	}
	fmt.Fprintf(w, "%d of %d records would be refused at %s\n", o.Refused, o.Records, o.At.Format(time.RFC3339))
}

// releasedKeys names each key once, with its version.
func releasedKeys(list []impactRelease) string {
	var keys []string
	for _, r := range list {
		if k := fmt.Sprintf("%s v%d", r.Key, r.Version); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return strings.Join(keys, ", ")
}

// releases are what was released, by the name of the verdict's record.
type releases map[string][]impactRelease

// maxReceipts bounds a file of receipts in bytes.
const maxReceipts = 1 << 30

// readReleases reads receipts; none from an empty path.
func readReleases(path string) (releases, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var list []keys.Receipt
	if err := json.NewDecoder(io.LimitReader(f, maxReceipts)).Decode(&list); err != nil {
		return nil, fmt.Errorf("receipts %s do not parse: %w", path, err)
	}
	out := releases{}
	for _, r := range list {
		if r.Verdict != "" {
			out[r.Verdict] = append(out[r.Verdict], impactRelease{r.Number, r.Time, r.Action, r.Key, r.Version, r.InstanceID})
		}
	}
	return out, nil
}
