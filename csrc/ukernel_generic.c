/* Any processor: 128-bit vectors, which GCC maps to what the target has (SSE2 on x86-64). */
#include <string.h>
#include "internal.h"

#define VECTOR_BYTES 16
#define ROWS 4

#define T float
#define NAME(x) x##_f32
#include "ukernel.inc"
#undef T
#undef NAME

#define T double
#define NAME(x) x##_f64
#include "ukernel.inc"

static bool supported(void) { return true; }

const struct kernel_set kernel_set_generic = {"generic", supported, kernels_f32, kernels_f64};
