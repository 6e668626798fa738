/* Depthwise convolution, where every channel is a group of its own: no reduction over channels, so channels are the
 * lanes.
 *
 * The walks are those of the direct algorithm (sources.h). A run is a whole row of the result, and all it needs to know
 * of the source are the rows that its lines of taps read; the inner loops do without a table of pixels, and compare at
 * the edges only. Memory is what bounds this: rows are taken in the order in which they lie there, and the rows that
 * come next are fetched ahead. */
#include <string.h>
#include "sources.h"

enum {
    ITEMS = 32,                /* wanted for balance between threads: blocks of rows, then ranges of channels */
    ROWS_BYTES = 512 << 10,    /* of the source rows that a row reads: part of a second-level cache */
    UNIT_BYTES = 256 << 10,    /* weight gradient: of the rows summed in registers, source and gradient */
    UNIT_ROWS = 32,            /* ... which are not more than these */
    NEAR_BYTES = 12 << 20,     /* weight gradient: of both arrays, which a last-level cache holds */
    CHUNKS = 16,               /* weight gradient: chunks of rows at most, and ... */
    CHUNK_PIXELS = 256,        /* ... the pixels wanted in each */
    PARTIAL_BYTES = 8 << 20,   /* of all partial weight gradients, beyond which there are fewer chunks */
};

struct layout {
    int64_t channels, vectors, taps, phases[2];
    int64_t rows, block;    /* rows walked in all images, rows in a block (weight gradient: in a chunk) */
    int64_t blocks, splits; /* blocks of rows, ranges of vectors */
    int64_t nest;           /* vectors that are taken through a block together */
    int64_t unit;           /* weight gradient: rows summed in registers */
    int64_t pixel;          /* bytes */
    int64_t zeros, weights, sums; /* bytes of the workspace's parts: zeros, weights and initial values, or a chunk's sums */
    int64_t axes, scratch;  /* bytes of a thread's axes, one for each phase, and with its runs and their lines */
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
        .unit = 1,
        .pixel = g->in_channels * size,
        .zeros = cache_lines(kernels->lanes * size),
    };
    int64_t tap_size = l.vectors * kernels->lanes * size;
    if (plan->map == CONV2D_WEIGHT) {
        l.sums = cache_lines(l.taps * tap_size);
        int64_t chunks = min64(ceil_div(l.rows * g->output[1], CHUNK_PIXELS), PARTIAL_BYTES / l.sums);
        l.block = max64(ceil_div(l.rows, max64(min64(chunks, CHUNKS), 1)), 1);
        int64_t row_bytes = (g->stride[0] * g->input[1] + g->output[1]) * l.pixel;
        l.unit = max64(min64(min64(UNIT_BYTES / max64(row_bytes, 1), UNIT_ROWS), l.block), 1);
    } else {
        l.weights = cache_lines((1 + l.taps) * tap_size);
        l.block = max64(ceil_div(l.rows, ITEMS), 1);
    }
    l.blocks = ceil_div(l.rows, l.block);
    /* A partial vector overlaps the one before it, so that the two belong to one range. */
    l.splits = max64(min64(ITEMS / max64(l.blocks, 1), g->in_channels / kernels->lanes), 1);
    int64_t vector_rows = g->kernel[0] * (over_input ? g->output[1] : g->input[1]) * kernels->lanes * size;
    l.nest = max64(ROWS_BYTES / max64(vector_rows, 1), 1);
    l.axes = cache_lines((l.phases[0] + l.phases[1]) * (int64_t)sizeof(struct axis));
    l.scratch = l.axes + cache_lines(l.unit * ((int64_t)sizeof(struct run) + g->kernel[0] * (int64_t)sizeof(void *)));
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

static void set_lines(const struct layout *l, const struct axis *vertical, const struct axis *horizontal,
                      struct depthwise *product) {
    product->lines = vertical->taps;
    product->width = horizontal->taps;
    product->stride = horizontal->source_step;
    product->dilation = horizontal->offset_step;
    product->size = horizontal->source_size;
    product->step = l->channels;
    product->result_step = horizontal->step * l->channels;
    product->row_size = horizontal->source_size * l->pixel;
}

