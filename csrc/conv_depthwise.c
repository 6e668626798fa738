/* Depthwise convolution, where every channel is a group of its own: no reduction over channels, so channels are the
 * lanes.
 *
 * The walks are those of the direct algorithm (sources.h), but only the tiles at the edges of a row, some of whose taps
 * read zeros, need a table of pointers. Others need one for each line of taps, which is a line of zeros above and below
 * the image. Tiles of a strip, as wide as a tile, are computed downwards, so that their source stays in the first-level
 * cache until its last tap. */
#include <string.h>
#include "sources.h"

enum {
    ITEMS = 32,              /* wanted for balance between threads: blocks of rows, then ranges of channels */
    CACHE_BYTES = 24 << 10,  /* of the source, read by the taps of a tile: part of a first-level cache */
    RUNS = 32,               /* weight gradient: summed in registers */
    TABLE_ENTRIES = 1 << 15, /* weight gradient: of the runs' pointers, beyond which there are fewer runs */
    CHUNKS = 16,             /* weight gradient: chunks of rows at most, and ... */
    CHUNK_PIXELS = 1024,     /* ... the pixels wanted in each */
    PARTIAL_BYTES = 8 << 20, /* of all partial weight gradients, beyond which there are fewer chunks */
};

struct layout {
    int64_t channels, vectors, taps, phases[2];
    int64_t rows, block;    /* rows walked in all images, rows in a block (weight gradient: in a chunk) */
    int64_t blocks, splits; /* blocks of rows, ranges of vectors */
    int64_t columns;        /* tiles in a row */
    int64_t strips, nest;   /* of tiles; vectors that are taken down a strip together */
    int64_t runs, entries;  /* weight gradient: runs summed in registers; pointers of a run, at most */
    int64_t pixel, line;    /* bytes of a pixel, and of a line of zeros */
    int64_t weights, sums;  /* bytes of the workspace's parts: weights and initial values, or one chunk's sums */
    int64_t axes, scratch;  /* bytes of a thread's axes, one for each phase, and with its runs and their pointers */
};

static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool over_input = plan->map == CONV2D_INPUT;
    int64_t size = plan->element_size;
    struct layout l = {
        .channels = g->in_channels,
        .vectors = ceil_div(g->in_channels, kernels->lanes),
        .taps = g->kernel[0] * g->kernel[1],
        .phases = {over_input ? input_phases(g, 0) : 1, over_input ? input_phases(g, 1) : 1},
        .rows = g->batch * (over_input ? g->input[0] : g->output[0]),
        .pixel = g->in_channels * size,
    };
    l.line = cache_lines((over_input ? g->output[1] : g->input[1]) * l.pixel);
    l.columns = ceil_div(over_input ? ceil_div(g->input[1], g->stride[1]) : g->output[1], TILE_COLUMNS);
    int64_t tile_vector = g->kernel[0] * TILE_COLUMNS * (over_input ? 1 : g->stride[1]) * kernels->lanes * size;
    l.nest = max64(min64(CACHE_BYTES / tile_vector, l.vectors), 1);
    l.strips = ceil_div(l.columns, max64(CACHE_BYTES / (l.nest * tile_vector), 1));
    int64_t tap_size = l.vectors * kernels->lanes * size;
    l.runs = 1;
    l.entries = g->kernel[0] * max64(g->kernel[1] * TILE_COLUMNS, TILE_SPAN);
    if (plan->map == CONV2D_WEIGHT) {
        l.strips = 1;
        l.sums = cache_lines(l.taps * tap_size);
        int64_t chunks = min64(ceil_div(l.rows * g->output[1], CHUNK_PIXELS), PARTIAL_BYTES / l.sums);
        l.block = max64(ceil_div(l.rows, max64(min64(chunks, CHUNKS), 1)), 1);
        l.runs = max64(min64(RUNS, TABLE_ENTRIES / l.entries), 1);
    } else {
        l.weights = cache_lines((1 + l.taps) * tap_size);
        l.block = max64(ceil_div(l.rows, ITEMS), 1);
    }
    l.blocks = ceil_div(l.rows, l.block);
    /* A partial vector overlaps the one before it, so that the two belong to one range. */
    l.splits = max64(min64(ceil_div(ITEMS, max64(l.blocks, 1)), g->in_channels / kernels->lanes), 1);
    l.axes = cache_lines((l.phases[0] + l.phases[1]) * (int64_t)sizeof(struct axis));
    l.scratch = l.axes + cache_lines(l.runs * ((int64_t)sizeof(struct run) + l.entries * (int64_t)sizeof(void *)));
    return l;
}

