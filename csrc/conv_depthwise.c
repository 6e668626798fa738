/* Depthwise convolution, where every input channel is a group of its own: no reduction over channels, so channels are
 * the lanes.
 *
 * The indirection table and its walks are those of the direct algorithm (sources.h). With several output channels for
 * each input channel (a multiplier), output channel c * multiplier + m is seen as channel c of plane m: planes of the
 * output live in the workspace, and splitting the output into planes or merging them is a stage before or after. */
#include <string.h>
#include "sources.h"

enum {
    BLOCK_PIXELS = 224,      /* pixels at most in a block */
    TABLE_ENTRIES = 1 << 15, /* of an indirection table, beyond which blocks get smaller */
    ITEMS = 16,              /* wanted for balance between threads */
    PARTIAL_BYTES = 8 << 20, /* of all partial weight gradients, beyond which there are fewer chunks */
};

struct layout {
    int64_t channels, multiplier, taps, phases[2];
    int64_t pixels;               /* of the output, and of each of its planes */
    int64_t block, blocks;        /* pixels in a block, blocks (of the largest phase) */
    int64_t chunks, chunk_blocks; /* weight gradient: chunks of pixels, blocks in a chunk */
    int64_t row;                  /* bytes of one value for each channel */
    int64_t weights, planes; /* bytes of the workspace's parts: weights and initial values, or partial sums; planes */
    int64_t zeros, sources, results, scratch; /* bytes of a thread's scratch: its parts, and all */
};

static struct layout layout_of(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool over_input = plan->map == CONV2D_INPUT;
    int64_t size = plan->element_size;
    struct layout l = {
        .channels = g->in_channels,
        .multiplier = g->out_channels / g->in_channels,
        .taps = g->kernel[0] * g->kernel[1],
        .phases = {over_input ? input_phases(g, 0) : 1, over_input ? input_phases(g, 1) : 1},
        .pixels = g->batch * g->output[0] * g->output[1],
        .row = g->in_channels * size,
    };
    int64_t walked = l.pixels;
    if (over_input)
        walked = g->batch * ceil_div(g->input[0], g->stride[0]) * ceil_div(g->input[1], g->stride[1]);
    int64_t wanted = ceil_div(ceil_div(walked * l.phases[0] * l.phases[1], ITEMS), 4) * 4;
    l.block = max64(min64(min64(BLOCK_PIXELS, wanted), TABLE_ENTRIES / l.taps / 4 * 4), 4);
    l.blocks = ceil_div(walked, l.block);

    if (plan->map == CONV2D_WEIGHT) {
        int64_t partial = cache_lines(l.multiplier * l.taps * l.row);
        int64_t chunks = max64(min64(ITEMS, PARTIAL_BYTES / max64(partial, 1)), 1);
        l.chunk_blocks = max64(ceil_div(l.blocks, chunks), 1);
        l.chunks = max64(ceil_div(l.blocks, l.chunk_blocks), 1);
        l.weights = l.chunks * partial;
    } else {
        l.weights = cache_lines(l.multiplier * (1 + l.taps) * l.row);
    }
    l.planes = l.multiplier > 1 ? cache_lines(l.multiplier * l.pixels * l.row) : 0;
    l.zeros = cache_lines(l.row);
    l.sources = cache_lines(l.taps * l.block * (int64_t)sizeof(void *));
    l.results = cache_lines(l.block * (int64_t)sizeof(void *));
    l.scratch = l.zeros + l.sources + l.results;
    return l;
}

static bool serves(const struct conv2d_geometry *g) {
    return g->groups == g->in_channels && g->groups > 1 && g->out_channels > 0;
}

/* The output, as plane `m`, is an array of pixels of all input channels. */
static char *plane(const struct conv2d_job *job, const struct layout *l, int64_t m) {
    return l->multiplier == 1 ? job->y : job->workspace + l->weights + m * l->pixels * l->row;
}

static struct walk walk_of(const struct conv2d_plan *plan, int64_t phase_row, int64_t phase_column) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D_INPUT)
        return (struct walk){{walk_input(g, 0, phase_row), walk_input(g, 1, phase_column)}, g->batch};
    return (struct walk){{walk_output(g, 0), walk_output(g, 1)}, g->batch};
}

