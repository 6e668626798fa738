/* Convolution with 3x3 filters, stride 1, and its input gradient by Winograd's algorithm (Lavin & Gray, "Fast
 * Algorithms for Convolutional Neural Networks", arXiv:1509.09308): 16 products for 2x2 outputs instead of 36, or 36
 * for 4x4 outputs instead of 144.
 *
 * The result is cut into tiles of m x m outputs, each of which reads (m + 2) x (m + 2) source pixels. Inputs and
 * filters are transformed (winograd.inc); then value by value, (m + 2)^2 of them, a matrix product with a row for each
 * tile and a column for each result channel sums over the source channels; and the products are transformed to outputs.
 * The input gradient is the convolution with the filters flipped and their channels exchanged.
 *
 * Transformed inputs are kept (stage 0) if they are few: they serve all ranges of panels. Transformed filters are kept
 * (stage 1) if there are several blocks of tiles, which share them. In stage 2 an item is a block of tiles times a
 * range of panels: it transforms what is not kept, and the products of a block and a panel stay in the second-level
 * cache. Tiles that hang over the edge of the result are computed whole; what hangs over is dropped.
 *
 * An output is a sum of products in which every source value and every tap that direct convolution uses for it takes
 * part (the two are equal as polynomials), and no sum or product makes a finite number of an infinity or NaN. So where
 * an operand is not finite, or an intermediate result overflows, each output that depends on it is not finite either,
 * which winograd_outputs finds; then the call is left to the direct algorithm. */
#include <string.h>
#include "panel.h"
#include "sources.h"

enum {
    ITEMS = 16,                /* wanted for balance between threads */
    PRODUCT_BYTES = 512 << 10, /* of a block of tiles times a panel: half of a second-level cache */
    INPUT_BYTES = 512 << 10,   /* of a block's transformed inputs, where they are not kept */
    FILTER_BYTES = 256 << 10,  /* of a chunk's transformed filters, where they are not kept */
    KEPT_BYTES = 8 << 20,      /* of all transformed inputs, where they are kept */
    FILTER_CHANNELS = 64,      /* transformed by an item of stage 1 */
};

struct layout {
    struct panels panels;
    int64_t side, values; /* of a tile's outputs; (side + 2)^2 */
    int64_t depth, source_channels, result_channels;
    struct walk sources, results; /* over tiles, with taps that are the pixels of a tile in the source or result */
    bool keep_inputs, keep_filters;
    int64_t tiles, block, blocks; /* tiles in all and in a block, blocks */
    int64_t splits, units;        /* ranges of panels, panels in a range */
    int64_t chunk;                /* channels whose transformed filters are there at a time */
    /* In elements: from tile to tile and from value to value of inputs and products, from value to value of filters. */
    int64_t input_tile, input_value, product_tile, product_value, filter_value;
    int64_t inputs, filters; /* bytes of a block's inputs, of a panel's chunk of filters */
    /* In bytes: where the parts of the workspace begin, first what is kept; then those of a thread's scratch. */
    int64_t kept_inputs, kept_filters, scratches;
    int64_t zeros, initial, dropped, source_table, input_table, product_table, result_table;
    int64_t products, scratch_inputs, scratch_filters, scratch;
};

/* Rows at a distance of an odd number of cache lines spread over all sets of a cache; in elements. */
static int64_t odd_lines(int64_t elements, int64_t size) { return (ceil_div(elements * size, 64) | 1) * 64 / size; }

/* Lays a part of the given bytes after the others, which end at *end. */
static int64_t append(int64_t *end, int64_t bytes) {
    int64_t begin = *end;
    *end += cache_lines(bytes);
    return begin;
}