static bool serves(const struct conv2d_geometry *g) {
    return g->groups == g->in_channels && g->groups > 1 && g->out_channels == g->groups;
}

static struct axis axis_of(const struct conv2d_plan *plan, int axis, int64_t phase) {
    return plan->map == CONV2D_INPUT ? walk_input(&plan->geometry, axis, phase) : walk_output(&plan->geometry, axis);
}

/* Taps stored before those of a phase. */
static int64_t taps_before(const struct conv2d_geometry *g, const struct axis *vertical,
                           const struct axis *horizontal) {
    return vertical->taps_before * g->kernel[1] + vertical->taps * horizontal->taps_before;
}

static void copy_element(int64_t size, const char *from, char *to) {
    if (size == 4)
        memcpy(to, from, 4);
    else
        memcpy(to, from, 8);
}

/* The range of vectors that is number `split`. */
static void set_range(const struct layout *l, const struct kernels *kernels, int64_t split, struct depthwise *product) {
    int64_t whole = l->channels / kernels->lanes;
    product->first = whole * split / l->splits;
    product->last = split + 1 == l->splits ? l->vectors : whole * (split + 1) / l->splits;
}

static void set_lines(const struct axis *vertical, const struct axis *horizontal, int64_t channels,
                      struct depthwise *product) {
    product->lines = vertical->taps;
    product->width = horizontal->taps;
    product->stride = horizontal->source_step;
    product->dilation = horizontal->offset_step;
    product->step = channels;
    product->result_step = horizontal->step * channels;
}

/* Where the taps of a run read, which begins at `row` and `column` of the walks in one image. */
static void fill_run(const struct axis *vertical, const struct axis *horizontal, const struct depthwise *product,
                     int64_t row, int64_t column, const char *image, int64_t pixel, const char *zeros,
                     const void **sources, struct run *run) {
    const int64_t size = horizontal->source_size, stride = product->stride, dilation = product->dilation;
    int64_t first = column * stride + horizontal->offset;
    int64_t last = first + (run->columns - 1) * stride + (product->width - 1) * dilation;
    bool walk = tile_stride(product);
    int64_t source_row = row * vertical->source_step + vertical->offset;
    run->sources = sources;
    for (int64_t u = 0; u < product->lines; u++, source_row += vertical->offset_step) {
        bool inside = source_row >= 0 && source_row < vertical->source_size;
        const char *line = image + source_row * size * pixel;
        if (!run->table) {
            sources[u] = inside ? line + first * pixel : zeros;
        } else if (walk) {
            const void **entry = sources + u * TILE_SPAN - first;
            for (int64_t i = first; i <= last; i++)
                entry[i] = inside && i >= 0 && i < size ? line + i * pixel : zeros;
        } else {
            for (int64_t v = 0; v < product->width; v++) {
                const void **entry = sources + (u * product->width + v) * TILE_COLUMNS;
                for (int64_t k = 0, i = first + v * dilation; k < run->columns; k++, i += stride)
                    entry[k] = inside && i >= 0 && i < size ? line + i * pixel : zeros;
            }
        }
    }
}

/* The next run of tiles begin..end of a row: adjacent tiles that need no table, or one that does. */
static struct run next_run(const struct axis *axis, int64_t tiles, int64_t *begin, int64_t end) {
    int64_t reach = (axis->taps - 1) * axis->offset_step, column = axis->count * *begin / tiles, columns;
    struct run run = {.table = column * axis->source_step + axis->offset < 0};
    do {
        columns = axis->count * (*begin + 1) / tiles - column;
        if ((column + columns - 1) * axis->source_step + axis->offset + reach >= axis->source_size) {
            if (run.columns > 0)
                break;
            run.table = true;
        }
        run.columns = columns;
        ++*begin;
    } while (!run.table && *begin < end);
    return run;
}

/* ---- Convolution and input gradient ---- */

static bool plan_depthwise(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D_WEIGHT || !serves(g))
        return false;
    struct layout l = layout_of(plan, kernels);
    double values = (double)g->batch * g->output[0] * g->output[1] * g->out_channels;
    plan->stages = 2;
    plan->items[0] = l.vectors;
    plan->nanoseconds[0] = (double)g->out_channels * l.taps;
    plan->items[1] = l.blocks * l.splits;
    plan->nanoseconds[1] = values * (0.3 * l.taps / kernels->lanes + 0.1);
    plan->workspace_size = l.line + l.weights + plan->threads * l.scratch;
    return true;
}

