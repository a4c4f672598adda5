#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cohort.h"

/* The least number of joint patients whose statistics leave the enclave: fewer would say something about a single one. */
enum { MIN_PATIENTS = 50 };

static char message[300];

/* JSON as it grows. */
typedef struct {
  char *text;
  size_t len, cap;
} writer;

static void put(writer *w, const char *format, ...) {
  char piece[64];
  va_list args;
  va_start(args, format);
  size_t n = (size_t)vsnprintf(piece, sizeof piece, format, args);
  va_end(args);
  if (w->len + n + 1 > w->cap) {
    w->cap = 2 * (w->cap + n + 1);
    if (!(w->text = realloc(w->text, w->cap))) exit(1);
  }
  for (size_t i = 0; i < n; i++) w->text[w->len++] = piece[i];
}

static void put_string(writer *w, const char *s) {
  put(w, "\"");
  for (; *s; s++) put(w, *s == '"' || *s == '\\' ? "\\%c" : (unsigned char)*s < ' ' ? "\\u%04x" : "%c", (unsigned char)*s);
  put(w, "\"");
}

/* Six digits: more would say something about single patients and nothing about medicine. */
static void put_number(writer *w, double v) {
  double scale = v == 0 ? 1 : pow(10, 5 - floor(log10(fabs(v))));
  v = v == 0 ? 0 : round(v * scale) / scale;
  for (int digits = 6; digits <= 17; digits++) {
    char text[32];
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (digits == 17 || strtod(text, 0) == v) {
      put(w, "%s", text);
      return;
    }
  }
}

/* What a model gets right on patients that it was not trained on. */
typedef struct {
  int columns, tested, correct;
  double auc;
} score;

/* Trains on four patients of five and tests on the fifth. */
static const char *evaluate(const double *rows, const double *outcome, int n, int columns, model *m, score *s) {
  size_t d = (size_t)columns;
  double *train = zeroed((size_t)n * (d + 1), sizeof *train), *trained = zeroed((size_t)n, sizeof *trained);
  double *p = zeroed((size_t)n, sizeof *p), *truth = zeroed((size_t)n, sizeof *truth);
  int k = 0;
  *s = (score){.columns = columns};
  for (int i = 0; i < n; i++) {
    if (i % 5 == 0) continue;
    for (size_t j = 0; j < d; j++) train[(size_t)k * d + j] = rows[(size_t)i * d + j];
    trained[k++] = outcome[i];
  }
  const char *bad = model_fit(train, trained, k, columns, m);
  for (int i = 0; i < n && !bad; i += 5) {
    p[s->tested] = model_probability(m, rows + (size_t)i * d);
    truth[s->tested] = outcome[i];
    s->correct += (p[s->tested] > 0.5) == (outcome[i] == 1);
    s->tested++;
  }
  if (!bad) s->auc = area_under_curve(p, truth, s->tested);
  free(train);
  free(trained);
  free(p);
  free(truth);
  return bad;
}

static void put_score(writer *w, const char *name, const score *s) {
  put(w, ",\"%s\":{", name);
  put(w, "\"columns\":%d,\"tested\":%d,\"correct\":%d,", s->columns, s->tested, s->correct);
  put(w, "\"auc\":");
  put_number(w, s->auc);
  put(w, "}");
}

/* Writes A's columns by the strength of their correlation with the diagnosis, strongest first. */
static void put_correlations(writer *w, const table *joined, int columns, const double *outcome) {
  double *r = zeroed((size_t)columns, sizeof *r);
  int *order = zeroed((size_t)columns, sizeof *order);
  for (int j = 0; j < columns; j++) {
    int at = j;
    r[j] = correlation(joined->values + j, joined->columns, outcome, joined->rows);
    for (; at > 0 && fabs(r[order[at - 1]]) < fabs(r[j]); at--) order[at] = order[at - 1];
    order[at] = j;
  }
  for (int j = 0; j < columns; j++) {
    put(w, j ? ",{\"name\":" : "{\"name\":");
    put_string(w, joined->names[order[j]]);
    put(w, ",\"correlation\":");
    put_number(w, r[order[j]]);
    put(w, "}");
  }
  free(r);
  free(order);
}

static void put_model(writer *w, const model *m, char **names) {
  put(w, ",\"model\":{\"intercept\":");
  put_number(w, m->weights[0]);
  put(w, ",\"columns\":[");
  for (int j = 0; j < m->columns; j++) {
    put(w, j ? ",{\"name\":" : "{\"name\":");
    put_string(w, names[j]);
    put(w, ",\"weight\":");
    put_number(w, m->weights[j + 1]);
    put(w, ",\"mean\":");
    put_number(w, m->mean[j]);
    put(w, ",\"scale\":");
    put_number(w, m->scale[j]);
    put(w, "}");
  }
  put(w, "]}");
}

/* Takes the joint patients' diagnoses and B's own columns. */
static const char *of_b(const table *b, const double *diagnoses, const int *in, int n, double *outcome, double *own) {
  for (int i = 0; i < n; i++) {
    outcome[i] = diagnoses[in[i]];
    if (outcome[i] != 0 && outcome[i] != 1) return "a diagnosis is neither 0 nor 1";
    for (int j = 0; j < b->columns; j++) own[i * b->columns + j] = b->values[in[i] * b->columns + j];
  }
  return 0;
}

const char *study(table *a, table *b, char **json, uint32_t *len) {
  double *diagnoses;
  int *in, malignant = 0;
  const char *bad = table_take(b, "malignant", &diagnoses);
  if (bad) {
    snprintf(message, sizeof message, "hospital b: %s", bad);
    return message;
  }
  table joined = table_join(a, b, &in);
  int n = joined.rows;
  if (n < MIN_PATIENTS) {
    snprintf(message, sizeof message, "the hospitals share fewer than %d patients", MIN_PATIENTS);
    return message;
  }
  double *outcome = zeroed((size_t)n, sizeof *outcome), *own = zeroed((size_t)n * (size_t)(b->columns + 1), sizeof *own);
  if ((bad = of_b(b, diagnoses, in, n, outcome, own))) return bad;
  for (int i = 0; i < n; i++) malignant += (int)outcome[i];
  model joint, alone;
  score of_joint, of_alone;
  if ((bad = evaluate(joined.values, outcome, n, joined.columns, &joint, &of_joint))) return bad;
  if ((bad = evaluate(own, outcome, n, b->columns, &alone, &of_alone))) return bad;

  writer w = {0};
  put(&w, "{\"patients\":%d,\"malignant\":%d,\"columns\":[", n, malignant);
  put_correlations(&w, &joined, a->columns, outcome);
  put(&w, "]");
  put_score(&w, "joint", &of_joint);
  put_score(&w, "alone", &of_alone);
  put_model(&w, &joint, joined.names);
  put(&w, "}");
  *json = w.text;
  *len = (uint32_t)w.len;
  return 0;
}
