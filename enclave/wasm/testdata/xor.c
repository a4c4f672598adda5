// The guest of BenchmarkCall64 and of the call tests: an ABI v1 reactor without
// a C library. Build it with build.sh beside this file.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u8 vec __attribute__((vector_size(16), aligned(1)));

#define EXPORT(name) __attribute__((export_name(name)))
#define ANSWER(ptr, len) ((u64)(u32)(ptr) << 32 | (u32)(len))
#define ERROR(code) ((u64)(u32)(code))

// A heap that only grows, and forgets everything when all was given back.
static u8 heap[8 << 20] __attribute__((aligned(16)));
static u32 used, blocks;

EXPORT("cl_alloc") void *cl_alloc(u32 n) {
  u32 size = (n + 15) & ~15u;
  if (size < n || size > sizeof heap - used) return 0;
  void *p = heap + used;
  used += size;
  blocks++;
  return p;
}

EXPORT("cl_free") void cl_free(void *p, u32 n) {
  (void)p, (void)n;
  if (--blocks == 0) used = 0;
}

static u64 xored(u8 *p, u32 n) {
  u32 i = 0;
  for (; i + 16 <= n; i += 16) *(vec *)(p + i) ^= 0x5a;
  for (; i < n; i++) p[i] ^= 0x5a;
  return ANSWER(p, n);
}

static u64 doubled(const u8 *p, u32 n) {
  u8 *out = cl_alloc(2 * n);
  if (!out) return ERROR(12);
  for (u32 i = 0; i < 2 * n; i++) out[i] = p[i % n];
  return ANSWER(out, 2 * n);
}

static u32 state;

EXPORT("cl_call") u64 cl_call(u32 method, u8 *p, u32 n) {
  switch (method) {
  case 0: return 0;                                   // the empty answer
  case 1: return xored(p, n);                         // in place
  case 2: return doubled(p, n);                       // in a block of its own
  case 3: return ERROR(7);                            // refuse
  case 4: return ANSWER(0xfffffff0u, 64);             // outside the memory
  case 5: return ANSWER(heap, 0xffffffffu);           // longer than the memory
  case 6: __builtin_trap();                           // trap
  case 7: p[0] = (u8)++state; return ANSWER(p, 1);    // remembers
  case 8: for (;;) if (__builtin_wasm_memory_grow(0, 1) == (unsigned long)-1) return ANSWER(p, n); // memory bomb
  default: return ERROR(1);
  }
}
