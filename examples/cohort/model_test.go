package main

import (
	"errors"
	"math"
	"testing"
)

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-9*max(1, math.Abs(want)) }

// logLoss is what fit minimises: the penalised negative log-likelihood.
func logLoss(m model, rows [][]float64, outcome []float64) float64 {
	loss := 0.0
	for i, r := range rows {
		p := m.probability(r)
		loss -= outcome[i]*math.Log(p) + (1-outcome[i])*math.Log(1-p)
	}
	for _, w := range m.weights[1:] {
		loss += ridge * w * w / 2
	}
	return loss
}

// TestFitOneColumn: with a column of ±1, the outcome 1 in 3 of 4 rows of one sign
// and in 1 of 4 of the other, the weight solves 8·σ(w)+w = 6 (the gradient of the
// penalised likelihood), and the intercept is 0 by symmetry.
func TestFitOneColumn(t *testing.T) {
	rows := [][]float64{{1}, {1}, {1}, {1}, {-1}, {-1}, {-1}, {-1}}
	outcome := []float64{1, 1, 1, 0, 1, 0, 0, 0}
	m, err := fit(rows, outcome)
	if err != nil {
		t.Fatal(err)
	}
	w := m.weights[1]
	if !near(m.mean[0], 0) || !near(m.scale[0], 1) || math.Abs(m.weights[0]) > 1e-9 || !near(8*sigmoid(w)+w, 6) {
		t.Errorf("model %+v: 8σ(w)+w is %v, want 6", m, 8*sigmoid(w)+w)
	}
	if p := m.probability([]float64{1}); !near(p, sigmoid(w)) || p <= 0.5 || p >= 0.75 {
		t.Errorf("probability %v, want between 1/2 and the unpenalised 3/4", p)
	}
}

// TestFitIsTheMinimum: no small step in any direction improves the model.
func TestFitIsTheMinimum(t *testing.T) {
	var rows [][]float64
	var outcome []float64
	for i := range 60 {
		x := float64(i)
		rows = append(rows, []float64{100 + 5*math.Sin(x*1.3), math.Cos(x * 2.1), x})
		outcome = append(outcome, 0)
		if math.Sin(x*1.3)+math.Cos(x*2.1)+math.Sin(x*7) > 0 {
			outcome[i] = 1
		}
	}
	m, err := fit(rows, outcome)
	if err != nil {
		t.Fatal(err)
	}
	best := logLoss(m, rows, outcome)
	for i := range m.weights {
		for _, step := range []float64{-1e-3, 1e-3} {
			m.weights[i] += step
			if loss := logLoss(m, rows, outcome); loss <= best {
				t.Errorf("weight %d moved by %v: loss %v, not above %v", i, step, loss, best)
			}
			m.weights[i] -= step
		}
	}
}

// TestConstantColumn: whatever its value, it changes nothing. The mean of some
// values is not exactly the value, so a variance of 0 cannot be relied on.
func TestConstantColumn(t *testing.T) {
	rows, more := [][]float64{}, [][]float64{}
	var outcome []float64
	for i := range 83 {
		x := math.Sin(float64(i) * 1.7)
		rows, more = append(rows, []float64{x}), append(more, []float64{0.1, x})
		outcome = append(outcome, float64((i+i/3)%2))
	}
	m, err := fit(rows, outcome)
	if err != nil {
		t.Fatal(err)
	}
	n, err := fit(more, outcome)
	if err != nil {
		t.Fatal(err)
	}
	if n.mean[0] != 0.1 || n.scale[0] != 1 || n.weights[1] != 0 || !near(n.weights[0], m.weights[0]) || !near(n.weights[2], m.weights[1]) {
		t.Errorf("with a constant column %+v, without %+v", n, m)
	}
	if r := correlation(column(more, 0), outcome); r != 0 {
		t.Errorf("correlation of a constant column is %v, want 0", r)
	}
}

func TestSingular(t *testing.T) {
	if _, err := fit(nil, nil); !errors.Is(err, errSingular) {
		t.Errorf("no rows: %v, want errSingular", err)
	}
	huge := [][]float64{{math.MaxFloat64}, {-math.MaxFloat64}}
	if _, err := fit(huge, []float64{0, 1}); !errors.Is(err, errSingular) {
		t.Errorf("overflowing rows: %v, want errSingular", err)
	}
	for name, a := range map[string][][]float64{"zero": {{0}}, "indefinite": {{1, 0}, {2, 1}}, "not a number": {{math.NaN()}}} {
		if x, err := solve(a, make([]float64, len(a))); !errors.Is(err, errSingular) {
			t.Errorf("%s: %v, %v, want errSingular", name, x, err)
		}
	}
}

func TestSolve(t *testing.T) {
	// [4 2; 2 3]·x = [10 9] has the solution [1.5 2].
	x, err := solve([][]float64{{4, 0}, {2, 3}}, []float64{10, 9})
	if err != nil || !near(x[0], 1.5) || !near(x[1], 2) {
		t.Errorf("got %v, %v, want [1.5 2]", x, err)
	}
}

func TestCorrelation(t *testing.T) {
	for name, c := range map[string]struct {
		a, b []float64
		want float64
	}{
		"equal":     {[]float64{1, 2, 4}, []float64{1, 2, 4}, 1},
		"scaled":    {[]float64{1, 2, 4}, []float64{-3, -6, -12}, -1},
		"unrelated": {[]float64{1, -1, 1, -1}, []float64{1, 1, -1, -1}, 0},
		"known":     {[]float64{1, 2, 3}, []float64{1, 3, 2}, 0.5},
		"constant":  {[]float64{1, 2, 3}, []float64{0.1, 0.1, 0.1}, 0},
	} {
		if got := correlation(c.a, c.b); !near(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
