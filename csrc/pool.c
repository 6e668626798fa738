/* Max pooling with its gather and scatter, average pooling with its adjoint: loops over windows around pool.inc.
 *
 * What is computed window by window (max, gather, average) has a row of windows of one image as item. What adds to the
 * cells of overlapping windows (scatter, the average's adjoint) has a block of channels of one image as item, so that
 * every cell is added to by one item, in the order of the windows. */
#include <stdatomic.h>
#include <string.h>
#include "internal.h"

struct pool_job {
    const struct pool2d_call *call;
    const struct kernels *kernels;
    char *x, *y, *offsets;
    atomic_int *status;
};

static bool adds_to_cells(const struct pool2d_call *call) {
    return call->map == MAX_SCATTER2D || call->map == AVG_POOL2D_ADJOINT;
}

int64_t pool2d_items(const struct pool2d_call *call) {
    const struct pool2d_geometry *g = &call->geometry;
    return adds_to_cells(call) ? g->batch * ceil_div(g->channels, POOL_CHANNELS) : g->batch * g->output[0];
}

/* The first and last+1 cell of a window's axis that lie inside the input. */
static void clip(const struct pool2d_geometry *g, int axis, int64_t index, int64_t *first, int64_t *end) {
    int64_t start = index * g->stride[axis] - g->padding[axis], step = g->dilation[axis];
    *first = start < 0 ? steps_over(-start, step) : 0;
    *end = g->input[axis] > start ? min64(steps_over(g->input[axis] - start, step), g->kernel[axis]) : 0;
}

/* The channels from `channel` on of window (row, column) of an image. */
static struct window window_at(const struct pool_job *job, int64_t image, int64_t row, int64_t column,
                               int64_t channel) {
    const struct pool2d_geometry *g = &job->call->geometry;
    int64_t top, bottom, left, right;
    clip(g, 0, row, &top, &bottom);
    clip(g, 1, column, &left, &right);
    int64_t h = row * g->stride[0] - g->padding[0] + top * g->dilation[0];
    int64_t w = column * g->stride[1] - g->padding[1] + left * g->dilation[1];
    int64_t pixel = g->channels * job->call->element_size;
    return (struct window){
        .corner = job->x + ((image * g->input[0] + h) * g->input[1] + w) * pixel + channel * job->call->element_size,
        .rows = bottom - top,
        .columns = right - left,
        .row_step = g->dilation[0] * g->input[1] * pixel,
        .column_step = g->dilation[1] * pixel,
        .offset = (int32_t)(top * g->kernel[1] + left),
        .offset_row_step = (int32_t)g->kernel[1],
        .channels = min64(g->channels - channel, POOL_CHANNELS),
    };
}

/* What a window's sum is divided by: the override, else its area with or without padding, without what overhangs it. */
static double divisor_at(const struct pool2d_call *call, int64_t row, int64_t column) {
    const struct pool2d_geometry *g = &call->geometry;
    if (call->divisor != 0)
        return call->divisor;
    int64_t index[2] = {row, column};
    double area = 1;
    for (int axis = 0; axis < 2; axis++) {
        int64_t start = index[axis] * g->stride[axis] - g->padding[axis];
        int64_t end = min64(start + g->kernel[axis], g->input[axis] + g->padding[axis]);
        if (!call->count_include_pad) {
            start = max64(start, 0);
            end = min64(end, g->input[axis]);
        }
        area *= (double)(end - start);
    }
    return area;
}

static void load_offsets(const char *from, int32_t size, int64_t count, int32_t *offsets) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t offset = size == 1   ? ((const uint8_t *)from)[i]
                          : size == 2 ? ((const uint16_t *)from)[i]
                                      : ((const uint32_t *)from)[i];
        offsets[i] = offset > INT32_MAX ? -1 : (int32_t)offset;
    }
}

static void store_offsets(const int32_t *offsets, int32_t size, int64_t count, char *to) {
    if (size == 1)
        for (int64_t i = 0; i < count; i++)
            ((uint8_t *)to)[i] = (uint8_t)offsets[i];
    else if (size == 2)
        for (int64_t i = 0; i < count; i++)
            ((uint16_t *)to)[i] = (uint16_t)offsets[i];
    else
        memcpy(to, offsets, (size_t)count * sizeof *offsets);
}

