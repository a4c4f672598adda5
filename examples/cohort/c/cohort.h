/* The parts of cohort; see cohort.c. Errors are texts; 0 means success. */
#ifndef COHORT_H
#define COHORT_H

#include <stddef.h>
#include <stdint.h>

/* table.c: numbers by patient and column. */
typedef struct {
  int rows, columns;
  char **patients, **names;
  double *values; /* by row, then column */
} table;

/* Reads CSV: a header "patient,column,…", then a line per patient. It cuts csv into pieces and keeps it. */
const char *table_parse(char *csv, size_t len, table *t);
/* Moves a column out of t. */
const char *table_take(table *t, const char *name, double **column);
/* Puts the rows of the patients that both have beside each other, in the order of b; in[i] is the row of b. */
table table_join(const table *a, const table *b, int **in);

/* model.c: logistic regression over standardised columns. */
typedef struct {
  int columns;
  double *mean, *scale;
  double *weights; /* weights[0] is the intercept */
} model;

/* Trains on rows with outcomes 0 or 1. */
const char *model_fit(const double *rows, const double *outcome, int n, int columns, model *m);
/* The probability of outcome 1. */
double model_probability(const model *m, const double *row);
/* Pearson's correlation of a column, of which the values are stride apart, with b; 0 if one is constant. */
double correlation(const double *a, int stride, const double *b, int n);
/* The area under the ROC curve. */
double area_under_curve(const double *p, const double *truth, int n);

/* study.c: what leaves the enclave, as JSON. */
const char *study(table *a, table *b, char **json, uint32_t *len);

/* Memory that holds zeros. It ends the program when there is none. */
void *zeroed(size_t count, size_t size);

#endif
