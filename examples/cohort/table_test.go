package main

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var everything = cmp.AllowUnexported(table{})

func TestParseTable(t *testing.T) {
	got, err := parseTable("\npatient,age,size\nanna,40,1.5\nbela,-3,2e-3\n\n")
	if err != nil {
		t.Fatal(err)
	}
	want := table{patients: []string{"anna", "bela"}, columns: []string{"age", "size"}, rows: [][]float64{{40, 1.5}, {-3, 0.002}}}
	if diff := cmp.Diff(want, got, everything); diff != "" {
		t.Error(diff)
	}
	if empty, err := parseTable("patient,age"); err != nil || len(empty.rows) != 0 {
		t.Errorf("a table without patients: %+v, %v", empty, err)
	}
}

func TestParseTableRefuses(t *testing.T) {
	wide := "patient" + strings.Repeat(",c", maxColumns+1)
	long := "patient,age" + strings.Repeat("\nx,1", maxRows+1)
	for name, c := range map[string]struct{ csv, want string }{
		"nothing":              {"", "want a header"},
		"no column":            {"patient\nanna", "want a header"},
		"another first column": {"name,age\nanna,1", "want a header"},
		"too many columns":     {wide, "want a header"},
		"too many rows":        {long, "want a header"},
		"column twice":         {"patient,age,age\nanna,1,2", "a column has no name or is there twice"},
		"column without name":  {"patient,age,\nanna,1,2", "a column has no name"},
		"too few fields":       {"patient,age,size\nanna,1", "row 1: wrong number of fields"},
		"too many fields":      {"patient,age\nanna,1\nbela,2,3", "row 2: wrong number of fields"},
		"an empty line":        {"patient,age\nanna,1\n\nbela,2", "row 2: wrong number of fields"},
		"patient twice":        {"patient,age\nanna,1\nanna,2", "row 2: "},
		"patient without name": {"patient,age\n,1", "row 1: "},
		"text":                 {"patient,age,size\nanna,1,large", "row 1: column size is not a number"},
		"no number":            {"patient,age\nanna,", "column age is not a number"},
		"not a number":         {"patient,age\nanna,NaN", "is not a number"},
		"infinite":             {"patient,age\nanna,-Inf", "is not a number"},
		"out of range":         {"patient,age\nanna,1e999", "is not a number"},
		"white space":          {"patient,age\nanna, 1", "is not a number"},
		"carriage returns":     {"patient,age\r\nanna,1\r\nbela,2", "is not a number"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseTable(c.csv)
			if err == nil || !strings.Contains(err.Error(), c.want) || got.rows != nil {
				t.Errorf("got %+v, %v, want an error with %q", got, err, c.want)
			}
		})
	}
}

func TestTake(t *testing.T) {
	in := table{patients: []string{"x", "y"}, columns: []string{"a", "b", "c"}, rows: [][]float64{{1, 2, 3}, {4, 5, 6}}}
	rest, values, err := in.take("b")
	if err != nil {
		t.Fatal(err)
	}
	want := table{patients: []string{"x", "y"}, columns: []string{"a", "c"}, rows: [][]float64{{1, 3}, {4, 6}}}
	if diff := cmp.Diff(want, rest, everything); diff != "" || values[0] != 2 || values[1] != 5 {
		t.Errorf("%s, values %v", diff, values)
	}
	if len(in.columns) != 3 || in.rows[0][1] != 2 {
		t.Error("take changed the table")
	}
	if _, _, err := in.take("d"); err == nil {
		t.Error("a column that is not there was taken")
	}
}

func TestJoin(t *testing.T) {
	a := table{patients: []string{"x", "y", "z"}, columns: []string{"a"}, rows: [][]float64{{1}, {2}, {3}}}
	b := table{patients: []string{"z", "w", "x"}, columns: []string{"b"}, rows: [][]float64{{30}, {40}, {10}}}
	joined, in := join(a, b)
	want := table{patients: []string{"z", "x"}, columns: []string{"a", "b"}, rows: [][]float64{{3, 30}, {1, 10}}}
	if diff := cmp.Diff(want, joined, everything); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 2}, in); diff != "" {
		t.Error(diff)
	}
	joined.rows[0][0] = 99
	if a.rows[2][0] != 3 {
		t.Error("the joined rows share memory with the table")
	}
	if none, in := join(a, table{columns: []string{"b"}}); len(none.rows) != 0 || in != nil {
		t.Errorf("joined with nobody: %+v", none)
	}
}

// TestWrittenTablesAreRead whatever finite numbers they hold.
func TestWrittenTablesAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z_ ]{1,8}`), 1, 8, rapid.ID).Draw(t, "columns")
		patients := rapid.SliceOfNDistinct(rapid.StringMatching(`[!-+.-~]{1,8}`), 0, 20, rapid.ID).Draw(t, "patients")
		number := rapid.Float64().Filter(func(v float64) bool { return !math.IsInf(v, 0) })
		csv := "patient," + strings.Join(columns, ",")
		var rows [][]float64
		for _, p := range patients {
			csv += "\n" + p
			row := rapid.SliceOfN(number, len(columns), len(columns)).Draw(t, "row")
			for _, v := range row {
				csv += fmt.Sprintf(",%g", v)
			}
			rows = append(rows, row)
		}
		got, err := parseTable(csv)
		if err != nil {
			if strings.TrimSpace(csv) != csv { // white space at the end is cut off
				t.Skip()
			}
			t.Fatal(err)
		}
		if diff := cmp.Diff(rows, got.rows); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzParseTable: bytes from a hospital that may be wrong give a table within
// its bounds, or an error.
func FuzzParseTable(f *testing.F) {
	f.Add("patient,age,size\nanna,40,1.5\nbela,-3,2e-3\n")
	f.Add("patient,age\r\nanna,1")
	f.Add("patient,,\n,")
	f.Add("patient,a\nx,0x1p-2\ny,1_0")
	f.Fuzz(func(t *testing.T, csv string) {
		got, err := parseTable(csv)
		if err != nil {
			return
		}
		if n := len(got.columns); n < 1 || n > maxColumns || len(got.patients) > maxRows || len(got.rows) != len(got.patients) {
			t.Fatalf("%d columns, %d patients, %d rows", n, len(got.patients), len(got.rows))
		}
		seen := map[string]bool{"": true}
		for i, p := range got.patients {
			if seen[p] || len(got.rows[i]) != len(got.columns) {
				t.Fatalf("patient %q has %d values", p, len(got.rows[i]))
			}
			seen[p] = true
			for _, v := range got.rows[i] {
				if math.IsNaN(v) || math.IsInf(v, 0) {
					t.Fatalf("value %v", v)
				}
			}
		}
	})
}
