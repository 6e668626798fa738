/* AVX-512: twenty-eight accumulators, two vectors of weights and the broadcasts fill the thirty-two registers. */
#include <string.h>
#include "internal.h"

#if defined(__x86_64__)
#define VECTOR_BYTES 64
#define ROWS 14

/* Twice as many of these are done at a time. */
extern const struct kernel_set kernel_set_avx2;

#define T float
#define NAME(x) x##_f32
#define NARROW kernel_set_avx2.f32
#include "ukernel.inc"
#undef T
#undef NAME
#undef NARROW

#define T double
#define NAME(x) x##_f64
#define NARROW kernel_set_avx2.f64
#include "ukernel.inc"

static bool supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && kernel_set_avx2.supported();
}

const struct kernel_set kernel_set_avx512 = {"avx512", supported, kernels_f32, kernels_f64};

#endif
