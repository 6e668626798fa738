/* Max pooling with its gather and scatter, average pooling with its adjoint: runs of alike results for pool.inc.
 *
 * Every result is computed where it is stored, once, from a grid of taps: windows (max, gather, average) from the cells
 * inside the input, cells (scatter, the average's adjoint) from the windows that cover them, in the order of windows. An
 * item is a band of rows of results. Along a row, the results away from the borders are runs of one shape: all windows,
 * or of cells every stride-th. */
#include <stdatomic.h>
#include "internal.h"

struct pool_job {
    const struct pool2d_call *call;
    const struct kernels *kernels;
    char *x, *y, *offsets;
    bool stream;
    int64_t begin, end; /* columns of results that are alike */
    atomic_int *status;
};

/* The taps of one result along one axis: the first one's index in the source, how many, the index from one to the next;
 * likewise their positions in the window. */
struct taps {
    int64_t first, count, step, position, position_step;
};

static bool by_cells(const struct pool2d_call *call) {
    return call->map == MAX_SCATTER2D || call->map == AVG_POOL2D_ADJOINT;
}

static const int64_t *results(const struct pool2d_call *call) {
    return by_cells(call) ? call->geometry.input : call->geometry.output;
}

/* Rows of results in an item: enough to share what neighbouring rows read, and not to notice the handing out. */
static int64_t rows_per_item(const struct pool2d_call *call) {
    const struct pool2d_geometry *g = &call->geometry;
    const int64_t bytes = INT64_C(128) << 10;
    int64_t pixels = g->input[0] * g->input[1] + g->output[0] * g->output[1];
    int64_t row = pixels * g->channels * call->element_size / results(call)[0];
    return max64(bytes / max64(row, 1), 1);
}

static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

/* How far it is from a window's first cell to behind its last. */
static int64_t reach(const struct pool2d_geometry *g, int axis) { return (g->kernel[axis] - 1) * g->dilation[axis] + 1; }

/* The cells of a window that lie inside the input. */
static struct taps cells_of(const struct pool2d_geometry *g, int axis, int64_t window) {
    int64_t start = window * g->stride[axis] - g->padding[axis], step = g->dilation[axis];
    int64_t first = start < 0 ? steps_over(-start, step) : 0;
    int64_t end = g->input[axis] > start ? min64(steps_over(g->input[axis] - start, step), g->kernel[axis]) : 0;
    return (struct taps){start + first * step, max64(end - first, 0), step, first, 1};
}

/* The windows that cover a cell. With dilation every window_step-th may, and the position falls from one to the next. */
static struct taps windows_of(const struct pool2d_geometry *g, int axis, int64_t cell) {
    int64_t at = cell + g->padding[axis], stride = g->stride[axis], dilation = g->dilation[axis], step = 1;
    int64_t first = max64(floor_div(at - reach(g, axis), stride) + 1, 0);
    int64_t last = min64(at / stride, g->output[axis] - 1);
    if (dilation > 1) {
        while (first <= last && (at - first * stride) % dilation != 0)
            first++;
        while (first + step <= last && step * stride % dilation != 0)
            step++;
    }
    if (first > last)
        return (struct taps){0};
    return (struct taps){first, (last - first) / step + 1, step, (at - first * stride) / dilation,
                         -(step * stride / dilation)};
}

/* The windows whose cells all lie inside the input. */
static void unclipped(const struct pool2d_geometry *g, int axis, int64_t *begin, int64_t *end) {
    *begin = min64(ceil_div(g->padding[axis], g->stride[axis]), g->output[axis]);
    *end = floor_div(g->input[axis] + g->padding[axis] - reach(g, axis), g->stride[axis]) + 1;
    *end = max64(min64(*end, g->output[axis]), *begin);
}

