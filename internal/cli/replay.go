package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/record"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/all"
)

// replayOutput is the output of `attest replay`.
type replayOutput struct {
	Records int               `json:"records"`
	Same    int               `json:"same"`
	Results []record.Replayed `json:"results"`
}

func (a *app) attestReplay() *cobra.Command {
	return &cobra.Command{
		Use: "replay ARCHIVE [RECORD]...", Short: "Judge recorded cases again and compare the verdicts byte by byte", Args: cobra.MinimumNArgs(1),
		Long: "Replay takes records that attest verify --record kept, judges their cases again, each at its own\n" +
			"time and with its own collateral and policy, and compares the records byte by byte.\n\n" +
			"The exit status is 0 if all are the same and 3 if one is not, or was altered.",
		Example: "  cloister attest verify --evidence quote.bin --cached --record archive\n  cloister attest replay archive",
		RunE: func(_ *cobra.Command, args []string) error {
			archive, names, err := a.openRecords(args[0], args[1:])
			if err != nil {
				return err
			}
			v := attest.NewVerifier(all.Verifiers()...)
			out := replayOutput{Records: len(names), Results: []record.Replayed{}}
			for _, name := range names {
				r, err := archive.Replay(v, name)
				if err != nil {
					return archiveError(err)
				}
				if r.Same {
					out.Same++
				}
				out.Results = append(out.Results, r)
			}
			if err := a.show(out, out.table); err != nil {
				return err
			}
			if out.Same != out.Records {
				return withStatus(exitRefused)
			}
			return nil
		},
	}
}

func (o replayOutput) table(w io.Writer) {
	fmt.Fprintln(w, "RECORD\tACCEPTED\tSAME\tDIFFERENT")
	for _, r := range o.Results {
		fmt.Fprintf(w, "%.16s…\t%s\t%s\t%s\n", r.Name, yesNo(r.Accepted), yesNo(r.Same), orDash(r.Different))
	}
	fmt.Fprintf(w, "%d of %d are the same, byte for byte\n", o.Same, o.Records)
}

// openRecords opens an archive and lists its records, unless some are named.
func (a *app) openRecords(dir string, names []string) (*record.Archive, []string, error) {
	if !isDir(dir) {
		return nil, nil, usageError(fmt.Sprintf("%s is no directory of records", dir), "cloister attest verify --record DIR makes one")
	}
	archive, err := record.OpenArchive(dir)
	if err != nil {
		return nil, nil, err
	}
	if len(names) == 0 {
		names, err = archive.Names()
		if err := a.warnOfTorn(err); err != nil {
			return nil, nil, archiveError(err)
		}
	}
	return archive, names, nil
}

// warnOfTorn says that an end of the archive was left out, which is no failure: it
// was never acknowledged. Other errors are returned.
func (a *app) warnOfTorn(err error) error {
	if !record.Torn(err) {
		return err
	}
	a.say("cloister: warning: %v", err)
	return nil
}

// archiveError tells a record that is not there from one that was altered.
func archiveError(err error) error {
	if !errors.Is(err, record.ErrArchive) {
		return err
	}
	if record.Missing(err) {
		return &coded{status: exitFailure, code: "no_record", err: err, hint: "name a record of the archive, or bring its files back"}
	}
	return &coded{status: exitRefused, code: "record_altered", err: err, hint: "this is not what was recorded: look who changed it"}
}

// impactOutput is the output of `attest impact`.
type impactOutput struct {
	Records int             `json:"records"`
	Refused int             `json:"refused"`
	At      time.Time       `json:"at"`
	Impacts []record.Impact `json:"impacts"`
}

func (a *app) attestImpact() *cobra.Command {
	var collaterals []string
	var at string
	cmd := &cobra.Command{
		Use: "impact ARCHIVE --collateral FILE", Short: "List past verdicts that today's collateral would refuse", Args: cobra.ExactArgs(1),
		Long: "Impact judges every accepted case of an archive again as if its evidence came today, with the\n" +
			"revocation lists and TCB information that are given, and lists those that would be refused:\n" +
			"what was released to them may have to be replaced.\n\n" +
			"The exit status is 0 if there are none and 3 if there are.",
		Example: "  cloister attest impact archive --collateral bundle.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(collaterals) == 0 {
				return usageError("--collateral is missing", "name a bundle, or files of the vendor: --collateral FILE")
			}
			out := impactOutput{At: time.Now().UTC(), Impacts: []record.Impact{}}
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
			return a.impact(cmd.Context(), args[0], today, out)
		},
	}
	cmd.Flags().StringArrayVar(&collaterals, "collateral", nil, "bundle, file or directory with today's collateral, repeatable")
	cmd.Flags().StringVar(&at, "at", "", "judge at this time (RFC 3339; default now)")
	return cmd
}

func (a *app) impact(ctx context.Context, dir string, today tee.Endorsements, out impactOutput) error {
	archive, names, err := a.openRecords(dir, nil)
	if err != nil {
		return err
	}
	p, began := a.progress(), time.Now()
	v := attest.NewVerifier(all.Verifiers()...)
	err = archive.ImpactAll(ctx, v, today, out.At, func(_ string, i *record.Impact) error {
		if i != nil {
			out.Refused++
			out.Impacts = append(out.Impacts, *i)
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
	fmt.Fprintln(w, "RECORD\tTEE\tPLATFORM\tACCEPTED AT\tWOULD BE REFUSED FOR")
	for _, i := range o.Impacts {
		reason := "-"
		if len(i.Refused) > 0 {
			reason = string(i.Refused[0].Code) + ": " + i.Refused[0].Claim
		}
		fmt.Fprintf(w, "%.16s…\t%s\t%.16s\t%s\t%s\n", i.Name, i.TEE, orDash(i.Platform), i.At.Format(time.RFC3339), oneLine(reason))
	}
	fmt.Fprintf(w, "%d of %d records would be refused at %s\n", o.Refused, o.Records, o.At.Format(time.RFC3339))
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
