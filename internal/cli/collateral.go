package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cloister-cc/cloister/attest/collateral"
	"github.com/cloister-cc/cloister/tee"
	"github.com/cloister-cc/cloister/tee/dcap"
	"github.com/cloister-cc/cloister/tee/snp"
)

// collateralFlags are those of every `attest collateral` command.
type collateralFlags struct{ cache string }

func (a *app) attestCollateral() *cobra.Command {
	var f collateralFlags
	cmd := &cobra.Command{
		Use: "collateral", Short: "Fetch, keep and pass on what vendors say about platforms", Args: cobra.NoArgs,
		Long: "Collateral is what Intel and AMD publish about platforms: which firmware is current,\n" +
			"which certificates are revoked. It is kept in a cache of yours, with where and when it was\n" +
			"fetched; only fetch uses the network. Nothing of it is believed for being in the cache:\n" +
			"every verdict checks the vendor's signatures and dates.",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.PersistentFlags().StringVar(&f.cache, "cache", "", "directory of the cache (default ~/.cache/cloister/collateral)")
	cmd.AddCommand(a.collateralFetch(&f), a.collateralStatus(&f), a.collateralExport(&f), a.collateralImport(&f), a.collateralServe(&f))
	return cmd
}

func openCollateral(dir string) (*collateral.Store, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, usageError("--cache: there is no home directory to find the cache in", "name a directory: --cache DIR")
		}
		dir = filepath.Join(base, "cloister", "collateral")
	}
	return collateral.OpenStore(dir)
}

// fetchFlags say where to fetch from.
type fetchFlags struct{ evidence, pcs, rootCRL, kds, product string }

func (a *app) collateralFetch(cf *collateralFlags) *cobra.Command {
	var f fetchFlags
	cmd := &cobra.Command{
		Use: "fetch --evidence FILE", Short: "Fetch what a piece of evidence needs, into the cache", Args: cobra.NoArgs,
		Example: "  cloister attest collateral fetch --evidence quote.bin\n" +
			"  cloister attest collateral fetch --evidence quote.bin --pcs https://pccs.internal:8081",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.evidence == "" {
				return usageError("--evidence is missing", "name evidence of the platform: --evidence FILE")
			}
			ev, err := a.readEvidence(f.evidence)
			if err != nil {
				return err
			}
			store, err := openCollateral(cf.cache)
			if err != nil {
				return err
			}
			items, err := f.fetch(cmd.Context(), ev)
			if err != nil {
				return err
			}
			if err := store.Add(items...); err != nil {
				return err
			}
			return a.showItems(items, time.Now())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.evidence, "evidence", "", "evidence of the platform, as for attest verify; - is stdin")
	f.registerSources(fl)
	fl.StringVar(&f.product, "product", "", "product of the processor, for reports that do not say it: Milan, Genoa, Turin")
	return cmd
}

func (f *fetchFlags) registerSources(fl *pflag.FlagSet) {
	fl.StringVar(&f.pcs, "pcs", collateral.IntelPCS, "Intel's service, or a cache of it (PCCS)")
	fl.StringVar(&f.rootCRL, "root-crl", "", "where the revocation list of Intel's root is (default: Intel's own place)")
	fl.StringVar(&f.kds, "kds", collateral.AMDKDS, "AMD's service, or a cache of it")
}

// sources are the services that the flags name; nil when nothing is to be fetched.
func (f *fetchFlags) sources(fetch bool) *collateral.Sources {
	if !fetch {
		return nil
	}
	return &collateral.Sources{
		Intel: collateral.Intel{Client: http.DefaultClient, Base: f.pcs, RootCRL: f.rootCRL, Now: time.Now},
		AMD:   collateral.AMD{Client: http.DefaultClient, Base: f.kds, Now: time.Now},
	}
}

// fetchTimeout bounds one fetch of everything.
const fetchTimeout = time.Minute