/* How much an average counts of a window along an axis: what overhangs the padding never, padding if it is included. */
static int64_t extent(const struct pool2d_call *call, int axis, int64_t window) {
    const struct pool2d_geometry *g = &call->geometry;
    int64_t start = window * g->stride[axis] - g->padding[axis];
    int64_t end = min64(start + g->kernel[axis], g->input[axis] + g->padding[axis]);
    return call->count_include_pad ? end - start : min64(end, g->input[axis]) - max64(start, 0);
}

static double divisor(const struct pool2d_call *call, int64_t row, int64_t column) {
    if (call->divisor != 0)
        return call->divisor;
    return (double)extent(call, 0, row) * (double)extent(call, 1, column);
}

/* The results of a row that are alike: those windows that are not clipped; those cells that every window which could
 * cover them does, with one divisor. */
static void alike(const struct pool2d_call *call, int64_t *begin, int64_t *end) {
    const struct pool2d_geometry *g = &call->geometry;
    unclipped(g, 1, begin, end);
    if (!by_cells(call))
        return;
    if (call->map == MAX_SCATTER2D || call->divisor != 0) {
        *begin = 0;
        *end = g->output[1];
    }
    *begin = max64(reach(g, 1) - g->stride[1] - g->padding[1] + *begin * g->stride[1], 0);
    *end = min64(*end * g->stride[1] - g->padding[1], g->input[1]);
    *begin = min64(*begin, g->input[1]);
    *end = max64(*end, *begin);
}

/* Whether an average's windows have one divisor as far as this axis tells. */
static bool uniform(const struct pool2d_call *call, int axis, const struct taps *windows) {
    if (call->divisor != 0)
        return true;
    for (int64_t i = 1; i < windows->count; i++)
        if (extent(call, axis, windows->first + i * windows->step) != extent(call, axis, windows->first))
            return false;
    return true;
}

/* The adjoint of averages for cells whose windows may have several divisors: one after the other where they do. */
static void spread(const struct pool_job *job, struct pool_run run, const struct taps *rows, const struct taps *columns) {
    const struct pool2d_call *call = job->call;
    int64_t row_parts = uniform(call, 0, rows) ? 1 : rows->count;
    int64_t column_parts = uniform(call, 1, columns) ? 1 : columns->count;
    if (rows->count == 0 || columns->count == 0) {
        run.divisor = 1;
        job->kernels->mean(&run);
        return;
    }
    const char *sources = run.sources;
    run.rows /= row_parts;
    run.columns /= column_parts;
    for (int64_t i = 0; i < row_parts; i++)
        for (int64_t j = 0; j < column_parts; j++) {
            run.sources = sources + (i * run.row_step + j * run.column_step) * call->element_size;
            run.divisor = divisor(call, rows->first + i * rows->step, columns->first + j * columns->step);
            run.add = i + j > 0;
            job->kernels->mean(&run);
        }
}

/* How many cells from this one on lie in the same window, or in the same gap, where windows do not overlap. */
static int64_t neighbours_of(const struct pool2d_call *call, int64_t column) {
    const struct pool2d_geometry *g = &call->geometry;
    int64_t kernel = g->kernel[1], stride = g->stride[1], at = (column + g->padding[1]) % stride;
    if (!by_cells(call) || kernel > stride || g->dilation[1] > 1)
        return 1;
    return at < kernel ? kernel - at : stride - at;
}

