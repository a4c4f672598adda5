package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// hospitals are tables of n patients; outcome says the diagnosis of each.
func hospitals(n int, outcome func(i int) float64) (a, b table) {
	a.columns, b.columns = []string{"weak", "strong"}, []string{diagnosis, "own"}
	for i := range n {
		x, o := float64(i), outcome(i)
		name := fmt.Sprint("p", i)
		a.patients, b.patients = append(a.patients, name), append(b.patients, name)
		a.rows = append(a.rows, []float64{o + 3*math.Sin(x*1.9), -o + math.Sin(x*2.7)})
		b.rows = append(b.rows, []float64{o, math.Sin(x*0.7) + o/2})
	}
	slices.Reverse(b.patients)
	slices.Reverse(b.rows)
	return a, b
}

func odd(i int) float64 { return float64(i % 2) }

func TestStudy(t *testing.T) {
	a, b := hospitals(100, odd)
	r, err := study(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if r.Patients != 100 || r.Malignant != 50 || r.Joint.Columns != 3 || r.Alone.Columns != 1 || r.Joint.Tested != 20 || r.Alone.Tested != 20 {
		t.Errorf("result %+v", r)
	}
	if r.Columns[0].Name != "strong" || r.Columns[0].Correlation >= 0 || r.Columns[1].Correlation <= 0 {
		t.Errorf("correlations %+v: want strong first, negative", r.Columns)
	}
	if len(r.Model.Columns) != 3 || r.Model.Columns[2].Name != "own" || r.Model.Columns[1].Weight >= 0 {
		t.Errorf("model %+v", r.Model)
	}
	if r.Joint.AUC < 0.5 || r.Joint.AUC > 1 || r.Joint.Correct > r.Joint.Tested {
		t.Errorf("score %+v", r.Joint)
	}
	if out, err := json.Marshal(r); err != nil || strings.Contains(string(out), "p17") {
		t.Errorf("a patient leaves the enclave, or %v: %s", err, out)
	}
}

func TestStudyRefuses(t *testing.T) {
	a, b := hospitals(minPatients, odd)
	if _, err := study(a, b); err != nil {
		t.Errorf("with %d patients: %v", minPatients, err)
	}
	few, other := hospitals(minPatients-1, odd)
	none, _ := hospitals(100, odd)
	none.patients = slices.Repeat([]string{"stranger"}, 100)
	half, halves := hospitals(100, func(int) float64 { return 0.5 })
	for name, c := range map[string]struct {
		a, b table
		want string
	}{
		"too few patients":        {few, other, "fewer than 50 patients"},
		"no patient in common":    {none, b, "fewer than 50 patients"},
		"no diagnosis":            {a, a, `hospital b: there is no column "malignant"`},
		"a diagnosis of one half": {half, halves, "neither 0 nor 1"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := study(c.a, c.b)
			if err == nil || !strings.Contains(err.Error(), c.want) || r.Patients != 0 {
				t.Errorf("got %+v, %v, want an error with %q", r, err, c.want)
			}
		})
	}
}

// TestStudyOfTheHealthy: without a malignant case there is nothing to rank.
func TestStudyOfTheHealthy(t *testing.T) {
	r, err := study(hospitals(60, func(int) float64 { return 0 }))
	if err != nil || r.Malignant != 0 || r.Joint.AUC != 0 || r.Joint.Correct != r.Joint.Tested {
		t.Errorf("result %+v, %v", r, err)
	}
}

// TestStudyWithTheDiagnosisOnly: hospital B may have nothing else.
func TestStudyWithTheDiagnosisOnly(t *testing.T) {
	a, b := hospitals(60, odd)
	b.columns = b.columns[:1]
	for i := range b.rows {
		b.rows[i] = b.rows[i][:1]
	}
	r, err := study(a, b)
	if err != nil || r.Alone.Columns != 0 || r.Alone.AUC != 0.5 {
		t.Errorf("alone %+v, %v, want no column and an AUC of 1/2", r.Alone, err)
	}
}

func TestAUC(t *testing.T) {
	for name, c := range map[string]struct {
		p, truth []float64
		want     float64
	}{
		"perfect":         {[]float64{0.1, 0.2, 0.8, 0.9}, []float64{0, 0, 1, 1}, 1},
		"reversed":        {[]float64{0.9, 0.1}, []float64{0, 1}, 0},
		"one wrong":       {[]float64{0.1, 0.3, 0.2, 0.4}, []float64{0, 0, 1, 1}, 0.75},
		"all tied":        {[]float64{0.5, 0.5, 0.5, 0.5}, []float64{0, 1, 1, 0}, 0.5},
		"one tie":         {[]float64{0.1, 0.5, 0.5, 0.9}, []float64{0, 0, 1, 1}, 0.875},
		"nobody positive": {[]float64{0.1, 0.2}, []float64{0, 0}, 0},
		"nobody at all":   {nil, nil, 0},
	} {
		if got := auc(c.p, c.truth); !near(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestAUCIsTheShareOfOrderedPairs: the definition, without ranks.
func TestAUCIsTheShareOfOrderedPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 30).Draw(t, "n")
		p, truth := make([]float64, n), make([]float64, n)
		for i := range p {
			p[i] = float64(rapid.IntRange(0, 5).Draw(t, "p")) / 5
			truth[i] = float64(rapid.IntRange(0, 1).Draw(t, "truth"))
		}
		var pairs, ordered float64
		for i := range p {
			for j := range p {
				if truth[i] != 1 || truth[j] != 0 {
					continue
				}
				pairs++
				if p[i] > p[j] {
					ordered++
				} else if p[i] == p[j] {
					ordered += 0.5
				}
			}
		}
		want := 0.0
		if pairs > 0 {
			want = ordered / pairs
		}
		if got := auc(p, truth); !near(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func TestRound(t *testing.T) {
	for in, want := range map[float64]float64{
		0: 0, 1: 1, 123456.7: 123457, 0.1234567: 0.123457, -0.1234567: -0.123457, 1.0000004: 1, 1.0000006: 1,
		999999.7: 1000000, 1234567: 1234570, 1.2345678e-9: 1.23457e-9, 1.2345678e20: 1.23457e20,
	} {
		if got := round(in); !near(got, want) || in != 0 && math.Abs(got-want) > math.Abs(want)*1e-12 {
			t.Errorf("round(%v) = %v, want %v", in, got, want)
		}
	}
}