/* Taps stored before those of a walk's phase. */
static int64_t taps_before(const struct conv2d_geometry *g, const struct walk *walk) {
    return walk->axis[0].taps_before * g->kernel[1] + walk->axis[0].taps * walk->axis[1].taps_before;
}

static void copy_element(int64_t size, const char *from, char *to) {
    if (size == 4)
        memcpy(to, from, 4);
    else
        memcpy(to, from, 8);
}

/* ---- Convolution and input gradient ---- */

static bool plan_depthwise(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D_WEIGHT || !serves(g))
        return false;
    struct layout l = layout_of(plan);
    double values = (double)l.pixels * g->out_channels;
    bool merged = l.multiplier > 1;
    plan->stages = 4;
    plan->items[0] = l.multiplier;
    plan->nanoseconds[0] = 2.0 * g->out_channels * l.taps;
    plan->items[1] = merged && plan->map == CONV2D_INPUT ? ceil_div(l.pixels, BLOCK_PIXELS) : 0;
    plan->nanoseconds[1] = values;
    plan->items[2] = l.phases[0] * l.phases[1] * l.blocks;
    plan->nanoseconds[2] = values * l.taps / kernels->lanes + 2.0 * l.pixels * l.taps;
    plan->items[3] = merged && plan->map == CONV2D ? ceil_div(l.pixels, BLOCK_PIXELS) : 0;
    plan->nanoseconds[3] = values;
    plan->workspace_size = l.weights + l.planes + plan->threads * l.scratch;
    return true;
}

/* The weights of plane m: initial values, then phase by phase [tap][channel]. */
static void pack(const struct conv2d_job *job, int64_t m, int32_t thread) {
    (void)thread;
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan);
    int64_t size = plan->element_size;
    char *initial = job->workspace + m * (1 + l.taps) * l.row;
    memset(initial, 0, (size_t)l.row);
    if (job->bias)
        for (int64_t c = 0; c < l.channels; c++)
            copy_element(size, job->bias + (c * l.multiplier + m) * size, initial + c * size);
    for (int64_t phase = 0; phase < l.phases[0] * l.phases[1]; phase++) {
        struct walk walk = walk_of(plan, phase / l.phases[1], phase % l.phases[1]);
        char *to = initial + (1 + taps_before(g, &walk)) * l.row;
        for (int64_t u = 0; u < walk.axis[0].taps; u++)
            for (int64_t v = 0; v < walk.axis[1].taps; v++) {
                int64_t tap = (walk.axis[0].first_tap + u * walk.axis[0].tap_step) * g->kernel[1] +
                              walk.axis[1].first_tap + v * walk.axis[1].tap_step;
                for (int64_t c = 0; c < l.channels; c++, to += size)
                    copy_element(size, job->weight + ((c * l.multiplier + m) * l.taps + tap) * size, to);
            }
    }
}

static void split(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    struct layout l = layout_of(job->plan);
    int64_t size = job->plan->element_size;
    for (int64_t pixel = item * BLOCK_PIXELS; pixel < min64((item + 1) * BLOCK_PIXELS, l.pixels); pixel++)
        for (int64_t m = 0; m < l.multiplier; m++)
            for (int64_t c = 0; c < l.channels; c++)
                copy_element(size, job->y + ((pixel * l.channels + c) * l.multiplier + m) * size,
                             plane(job, &l, m) + (pixel * l.channels + c) * size);
}

static void merge(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    struct layout l = layout_of(job->plan);
    int64_t size = job->plan->element_size;
    for (int64_t pixel = item * BLOCK_PIXELS; pixel < min64((item + 1) * BLOCK_PIXELS, l.pixels); pixel++)
        for (int64_t m = 0; m < l.multiplier; m++)
            for (int64_t c = 0; c < l.channels; c++)
                copy_element(size, plane(job, &l, m) + (pixel * l.channels + c) * size,
                             job->y + ((pixel * l.channels + c) * l.multiplier + m) * size);
}

