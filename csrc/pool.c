/* Max pooling with its gather and scatter, average pooling with its adjoint: runs of alike results for pool.inc.
 *
 * Every result is computed once, from a grid of taps: windows (max, gather, average) from the cells inside the input,
 * cells (scatter, the average's adjoint) from the windows that cover them, in the order of windows. An item is a band of
 * rows of results. Along either axis, results away from the borders are alike: all windows, or of cells every stride-th.
 * What is alike along both is one call of an inner loop. */
#include <stdatomic.h>
#include "internal.h"

enum { PLANES_BYTES = 8192 };

struct pool_job {
    const struct pool2d_call *call;
    const struct kernels *kernels;
    char *x, *y, *offsets;
    bool stream;
    int64_t begin[2], end[2]; /* along each axis, the results that are alike */
    atomic_int *status;
};

/* The taps of one result along one axis: the first one's index in the source, how many, the index from one to the next;
 * likewise their positions in the window. */
struct taps {
    int64_t first, count, step, position, position_step;
};

/* Results along one axis that are alike: groups of neighbours with the same taps, a group every `apart` results. */
struct segment {
    int64_t first, groups, apart, neighbours;
    struct taps taps; /* of the first group */
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

/* The results along an axis that are alike: those windows that are not clipped; those cells that every window which
 * could cover them does, with one divisor. */
static void alike(const struct pool2d_call *call, int axis, int64_t *begin, int64_t *end) {
    const struct pool2d_geometry *g = &call->geometry;
    int64_t stride = g->stride[axis], padding = g->padding[axis];
    unclipped(g, axis, begin, end);
    if (!by_cells(call))
        return;
    if (call->map == MAX_SCATTER2D || call->divisor != 0) {
        *begin = 0;
        *end = g->output[axis];
    }
    *begin = max64(reach(g, axis) - stride - padding + *begin * stride, 0);
    *end = min64(*end * stride - padding, g->input[axis]);
    *begin = min64(*begin, g->input[axis]);
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

static void set_divisor(struct pool_run *run, double divisor) {
    int exponent;
    run->divisor = divisor;
    run->factor = __builtin_fabs(__builtin_frexp(divisor, &exponent)) == 0.5 ? 1 / divisor : 0;
}

/* The adjoint of averages for cells whose windows may have several divisors: one after the other where they do. */
static void spread(const struct pool_job *job, struct pool_run run, const struct taps *rows, const struct taps *columns) {
    const struct pool2d_call *call = job->call;
    int64_t row_parts = uniform(call, 0, rows) ? 1 : rows->count;
    int64_t column_parts = uniform(call, 1, columns) ? 1 : columns->count;
    if (rows->count == 0 || columns->count == 0) {
        set_divisor(&run, 1);
        job->kernels->mean(&run);
        return;
    }
    const char *sources = run.sources;
    run.rows /= row_parts;
    run.columns /= column_parts;
    for (int64_t i = 0; i < row_parts; i++)
        for (int64_t j = 0; j < column_parts; j++) {
            run.sources = sources + (i * run.row_step + j * run.column_step) * call->element_size;
            set_divisor(&run, divisor(call, rows->first + i * rows->step, columns->first + j * columns->step));
            run.add = i + j > 0;
            job->kernels->mean(&run);
        }
}

static void reduce(const struct pool_job *job, struct pool_run run, const struct segment *rows,
                   const struct segment *columns) {
    const struct pool2d_call *call = job->call;
    if (run.next_source == run.channels && run.next_result == run.channels) { /* then it is one long pixel */
        run.channels *= run.results;
        run.results = 1;
        if (run.next_source_line == run.channels && run.next_result_line == run.channels) {
            run.channels *= run.lines;
            run.lines = 1;
        }
    }
    switch (call->map) {
    case MAX_POOL2D:
        job->kernels->max(&run);
        break;
    case MAX_GATHER2D:
        job->kernels->gather(&run);
        break;
    case MAX_SCATTER2D:
        job->kernels->scatter(&run);
        break;
    case AVG_POOL2D:
        set_divisor(&run, divisor(call, rows->first, columns->first));
        job->kernels->mean(&run);
        break;
    case AVG_POOL2D_ADJOINT:
        spread(job, run, &rows->taps, &columns->taps);
        break;
    }
}

/* Copies `count` pixels of `size` bytes, which lie from_step and to_step bytes apart. */
static void copy_pixels(int64_t count, int64_t size, const char *from, int64_t from_step, char *to, int64_t to_step) {
#define COPY(whole, part) \
    for (int64_t i = 0; i < count; i++, from += from_step, to += to_step) { \
        __builtin_memcpy(to, from, part); \
        if (!(whole)) /* the rest overlaps it */ \
            __builtin_memcpy(to + size - (part), from + size - (part), part); \
    }
    if (size == 4)
        COPY(true, 4)
    else if (size == 8)
        COPY(true, 8)
    else if (size <= 16)
        COPY(false, 8)
    else if (size <= 32)
        COPY(false, 16)
    else
        COPY(false, 32)
#undef COPY
}

/* Pixels narrower than a vector are brought together: those of a plane lie side by side, from the first line to the last,
 * and then are one long pixel. Windows have a plane for each tap, filled before; cells one for each neighbour, emptied
 * after. Averages of neighbouring cells are equal and have one plane. */
static void pool_together(const struct pool_job *job, const struct pool_run *run, const struct segment *rows,
                          const struct segment *columns) {
    _Alignas(64) char planes[PLANES_BYTES];
    const struct pool2d_call *call = job->call;
    bool cells = by_cells(call);
    int64_t size = call->element_size, pixel = run->channels * size, plane = run->lines * run->results * run->channels;
    int64_t lines = cells ? run->neighbour_lines : run->rows, width = cells ? run->neighbours : run->columns;
    struct pool_run together = *run;
    if (cells) {
        together.target = planes;
        together.stream = false;
        together.next_result = run->channels;
        together.next_result_line = run->results * run->channels;
        together.next_neighbour = plane;
        together.next_neighbour_line = width * plane;
        if (call->map == AVG_POOL2D_ADJOINT)
            together.neighbours = together.neighbour_lines = 1;
        reduce(job, together, rows, columns);
    }
    for (int64_t i = 0; i < lines; i++)
        for (int64_t j = 0; j < width; j++)
            for (int64_t line = 0; line < run->lines; line++) {
                int64_t number = call->map == AVG_POOL2D_ADJOINT ? 0 : i * width + j;
                char *inside = planes + (number * plane + line * run->results * run->channels) * size;
                if (cells) {
                    int64_t at = line * run->next_result_line + i * run->next_neighbour_line + j * run->next_neighbour;
                    char *target = (char *)run->target + at * size;
                    copy_pixels(run->results, pixel, inside, pixel, target, run->next_result * size);
                } else {
                    int64_t at = line * run->next_source_line + i * run->row_step + j * run->column_step;
                    const char *source = (const char *)run->sources + at * size;
                    copy_pixels(run->results, pixel, source, run->next_source * size, inside, pixel);
                }
            }
    if (!cells) {
        together.sources = planes;
        together.ahead = 0;
        together.next_source = run->channels;
        together.next_source_line = run->results * run->channels;
        together.column_step = plane;
        together.row_step = width * plane;
        reduce(job, together, rows, columns);
    }
}

/* A run, in pieces that fit into planes where its pixels are narrow. */
static void pool_run(const struct pool_job *job, const struct pool_run *run, const struct segment *rows,
                     const struct segment *columns) {
    int64_t size = job->call->element_size, offset_size = run->offset_size;
    bool cells = by_cells(job->call);
    int64_t planes = cells ? run->neighbour_lines * run->neighbours : run->rows * run->columns;
    int64_t at_once = PLANES_BYTES / max64(planes * run->channels * size, 1);
    int64_t results = min64(run->results, at_once), lines = min64(run->lines, at_once / max64(results, 1));
    bool apart = run->next_source != run->channels || run->next_result != run->channels;
    if (run->channels >= job->kernels->lanes || !apart || lines * results * run->channels < job->kernels->lanes) {
        reduce(job, *run, rows, columns);
        return;
    }
    for (int64_t line = 0; line < run->lines; line += lines)
        for (int64_t first = 0; first < run->results; first += results) {
            struct pool_run part = *run;
            int64_t source = line * run->next_source_line + first * run->next_source;
            int64_t target = line * run->next_result_line + first * run->next_result;
            part.lines = min64(lines, run->lines - line);
            part.results = min64(results, run->results - first);
            part.sources = (const char *)run->sources + source * size;
            part.target = (char *)run->target + target * size;
            part.offsets = (char *)run->offsets + (job->call->map == MAX_SCATTER2D ? source : target) * offset_size;
            pool_together(job, &part, rows, columns);
        }
}

/* How many cells from this one on lie in the same window, or in the same gap, where windows do not overlap. */
static int64_t neighbours_of(const struct pool2d_call *call, int axis, int64_t cell) {
    const struct pool2d_geometry *g = &call->geometry;
    int64_t kernel = g->kernel[axis], stride = g->stride[axis];
    if (!by_cells(call) || kernel > stride || g->dilation[axis] > 1)
        return 1;
    int64_t at = (cell + g->padding[axis]) % stride;
    return at < kernel ? kernel - at : stride - at;
}

/* How many rows of the input it is from a row of windows to one that will be wanted soon, every cell of which is inside:
 * the next, else the first of the next image. */
static int64_t ahead(const struct pool_job *job, int64_t image, int64_t row) {
    const struct pool2d_geometry *g = &job->call->geometry;
    if (row + 1 < job->end[0])
        return g->stride[0];
    if (row > job->begin[0] && image + 1 < g->batch)
        return g->input[0] - (row - job->begin[0]) * g->stride[0];
    return 0;
}

/* The results that are alike in rows and in columns. */
static void pool_block(const struct pool_job *job, int64_t image, const struct segment *rows,
                       const struct segment *columns) {
    const struct pool2d_call *call = job->call;
    const struct pool2d_geometry *g = &call->geometry;
    bool cells = by_cells(call);
    const int64_t *from = cells ? g->output : g->input, *to = results(call);
    const struct taps *down = &rows->taps, *across = &columns->taps;
    int64_t source = ((image * from[0] + down->first) * from[1] + across->first) * g->channels;
    int64_t target = ((image * to[0] + rows->first) * to[1] + columns->first) * g->channels;
    struct pool_run run = {
        .lines = rows->groups,
        .results = columns->groups,
        .channels = g->channels,
        .next_source_line = (cells ? 1 : g->stride[0]) * from[1] * g->channels,
        .next_result_line = rows->apart * to[1] * g->channels,
        .next_source = (cells ? 1 : g->stride[1]) * g->channels,
        .next_result = columns->apart * g->channels,
        .rows = down->count,
        .columns = across->count,
        .row_step = down->step * from[1] * g->channels,
        .column_step = across->step * g->channels,
        .position = down->position * g->kernel[1] + across->position,
        .position_row_step = down->position_step * g->kernel[1],
        .position_column_step = across->position_step,
        .neighbour_lines = rows->neighbours,
        .neighbours = columns->neighbours,
        .next_neighbour_line = to[1] * g->channels,
        .next_neighbour = g->channels,
        .position_neighbour_line = g->kernel[1],
        .ahead = cells ? 0 : ahead(job, image, rows->first + rows->groups - 1) * from[1] * g->channels,
        .sources = (cells ? job->y : job->x) + source * call->element_size,
        .target = (cells ? job->x : job->y) + target * call->element_size,
        .offsets = job->offsets + (call->map == MAX_SCATTER2D ? source : target) * call->offset_size,
        .offset_size = call->offset_size,
        .stream = job->stream,
    };
    if (!cells && (down->count == 0 || across->count == 0)) { /* possible with dilation; geometry.py refuses it */
        atomic_store_explicit(job->status, STATUS_BAD_ARGUMENT, memory_order_relaxed);
        return;
    }
    pool_run(job, &run, rows, columns);
}

/* Visits the results first..end of an axis, and for each segment of rows the columns. */
static void pool_segments(const struct pool_job *job, int64_t image, int axis, int64_t first, int64_t end,
                          const struct segment *rows);

static void pool_segment(const struct pool_job *job, int64_t image, int axis, int64_t first, int64_t groups,
                         int64_t apart, int64_t neighbours, const struct segment *rows) {
    const struct pool2d_geometry *g = &job->call->geometry;
    struct taps taps = by_cells(job->call) ? windows_of(g, axis, first) : cells_of(g, axis, first);
    struct segment segment = {first, groups, apart, neighbours, taps};
    if (axis == 0)
        pool_segments(job, image, 1, 0, results(job->call)[1], &segment);
    else
        pool_block(job, image, rows, &segment);
}

static void pool_segments(const struct pool_job *job, int64_t image, int axis, int64_t first, int64_t end,
                          const struct segment *rows) {
    const struct pool2d_call *call = job->call;
    int64_t apart = by_cells(call) ? call->geometry.stride[axis] : 1;
    int64_t alike_begin = min64(max64(job->begin[axis], first), end);
    int64_t alike_end = max64(min64(job->end[axis], end), alike_begin);
    for (int64_t at = first; at < alike_begin; at++)
        pool_segment(job, image, axis, at, 1, apart, 1, rows);
    for (int64_t at = alike_begin, phases_end = min64(at + apart, alike_end); at < phases_end;) {
        int64_t neighbours = min64(neighbours_of(call, axis, at), phases_end - at);
        int64_t groups = (alike_end - at - neighbours) / apart + 1, rest = at + groups * apart;
        pool_segment(job, image, axis, at, groups, apart, neighbours, rows);
        if (rest < alike_end)
            pool_segment(job, image, axis, rest, 1, apart, alike_end - rest, rows);
        at += neighbours;
    }
    for (int64_t at = alike_end; at < end; at++)
        pool_segment(job, image, axis, at, 1, apart, 1, rows);
}

/* Whether all offsets lie in one of `ranges` ranges, each from first to last, `step` apart. */
#define DEFINE_LIE_IN(type) \
    static bool type##_lie_in(const type *offsets, int64_t count, int64_t ranges, type first, type last, type step) { \
        type wrong = 0; \
        if (ranges == 1) { \
            for (int64_t i = 0; i < count; i++) \
                wrong |= (type)(offsets[i] - first) > (type)(last - first); \
            return !wrong; \
        } \
        for (int64_t begin = 0; begin < count; begin += 64) { \
            type found[64] = {0}; \
            int64_t block = min64(count - begin, 64); \
            for (int64_t range = 0; range < ranges; range++) \
                for (int64_t i = 0; i < block; i++) \
                    found[i] |= (type)(offsets[begin + i] - first - (type)range * step) <= (type)(last - first); \
            for (int64_t i = 0; i < block; i++) \
                wrong |= !found[i]; \
        } \
        return !wrong; \
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

/* Checks the offsets of the windows of rows first..end. */
static void check_offsets(const struct pool_job *job, int64_t image, int64_t first, int64_t end) {
    const struct pool2d_geometry *g = &job->call->geometry;
    int64_t top, bottom, left, right, lines;
    bool good = true;
    unclipped(g, 0, &top, &bottom);
    unclipped(g, 1, &left, &right);
    bool whole = left == 0 && right == g->output[1]; /* then alike windows of several rows lie side by side */
    for (int64_t row = first; row < end; row += lines) {
        lines = whole && row >= top && row < bottom ? min64(bottom, end) - row : 1;
        if (left < right)
            good &= name_cells(job, image, row, left, lines * (right - left));
        for (int64_t column = 0; column < g->output[1]; column++)
            if (column < left || column >= right)
                good &= name_cells(job, image, row, column, 1);
    }
    if (!good)
        atomic_store_explicit(job->status, STATUS_BAD_OFFSET, memory_order_relaxed);
}

/* Checks the offsets of those windows whose first cells lie in rows first..end of the input. */
static void check_offsets_from(const struct pool_job *job, int64_t image, int64_t first, int64_t end) {
    const struct pool2d_geometry *g = &job->call->geometry;
    int64_t row = max64(floor_div(first + g->padding[0] - reach(g, 0), g->stride[0]) + 1, 0);
    int64_t behind = min64((end - 1 + g->padding[0]) / g->stride[0] + 1, g->output[0]);
    while (row < behind) {
        int64_t next = row;
        for (; next < behind; next++) {
            int64_t cell = cells_of(g, 0, next).first;
            if (cell < first || cell >= end)
                break;
        }
        check_offsets(job, image, row, next);
        row = max64(next, row + 1);
    }
}

static void pool_band(const void *context, int64_t item, int32_t thread) {
    (void)thread;
    const struct pool_job *job = context;
    int64_t rows = results(job->call)[0], band = rows_per_item(job->call);
    int64_t end = min64((item + 1) * band, job->call->geometry.batch * rows);
    for (int64_t at = item * band, next; at < end; at = next) {
        int64_t image = at / rows, first = at % rows;
        next = min64((image + 1) * rows, end);
        int64_t behind = first + next - at;
        if (job->call->map == MAX_GATHER2D)
            check_offsets(job, image, first, behind);
        if (job->call->map == MAX_SCATTER2D)
            check_offsets_from(job, image, first, behind);
        pool_segments(job, image, 0, first, behind, NULL);
    }
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
    struct pool_job job = {call, kernels, x, y, offsets, streams(target, pixel, pixels * pixel), {0}, {0}, &result};
    for (int axis = 0; axis < 2; axis++)
        alike(call, axis, &job.begin[axis], &job.end[axis]);
    /* No flushing of denormals here: comparisons would take them for zeros. */
    parallel_for(begin, end, call->threads, false, pool_band, &job);
    return result;
}