/* One vector of initial values, and phase by phase [vector][tap][lane] of the weights; and the line of zeros. */
static void pack(const struct conv2d_job *job, int64_t vector, int32_t thread) {
    (void)thread;
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    int64_t size = plan->element_size, lanes = job->kernels->lanes, tap_size = l.vectors * lanes * size;
    int64_t start = vector_start(vector, l.channels, lanes), used = min64(lanes, l.channels);
    char *initial = job->workspace + l.line + vector * lanes * size;
    if (vector == 0)
        memset(job->workspace, 0, (size_t)l.line);
    memset(initial, 0, (size_t)(lanes * size));
    if (job->bias)
        memcpy(initial, job->bias + start * size, (size_t)(used * size));
    for (int64_t phase = 0; phase < l.phases[0] * l.phases[1]; phase++) {
        struct axis vertical = axis_of(plan, 0, phase / l.phases[1]), horizontal = axis_of(plan, 1, phase % l.phases[1]);
        char *to = job->workspace + l.line + (1 + taps_before(g, &vertical, &horizontal)) * tap_size +
                   vector * vertical.taps * horizontal.taps * lanes * size;
        for (int64_t u = 0; u < vertical.taps; u++)
            for (int64_t v = 0; v < horizontal.taps; v++, to += lanes * size) {
                int64_t tap = (vertical.first_tap + u * vertical.tap_step) * g->kernel[1] + horizontal.first_tap +
                              v * horizontal.tap_step;
                for (int64_t i = 0; i < used; i++)
                    copy_element(size, job->weight + ((start + i) * l.taps + tap) * size, to + i * size);
            }
    }
}

/* The part of one row of the result that lies in a strip, for some vectors of channels. */
static void multiply_row(const struct conv2d_job *job, const struct layout *l, struct depthwise *product, int64_t line,
                         int64_t strip, const struct axis *axes[2], const void **sources) {
    const struct conv2d_geometry *g = &job->plan->geometry;
    bool forward = job->plan->map == CONV2D;
    const int64_t *from = forward ? g->input : g->output, *to = forward ? g->output : g->input;
    int64_t tap_size = l->vectors * job->kernels->lanes * job->plan->element_size;
    int64_t row = line % to[0];
    const struct axis *vertical = &axes[0][row % l->phases[0]];
    const char *zeros = job->workspace, *packed = zeros + l->line;
    const char *image = (forward ? job->x : job->y) + line / to[0] * from[0] * from[1] * l->pixel;
    char *result = (forward ? job->y : job->x) + line * to[1] * l->pixel;
    for (int64_t phase = 0; phase < l->phases[1]; phase++) {
        const struct axis *horizontal = &axes[1][phase];
        set_lines(vertical, horizontal, l->channels, product);
        product->ahead = vertical->source_step * from[1] * l->channels;
        product->weights = packed + (1 + taps_before(g, vertical, horizontal)) * tap_size;
        int64_t tile = l->columns * strip / l->strips, end = l->columns * (strip + 1) / l->strips;
        while (tile < end) {
            int64_t column = horizontal->count * tile / l->columns;
            struct run run = next_run(horizontal, l->columns, &tile, end);
            run.result = result + (horizontal->start + column * horizontal->step) * l->pixel;
            fill_run(vertical, horizontal, product, row / l->phases[0], column, image, l->pixel, zeros, sources, &run);
            job->kernels->depthwise(product, &run);
        }
    }
}

static void multiply(const struct conv2d_job *job, int64_t item, int32_t thread) {
    struct layout l = layout_of(job->plan, job->kernels);
    char *scratch = job->workspace + l.line + l.weights + thread * l.scratch;
    const void **sources = (const void **)(scratch + l.axes);
    struct axis *axes = (struct axis *)scratch;
    for (int64_t phase = 0; phase < l.phases[0]; phase++)
        axes[phase] = axis_of(job->plan, 0, phase);
    for (int64_t phase = 0; phase < l.phases[1]; phase++)
        axes[l.phases[0] + phase] = axis_of(job->plan, 1, phase);

    struct depthwise product = {.channels = l.channels, .initial = job->workspace + l.line};
    set_range(&l, job->kernels, item / l.blocks, &product);
    int64_t block = item % l.blocks * l.block, last = product.last;
    for (; product.first < last; product.first = product.last) {
        product.last = min64(product.first + l.nest, last);
        for (int64_t strip = 0; strip < l.strips; strip++)
            for (int64_t line = block; line < min64(block + l.block, l.rows); line++)
                multiply_row(job, &l, &product, line, strip, (const struct axis *[]){axes, axes + l.phases[0]}, sources);
    }
}