func (f fetchFlags) fetch(ctx context.Context, ev tee.Evidence) ([]collateral.Item, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if q, err := dcap.ParseQuote(ev.Data); err == nil {
		name, err := q.PlatformName()
		if err != nil {
			return nil, err
		}
		intel := collateral.Intel{Client: http.DefaultClient, Base: f.pcs, RootCRL: f.rootCRL, Now: time.Now}
		return intel.Fetch(ctx, q.Kind, name.FMSPC, name.Authority)
	}
	r, err := snp.ParseReport(ev.Data)
	if err != nil {
		return nil, usageError("this evidence is of no TEE whose vendor publishes collateral", "give a quote of SGX or TDX, or a report of SEV-SNP")
	}
	product := snp.Product(f.product)
	if product == "" {
		if product = r.Product(); product == "" {
			return nil, usageError("this report does not say which processor it is of", "name it: --product Milan, Genoa or Turin")
		}
	}
	return collateral.AMD{Client: http.DefaultClient, Base: f.kds, Now: time.Now}.Fetch(ctx, r, product)
}

// itemStatus is one line of `attest collateral status`.
type itemStatus struct {
	Kind       collateral.Kind  `json:"kind"`
	Name       string           `json:"name"`
	State      collateral.State `json:"state"`
	FetchedAt  time.Time        `json:"fetched_at"`
	NextUpdate time.Time        `json:"next_update,omitzero"`
	Digest     string           `json:"sha256"`
	Source     string           `json:"source"`
}

func (a *app) showItems(items []collateral.Item, at time.Time) error {
	out := make([]itemStatus, len(items))
	for n, i := range items {
		out[n] = itemStatus{Kind: i.Kind, Name: i.Name, State: i.State(at), FetchedAt: i.FetchedAt, NextUpdate: i.NextUpdate, Digest: i.Digest, Source: i.Source}
	}
	return a.show(out, func(w io.Writer) {
		fmt.Fprintln(w, "KIND\tNAME\tSTATE\tFETCHED\tNEXT UPDATE")
		for _, i := range out {
			next := "-"
			if !i.NextUpdate.IsZero() {
				next = i.NextUpdate.Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%.48s\t%s\t%s\t%s\n", i.Kind, oneLine(i.Name), i.State, i.FetchedAt.Format(time.RFC3339), next)
		}
	})
}

func (a *app) collateralStatus(cf *collateralFlags) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use: "status", Short: "Show what is in the cache and how long it holds", Args: cobra.NoArgs,
		Example: "  cloister attest collateral status\n  cloister attest collateral status --at 2027-01-01T00:00:00Z -o json",
		RunE: func(*cobra.Command, []string) error {
			when := time.Now()
			if at != "" {
				var err error
				if when, err = time.Parse(time.RFC3339, at); err != nil {
					return usageError(fmt.Sprintf("--at %q: want RFC 3339, for example 2026-01-31T12:00:00Z", at), "")
				}
			}
			store, err := openCollateral(cf.cache)
			if err != nil {
				return err
			}
			return a.showItems(store.Items(), when)
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "how it stands at this time (RFC 3339; default now)")
	return cmd
}

// bundleOutput says what was exported or imported.
type bundleOutput struct {
	File   string `json:"file"`
	Items  int    `json:"items"`
	Digest string `json:"digest"` // of the items, whoever made the bundle
	Signer string `json:"signer"` // SHA-256 of the key that signed it
}

func (a *app) showBundle(o bundleOutput, what string) error {
	return a.show(o, func(w io.Writer) {
		fmt.Fprintf(w, "%s:\t%s (%d items)\nDigest:\t%s\nSigned by:\t%s\n", what, oneLine(o.File), o.Items, o.Digest, o.Signer)
	})
}

