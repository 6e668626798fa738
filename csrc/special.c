/* Special functions that NumPy lacks, in place over dense memory, by the C library. */

#include <math.h>
#include <stdint.h>

#include "api.h"

void erf_float32(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = erff(x[i]);
}

void erf_float64(double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = erf(x[i]);
}
