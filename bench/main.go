// Command bench measures what this program promises to be fast at, each figure
// beside a peer or a limit in the same run, and prints the ratio. Machines are
// shared and noisy: believe ratios, and absolute times only on an idle machine.
//
//	go run ./bench            everything
//	go run ./bench -quick     fewer repetitions
//	go run ./bench -run wasm  only what the pattern matches
//
// It builds the release binary once, and starts platforms of its own in a
// temporary directory.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"text/tabwriter"
)

// figure is one measurement.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Against is the peer or limit measured in the same run, Ratio how many
	// times Value is of it.
	Against string  `json:"against,omitempty"`
	Limit   float64 `json:"limit,omitempty"`
	Ratio   float64 `json:"ratio,omitempty"`
	Bar     string  `json:"bar,omitempty"` // what we want, on an idle machine
}

// suite is one group of measurements.
type suite struct {
	name string
	run  func(b *bench) ([]figure, error)
}

func suites() []suite {
	return []suite{
		{"wasm", (*bench).wasm}, {"snp", (*bench).snp}, {"measure", (*bench).measure}, {"dcap", (*bench).dcap}, {"start", (*bench).start}, {"density", (*bench).density},
		{"machine", (*bench).machine}, {"impact", (*bench).impact}, {"attest", (*bench).attest}, {"attest-snp", (*bench).attestSNP}, {"release", (*bench).release}, {"build", (*bench).build},
	}
}

func main() {
	if os.Getenv(serveSNP) != "" {
		if err := serveReports(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	quick := flag.Bool("quick", false, "fewer repetitions, no cold build")
	pattern := flag.String("run", "", "only suites whose name matches this pattern")
	output := flag.String("o", "table", "table or json")
	flag.Parse()
	if err := run(*quick, *pattern, *output); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(quick bool, pattern, output string) error {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	b, err := newBench(quick)
	if err != nil {
		return err
	}
	defer b.close()
	figures := []figure{}
	for _, s := range suites() {
		if !match.MatchString(s.name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "measuring", s.name)
		got, err := s.run(b)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		figures = append(figures, got...)
	}
	if output == "json" {
		return json.NewEncoder(os.Stdout).Encode(figures)
	}
	return table(figures)
}

func table(figures []figure) error {
	fmt.Printf("%s %s/%s, %d processors, load average %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), load())
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEASURED\tAGAINST\tRATIO\tBAR (IDLE)")
	for _, f := range figures {
		against, ratio := "-", "-"
		if f.Against != "" {
			against, ratio = fmt.Sprintf("%s: %s %s", f.Against, short(f.Limit), f.Unit), fmt.Sprintf("%.2f", f.Ratio)
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s\n", f.Name, short(f.Value), f.Unit, against, ratio, f.Bar)
	}
	return w.Flush()
}

func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// load is the machine's load: a figure without it means little.
func load() string {
	var one string
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	if _, err := fmt.Sscan(string(b), &one); err != nil {
		return "unknown"
	}
	return one
}