const struct conv2d_algorithm depthwise = {"depthwise", plan_depthwise, {pack, multiply}};

/* ---- Weight gradient ---- */

static bool plan_depthwise_weight(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map != CONV2D_WEIGHT || !serves(g))
        return false;
    struct layout l = layout_of(plan, kernels);
    double values = (double)l.rows * g->output[1] * g->out_channels;
    plan->stages = 3;
    plan->items[0] = 1;
    plan->items[1] = l.blocks * l.splits;
    plan->nanoseconds[1] = values * (0.3 * l.taps / kernels->lanes + 0.1);
    plan->items[2] = l.splits;
    plan->nanoseconds[2] = (0.1 * l.blocks + 1.0) * g->out_channels * l.taps;
    plan->workspace_size = l.line + max64(l.blocks, 1) * l.sums + plan->threads * l.scratch;
    return true;
}

/* The line of zeros, and the sums of the first chunk, which there may be no rows for. */
static void clear(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)item;
    (void)thread;
    struct layout l = layout_of(job->plan, job->kernels);
    memset(job->workspace, 0, (size_t)(l.line + l.sums));
}

static void accumulate(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    struct axis vertical = walk_output(g, 0), horizontal = walk_output(g, 1);
    int64_t chunk = item % l.blocks, vector_size = l.taps * job->kernels->lanes * plan->element_size;
    char *zeros = job->workspace, *sums = zeros + l.line + chunk * l.sums;
    struct run *runs = (struct run *)(zeros + l.line + l.blocks * l.sums + thread * l.scratch + l.axes);
    const void **table = (const void **)(runs + l.runs);
    struct depthwise product = {.channels = l.channels, .sums = sums};
    set_lines(&vertical, &horizontal, l.channels, &product);
    product.ahead = vertical.source_step * g->input[1] * l.channels;
    product.result_ahead = g->output[1] * l.channels;
    set_range(&l, job->kernels, item / l.blocks, &product);
    memset(sums + product.first * vector_size, 0, (size_t)((product.last - product.first) * vector_size));

    int64_t count = 0;
    for (int64_t strip = 0; strip < l.strips; strip++)
        for (int64_t line = chunk * l.block; line < min64((chunk + 1) * l.block, l.rows); line++) {
            const char *image = job->x + line / g->output[0] * g->input[0] * g->input[1] * l.pixel;
            int64_t tile = l.columns * strip / l.strips, end = l.columns * (strip + 1) / l.strips;
            while (tile < end) {
                int64_t column = horizontal.count * tile / l.columns;
                runs[count] = next_run(&horizontal, l.columns, &tile, end);
                runs[count].result = job->y + (line * horizontal.count + column) * l.pixel;
                fill_run(&vertical, &horizontal, &product, line % g->output[0], column, image, l.pixel, zeros,
                         table + count * l.entries, &runs[count]);
                if (++count == l.runs) {
                    job->kernels->depthwise_over_pixels(&product, runs, count);
                    count = 0;
                }
            }
        }
    job->kernels->depthwise_over_pixels(&product, runs, count);
}

static void reduce(const struct conv2d_job *job, int64_t split, int32_t thread) {
    (void)thread;
    struct layout l = layout_of(job->plan, job->kernels);
    int64_t size = job->plan->element_size, lanes = job->kernels->lanes, used = min64(lanes, l.channels);
    struct depthwise range;
    set_range(&l, job->kernels, split, &range);
    for (int64_t vector = range.first; vector < range.last; vector++) {
        int64_t start = vector_start(vector, l.channels, lanes);
        char *total = job->workspace + l.line + vector * l.taps * lanes * size;
        for (int64_t chunk = 1; chunk < l.blocks; chunk++)
            add_arrays(job->plan->element_size, l.taps * lanes, total + chunk * l.sums, total);
        for (int64_t i = 0; i < used; i++)
            for (int64_t tap = 0; tap < l.taps; tap++)
                copy_element(size, total + (tap * lanes + i) * size, job->weight + ((start + i) * l.taps + tap) * size);
    }
}

const struct conv2d_algorithm depthwise_weight = {"depthwise", plan_depthwise_weight, {clear, accumulate, reduce}};
