/*
 * cloister.h: the functions that a Wasm program in an instance can call, for C11
 * and C++17. The reference is the Go package enclave/wasm; a test compares the
 * two. Nothing here needs a C library.
 *
 * The first part declares the imports as they are. The second part makes correct
 * use easy: buffers that grow, the reason of a failure, the exports of a reactor.
 */
#ifndef CLOISTER_H
#define CLOISTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What every function returns. */
enum {
  CLOISTER_OK = 0,
  CLOISTER_TOO_SMALL = 1, /* the output buffer; nothing was written but the length */
  CLOISTER_FAILED = 2,    /* refused or failed; cloister_why tells the reason */
  CLOISTER_ARGUMENT = 3   /* a pointer or another argument is wrong */
};

/* Seal policies; they also say whose counter is meant. */
enum {
  CLOISTER_MEASUREMENT = 1, /* exactly this code; svn must be 0 */
  CLOISTER_SIGNER = 2       /* this signer and product, at svn or higher */
};

/* Hash algorithms. */
enum { CLOISTER_SHA256 = 1, CLOISTER_SHA384 = 2, CLOISTER_SHA512 = 3 };

/* Log levels. */
enum { CLOISTER_DEBUG = 0, CLOISTER_INFO = 1, CLOISTER_WARNING = 2, CLOISTER_ERROR = 3 };

/* Sizes in bytes. */
enum {
  CLOISTER_MAX_NAME = 256,        /* of a secret or a counter */
  CLOISTER_MAX_USER_DATA = 65536, /* of evidence */
  CLOISTER_MAX_RANDOM = 1048576,  /* of one call of cloister_random */
  CLOISTER_DIGEST = 32,           /* of a counter's digest and of SHA-256 */
  CLOISTER_SEAL_OVERHEAD = 256,   /* what a sealed blob is longer than its content, at most */
  CLOISTER_AEAD_KEY = 32,
  CLOISTER_AEAD_NONCE = 12,
  CLOISTER_AEAD_TAG = 16
};

#ifdef __wasm__
#define CLOISTER_IMPORT(name) __attribute__((import_module("cloister_v1"), import_name(name)))
#define CLOISTER_EXPORT(name) __attribute__((export_name(name)))
#else /* for editors and static analysis; there is nothing to link with */
#define CLOISTER_IMPORT(name)
#define CLOISTER_EXPORT(name)
#endif

/*
 * Part 1: the imports. An output is three parameters: a buffer, its size, and
 * where the length of the whole output goes, also when the buffer is too small.
 * A pointer may be null where its length is 0.
 */

/* JSON {tee, simulated, debug, measurement, launch_digest, instance_id, runtime_digest, args}; bytes are hex. */
CLOISTER_IMPORT("self") uint32_t cloister_self(void *out, uint32_t cap, uint32_t *len);

/* A secret of the launch document. */
CLOISTER_IMPORT("secret") uint32_t cloister_secret(const void *name, uint32_t name_len, void *out, uint32_t cap, uint32_t *len);

/* JSON of evidence that carries data; bytes are base64. */
CLOISTER_IMPORT("evidence") uint32_t cloister_evidence(const void *data, uint32_t data_len, void *out, uint32_t cap, uint32_t *len);

/* Encrypts plain so that only code that meets the policy opens it again. It does not protect against rollback. */
CLOISTER_IMPORT("seal") uint32_t cloister_seal(uint32_t policy, uint32_t svn, const void *plain, uint32_t plain_len, const void *aad, uint32_t aad_len, void *out, uint32_t cap, uint32_t *len);

/* Opens what cloister_seal made, with the same aad. */
CLOISTER_IMPORT("unseal") uint32_t cloister_unseal(const void *blob, uint32_t blob_len, const void *aad, uint32_t aad_len, void *out, uint32_t cap, uint32_t *len);

/* Reads a monotonic counter of this measurement or signer, and the 32 bytes that were stored with its value. State goes with the counters of the policy that it is sealed to. */
CLOISTER_IMPORT("counter_read") uint32_t cloister_counter_read(uint32_t policy, const void *name, uint32_t name_len, uint64_t *value, uint8_t *digest);

/* Moves a counter from from to from + 1 and stores 32 bytes with it. */
CLOISTER_IMPORT("counter_advance") uint32_t cloister_counter_advance(uint32_t policy, const void *name, uint32_t name_len, uint64_t from, const uint8_t *digest);

/* Fills out with randomness. */
CLOISTER_IMPORT("random") uint32_t cloister_random(void *out, uint32_t len);

/* Writes a line to standard error, which the host reads. */
CLOISTER_IMPORT("log") uint32_t cloister_log(uint32_t level, const void *text, uint32_t len);

/* Hashes with the processor's own instructions: the module's code would be much slower. */
CLOISTER_IMPORT("hash") uint32_t cloister_hash(uint32_t alg, const void *data, uint32_t data_len, void *out, uint32_t cap, uint32_t *len);