static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels, int64_t side) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    struct layout l = {
        .panels = cut_into_panels(g->groups, forward ? out : in, kernels),
        .side = side,
        .values = (side + 2) * (side + 2),
        .depth = forward ? in : out,
        .source_channels = forward ? g->in_channels : g->out_channels,
        .result_channels = forward ? g->out_channels : g->in_channels,
        .sources.batch = g->batch,
        .results.batch = g->batch,
    };
    for (int axis = 0; axis < 2; axis++) {
        struct axis walk = forward ? walk_output(g, axis) : walk_input(g, axis, 0);
        int64_t pixels = walk.count;
        walk.count = ceil_div(pixels, side);
        walk.source_step = side;
        walk.taps = side + 2;
        l.sources.axis[axis] = walk;
        walk.source_size = pixels;
        walk.offset = 0;
        walk.taps = side;
        l.results.axis[axis] = walk;
    }
    l.tiles = walk_pixels(&l.sources);
    int64_t units = l.panels.groups * l.panels.count;

    l.input_value = cache_lines(l.source_channels * size) / size;
    l.input_tile = odd_lines(l.values * l.input_value, size);
    l.product_value = l.panels.width;
    l.product_tile = odd_lines(l.values * l.product_value, size);
    l.keep_inputs = l.tiles * l.input_tile * size <= KEPT_BYTES;
    int64_t block = PRODUCT_BYTES / (l.product_tile * size);
    if (!l.keep_inputs)
        block = min64(block, INPUT_BYTES / (l.input_tile * size));
    block = max64(block / kernels->rows, 2) * kernels->rows;
    l.blocks = ceil_div(l.tiles, block);
    l.block = l.blocks ? round_up(ceil_div(l.tiles, l.blocks), kernels->rows) : 0;
    l.blocks = l.blocks ? ceil_div(l.tiles, l.block) : 0;
    l.units = max64(ceil_div(units, ceil_div(ITEMS, max64(l.blocks, 1))), 1);
    l.splits = ceil_div(units, l.units);

    l.keep_filters = l.blocks > 1;
    int64_t chunk = l.keep_filters ? l.depth : FILTER_BYTES / (l.values * l.panels.width * size);
    int64_t chunks = max64(ceil_div(l.depth, max64(chunk, 1)), 1);
    l.chunk = max64(ceil_div(l.depth, chunks), 1);

    l.filter_value = odd_lines(l.chunk * l.panels.width, size);
    l.inputs = cache_lines(l.block * l.input_tile * size);
    l.filters = l.values * l.filter_value * size;

    l.kept_inputs = append(&l.scratches, l.keep_inputs ? l.blocks * l.inputs : 0);
    l.kept_filters = append(&l.scratches, l.keep_filters ? units * l.filters : 0);
    l.zeros = append(&l.scratch, max64(l.source_channels, l.panels.width) * size);
    l.initial = append(&l.scratch, l.panels.width * size);
    l.dropped = append(&l.scratch, l.result_channels * size);
    l.source_table = append(&l.scratch, l.values * l.block * (int64_t)sizeof(void *));
    l.input_table = append(&l.scratch, l.block * (int64_t)sizeof(void *));
    l.product_table = append(&l.scratch, l.block * (int64_t)sizeof(void *));
    l.result_table = append(&l.scratch, side * side * l.block * (int64_t)sizeof(void *));
    l.products = append(&l.scratch, l.block * l.product_tile * size);
    l.scratch_inputs = append(&l.scratch, l.keep_inputs ? 0 : l.inputs);
    l.scratch_filters = append(&l.scratch, l.keep_filters ? 0 : l.filters);
    return l;
}

static bool plan_winograd(struct conv2d_plan *plan, const struct kernels *kernels, int64_t side) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D_WEIGHT)
        return false;
    for (int axis = 0; axis < 2; axis++)
        if (g->kernel[axis] != 3 || g->stride[axis] != 1 || g->dilation[axis] != 1)
            return false;
    struct layout l = layout_of(plan, kernels, side);
    int64_t units = l.panels.groups * l.panels.count;
    double rate = 4 * kernels->lanes; /* multiply-adds in a nanosecond */
    double inputs = (double)l.tiles * l.values * l.source_channels;
    double filters = (double)units * l.panels.width * l.values * l.depth;
    plan->stages = 3;
    plan->items[0] = l.keep_inputs ? ceil_div(l.tiles, kernels->rows) : 0;
    plan->nanoseconds[0] = 2 * inputs / kernels->lanes;
    plan->items[1] = l.keep_filters ? units * max64(ceil_div(l.depth, FILTER_CHANNELS), 1) : 0;
    plan->nanoseconds[1] = 3 * filters / kernels->lanes;
    plan->items[2] = l.blocks * l.splits;
    plan->nanoseconds[2] = filters * l.tiles / rate;
    plan->workspace_size = l.scratches + plan->threads * l.scratch;
    return true;
}