static void multiply(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan);
    int64_t phase = item / l.blocks, first = item % l.blocks * l.block;
    struct walk walk = walk_of(plan, phase / l.phases[1], phase % l.phases[1]);
    int64_t pixels = min64(l.block, walk_pixels(&walk) - first);
    if (pixels <= 0)
        return; /* this phase has fewer pixels than the largest */

    char *zeros = job->workspace + l.weights + l.planes + thread * l.scratch;
    const void **sources = (const void **)(zeros + l.zeros);
    void **results = (void **)((char *)sources + l.sources);
    memset(zeros, 0, (size_t)l.row);
    bool forward = plan->map == CONV2D;
    for (int64_t m = 0; m < l.multiplier; m++) {
        char *output = plane(job, &l, m);
        fill_sources(&walk, first, pixels, forward ? job->x : output, l.row, zeros, sources, l.block);
        fill_results(&walk, first, pixels, forward ? output : job->x, forward ? g->output : g->input, l.row, results);
        const char *initial = job->workspace + m * (1 + l.taps) * l.row;
        struct depthwise product = {
            .rows = pixels,
            .channels = l.channels,
            .taps = walk.axis[0].taps * walk.axis[1].taps,
            .pitch = l.block,
            .sources = sources,
            .panel = initial + (1 + taps_before(g, &walk)) * l.row,
            .initial = forward || m == 0 ? initial : NULL,
            .results = results,
        };
        job->kernels->depthwise(&product);
    }
}

const struct conv2d_algorithm depthwise = {"depthwise", plan_depthwise, {pack, split, multiply, merge}};

/* ---- Weight gradient ---- */

static bool plan_depthwise_weight(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map != CONV2D_WEIGHT || !serves(g))
        return false;
    struct layout l = layout_of(plan);
    double values = (double)l.pixels * g->out_channels;
    plan->stages = 3;
    plan->items[0] = l.multiplier > 1 ? ceil_div(l.pixels, BLOCK_PIXELS) : 0;
    plan->nanoseconds[0] = values;
    plan->items[1] = l.chunks;
    plan->nanoseconds[1] = values * l.taps / kernels->lanes + 2.0 * l.pixels * l.taps;
    plan->items[2] = 1;
    plan->nanoseconds[2] = 2.0 * l.chunks * g->out_channels * l.taps;
    plan->workspace_size = l.weights + l.planes + plan->threads * l.scratch;
    return true;
}

/* A chunk's partial sums are [plane][tap][channel]. */
static void accumulate(const struct conv2d_job *job, int64_t chunk, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan);
    struct walk walk = walk_of(plan, 0, 0);
    char *zeros = job->workspace + l.weights + l.planes + thread * l.scratch;
    const void **sources = (const void **)(zeros + l.zeros);
    char *partial = job->workspace + chunk * (l.weights / l.chunks);
    memset(zeros, 0, (size_t)l.row);
    memset(partial, 0, (size_t)(l.multiplier * l.taps * l.row));
    for (int64_t block = chunk * l.chunk_blocks; block < min64((chunk + 1) * l.chunk_blocks, l.blocks); block++) {
        int64_t first = block * l.block, pixels = min64(l.block, l.pixels - first);
        fill_sources(&walk, first, pixels, job->x, l.row, zeros, sources, l.block);
        for (int64_t m = 0; m < l.multiplier; m++) {
            struct depthwise_over_pixels product = {
                .pixels = pixels,
                .channels = l.channels,
                .taps = g->kernel[0] * g->kernel[1],
                .pitch = l.block,
                .sources = sources,
                .gradient = plane(job, &l, m) + first * l.row,
                .result = partial + m * l.taps * l.row,
            };
            job->kernels->depthwise_over_pixels(&product);
        }
    }
}

static void reduce(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)item;
    (void)thread;
    struct layout l = layout_of(job->plan);
    int64_t size = job->plan->element_size, count = l.multiplier * l.taps * l.channels;
    char *total = job->workspace;
    for (int64_t chunk = 1; chunk < l.chunks; chunk++)
        add_arrays(job->plan->element_size, count, total + chunk * (l.weights / l.chunks), total);
    for (int64_t m = 0; m < l.multiplier; m++)
        for (int64_t tap = 0; tap < l.taps; tap++)
            for (int64_t c = 0; c < l.channels; c++, total += size)
                copy_element(size, total, job->weight + ((c * l.multiplier + m) * l.taps + tap) * size);
}

const struct conv2d_algorithm depthwise_weight = {"depthwise", plan_depthwise_weight, {split, accumulate, reduce}};