static void pool_window(const struct pool_job *job, int64_t image, int64_t row, int64_t column, int64_t channel) {
    const struct pool2d_call *call = job->call;
    const struct pool2d_geometry *g = &call->geometry;
    const struct kernels *kernels = job->kernels;
    struct window window = window_at(job, image, row, column, channel);
    int64_t at = ((image * g->output[0] + row) * g->output[1] + column) * g->channels + channel;
    char *y = job->y + at * call->element_size;
    char *offsets = job->offsets + at * call->offset_size;
    int32_t line[POOL_CHANNELS];
    bool good = true;
    if (window.rows < 1 || window.columns < 1) { /* possible with dilation; geometry.py refuses it */
        atomic_store_explicit(job->status, STATUS_BAD_ARGUMENT, memory_order_relaxed);
        return;
    }
    switch (call->map) {
    case MAX_POOL2D:
        kernels->max(&window, y, line);
        store_offsets(line, call->offset_size, window.channels, offsets);
        break;
    case MAX_GATHER2D:
        load_offsets(offsets, call->offset_size, window.channels, line);
        good = kernels->gather(&window, line, y);
        break;
    case MAX_SCATTER2D:
        load_offsets(offsets, call->offset_size, window.channels, line);
        good = kernels->scatter(&window, line, y);
        break;
    case AVG_POOL2D:
        kernels->average(&window, divisor_at(call, row, column), y);
        break;
    case AVG_POOL2D_ADJOINT:
        kernels->spread(&window, divisor_at(call, row, column), y);
        break;
    }
    if (!good)
        atomic_store_explicit(job->status, STATUS_BAD_OFFSET, memory_order_relaxed);
}

static void pool_row(const void *context, int64_t item, int32_t thread) {
    (void)thread;
    const struct pool_job *job = context;
    const struct pool2d_geometry *g = &job->call->geometry;
    for (int64_t column = 0; column < g->output[1]; column++)
        for (int64_t channel = 0; channel < g->channels; channel += POOL_CHANNELS)
            pool_window(job, item / g->output[0], item % g->output[0], column, channel);
}

static void pool_channels(const void *context, int64_t item, int32_t thread) {
    (void)thread;
    const struct pool_job *job = context;
    const struct pool2d_geometry *g = &job->call->geometry;
    int64_t blocks = ceil_div(g->channels, POOL_CHANNELS), image = item / blocks,
            channel = item % blocks * POOL_CHANNELS;
    int64_t size = job->call->element_size, pixels = g->input[0] * g->input[1];
    char *cells = job->x + (image * pixels * g->channels + channel) * size;
    for (int64_t pixel = 0; pixel < pixels; pixel++, cells += g->channels * size)
        memset(cells, 0, (size_t)(min64(g->channels - channel, POOL_CHANNELS) * size));
    for (int64_t row = 0; row < g->output[0]; row++)
        for (int64_t column = 0; column < g->output[1]; column++)
            pool_window(job, image, row, column, channel);
}

/* Sizes come checked from Python; this is the second look that keeps 64-bit arithmetic and memory safe whoever calls.
 */
static int32_t check(const struct pool2d_call *call) {
    const struct pool2d_geometry *g = &call->geometry;
    int64_t elements = 8, cells = 1, results = 8;
    if (g->batch < 0 || g->channels < 0 || call->map < MAX_POOL2D || call->map > AVG_POOL2D_ADJOINT)
        return STATUS_BAD_ARGUMENT;
    if (__builtin_mul_overflow(max64(g->batch, 1), elements * max64(g->channels, 1), &elements))
        return STATUS_OVERFLOW;
    results = elements;
    for (int axis = 0; axis < 2; axis++) {
        int64_t reach, limit = INT64_C(1) << 31;
        if (g->kernel[axis] < 1 || g->stride[axis] < 1 || g->dilation[axis] < 1 || g->output[axis] < 1 ||
            g->input[axis] < 1 || g->padding[axis] < 0)
            return STATUS_BAD_ARGUMENT;
        if (g->kernel[axis] >= limit || g->stride[axis] >= limit || g->dilation[axis] >= limit ||
            __builtin_mul_overflow(elements, g->input[axis], &elements) || elements > INT64_C(1) << 47 ||
            __builtin_mul_overflow(results, g->output[axis], &results) || results > INT64_C(1) << 47 ||
            __builtin_mul_overflow(g->output[axis] - 1, g->stride[axis], &reach) ||
            __builtin_mul_overflow(cells, g->kernel[axis], &cells) || cells >= limit)
            return STATUS_OVERFLOW;
    }
    return STATUS_OK;
}

int32_t pool2d_run(const struct pool2d_call *call, int64_t begin, int64_t end, void *x, void *y, void *offsets) {
    const struct kernels *kernels = kernels_for(call->isa, call->element_size);
    int32_t status = check(call);
    if (status != STATUS_OK)
        return status;
    if (!kernels || begin < 0 || end > pool2d_items(call))
        return STATUS_BAD_ARGUMENT;
    atomic_int result = STATUS_OK;
    struct pool_job job = {call, kernels, x, y, offsets, &result};
    /* No flushing of denormals here: comparisons would take them for zeros. */
    parallel_for(begin, end, call->threads, false, adds_to_cells(call) ? pool_channels : pool_row, &job);
    return result;
}
