/* What the machine can do at most, as a measure for what the kernels reach: every thread repeats one loop. */
#include <string.h>
#include "internal.h"

struct peak_job {
    const struct kernels *kernels;
    int64_t repeats, bytes; /* bytes: of one thread */
    const char *from;
    char *to;
};

static void multiply_add(const void *context, int64_t item, int32_t thread) {
    (void)item, (void)thread;
    const struct peak_job *job = context;
    job->kernels->multiply_add(job->repeats);
}

static void stream(const void *context, int64_t item, int32_t thread) {
    (void)thread;
    const struct peak_job *job = context;
    for (int64_t repeat = 0; repeat < job->repeats; repeat++) {
        if (job->to)
            memcpy(job->to + item * job->bytes, job->from + item * job->bytes, (size_t)job->bytes);
        else
            job->kernels->read(job->from + item * job->bytes, job->bytes);
        __asm__ volatile("" : : : "memory"); /* each repetition really happens */
    }
}

int64_t peak_multiply_add(int32_t isa, int32_t element_size, int32_t threads, int64_t steps) {
    const struct kernels *kernels = kernels_for(isa, element_size);
    if (!kernels)
        return 0;
    struct peak_job job = {.kernels = kernels, .repeats = steps};
    parallel_for(0, threads, threads, false, multiply_add, &job);
    return threads * steps * PEAK_CHAINS * kernels->lanes * 2;
}

int64_t peak_stream(int32_t isa, int32_t threads, int64_t repeats, const void *from, void *to, int64_t bytes) {
    const struct kernels *kernels = kernels_for(isa, 4);
    if (!kernels)
        return 0;
    int64_t part = bytes / threads / 64 * 64;
    struct peak_job job = {kernels, repeats, part, from, to};
    parallel_for(0, threads, threads, false, stream, &job);
    return repeats * threads * part * (to ? 2 : 1);
}
