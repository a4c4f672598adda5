#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cohort.h"

/* Bounds of a table. The bytes come from the host and then from a hospital that may be wrong. */
enum { MAX_ROWS = 100000, MAX_COLUMNS = 64 };

static char message[256];

void *zeroed(size_t count, size_t size) {
  void *p = calloc(count ? count : 1, size);
  if (p) return p;
  fprintf(stderr, "cohort: out of memory\n");
  exit(1);
}

/* A name and the row it stands in, to sort and search. */
typedef struct {
  const char *name;
  int row;
} entry;

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->name, ((const entry *)b)->name); }

static entry *sorted(char **names, int n) {
  entry *e = zeroed((size_t)n, sizeof *e);
  for (int i = 0; i < n; i++) e[i] = (entry){names[i], i};
  qsort(e, (size_t)n, sizeof *e, by_name);
  return e;
}

/* Returns a row whose name is empty or there twice, -1 if there is none. */
static int bad_name(char **names, int n) {
  entry *e = sorted(names, n);
  int bad = -1;
  for (int i = 0; i < n; i++)
    if (!*e[i].name || (i > 0 && !strcmp(e[i - 1].name, e[i].name))) bad = e[i].row;
  free(e);
  return bad;
}

static int count(const char *s, char c) {
  int n = 0;
  for (; *s; s++) n += *s == c;
  return n;
}

/* Cuts *rest at its first separator and returns what came before. */
static char *cut(char **rest, char separator) {
  char *s = *rest, *end = strchr(s, separator);
  if (end) *end = 0;
  *rest = end ? end + 1 : s + strlen(s);
  return s;
}

/* Reads a decimal number. strtod alone would also take white space, "nan" and hexadecimal. */
static int number(const char *s, double *v) {
  char *end;
  if (!*s || s[strspn(s, "0123456789+-.eE")]) return 0;
  *v = strtod(s, &end);
  return !*end && isfinite(*v);
}

static const char *parse_header(char *line, table *t) {
  t->columns = count(line, ',');
  if (t->columns < 1 || t->columns > MAX_COLUMNS || t->rows > MAX_ROWS || strcmp(cut(&line, ','), "patient")) {
    snprintf(message, sizeof message, "want a header that starts with patient, 1 to %d columns and at most %d rows", MAX_COLUMNS, MAX_ROWS);
    return message;
  }
  t->names = zeroed((size_t)t->columns, sizeof *t->names);
  for (int j = 0; j < t->columns; j++) t->names[j] = cut(&line, ',');
  return bad_name(t->names, t->columns) >= 0 ? "a column has no name or is there twice" : 0;
}

static const char *bad_row(int i) {
  snprintf(message, sizeof message, "row %d: wrong number of fields, or a patient without name or twice", i + 1);
  return message;
}

static const char *parse_row(char *line, table *t, int i) {
  if (count(line, ',') != t->columns) return bad_row(i);
  t->patients[i] = cut(&line, ',');
  for (int j = 0; j < t->columns; j++) {
    if (number(cut(&line, ','), &t->values[i * t->columns + j])) continue;
    snprintf(message, sizeof message, "row %d: column %.100s is not a number", i + 1, t->names[j]);
    return message;
  }
  return 0;
}

const char *table_parse(char *csv, size_t len, table *t) {
  while (len && strchr(" \t\r\n\v\f", csv[len - 1])) len--;
  csv[len] = 0;
  if (strlen(csv) != len) return "a character that no table has";
  csv += strspn(csv, " \t\r\n\v\f");
  *t = (table){.rows = count(csv, '\n')};
  const char *bad = parse_header(cut(&csv, '\n'), t);
  if (bad) return bad;
  t->patients = zeroed((size_t)t->rows, sizeof *t->patients);
  t->values = zeroed((size_t)t->rows * (size_t)t->columns, sizeof *t->values);
  for (int i = 0; i < t->rows; i++)
    if ((bad = parse_row(cut(&csv, '\n'), t, i))) return bad;
  int row = bad_name(t->patients, t->rows);
  return row < 0 ? 0 : bad_row(row);
}

const char *table_take(table *t, const char *name, double **column) {
  for (int j = 0; j < t->columns; j++) {
    if (strcmp(t->names[j], name)) continue;
    double *to = t->values;
    *column = zeroed((size_t)t->rows, sizeof **column);
    for (int i = 0; i < t->rows; i++)
      for (int k = 0; k < t->columns; k++) {
        double v = t->values[i * t->columns + k];
        if (k == j)
          (*column)[i] = v;
        else
          *to++ = v;
      }
    memmove(t->names + j, t->names + j + 1, (size_t)(t->columns - j - 1) * sizeof *t->names);
    t->columns--;
    return 0;
  }
  snprintf(message, sizeof message, "there is no column \"%s\"", name);
  return message;
}

table table_join(const table *a, const table *b, int **in) {
  table t = {.columns = a->columns + b->columns};
  entry *of_a = sorted(a->patients, a->rows);
  t.names = zeroed((size_t)t.columns, sizeof *t.names);
  memcpy(t.names, a->names, (size_t)a->columns * sizeof *t.names);
  memcpy(t.names + a->columns, b->names, (size_t)b->columns * sizeof *t.names);
  int most = a->rows < b->rows ? a->rows : b->rows; /* names are unique in each */
  t.patients = zeroed((size_t)most, sizeof *t.patients);
  t.values = zeroed((size_t)most * (size_t)t.columns, sizeof *t.values);
  *in = zeroed((size_t)most, sizeof **in);
  for (int i = 0; i < b->rows; i++) {
    entry key = {b->patients[i], 0}, *found = bsearch(&key, of_a, (size_t)a->rows, sizeof key, by_name);
    if (!found) continue;
    double *row = t.values + (size_t)t.rows * (size_t)t.columns;
    memcpy(row, a->values + (size_t)found->row * (size_t)a->columns, (size_t)a->columns * sizeof *row);
    memcpy(row + a->columns, b->values + (size_t)i * (size_t)b->columns, (size_t)b->columns * sizeof *row);
    t.patients[t.rows] = b->patients[i];
    (*in)[t.rows++] = i;
  }
  free(of_a);
  return t;
}