func (a *app) collateralExport(cf *collateralFlags) *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use: "export FILE", Short: "Write the cache as a signed bundle, for machines without a network", Args: cobra.ExactArgs(1),
		Example: "  cloister attest collateral export bundle.json\n" +
			"  cloister attest verify --evidence quote.bin --endorsements bundle.json",
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := openCollateral(cf.cache)
			if err != nil {
				return err
			}
			key, err := signingKey(identity)
			if err != nil {
				return err
			}
			raw, err := collateral.NewBundle(time.Now(), store.Items()).Sign(key)
			if err != nil {
				return err
			}
			bundle, err := collateral.ParseBundle(raw)
			if err != nil {
				return err
			}
			if err := renameio.WriteFile(args[0], raw, 0o644); err != nil {
				return err
			}
			return a.showBundle(describe(bundle, args[0]), "Written")
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", "your key pair, which signs the bundle (default $CLOISTER_IDENTITY or ~/.config/cloister/identity.pem, made the first time)")
	return cmd
}

func describe(b collateral.Bundle, file string) bundleOutput {
	return bundleOutput{File: file, Items: len(b.Items), Digest: fmt.Sprintf("%x", b.Digest()), Signer: b.SignerName()}
}

func (a *app) collateralImport(cf *collateralFlags) *cobra.Command {
	var signer string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Put a bundle, or a set of Intel's collateral, into the cache", Args: cobra.ExactArgs(1),
		Example: "  cloister attest collateral import bundle.json\n" +
			"  cloister attest collateral import collateral.json --cache ~/.local/share/cloister/collateral   # for the node\n" +
			"  cloister attest collateral import bundle.json --signer 5e884898da28…",
		RunE: func(_ *cobra.Command, args []string) error {
			raw, err := readLimited(args[0], collateral.MaxBundle+1)
			if err != nil {
				return &coded{status: exitUsage, code: "bundle", err: err}
			}
			if collateral.IsIntelSet(raw) && signer == "" {
				return a.importSet(cf, args[0], raw)
			}
			bundle, err := collateral.ParseBundle(raw)
			if err != nil {
				return &coded{status: exitRefused, code: "bundle", err: err, hint: "ask whoever made it for another copy"}
			}
			if signer != "" && signer != bundle.SignerName() {
				return &coded{status: exitRefused, code: "signer", err: fmt.Errorf("the bundle is signed by %s", bundle.SignerName()), hint: "it is not by the signer that you named"}
			}
			store, err := openCollateral(cf.cache)
			if err != nil {
				return err
			}
			if err := store.Add(bundle.Items...); err != nil {
				return err
			}
			return a.showBundle(describe(bundle, args[0]), "Imported")
		},
	}
	cmd.Flags().StringVar(&signer, "signer", "", "accept the bundle only by this signer (SHA-256 of the key, hex, as export prints it)")
	return cmd
}

// importSet keeps a set of Intel's collateral: nobody signed the set, and Intel
// what is in it.
func (a *app) importSet(cf *collateralFlags, file string, raw []byte) error {
	items, err := collateral.ItemsOfSet(raw, file, time.Now())
	if err != nil {
		return &coded{status: exitRefused, code: "set", err: err, hint: "ask whoever made it for another copy"}
	}
	store, err := openCollateral(cf.cache)
	if err != nil {
		return err
	}
	if err := store.Add(items...); err != nil {
		return err
	}
	return a.showItems(items, time.Now())
}

func (a *app) collateralServe(cf *collateralFlags) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve the cache to other verifiers, as Intel's PCCS and AMD's KDS do", Args: cobra.NoArgs,
		Long: "Serve answers on the paths of Intel's PCS and PCCS (version 3 and 4) and of AMD's KDS from the\n" +
			"cache, over plain HTTP: all of it is public and signed by its vendor. It fetches nothing.",
		Example: "  cloister attest collateral serve --listen 127.0.0.1:8081",
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := openCollateral(cf.cache)
			if err != nil {
				return err
			}
			l, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return err
			}
			a.say("serving %d items on http://%s", len(store.Items()), l.Addr())
			s := &http.Server{Handler: store.Handler(), ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 1 << 16}
			stop := context.AfterFunc(cmd.Context(), func() { _ = s.Close() })
			defer stop()
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8081", "TCP address")
	return cmd
}
