package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloister-cc/cloister/attest"
	"github.com/cloister-cc/cloister/attest/maa"
	"github.com/cloister-cc/cloister/attest/record"
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
		Long: "Replay takes records that attest verify --record or a node kept, judges their cases again, each at\n" +
			"its own time and with its own collateral and policy, and compares the records byte by byte.\n\n" +
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
	archive, err := record.OpenArchive(dir, record.WithProviders(maa.ReadCase))
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

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