/* AES-256-GCM: key 32 bytes, nonce 12 that were never used with this key before, tag 16 at the end of the output. */
CLOISTER_IMPORT("aead_seal") uint32_t cloister_aead_seal(const uint8_t *key, const uint8_t *nonce, const void *aad, uint32_t aad_len, const void *data, uint32_t data_len, void *out, uint32_t cap, uint32_t *len);

/* Opens what cloister_aead_seal made. */
CLOISTER_IMPORT("aead_open") uint32_t cloister_aead_open(const uint8_t *key, const uint8_t *nonce, const void *aad, uint32_t aad_len, const void *data, uint32_t data_len, void *out, uint32_t cap, uint32_t *len);

/* JSON {code, message, hint} of the last CLOISTER_FAILED; empty before the first. */
CLOISTER_IMPORT("error") uint32_t cloister_error(void *out, uint32_t cap, uint32_t *len);

/*
 * Part 2: helpers.
 */

/*
 * A buffer that an output goes to. It grows with grow (realloc fits); start with
 * CLOISTER_BUFFER(realloc) and free data yourself. With a grow of 0 it has the
 * size that you gave it.
 */
typedef struct {
  uint8_t *data;
  uint32_t cap, len;
  void *(*grow)(void *data, size_t size);
} cloister_buffer;

#define CLOISTER_BUFFER(grow_function) {0, 0, 0, (grow_function)}

/* Makes room for b->len bytes. Returns 0 if there is none. */
static inline int cloister_buffer_fit(cloister_buffer *b) {
  void *data = b->len > b->cap && b->grow ? b->grow(b->data, b->len) : 0;
  if (!data) return 0;
  b->data = (uint8_t *)data;
  b->cap = b->len;
  return 1;
}

/* Evaluates call, which writes to *b, and once more when b had to grow for it. */
#define CLOISTER_INTO(b, status, call)                                                       \
  do {                                                                                       \
    (status) = (call);                                                                       \
    if ((status) == CLOISTER_TOO_SMALL && cloister_buffer_fit(b)) (status) = (call);         \
    if ((status) != CLOISTER_OK) (b)->len = 0;                                               \
  } while (0)

static inline uint32_t cloister_length(const char *s) {
  uint32_t n = 0;
  while (s[n]) n++;
  return n;
}

static inline uint32_t cloister_self_into(cloister_buffer *b) {
  uint32_t s;
  CLOISTER_INTO(b, s, cloister_self(b->data, b->cap, &b->len));
  return s;
}

static inline uint32_t cloister_secret_into(cloister_buffer *b, const char *name) {
  uint32_t s;
  CLOISTER_INTO(b, s, cloister_secret(name, cloister_length(name), b->data, b->cap, &b->len));
  return s;
}

static inline uint32_t cloister_evidence_into(cloister_buffer *b, const void *data, uint32_t len) {
  uint32_t s;
  CLOISTER_INTO(b, s, cloister_evidence(data, len, b->data, b->cap, &b->len));
  return s;
}

static inline uint32_t cloister_seal_into(cloister_buffer *b, uint32_t policy, uint32_t svn, const void *plain, uint32_t len, const char *purpose) {
  uint32_t s;
  CLOISTER_INTO(b, s, cloister_seal(policy, svn, plain, len, purpose, cloister_length(purpose), b->data, b->cap, &b->len));
  return s;
}

static inline uint32_t cloister_unseal_into(cloister_buffer *b, const void *blob, uint32_t len, const char *purpose) {
  uint32_t s;
  CLOISTER_INTO(b, s, cloister_unseal(blob, len, purpose, cloister_length(purpose), b->data, b->cap, &b->len));
  return s;
}

static inline uint32_t cloister_aead_seal_into(cloister_buffer *b, const uint8_t *key, const uint8_t *nonce, const void *data, uint32_t len, const char *purpose) {
  uint32_t s;
  CLOISTER_INTO(b, s, cloister_aead_seal(key, nonce, purpose, cloister_length(purpose), data, len, b->data, b->cap, &b->len));
  return s;
}

static inline uint32_t cloister_aead_open_into(cloister_buffer *b, const uint8_t *key, const uint8_t *nonce, const void *data, uint32_t len, const char *purpose) {
  uint32_t s;
  CLOISTER_INTO(b, s, cloister_aead_open(key, nonce, purpose, cloister_length(purpose), data, len, b->data, b->cap, &b->len));
  return s;
}

static inline uint32_t cloister_sha256(const void *data, uint32_t len, uint8_t digest[CLOISTER_DIGEST]) {
  uint32_t n;
  return cloister_hash(CLOISTER_SHA256, data, len, digest, CLOISTER_DIGEST, &n);
}

static inline uint32_t cloister_say(uint32_t level, const char *text) { return cloister_log(level, text, cloister_length(text)); }

/* Overwrites memory that held a secret; no compiler leaves it out. */
static inline void cloister_wipe(void *data, size_t len) {
  volatile uint8_t *p = (volatile uint8_t *)data;
  while (len--) *p++ = 0;
}

/*
 * JSON as the runtime writes it: one object whose values are strings, booleans
 * and arrays of strings.
 */
typedef struct {
  const char *at, *end;
} cloister_json;

