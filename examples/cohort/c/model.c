#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cohort.h"

static const double ridge = 1.0;      /* pulls weights towards 0: columns of a body are alike */
static const double converged = 1e-8; /* largest step at which Newton's method stops */
enum { ITERATIONS = 25 };             /* it needs about ten */

static const char singular[] = "the data do not determine a model";

static double sigmoid(double z) { return 1 / (1 + exp(-z)); }

static double dot(const double *a, const double *b, int n) {
  double s = 0;
  for (int i = 0; i < n; i++) s += a[i] * b[i];
  return s;
}

/* Says whether all values are the same. Their variance does not: the mean is rounded. */
static int constant(const double *v, int stride, int n) {
  for (int i = 1; i < n; i++)
    if (v[(size_t)i * (size_t)stride] != v[0]) return 0;
  return 1;
}

/* Takes mean and standard deviation of each column. */
static void standard(const double *rows, int n, model *m) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j < m->columns; j++) m->mean[j] += rows[i * m->columns + j] / n;
  for (int i = 0; i < n; i++)
    for (int j = 0; j < m->columns; j++) {
      double d = rows[i * m->columns + j] - m->mean[j];
      m->scale[j] += d * d / n;
    }
  for (int j = 0; j < m->columns; j++) {
    m->scale[j] = sqrt(m->scale[j]);
    if (!constant(rows + j, m->columns, n)) continue;
    m->mean[j] = rows[j]; /* a constant column says nothing */
    m->scale[j] = 1;
  }
}

/* Writes 1 and the standardised row to x. */
static void features(const model *m, const double *row, double *x) {
  x[0] = 1;
  for (int j = 0; j < m->columns; j++) x[j + 1] = (row[j] - m->mean[j]) / m->scale[j];
}

/* Solves a symmetric positive definite system, of which the lower half is given, by Cholesky's method in place. */
static int solve(double *a, double *b, int n) {
  for (int i = 0; i < n; i++)
    for (int j = 0; j <= i; j++) {
      double s = a[i * n + j];
      for (int k = 0; k < j; k++) s -= a[i * n + k] * a[j * n + k];
      if (i != j)
        a[i * n + j] = s / a[j * n + j];
      else if (s > 0)
        a[i * n + i] = sqrt(s);
      else
        return 0; /* also when it is not a number */
    }
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < i; k++) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (int i = n - 1; i >= 0; i--) {
    for (int k = i + 1; k < n; k++) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return 1;
}

/* Computes one step of Newton's method into gradient. */
static int newton(const model *m, const double *x, const double *outcome, int n, double *hessian, double *gradient) {
  int d = m->columns + 1;
  memset(hessian, 0, (size_t)d * (size_t)d * sizeof *hessian);
  memset(gradient, 0, (size_t)d * sizeof *gradient);
  for (int k = 0; k < n; k++) {
    const double *row = x + (size_t)k * (size_t)d;
    double p = sigmoid(dot(m->weights, row, d)), w = fmax(p * (1 - p), 1e-12);
    for (int i = 0; i < d; i++) {
      gradient[i] += (outcome[k] - p) * row[i];
      for (int j = 0; j <= i; j++) hessian[i * d + j] += w * row[i] * row[j];
    }
  }
  for (int i = 1; i < d; i++) {
    hessian[i * d + i] += ridge;
    gradient[i] -= ridge * m->weights[i];
  }
  return solve(hessian, gradient, d);
}

const char *model_fit(const double *rows, const double *outcome, int n, int columns, model *m) {
  if (n == 0) return singular;
  size_t d = (size_t)columns + 1;
  *m = (model){columns, zeroed(d, sizeof(double)), zeroed(d, sizeof(double)), zeroed(d, sizeof(double))};
  standard(rows, n, m);
  for (int j = 0; j < columns; j++)
    if (isinf(m->scale[j])) return singular; /* numbers so large that their variance is none */
  double *x = zeroed((size_t)n * d, sizeof *x), *hessian = zeroed(d * d, sizeof *x), *step = zeroed(d, sizeof *x);
  for (int i = 0; i < n; i++) features(m, rows + (size_t)i * (size_t)columns, x + (size_t)i * d);
  const char *bad = 0;
  double largest = INFINITY;
  for (int round = 0; round < ITERATIONS && largest >= converged && !bad; round++) {
    largest = 0;
    if (!newton(m, x, outcome, n, hessian, step)) bad = singular;
    for (size_t i = 0; i < d && !bad; i++) {
      m->weights[i] += step[i];
      largest = fmax(largest, fabs(step[i]));
    }
  }
  free(x);
  free(hessian);
  free(step);
  return bad;
}

double model_probability(const model *m, const double *row) {
  double *x = zeroed((size_t)m->columns + 1, sizeof *x);
  features(m, row, x);
  double p = sigmoid(dot(m->weights, x, m->columns + 1));
  free(x);
  return p;
}

double correlation(const double *a, int stride, const double *b, int n) {
  double ma = 0, mb = 0, sab = 0, saa = 0, sbb = 0;
  for (int i = 0; i < n; i++) {
    ma += a[(size_t)i * (size_t)stride] / n;
    mb += b[i] / n;
  }
  for (int i = 0; i < n; i++) {
    double da = a[(size_t)i * (size_t)stride] - ma, db = b[i] - mb;
    sab += da * db;
    saa += da * da;
    sbb += db * db;
  }
  if (constant(a, stride, n) || constant(b, 1, n)) return 0;
  return saa == 0 || sbb == 0 ? 0 : sab / sqrt(saa * sbb);
}

typedef struct {
  double p, truth;
} judged;

static int by_probability(const void *a, const void *b) {
  double x = ((const judged *)a)->p, y = ((const judged *)b)->p;
  return (x > y) - (x < y);
}

/* It is the probability that a malignant case gets a higher value than a benign one; ties count half. */
double area_under_curve(const double *p, const double *truth, int n) {
  judged *order = zeroed((size_t)n, sizeof *order);
  for (int i = 0; i < n; i++) order[i] = (judged){p[i], truth[i]};
  qsort(order, (size_t)n, sizeof *order, by_probability);
  double ranks = 0, positives = 0;
  for (int i = 0, j; i < n;) {
    for (j = i; j < n && order[j].p == order[i].p;) j++;
    double rank = (i + j + 1) / 2.0; /* the mean rank of a tie, from 1 */
    for (; i < j; i++)
      if (order[i].truth == 1) {
        ranks += rank;
        positives++;
      }
  }
  free(order);
  double negatives = n - positives;
  if (positives == 0 || negatives == 0) return 0;
  return (ranks - positives * (positives + 1) / 2) / (positives * negatives);
}
