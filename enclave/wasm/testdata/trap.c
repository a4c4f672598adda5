// An ABI v1 reactor with debug information whose calls trap a few levels deep.
// Build it with build.sh beside this file.
#define EXPORT(name) __attribute__((export_name(name)))

__attribute__((noinline)) int descend(int level) {
  if (level > 3) __builtin_trap();
  return descend(level + 1) + 1;
}

EXPORT("cl_alloc") void *cl_alloc(unsigned n) {
  static char block[4096];
  return n > sizeof block ? 0 : block;
}

EXPORT("cl_free") void cl_free(void *p, unsigned n) { (void)p, (void)n; }

EXPORT("cl_call") unsigned long long cl_call(unsigned method, void *p, unsigned n) {
  (void)p, (void)n;
  return (unsigned long long)descend((int)method) << 32;
}
