package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bounds of a table. The bytes come from the host and then from a hospital that
// may be wrong.
const (
	maxRows    = 100_000
	maxColumns = 64
)

// table is numbers by patient and column.
type table struct {
	patients []string
	columns  []string
	rows     [][]float64 // by patient, then column
}

// parseTable reads CSV: a header "patient,column,…", then one line per patient
// with finite numbers. Patients and columns are unique.
func parseTable(csv string) (table, error) {
	lines := strings.Split(strings.TrimSpace(csv), "\n")
	header := strings.Split(lines[0], ",")
	if len(header) < 2 || header[0] != "patient" || len(header)-1 > maxColumns || len(lines)-1 > maxRows {
		return table{}, fmt.Errorf("want a header that starts with patient, 1 to %d columns and at most %d rows", maxColumns, maxRows)
	}
	t := table{columns: header[1:]}
	seen := map[string]bool{}
	for _, c := range t.columns {
		if seen[c] || c == "" {
			return table{}, fmt.Errorf("a column has no name or is there twice")
		}
		seen[c] = true
	}
	clear(seen)
	for i, line := range lines[1:] {
		fields := strings.Split(line, ",")
		if len(fields) != len(header) || fields[0] == "" || seen[fields[0]] {
			return table{}, fmt.Errorf("row %d: wrong number of fields, or a patient without name or twice", i+1)
		}
		seen[fields[0]] = true
		row := make([]float64, len(t.columns))
		for j, f := range fields[1:] {
			v, err := strconv.ParseFloat(f, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return table{}, fmt.Errorf("row %d: column %s is not a number", i+1, t.columns[j])
			}
			row[j] = v
		}
		t.patients, t.rows = append(t.patients, fields[0]), append(t.rows, row)
	}
	return t, nil
}

// take removes a column and returns its values.
func (t table) take(name string) (table, []float64, error) {
	for j, c := range t.columns {
		if c != name {
			continue
		}
		out := table{patients: t.patients, columns: without(t.columns, j)}
		values := make([]float64, len(t.rows))
		for i, row := range t.rows {
			values[i] = row[j]
			out.rows = append(out.rows, without(row, j))
		}
		return out, values, nil
	}
	return table{}, nil, fmt.Errorf("there is no column %q", name)
}

func without[T any](s []T, i int) []T {
	return append(append(make([]T, 0, len(s)-1), s[:i]...), s[i+1:]...)
}

// join puts the rows of the patients that both tables have beside each other,
// in the order of b. In returns the row of b that each came from.
func join(a, b table) (joined table, in []int) {
	byPatient := make(map[string]int, len(a.patients))
	for i, p := range a.patients {
		byPatient[p] = i
	}
	joined.columns = append(append([]string{}, a.columns...), b.columns...)
	for i, p := range b.patients {
		if k, ok := byPatient[p]; ok {
			joined.patients = append(joined.patients, p)
			joined.rows = append(joined.rows, append(append([]float64{}, a.rows[k]...), b.rows[i]...))
			in = append(in, i)
		}
	}
	return joined, in
}
