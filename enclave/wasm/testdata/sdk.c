// A program that uses every helper of sdk/c/cloister.h and says where one does
// not do what it promises. csdk_test.go builds it, as C and as C++, and runs it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloister.h"

static int failures;

#define CHECK(what) ((what) ? (void)0 : (void)(failures++, printf("line %d: %s\n", __LINE__, #what)))

static void json(void) {
  static const char text[] =
      "{\"code\":\"a\\\"b\\\\\\n\\u00e9\\u4e2d\\ud83d\\ude00\\ud83dx\",\"args\":[\"tee\",\"x\\\":\"],\"tee\":\"software\",\"on\":true,\"off\":false,\"cut\":\"\\u4e2d\\u4e2d\"}";
  uint32_t n = sizeof text - 1;
  char out[64], small[6];
  CHECK(cloister_json_string(text, n, "code", out, sizeof out));
  CHECK(!strcmp(out, "a\"b\\\n\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\xef\xbf\xbdx"));
  CHECK(cloister_json_string(text, n, "tee", out, sizeof out) && !strcmp(out, "software"));
  CHECK(cloister_json_string(text, n, "cut", small, sizeof small) && !strcmp(small, "\xe4\xb8\xad")); // never half a character
  CHECK(cloister_json_true(text, n, "on") && !cloister_json_true(text, n, "off") && !cloister_json_true(text, n, "none"));
  CHECK(!cloister_json_string(text, n, "none", out, sizeof out) && !*out);
  CHECK(!cloister_json_string(text, n, "on", out, sizeof out));
  for (uint32_t i = 0; i < n; i++) // what is cut off never reads further
    cloister_json_string(text, i, "cut", out, sizeof out), cloister_json_true(text, i, "on");
  CHECK(!cloister_json_string("", 0, "code", out, sizeof out));
  CHECK(!cloister_json_string("{\"code\":\"\\", 10, "code", out, sizeof out));
}

static void self(void) {
  cloister_buffer b = CLOISTER_BUFFER(realloc), fixed = {0, 0, 0, 0};
  char tee[16], measurement[129];
  CHECK(cloister_self_into(&b) == CLOISTER_OK && b.len > 100);
  CHECK(cloister_json_string(b.data, b.len, "tee", tee, sizeof tee) && !strcmp(tee, "software"));
  CHECK(cloister_json_string(b.data, b.len, "measurement", measurement, sizeof measurement) && strlen(measurement) == 64);
  CHECK(cloister_json_true(b.data, b.len, "simulated") && !cloister_json_true(b.data, b.len, "debug"));
  CHECK(cloister_self_into(&b) == CLOISTER_OK); // into the same buffer
  CHECK(cloister_self_into(&fixed) == CLOISTER_TOO_SMALL && fixed.len == 0);
  free(b.data);
}

static void secrets(void) {
  cloister_buffer b = CLOISTER_BUFFER(realloc);
  cloister_reason why;
  CHECK(cloister_secret_into(&b, "key") == CLOISTER_OK && b.len == 5 && !memcmp(b.data, "value", 5));
  cloister_wipe(b.data, b.len);
  CHECK(!memcmp(b.data, "\0\0\0\0\0", 5));
  CHECK(cloister_secret_into(&b, "other") == CLOISTER_FAILED && b.len == 0);
  CHECK(cloister_why(&why) == CLOISTER_OK && !strcmp(why.code, "unavailable") && strstr(why.message, "no secret of that name"));
  free(b.data);
}

static void sealing(void) {
  cloister_buffer blob = CLOISTER_BUFFER(realloc), plain = CLOISTER_BUFFER(realloc);
  cloister_reason why;
  CHECK(cloister_seal_into(&blob, CLOISTER_MEASUREMENT, 0, "state", 5, "purpose") == CLOISTER_OK && blob.len <= 5 + CLOISTER_SEAL_OVERHEAD);
  CHECK(cloister_unseal_into(&plain, blob.data, blob.len, "purpose") == CLOISTER_OK && plain.len == 5 && !memcmp(plain.data, "state", 5));
  CHECK(cloister_unseal_into(&plain, blob.data, blob.len, "other") == CLOISTER_FAILED && plain.len == 0);
  CHECK(cloister_why(&why) == CLOISTER_OK && !strcmp(why.code, "sealed"));
  CHECK(cloister_seal_into(&blob, CLOISTER_SIGNER, 0, "state", 5, "") == CLOISTER_FAILED); // this program is not signed
  CHECK(cloister_seal_into(&blob, 9, 0, "state", 5, "") == CLOISTER_ARGUMENT);
  free(blob.data);
  free(plain.data);
}

static void counters(void) {
  uint8_t digest[CLOISTER_DIGEST], read[CLOISTER_DIGEST];
  uint64_t value = 9;
  CHECK(cloister_counter_read(CLOISTER_MEASUREMENT, "c", 1, &value, read) == CLOISTER_OK && value == 0);
  CHECK(cloister_sha256("abc", 3, digest) == CLOISTER_OK && digest[0] == 0xba && digest[31] == 0xad);
  CHECK(cloister_counter_advance(CLOISTER_MEASUREMENT, "c", 1, 0, digest) == CLOISTER_OK);
  CHECK(cloister_counter_read(CLOISTER_MEASUREMENT, "c", 1, &value, read) == CLOISTER_OK && value == 1 && !memcmp(read, digest, sizeof digest));
  CHECK(cloister_counter_advance(CLOISTER_MEASUREMENT, "c", 1, 1ull << 40, digest) == CLOISTER_FAILED);
}

static void crypto(void) {
  uint8_t key[CLOISTER_AEAD_KEY] = {0}, nonce[CLOISTER_AEAD_NONCE], zero[CLOISTER_AEAD_NONCE] = {0};
  cloister_buffer sealed = CLOISTER_BUFFER(realloc), plain = CLOISTER_BUFFER(realloc), evidence = CLOISTER_BUFFER(realloc);
  CHECK(cloister_random(nonce, sizeof nonce) == CLOISTER_OK && memcmp(nonce, zero, sizeof nonce));
  CHECK(cloister_aead_seal_into(&sealed, key, nonce, "text", 4, "purpose") == CLOISTER_OK && sealed.len == 4 + CLOISTER_AEAD_TAG);
  CHECK(cloister_aead_open_into(&plain, key, nonce, sealed.data, sealed.len, "purpose") == CLOISTER_OK && plain.len == 4 && !memcmp(plain.data, "text", 4));
  sealed.data[0] ^= 1;
  CHECK(cloister_aead_open_into(&plain, key, nonce, sealed.data, sealed.len, "purpose") == CLOISTER_FAILED && plain.len == 0);
  CHECK(cloister_evidence_into(&evidence, "nonce", 5) == CLOISTER_OK && evidence.len > 500);
  free(sealed.data);
  free(plain.data);
  free(evidence.data);
}

int main(void) {
  json();
  self();
  secrets();
  sealing();
  counters();
  crypto();
  CHECK(cloister_say(CLOISTER_WARNING, "a line\nno second line") == CLOISTER_OK);
  CHECK(cloister_answer("x", 0) == 0 && cloister_answer((void *)16, 3) == (16ull << 32 | 3) && cloister_refuse(7) == 7);
  if (!failures) puts("all good");
  return failures != 0;
}