/* `count` results of a row from `column` on, which are `apart` columns apart, each with as many neighbours. */
static void pool_columns(const struct pool_job *job, int64_t image, int64_t row, const struct taps *rows, int64_t column,
                         int64_t count, int64_t apart, int64_t neighbours) {
    const struct pool2d_call *call = job->call;
    const struct pool2d_geometry *g = &call->geometry;
    const struct kernels *kernels = job->kernels;
    bool cells = by_cells(call);
    struct taps columns = cells ? windows_of(g, 1, column) : cells_of(g, 1, column);
    const int64_t *from = cells ? g->output : g->input, *to = results(call);
    int64_t source = ((image * from[0] + rows->first) * from[1] + columns.first) * g->channels;
    int64_t target = ((image * to[0] + row) * to[1] + column) * g->channels;
    struct pool_run run = {
        .results = count,
        .channels = g->channels,
        .next_source = (cells ? 1 : g->stride[1]) * g->channels,
        .next_result = apart * g->channels,
        .rows = rows->count,
        .columns = columns.count,
        .row_step = rows->step * from[1] * g->channels,
        .column_step = columns.step * g->channels,
        .position = rows->position * g->kernel[1] + columns.position,
        .position_row_step = rows->position_step * g->kernel[1],
        .position_column_step = columns.position_step,
        .neighbours = neighbours,
        .next_neighbour = g->channels,
        .sources = (cells ? job->y : job->x) + source * call->element_size,
        .target = (cells ? job->x : job->y) + target * call->element_size,
        .offsets = job->offsets + (call->map == MAX_SCATTER2D ? source : target) * call->offset_size,
        .offset_size = call->offset_size,
        .stream = job->stream,
    };
    if (run.next_source == g->channels && run.next_result == g->channels) { /* then it is one long pixel */
        run.channels *= run.results;
        run.results = 1;
    }
    if (!cells && (rows->count == 0 || columns.count == 0)) { /* possible with dilation; geometry.py refuses it */
        atomic_store_explicit(job->status, STATUS_BAD_ARGUMENT, memory_order_relaxed);
        return;
    }
    switch (call->map) {
    case MAX_POOL2D:
        kernels->max(&run);
        break;
    case MAX_GATHER2D:
        kernels->gather(&run);
        break;
    case MAX_SCATTER2D:
        kernels->scatter(&run);
        break;
    case AVG_POOL2D:
        run.divisor = divisor(call, row, column);
        kernels->mean(&run);
        break;
    case AVG_POOL2D_ADJOINT:
        spread(job, run, rows, &columns);
        break;
    }
}

/* Whether all offsets lie in one of `ranges` ranges, each from first to last, `step` apart. */
#define DEFINE_LIE_IN(type) \
    static bool type##_lie_in(const type *offsets, int64_t count, int64_t ranges, type first, type last, type step) { \
        type good = 1; \
        for (int64_t begin = 0; begin < count; begin += 64) { \
            type found[64] = {0}; \
            int64_t block = min64(count - begin, 64); \
            for (int64_t range = 0; range < ranges; range++) \
                for (int64_t i = 0; i < block; i++) \
                    found[i] |= (type)(offsets[begin + i] - first - (type)range * step) <= (type)(last - first); \
            for (int64_t i = 0; i < block; i++) \
                good &= found[i]; \
        } \
        return good; \
    }
DEFINE_LIE_IN(uint8_t)
DEFINE_LIE_IN(uint16_t)
DEFINE_LIE_IN(uint32_t)

/* Whether the offsets of `count` windows of a row, clipped alike, name cells inside the input. */
static bool name_cells(const struct pool_job *job, int64_t image, int64_t row, int64_t column, int64_t count) {
    const struct pool2d_call *call = job->call;
    const struct pool2d_geometry *g = &call->geometry;
    struct taps rows = cells_of(g, 0, row), columns = cells_of(g, 1, column);
    int64_t at = ((image * g->output[0] + row) * g->output[1] + column) * g->channels, width = g->kernel[1];
    const void *offsets = job->offsets + at * call->offset_size;
    bool whole = columns.count == width; /* then the ranges of all rows are one */
    int64_t ranges = whole ? 1 : rows.count, first = rows.position * width + columns.position;
    int64_t last = first + (whole ? rows.count * width : columns.count) - 1;
    if (rows.count == 0 || columns.count == 0)
        return false;
    count *= g->channels;
    if (call->offset_size == 1)
        return uint8_t_lie_in(offsets, count, ranges, (uint8_t)first, (uint8_t)last, (uint8_t)width);
    if (call->offset_size == 2)
        return uint16_t_lie_in(offsets, count, ranges, (uint16_t)first, (uint16_t)last, (uint16_t)width);
    return uint32_t_lie_in(offsets, count, ranges, (uint32_t)first, (uint32_t)last, (uint32_t)width);
}

