package main

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// diagnosis is the column that hospital B brings: 1 malignant, 0 benign.
const diagnosis = "malignant"

// minPatients is the least number of joint patients whose statistics leave the
// enclave: fewer would say something about a single one.
const minPatients = 50

// Result is what both hospitals learn.
type Result struct {
	Patients  int `json:"patients"`  // that both hospitals know
	Malignant int `json:"malignant"` // of them
	// Columns are A's measurements by the strength of their correlation with
	// B's diagnosis, strongest first: statistics across both tables.
	Columns []Column `json:"columns"`
	// Joint is the model over both tables, Alone the best that hospital B can do
	// with its own; hospital A has no diagnoses and can do nothing.
	Joint Score `json:"joint"`
	Alone Score `json:"alone"`
	// Model predicts a malignant tumour from both hospitals' measurements.
	Model Model `json:"model"`
}

// Column is one measurement of hospital A.
type Column struct {
	Name        string  `json:"name"`
	Correlation float64 `json:"correlation"` // Pearson, with the diagnosis
}

// Score is what a model gets right on patients that it was not trained on.
type Score struct {
	Columns int     `json:"columns"`
	Tested  int     `json:"tested"`
	Correct int     `json:"correct"`
	AUC     float64 `json:"auc"` // area under the ROC curve
}

// Model is a logistic regression: the probability is the logistic function of
// Intercept plus the sum of Weight·(value−Mean)/Scale.
type Model struct {
	Intercept float64       `json:"intercept"`
	Columns   []Coefficient `json:"columns"`
}

// Coefficient is one measurement in a Model.
type Coefficient struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
	Mean   float64 `json:"mean"`
	Scale  float64 `json:"scale"`
}

// study computes everything that leaves the enclave.
func study(a, b table) (Result, error) {
	b, outcomes, err := b.take(diagnosis)
	if err != nil {
		return Result{}, fmt.Errorf("hospital b: %w", err)
	}
	joined, in := join(a, b)
	if len(joined.rows) < minPatients {
		return Result{}, fmt.Errorf("the hospitals share fewer than %d patients", minPatients)
	}
	outcome, own := make([]float64, len(in)), make([][]float64, len(in))
	for i, k := range in {
		if outcome[i] = outcomes[k]; outcome[i] != 0 && outcome[i] != 1 {
			return Result{}, fmt.Errorf("a diagnosis is neither 0 nor 1")
		}
		own[i] = b.rows[k]
	}
	r := Result{Patients: len(in), Columns: correlations(a.columns, joined.rows, outcome)}
	for _, o := range outcome {
		r.Malignant += int(o)
	}
	joint, err := evaluate(joined.rows, outcome, &r.Joint)
	if err != nil {
		return Result{}, err
	}
	if _, err := evaluate(own, outcome, &r.Alone); err != nil {
		return Result{}, err
	}
	r.Model = describe(joint, joined.columns)
	return r, nil
}

// correlations are those of the first columns, which are hospital A's.
func correlations(columns []string, rows [][]float64, outcome []float64) []Column {
	out := make([]Column, len(columns))
	for j, name := range columns {
		out[j] = Column{name, round(correlation(column(rows, j), outcome))}
	}
	slices.SortStableFunc(out, func(x, y Column) int {
		if math.Abs(x.Correlation) > math.Abs(y.Correlation) {
			return -1
		}
		return 1
	})
	return out
}

// evaluate trains on four patients of five and tests on the fifth.
func evaluate(rows [][]float64, outcome []float64, s *Score) (model, error) {
	var train, test [][]float64
	var trained, truth []float64
	for i := range rows {
		if i%5 == 0 {
			test, truth = append(test, rows[i]), append(truth, outcome[i])
		} else {
			train, trained = append(train, rows[i]), append(trained, outcome[i])
		}
	}
	m, err := fit(train, trained)
	if err != nil {
		return m, err
	}
	p := make([]float64, len(test))
	for i := range test {
		p[i] = m.probability(test[i])
		if (p[i] > 0.5) == (truth[i] == 1) {
			s.Correct++
		}
	}
	s.Columns, s.Tested, s.AUC = len(rows[0]), len(test), round(auc(p, truth))
	return m, nil
}

// auc is the probability that a malignant case gets a higher value than a
// benign one; ties count half.
func auc(p, truth []float64) float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(i, j int) bool { return p[order[i]] < p[order[j]] })
	var rankSum, positives float64
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && p[order[j]] == p[order[i]] {
			j++
		}
		rank := float64(i+j+1) / 2 // the mean rank of a tie, from 1
		for ; i < j; i++ {
			if truth[order[i]] == 1 {
				rankSum, positives = rankSum+rank, positives+1
			}
		}
	}
	negatives := float64(len(p)) - positives
	if positives == 0 || negatives == 0 {
		return 0
	}
	return (rankSum - positives*(positives+1)/2) / (positives * negatives)
}

func describe(m model, columns []string) Model {
	out := Model{Intercept: round(m.weights[0])}
	for j, name := range columns {
		out.Columns = append(out.Columns, Coefficient{name, round(m.weights[j+1]), round(m.mean[j]), round(m.scale[j])})
	}
	return out
}

// round keeps six digits: more would say something about single patients and
// nothing about medicine.
func round(v float64) float64 {
	if v == 0 {
		return 0
	}
	scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}