/* Transforms tiles first .. first + tiles of the inputs into `to`. */
static void transform_inputs(const struct conv2d_job *job, const struct layout *l, int64_t first, int64_t tiles,
                             char *scratch, char *to) {
    int64_t pixel = l->source_channels * job->plan->element_size;
    const void **sources = (const void **)(scratch + l->source_table);
    memset(scratch + l->zeros, 0, (size_t)pixel);
    fill_sources(&l->sources, first, tiles, job->plan->map == CONV2D ? job->x : job->y, pixel, scratch + l->zeros,
                 sources, l->block);
    struct winograd_tiles inputs = {
        .tiles = tiles,
        .channels = l->source_channels,
        .pitch = l->block,
        .sources = sources,
        .value_step = l->input_value,
        .tile_step = l->input_tile,
        .result = to,
    };
    job->kernels->winograd_inputs[l->side / 4](&inputs);
}

/* Transforms channels begin .. end of a panel's filters into `to`. */
static void transform_filters(const struct conv2d_job *job, const struct layout *l, const struct unit *unit,
                              int64_t begin, int64_t end, char *to) {
    const struct conv2d_geometry *g = &job->plan->geometry;
    bool forward = job->plan->map == CONV2D;
    int64_t size = job->plan->element_size, in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    struct winograd_filters filters = {
        .columns = unit->columns,
        .width = unit->width,
        .channels = end - begin,
        .column_step = forward ? in * 9 : 9,
        .channel_step = forward ? 9 : in * 9,
        .flipped = !forward,
        .end = job->weight + g->out_channels * in * 9 * size,
        .value_step = l->filter_value,
        .result = to,
    };
    filters.weight =
        job->weight +
        (unit->group * out * in * 9 + unit->column * filters.column_step + begin * filters.channel_step) * size;
    job->kernels->winograd_filters[l->side / 4](&filters);
}

static char *scratch_of(const struct conv2d_job *job, const struct layout *l, int32_t thread) {
    return job->workspace + l->scratches + thread * l->scratch;
}

static void keep_inputs(const struct conv2d_job *job, int64_t item, int32_t thread, int64_t side) {
    struct layout l = layout_of(job->plan, job->kernels, side);
    int64_t rows = job->kernels->rows, first = item * rows, block = first / l.block;
    char *to = job->workspace + l.kept_inputs + block * l.inputs +
               (first - block * l.block) * l.input_tile * job->plan->element_size;
    transform_inputs(job, &l, first, min64(rows, l.tiles - first), scratch_of(job, &l, thread), to);
}

static void keep_filters(const struct conv2d_job *job, int64_t item, int32_t thread, int64_t side) {
    (void)thread;
    struct layout l = layout_of(job->plan, job->kernels, side);
    int64_t units = l.panels.groups * l.panels.count, u = item % units, begin = item / units * FILTER_CHANNELS;
    struct unit unit = unit_of(&l.panels, u);
    char *to = job->workspace + l.kept_filters + u * l.filters + begin * unit.width * job->plan->element_size;
    transform_filters(job, &l, &unit, begin, min64(begin + FILTER_CHANNELS, l.depth), to);
}

