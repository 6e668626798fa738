/* AVX2 with FMA: twelve accumulators, two vectors of weights and one broadcast fill the sixteen registers. */
#include <string.h>
#include "internal.h"

#if defined(__x86_64__)
#define VECTOR_BYTES 32
#define ROWS 6

#define T float
#define NAME(x) x##_f32
#include "ukernel.inc"
#undef T
#undef NAME

#define T double
#define NAME(x) x##_f64
#include "ukernel.inc"

static bool supported(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

const struct kernel_set kernel_set_avx2 = {"avx2", supported, kernels_f32, kernels_f64};

#endif