static void check_offsets(const struct pool_job *job, int64_t image, int64_t row) {
    const struct pool2d_geometry *g = &job->call->geometry;
    int64_t begin, end;
    unclipped(g, 1, &begin, &end);
    bool good = begin == end || name_cells(job, image, row, begin, end - begin);
    for (int64_t column = 0; column < g->output[1]; column++)
        if (column < begin || column >= end)
            good &= name_cells(job, image, row, column, 1);
    if (!good)
        atomic_store_explicit(job->status, STATUS_BAD_OFFSET, memory_order_relaxed);
}

static void pool_row(const struct pool_job *job, int64_t image, int64_t row) {
    const struct pool2d_call *call = job->call;
    const struct pool2d_geometry *g = &call->geometry;
    bool cells = by_cells(call);
    struct taps taps = cells ? windows_of(g, 0, row) : cells_of(g, 0, row);
    if (call->map == MAX_GATHER2D)
        check_offsets(job, image, row);
    if (call->map == MAX_SCATTER2D) /* windows are checked with their first row of cells */
        for (int64_t i = 0, window = taps.first; i < taps.count; i++, window += taps.step)
            if (cells_of(g, 0, window).first == row)
                check_offsets(job, image, window);

    int64_t apart = cells ? g->stride[1] : 1;
    for (int64_t column = 0; column < job->begin; column++)
        pool_columns(job, image, row, &taps, column, 1, apart, 1);
    for (int64_t column = job->begin, phases_end = min64(column + apart, job->end); column < phases_end;) {
        int64_t neighbours = min64(neighbours_of(call, column), phases_end - column);
        int64_t count = (job->end - column - neighbours) / apart + 1, rest = column + count * apart;
        pool_columns(job, image, row, &taps, column, count, apart, neighbours);
        if (rest < job->end)
            pool_columns(job, image, row, &taps, rest, 1, apart, job->end - rest);
        column += neighbours;
    }
    for (int64_t column = job->end; column < results(call)[1]; column++)
        pool_columns(job, image, row, &taps, column, 1, apart, 1);
}

static void pool_band(const void *context, int64_t item, int32_t thread) {
    (void)thread;
    const struct pool_job *job = context;
    int64_t rows = results(job->call)[0], band = rows_per_item(job->call);
    for (int64_t row = item * band; row < min64((item + 1) * band, job->call->geometry.batch * rows); row++)
        pool_row(job, row / rows, row % rows);
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

int64_t pool2d_items(const struct pool2d_call *call) {
    if (check(call) != STATUS_OK)
        return 1; /* for pool2d_run to refuse */
    return ceil_div(call->geometry.batch * results(call)[0], rows_per_item(call));
}

int32_t pool2d_run(const struct pool2d_call *call, int64_t begin, int64_t end, void *x, void *y, void *offsets) {
    const struct kernels *kernels = kernels_for(call->isa, call->element_size);
    int32_t status = check(call);
    if (status != STATUS_OK)
        return status;
    if (!kernels || begin < 0 || end > pool2d_items(call))
        return STATUS_BAD_ARGUMENT;
    const struct pool2d_geometry *g = &call->geometry;
    void *target = by_cells(call) ? x : y;
    int64_t pixel = g->channels * call->element_size, pixels = g->batch * results(call)[0] * results(call)[1];
    atomic_int result = STATUS_OK;
    struct pool_job job = {call, kernels, x, y, offsets, streams(target, pixel, pixels * pixel), 0, 0, &result};
    alike(call, &job.begin, &job.end);
    /* No flushing of denormals here: comparisons would take them for zeros. */
    parallel_for(begin, end, call->threads, false, pool_band, &job);
    return result;
}