static inline int cloister_json_hex(cloister_json *j) {
  int v = 0, i;
  for (i = 0; i < 4; i++, j->at++) {
    char c = j->at < j->end ? *j->at : 0;
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    v = v << 4 | digit;
  }
  return v;
}

/* Appends a character as UTF-8 to out, as far as it fits with a 0 behind it. */
static inline size_t cloister_json_put(uint32_t c, char *out, size_t cap, size_t n) {
  uint8_t u[4];
  size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4, i;
  if (n + size >= cap) return n;
  for (i = size - 1; i > 0; i--, c >>= 6) u[i] = (uint8_t)(0x80 | (c & 0x3f));
  u[0] = (uint8_t)(size == 1 ? c : (0xf00u >> size & 0xff) | c);
  for (i = 0; i < size; i++) out[n + i] = (char)u[i];
  return n + size;
}

/* Reads what follows a backslash. */
static inline int32_t cloister_json_escape(cloister_json *j) {
  static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  int i, high, low;
  char c = j->at < j->end ? *j->at++ : 0;
  for (i = 0; names[i]; i++)
    if (c == names[i]) return meanings[i];
  if (c != 'u' || (high = cloister_json_hex(j)) < 0) return -1;
  if (high < 0xd800 || high > 0xdfff) return high;
  if (high > 0xdbff || j->end - j->at < 6 || j->at[0] != '\\' || j->at[1] != 'u') return 0xfffd;
  j->at += 2;
  low = cloister_json_hex(j);
  return low < 0xdc00 || low > 0xdfff ? 0xfffd : 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

/* Reads a string into out, cut at cap with a 0 at its end. Returns 0 if there is none. */
static inline int cloister_json_text(cloister_json *j, char *out, size_t cap) {
  size_t n = 0;
  if (j->at >= j->end || *j->at++ != '"') return 0;
  while (j->at < j->end && *j->at != '"') {
    if (*j->at != '\\') {
      if (n + 1 < cap) out[n++] = *j->at;
      j->at++;
    } else {
      int32_t c;
      j->at++;
      if ((c = cloister_json_escape(j)) < 0) return 0;
      n = cloister_json_put((uint32_t)c, out, cap, n);
    }
  }
  if (cap) out[n] = 0;
  return j->at < j->end && *j->at++ == '"';
}

/* Moves behind the name of a member, to its value. Returns 0 if there is none. */
static inline int cloister_json_find(cloister_json *j, const char *name) {
  char key[32];
  while (j->at < j->end) {
    char c = *j->at;
    if (c != '"') {
      j->at++;
      continue;
    }
    if (!cloister_json_text(j, key, sizeof key)) return 0;
    if (j->at < j->end && *j->at == ':') { /* no value is followed by a colon */
      size_t i = 0;
      j->at++;
      while (name[i] && name[i] == key[i]) i++;
      if (name[i] == key[i]) return 1;
    }
  }
  return 0;
}

/* Copies the string member name of an object to out, cut at cap. Returns 0 if there is none. */
static inline int cloister_json_string(const void *json, uint32_t len, const char *name, char *out, size_t cap) {
  cloister_json j = {(const char *)json, (const char *)json + len};
  if (cap) out[0] = 0;
  return cloister_json_find(&j, name) && cloister_json_text(&j, out, cap);
}

/* Says whether the member name of an object is true. */
static inline int cloister_json_true(const void *json, uint32_t len, const char *name) {
  cloister_json j = {(const char *)json, (const char *)json + len};
  return cloister_json_find(&j, name) && j.end - j.at >= 4 && *j.at == 't';
}

/* Why a call failed. code is one of the stable codes, such as "sealed". */
typedef struct {
  char code[32], message[512], hint[256];
} cloister_reason;

/* Fetches the reason of the last CLOISTER_FAILED. */
static inline uint32_t cloister_why(cloister_reason *r) {
  char json[4096];
  uint32_t len = 0, s = cloister_error(json, sizeof json, &len);
  if (s != CLOISTER_OK) len = 0;
  cloister_json_string(json, len, "code", r->code, sizeof r->code);
  cloister_json_string(json, len, "message", r->message, sizeof r->message);
  cloister_json_string(json, len, "hint", r->hint, sizeof r->hint);
  return s;
}

/*
 * A reactor, a module whose methods the host calls, exports cl_alloc, cl_free and
 * cl_call:
 *
 *   CLOISTER_EXPORT("cl_alloc") void *cl_alloc(uint32_t len);
 *   CLOISTER_EXPORT("cl_free") void cl_free(void *data, uint32_t len);
 *   CLOISTER_EXPORT("cl_call") uint64_t cl_call(uint32_t method, uint8_t *data, uint32_t len);
 *
 * cl_call answers with one of these.
 */

/* An answer. If it lies outside the buffer that cl_call got, it is given back with cl_free; an empty one is not. */
static inline uint64_t cloister_answer(const void *data, uint32_t len) { return len ? (uint64_t)(uintptr_t)data << 32 | len : 0; }

/* An error with a code of your own, not 0. */
static inline uint64_t cloister_refuse(uint32_t code) { return code; }

#ifdef __cplusplus
}
#endif

#endif
