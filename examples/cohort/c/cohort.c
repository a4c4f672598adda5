/*
 * cohort lets two hospitals learn from patients they share without showing each
 * other, or anybody else, a single record. Inputs, outputs, formats and results
 * are those of the Go program, ../main.go, which explains them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloister.h"
#include "cohort.h"

#define RESULT_PURPOSE "cohort result v1"

static _Noreturn void die(const char *where, const char *what) {
  fprintf(stderr, "cohort: %s%s\n", where, what);
  exit(1);
}

/* Ends the program unless a call of the runtime succeeded. */
static void must(uint32_t status, const char *where) {
  if (status == CLOISTER_OK) return;
  if (status != CLOISTER_FAILED) die(where, "the runtime refused an argument");
  cloister_reason why;
  cloister_why(&why);
  die(where, why.message);
}

/* A hospital: its letter, key and table. */
typedef struct {
  char letter;
  cloister_buffer key;
  table t;
} hospital;

static uint8_t *read_input(char letter, uint32_t *len) {
  char path[] = "/in/?";
  path[4] = letter;
  FILE *f = fopen(path, "rb");
  if (!f || fseek(f, 0, SEEK_END)) die(path, ": cannot be read");
  long size = ftell(f);
  rewind(f);
  uint8_t *data = zeroed((size_t)size, 1);
  if (size < 0 || fread(data, 1, (size_t)size, f) != (size_t)size) die(path, ": cannot be read");
  fclose(f);
  *len = (uint32_t)size;
  return data;
}

/* Takes a hospital's key and table. */
static hospital open_hospital(char letter) {
  hospital h = {letter, CLOISTER_BUFFER(realloc), {0}};
  char name[] = "key-?", purpose[] = "cohort input v1 ?", where[] = "input ?: ";
  name[4] = purpose[sizeof purpose - 2] = where[6] = letter;
  must(cloister_secret_into(&h.key, name), "");
  if (h.key.len != CLOISTER_AEAD_KEY) die(where, "want a key of 32 bytes");
  uint32_t len;
  uint8_t *sealed = read_input(letter, &len);
  if (len < CLOISTER_AEAD_NONCE) die(where, "too short");
  cloister_buffer csv = CLOISTER_BUFFER(realloc);
  must(cloister_aead_open_into(&csv, h.key.data, sealed, sealed + CLOISTER_AEAD_NONCE, len - CLOISTER_AEAD_NONCE, purpose), where);
  free(sealed);
  char *text = realloc(csv.data, (size_t)csv.len + 1); /* room for the 0 at its end */
  if (!text) die(where, "out of memory");
  const char *bad = table_parse(text, csv.len, &h.t);
  if (bad) die(where, bad);
  return h;
}

/* Encrypts the result for one hospital. */
static void deliver(const hospital *h, const char *json, uint32_t len) {
  char path[] = "/out/result-?";
  path[sizeof path - 2] = h->letter;
  uint8_t nonce[CLOISTER_AEAD_NONCE];
  must(cloister_random(nonce, sizeof nonce), "");
  cloister_buffer sealed = CLOISTER_BUFFER(realloc);
  must(cloister_aead_seal_into(&sealed, h->key.data, nonce, json, len, RESULT_PURPOSE), "");
  FILE *f = fopen(path, "wb");
  if (!f || fwrite(nonce, 1, sizeof nonce, f) != sizeof nonce || fwrite(sealed.data, 1, sealed.len, f) != sealed.len || fclose(f))
    die(path, ": cannot be written");
  free(sealed.data);
}

int main(void) {
  hospital a = open_hospital('a'), b = open_hospital('b');
  char *json;
  uint32_t len;
  const char *bad = study(&a.t, &b.t, &json, &len);
  if (bad) die("", bad);
  deliver(&a, json, len);
  deliver(&b, json, len);
  return 0;
}
