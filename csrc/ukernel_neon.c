/* NEON on aarch64: twenty-four accumulators of thirty-two registers. */
#include <string.h>
#include "internal.h"

#if defined(__aarch64__)
#define VECTOR_BYTES 16
#define ROWS 12

#define T float
#define NAME(x) x##_f32
#include "ukernel.inc"
#undef T
#undef NAME

#define T double
#define NAME(x) x##_f64
#include "ukernel.inc"

static bool supported(void) { return true; }

const struct kernel_set kernel_set_neon = {"neon", supported, kernels_f32, kernels_f64};

#endif