/* The products of a block's inputs with a panel's filters, value by value. */
static void multiply_panel(const struct conv2d_job *job, const struct layout *l, int64_t u, const struct unit *unit,
                           int64_t tiles, char *scratch) {
    int64_t size = job->plan->element_size;
    for (int64_t begin = 0; begin < max64(l->depth, 1); begin += l->chunk) {
        int64_t channels = min64(l->chunk, l->depth - begin);
        const char *filters = job->workspace + l->kept_filters + u * l->filters;
        if (!l->keep_filters) {
            transform_filters(job, l, unit, begin, begin + channels, scratch + l->scratch_filters);
            filters = scratch + l->scratch_filters;
        }
        for (int64_t value = 0; value < l->values; value++) {
            struct gemm gemm = {
                .rows = tiles,
                .columns = unit->width,
                .taps = 1,
                .depth = channels,
                .first = value * l->input_value + unit->group * l->depth + begin,
                .column = value * l->product_value,
                .sources = (const void **)(scratch + l->input_table),
                .panel = filters + value * l->filter_value * size,
                .initial = begin == 0 ? scratch + l->zeros : NULL,
                .results = (void **)(scratch + l->product_table),
            };
            job->kernels->gemm(&gemm);
        }
    }
}

static void multiply(const struct conv2d_job *job, int64_t item, int32_t thread, int64_t side) {
    struct layout l = layout_of(job->plan, job->kernels, side);
    int64_t size = job->plan->element_size;
    int64_t block = item % l.blocks, split = item / l.blocks;
    int64_t first = block * l.block, tiles = min64(l.block, l.tiles - first);

    char *scratch = scratch_of(job, &l, thread);
    char *inputs = job->workspace + l.kept_inputs + block * l.inputs;
    if (!l.keep_inputs) {
        inputs = scratch + l.scratch_inputs;
        transform_inputs(job, &l, first, tiles, scratch, inputs);
    }
    /* Tiles that hang over the result's edge leave what they have there in `dropped`. */
    const void **results = (const void **)(scratch + l.result_table);
    fill_sources(&l.results, first, tiles, job->plan->map == CONV2D ? job->y : job->x, l.result_channels * size,
                 scratch + l.dropped, results, l.block);
    for (int64_t tile = 0; tile < tiles; tile++) {
        ((void **)(scratch + l.input_table))[tile] = inputs + tile * l.input_tile * size;
        ((void **)(scratch + l.product_table))[tile] = scratch + l.products + tile * l.product_tile * size;
    }
    memset(scratch + l.zeros, 0, (size_t)(l.panels.width * size));
    memset(scratch + l.initial, 0, (size_t)(l.panels.width * size));
    for (int64_t u = split * l.units; u < min64((split + 1) * l.units, l.panels.groups * l.panels.count); u++) {
        struct unit unit = unit_of(&l.panels, u);
        multiply_panel(job, &l, u, &unit, tiles, scratch);
        struct winograd_outputs outputs = {
            .tiles = tiles,
            .columns = unit.columns,
            .first = unit.group * l.panels.columns + unit.column,
            .pitch = l.block,
            .products = scratch + l.products,
            .initial = scratch + l.initial,
            .value_step = l.product_value,
            .tile_step = l.product_tile,
            .results = (void **)results,
        };
        if (job->bias)
            memcpy(scratch + l.initial, job->bias + outputs.first * size, (size_t)(unit.columns * size));
        if (!job->kernels->winograd_outputs[side / 4](&outputs))
            *job->status = STATUS_NOT_FINITE;
    }
}

/* One algorithm for each side of a tile. */
#define WINOGRAD(name, side) \
    static bool plan_##name(struct conv2d_plan *plan, const struct kernels *kernels) { \
        return plan_winograd(plan, kernels, side); \
    } \
    static void keep_inputs_##name(const struct conv2d_job *job, int64_t item, int32_t thread) { \
        keep_inputs(job, item, thread, side); \
    } \
    static void keep_filters_##name(const struct conv2d_job *job, int64_t item, int32_t thread) { \
        keep_filters(job, item, thread, side); \
    } \
    static void multiply_##name(const struct conv2d_job *job, int64_t item, int32_t thread) { \
        multiply(job, item, thread, side); \
    } \
    const struct conv2d_algorithm name = { \
        #name, plan_##name, {keep_inputs_##name, keep_filters_##name, multiply_##name}};

WINOGRAD(winograd_2x2, 2)
WINOGRAD(winograd_4x4, 4)
