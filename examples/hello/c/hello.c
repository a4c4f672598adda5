/*
 * hello is the smallest program for an instance: it says where it runs and what
 * it was given. It prints to a log that the host reads, so it prints nothing
 * secret. The same in Go is ../main.go.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cloister.h"

int main(int argc, char **argv) {
  cloister_buffer self = CLOISTER_BUFFER(realloc);
  if (cloister_self_into(&self) != CLOISTER_OK) {
    cloister_reason why;
    cloister_why(&why);
    fprintf(stderr, "hello: %s\n", why.message);
    return 1;
  }
  char tee[32], measurement[129];
  cloister_json_string(self.data, self.len, "tee", tee, sizeof tee);
  cloister_json_string(self.data, self.len, "measurement", measurement, sizeof measurement);
  int simulated = cloister_json_true(self.data, self.len, "simulated");
  free(self.data);

  printf("hello from a TEE: %s%s\n", tee, simulated ? " (simulated)" : "");
  printf("measurement: %s\n", measurement);
  for (int i = 1; i < argc; i++) printf("argument: %s\n", argv[i]);
  const char *greeting = getenv("GREETING"); /* the operator may set it, if the launch document says so */
  if (greeting && *greeting) printf("greeting from the host: %s\n", greeting);
  return 0;
}
