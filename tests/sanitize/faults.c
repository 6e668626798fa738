/* Faults planted on purpose, by which run.py proves that a sanitizer sees what it should. Compiled into the extension
 * by run.py alone, and called by faults.py. Each function is given an array of exactly n floats. */
#include <stdlib.h>
#include <unistd.h>
#include "internal.h"

#define PLANTED __attribute__((visibility("default")))

PLANTED float read_past_end(const float *array, int64_t n) { return array[n]; }

PLANTED void write_past_end(float *array, int64_t n) { array[n] = 0; }

PLANTED float read_after_free(const float *array, int64_t n) {
    float *volatile copy = malloc((size_t)n * sizeof *copy); /* volatile: the compiler must not see through it */
    copy[0] = array[0];
    free(copy);
    return copy[0];
}

PLANTED int64_t signed_overflow(const float *array, int64_t n) {
    (void)array;
    return INT64_MAX - 1 + n;
}

PLANTED int32_t shift_too_far(const float *array, int64_t n) {
    (void)array;
    return 1 << n;
}

PLANTED void misaligned_read(const float *array, int64_t n) {
    (void)n;
    (void)*(const volatile int64_t *)((const char *)array + 1);
}

PLANTED void branch_on_uninitialised(const float *array, int64_t n) {
    (void)n;
    volatile int taken = 0;
    if (array[0] > 0)
        taken++;
}

/* The pause lets a second thread take part even on a single processor. */
static void add_one(const void *array, int64_t item, int32_t thread) {
    (void)item;
    (void)thread;
    usleep(1000);
    *(float *)array += 1;
}

PLANTED void race_in_pool(float *array, int64_t n) {
    (void)n;
    parallel_for(0, 50, 2, false, add_one, array);
}
