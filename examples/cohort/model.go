package main

import (
	"errors"
	"math"
	"slices"
)

// model is a logistic regression over standardised columns.
type model struct {
	mean, scale []float64
	weights     []float64 // weights[0] is the intercept
}

const (
	ridge      = 1.0  // pulls weights towards 0: columns of a body are alike
	iterations = 25   // Newton's method needs about ten
	converged  = 1e-8 // largest step at which it stops
)

var errSingular = errors.New("the data do not determine a model")

// fit trains on rows with outcomes 0 or 1 by Newton's method (iteratively
// reweighted least squares), with an L2 penalty on all but the intercept.
func fit(rows [][]float64, outcome []float64) (model, error) {
	if len(rows) == 0 {
		return model{}, errSingular
	}
	m := standard(rows)
	if slices.ContainsFunc(m.scale, func(s float64) bool { return math.IsInf(s, 0) }) {
		return model{}, errSingular // numbers so large that their variance is none
	}
	d := len(m.mean) + 1
	m.weights = make([]float64, d)
	x := make([][]float64, len(rows))
	for i, r := range rows {
		x[i] = m.features(r)
	}
	for range iterations {
		step, err := m.newton(x, outcome)
		if err != nil {
			return model{}, err
		}
		largest := 0.0
		for i, s := range step {
			m.weights[i] += s
			largest = max(largest, math.Abs(s))
		}
		if largest < converged {
			break
		}
	}
	return m, nil
}

// standard takes mean and standard deviation of each column.
func standard(rows [][]float64) model {
	n, d := float64(len(rows)), len(rows[0])
	m := model{mean: make([]float64, d), scale: make([]float64, d)}
	for _, r := range rows {
		for j, v := range r {
			m.mean[j] += v / n
		}
	}
	for _, r := range rows {
		for j, v := range r {
			m.scale[j] += (v - m.mean[j]) * (v - m.mean[j]) / n
		}
	}
	for j := range m.scale {
		if m.scale[j] = math.Sqrt(m.scale[j]); constant(column(rows, j)) {
			m.mean[j], m.scale[j] = rows[0][j], 1 // a constant column says nothing
		}
	}
	return m
}

// constant says whether all values are the same. Their variance does not: the
// mean is rounded.
func constant(values []float64) bool { return slices.Min(values) == slices.Max(values) }

func column(rows [][]float64, j int) []float64 {
	values := make([]float64, len(rows))
	for i, r := range rows {
		values[i] = r[j]
	}
	return values
}

// features returns 1 and the standardised row.
func (m model) features(row []float64) []float64 {
	x := make([]float64, len(row)+1)
	x[0] = 1
	for j, v := range row {
		x[j+1] = (v - m.mean[j]) / m.scale[j]
	}
	return x
}

func (m model) newton(x [][]float64, outcome []float64) ([]float64, error) {
	d := len(m.weights)
	hessian, gradient := make([][]float64, d), make([]float64, d)
	for i := range hessian {
		hessian[i] = make([]float64, d)
	}
	for k, row := range x {
		p := sigmoid(dot(m.weights, row))
		w := max(p*(1-p), 1e-12)
		for i, xi := range row {
			gradient[i] += (outcome[k] - p) * xi
			for j := range i + 1 {
				hessian[i][j] += w * xi * row[j]
			}
		}
	}
	for i := 1; i < d; i++ {
		hessian[i][i] += ridge
		gradient[i] -= ridge * m.weights[i]
	}
	return solve(hessian, gradient)
}

// solve solves a symmetric positive definite system, of which the lower half is
// given, by Cholesky's method in place.
func solve(a [][]float64, b []float64) ([]float64, error) {
	for i := range a {
		for j := range i + 1 {
			s := a[i][j]
			for k := range j {
				s -= a[i][k] * a[j][k]
			}
			if i == j {
				if s <= 0 || math.IsNaN(s) {
					return nil, errSingular
				}
				a[i][i] = math.Sqrt(s)
			} else {
				a[i][j] = s / a[j][j]
			}
		}
	}
	for i := range b {
		for k := range i {
			b[i] -= a[i][k] * b[k] //nolint:gosec // a has a row for each of b, and row i has more than i columns
		}
		b[i] /= a[i][i]
	}
	for i := len(b) - 1; i >= 0; i-- {
		for k := i + 1; k < len(b); k++ {
			b[i] -= a[k][i] * b[k]
		}
		b[i] /= a[i][i]
	}
	return b, nil
}

// probability is that of outcome 1.
func (m model) probability(row []float64) float64 { return sigmoid(dot(m.weights, m.features(row))) }

func sigmoid(z float64) float64 { return 1 / (1 + math.Exp(-z)) }

func dot(a, b []float64) float64 {
	s := 0.0
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

// correlation is Pearson's of two columns of equal length; 0 if one is constant.
func correlation(a, b []float64) float64 {
	n := float64(len(a))
	var ma, mb float64
	for i := range a {
		ma, mb = ma+a[i]/n, mb+b[i]/n
	}
	var sab, saa, sbb float64
	for i := range a {
		sab += (a[i] - ma) * (b[i] - mb)
		saa += (a[i] - ma) * (a[i] - ma)
		sbb += (b[i] - mb) * (b[i] - mb)
	}
	if constant(a) || constant(b) || saa == 0 || sbb == 0 {
		return 0
	}
	return sab / math.Sqrt(saa*sbb)
}
