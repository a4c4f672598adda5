/*
 * sealing keeps a visit count on the host's disk that the host can neither read,
 * change nor set back. The same in Go, with the reasoning, is ../main.go.
 *
 * The file is made durable first and the counter moves second: a crash between
 * the two leaves a state that is one step ahead of the counter, and the next run
 * finishes that step.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cloister.h"

#define STATE "/state/visits.sealed"
#define COUNTER "visits"
#define PURPOSE "examples/sealing visits" /* bound to the sealed bytes: they open for nothing else */

enum { PLAIN = 16, MAX_BLOB = PLAIN + CLOISTER_SEAL_OVERHEAD };

static _Noreturn void die(int status, const char *what) {
  fprintf(stderr, "sealing: %s\n", what);
  exit(status);
}

static _Noreturn void rollback(const char *what) {
  fprintf(stderr, "sealing: rollback: the host gave an older state than the newest one%s\n", what);
  exit(3);
}

/* Ends the program unless a call of the runtime succeeded. */
static void must(uint32_t status) {
  if (status == CLOISTER_OK) return;
  if (status != CLOISTER_FAILED) die(1, "the runtime refused an argument");
  cloister_reason why;
  cloister_why(&why);
  die(1, why.message);
}

static void put64(uint8_t *p, uint64_t v) {
  for (int i = 7; i >= 0; i--, v >>= 8) p[i] = (uint8_t)v;
}

static uint64_t get64(const uint8_t *p) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v = v << 8 | p[i];
  return v;
}

/* Who may open the state, and whose counter goes with it; the counter's value, and the digest of the file that the value stands for. */
static uint32_t policy = CLOISTER_MEASUREMENT;
static uint64_t counter;
static uint8_t newest[CLOISTER_DIGEST];

static void advance(const uint8_t *blob, uint32_t len) {
  uint8_t digest[CLOISTER_DIGEST];
  must(cloister_sha256(blob, len, digest));
  must(cloister_counter_advance(policy, COUNTER, sizeof COUNTER - 1, counter, digest));
  counter++;
}

/* Returns the length of the state file, -1 without one. */
static int read_state(uint8_t *blob) {
  FILE *f = fopen(STATE, "rb");
  if (!f && errno == ENOENT) return -1;
  if (!f) die(1, strerror(errno));
  size_t n = fread(blob, 1, MAX_BLOB, f);
  fclose(f);
  return (int)n;
}

static uint64_t load(void) {
  uint8_t blob[MAX_BLOB], digest[CLOISTER_DIGEST], plain[MAX_BLOB];
  must(cloister_counter_read(policy, COUNTER, sizeof COUNTER - 1, &counter, newest));
  int len = read_state(blob);
  if (len < 0 && counter == 0) return 0;
  if (len < 0) rollback(": the file is gone");
  cloister_buffer b = {plain, sizeof plain, 0, 0};
  must(cloister_unseal_into(&b, blob, (uint32_t)len, PURPOSE));
  if (b.len != PLAIN) die(1, "the state has another size");
  uint64_t stands = get64(plain), visits = get64(plain + 8);
  must(cloister_sha256(blob, (uint32_t)len, digest));
  if (stands == counter && !memcmp(digest, newest, sizeof digest)) return visits;
  if (stands != counter + 1) rollback("");
  advance(blob, (uint32_t)len);
  return visits;
}

/* Replaces the file so that a crash leaves the old or the new content. */
static void write_state(const uint8_t *blob, uint32_t len) {
  int fd = open(STATE ".new", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || write(fd, blob, len) != (ssize_t)len || fsync(fd) || close(fd) || rename(STATE ".new", STATE)) die(1, strerror(errno));
}

static void save(uint64_t visits) {
  uint8_t plain[PLAIN], blob[MAX_BLOB];
  put64(plain, counter + 1);
  put64(plain + 8, visits);
  cloister_buffer b = {blob, sizeof blob, 0, 0};
  must(cloister_seal_into(&b, policy, 0, plain, sizeof plain, PURPOSE));
  write_state(blob, b.len);
  advance(blob, b.len);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (!strcmp(argv[i], "--signer")) policy = CLOISTER_SIGNER;
  uint64_t visits = load() + 1;
  save(visits);
  printf("visit %llu\n", (unsigned long long)visits);
  return 0;
}