/* The rows that the lines of a run in `row` of the walk read, of an image number `image` of the source. */
static void fill_lines(const struct axis *vertical, int64_t row, int64_t image, const char *source, int64_t row_size,
                       const void **lines) {
    int64_t source_row = row * vertical->source_step + vertical->offset;
    for (int64_t u = 0; u < vertical->taps; u++, source_row += vertical->offset_step) {
        bool inside = source_row >= 0 && source_row < vertical->source_size;
        lines[u] = inside ? source + (image * vertical->source_size + source_row) * row_size : NULL;
    }
}

/* The first row that the lines of a run in `row` of the walk do not read yet: soon, the next runs will. */
static uintptr_t next_row(const struct axis *vertical, int64_t row, int64_t image, const char *source,
                          int64_t row_size) {
    int64_t last = row * vertical->source_step + vertical->offset + (vertical->taps - 1) * vertical->offset_step;
    return (uintptr_t)source + (image * vertical->source_size + last + 1) * row_size;
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
    plan->workspace_size = l.zeros + l.weights + plan->threads * l.scratch;
    return true;
}

/* One vector of initial values, and phase by phase [vector][tap][lane] of the weights. */
static void pack(const struct conv2d_job *job, int64_t vector, int32_t thread) {
    (void)thread;
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    int64_t size = plan->element_size, lanes = job->kernels->lanes, tap_size = l.vectors * lanes * size;
    int64_t start = vector_start(vector, l.channels, lanes), used = min64(lanes, l.channels);
    char *initial = job->workspace + l.zeros + vector * lanes * size;
    if (vector == 0)
        memset(job->workspace, 0, (size_t)l.zeros);
    memset(initial, 0, (size_t)(lanes * size));
    if (job->bias)
        memcpy(initial, job->bias + start * size, (size_t)(used * size));
    for (int64_t phase = 0; phase < l.phases[0] * l.phases[1]; phase++) {
        struct axis vertical = axis_of(plan, 0, phase / l.phases[1]), horizontal = axis_of(plan, 1, phase % l.phases[1]);
        char *to = job->workspace + l.zeros + (1 + taps_before(g, &vertical, &horizontal)) * tap_size +
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

/* One row of the result, for some vectors of channels. */
static void multiply_row(const struct conv2d_job *job, const struct layout *l, struct depthwise *product, int64_t line,
                         const struct axis *axes[2], const void **lines) {
    const struct conv2d_geometry *g = &job->plan->geometry;
    bool forward = job->plan->map == CONV2D;
    const int64_t *size = forward ? g->output : g->input;
    const char *source = forward ? job->x : job->y, *packed = job->workspace + l->zeros;
    char *result = (forward ? job->y : job->x) + line * size[1] * l->pixel;
    int64_t tap_size = l->vectors * job->kernels->lanes * job->plan->element_size;
    int64_t image = line / size[0], row = line % size[0], phase = row % l->phases[0];
    const struct axis *vertical = &axes[0][phase];
    for (int64_t p = 0; p < l->phases[1]; p++) {
        const struct axis *horizontal = &axes[1][p];
        set_lines(l, vertical, horizontal, product);
        product->next_rows = vertical->source_step;
        product->weights = packed + (1 + taps_before(g, vertical, horizontal)) * tap_size;
        fill_lines(vertical, row / l->phases[0], image, source, product->row_size, lines);
        struct run run = {
            .columns = horizontal->count,
            .first = horizontal->offset,
            .lines = lines,
            .result = result + horizontal->start * l->pixel,
            .next = phase + p > 0 ? 0 : next_row(vertical, row / l->phases[0], image, source, product->row_size),
        };
        job->kernels->depthwise(product, &run);
    }
}

static void multiply(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    struct layout l = layout_of(plan, job->kernels);
    char *result = plan->map == CONV2D ? job->y : job->x;
    char *scratch = job->workspace + l.zeros + l.weights + thread * l.scratch;
    const void **lines = (const void **)(scratch + l.axes);
    struct axis *axes = (struct axis *)scratch;
    for (int64_t phase = 0; phase < l.phases[0]; phase++)
        axes[phase] = axis_of(plan, 0, phase);
    for (int64_t phase = 0; phase < l.phases[1]; phase++)
        axes[l.phases[0] + phase] = axis_of(plan, 1, phase);

    const int64_t *size = plan->map == CONV2D ? plan->geometry.output : plan->geometry.input;
    /* With so few products, storing past the caches pays from a quarter of the size on that counts as large elsewhere. */
    int64_t quarters = l.rows * size[1] * l.pixel * 4;
    struct depthwise product = {
        .channels = l.channels,
        .initial = job->workspace + l.zeros,
        .zeros = job->workspace,
        .stream = streams(result, l.pixel, quarters),
    };
    set_range(&l, job->kernels, item % l.splits, &product);
    int64_t block = item / l.splits * l.block, last = product.last;
    for (; product.first < last; product.first = product.last) {
        product.last = min64(product.first + l.nest, last);
        for (int64_t line = block; line < min64(block + l.block, l.rows); line++)
            multiply_row(job, &l, &product, line, (const struct axis *[]){axes, axes + l.phases[0]}, lines);
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
    plan->workspace_size = l.zeros + max64(l.blocks, 1) * l.sums + plan->threads * l.scratch;
    return true;
}

/* The zeros, and the sums of the first chunk, which there may be no rows for. */
static void clear(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)item;
    (void)thread;
    struct layout l = layout_of(job->plan, job->kernels);
    memset(job->workspace, 0, (size_t)(l.zeros + l.sums));
}

/* Rows are summed unit by unit, vector by vector; meanwhile what the next unit reads is fetched. A vector's sums stay in
 * registers, and most of what it reads in a first-level cache; but where all is near, it is quicker to take pixels whole,
 * `across` vectors. */
static void accumulate(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    struct axis vertical = walk_output(g, 0), horizontal = walk_output(g, 1);
    int64_t chunk = item / l.splits, vector_size = l.taps * job->kernels->lanes * plan->element_size;
    char *sums = job->workspace + l.zeros + chunk * l.sums;
    struct run *runs = (struct run *)(job->workspace + l.zeros + l.blocks * l.sums + thread * l.scratch + l.axes);
    const void **lines = (const void **)(runs + l.unit);
    int64_t pixels = g->batch * (g->input[0] * g->input[1] + g->output[0] * g->output[1]);
    struct depthwise product = {
        .channels = l.channels,
        .zeros = job->workspace,
        .sums = sums,
        .across = l.vectors > 1 && pixels * l.pixel <= NEAR_BYTES,
    };
    set_lines(&l, &vertical, &horizontal, &product);
    product.next_rows = vertical.source_step;
    product.result_ahead = l.unit * g->output[1] * l.pixel;
    set_range(&l, job->kernels, item % l.splits, &product);
    memset(sums + product.first * vector_size, 0, (size_t)((product.last - product.first) * vector_size));

    int64_t end = min64((chunk + 1) * l.block, l.rows);
    for (int64_t begin = chunk * l.block; begin < end; begin += l.unit) {
        int64_t count = min64(l.unit, end - begin);
        for (int64_t r = 0; r < count; r++) {
            int64_t image = (begin + r) / g->output[0], row = (begin + r) % g->output[0];
            const void **run_lines = lines + r * vertical.taps;
            fill_lines(&vertical, row, image, job->x, product.row_size, run_lines);
            runs[r] = (struct run){
                .columns = g->output[1],
                .first = horizontal.offset,
                .lines = run_lines,
                .result = job->y + (begin + r) * g->output[1] * l.pixel,
                .next = next_row(&vertical, row, image, job->x, product.row_size) +
                        (uintptr_t)((l.unit - 1) * vertical.source_step * product.row_size),
            };
        }
        job->kernels->depthwise_over_pixels(&product, runs, count);
    }
}

static void reduce(const struct conv2d_job *job, int64_t split, int32_t thread) {
    (void)thread;
    struct layout l = layout_of(job->plan, job->kernels);
    int64_t size = job->plan->element_size, lanes = job->kernels->lanes, used = min64(lanes, l.channels);
    struct depthwise range;
    set_range(&l, job->kernels, split, &range);
    for (int64_t vector = range.first; vector < range.last; vector++) {
        int64_t start = vector_start(vector, l.channels, lanes);
        char *total = job->workspace + l.zeros + vector * l.taps * lanes * size;
        for (int64_t chunk = 1; chunk < l.blocks; chunk++)
            add_arrays(job->plan->element_size, l.taps * lanes, total + chunk * l.sums, total);
        for (int64_t i = 0; i < used; i++)
            for (int64_t tap = 0; tap < l.taps; tap++)
                copy_element(size, total + (tap * lanes + i) * size, job->weight + ((start + i) * l.taps + tap) * size);
    }
}

const struct conv2d_algorithm depthwise_weight = {"depthwise", plan_depthwise_weight, {clear, accumulate, reduce}};
