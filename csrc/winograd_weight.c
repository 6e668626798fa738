/* The weight gradient of 3x3 convolutions by Winograd's minimal filtering (Lavin & Gray, arXiv:1509.09308).
 *
 * A tile of m x m gradients Y (m is 2 or 4) meets (m + 2) x (m + 2) inputs D. Both are transformed to (m + 2)^2 values,
 * A Y A^T and B^T D B. Each pair of values adds an outer product of input and output channels to a sum of its own, and
 * in the end G^T U G turns the (m + 2)^2 sums U into 3 x 3 taps: (m + 2)^2 products instead of 9 m^2. The sums are
 * matrix products over tiles, by the inner loop that the direct algorithm uses over pixels.
 *
 * In stage 0 an item is a block of input channels, a block of output channels and a chunk of the tiles; it walks the
 * chunk in groups of tiles whose transformed values stay in cache. Stage 1 adds the chunks' sums in order and finishes
 * them. Where blocks alone make enough items there is one chunk, and stage 0 finishes its own sums.
 *
 * An infinity or NaN reaches all taps of its channel, and gradients beyond the edge, which are zero, turn it to NaN. So
 * when a tap is not finite, the direct algorithm decides. None is missed: where input d_i times gradient y_j belongs to
 * tap t, some sum that t depends on contains d_i times y_j, each times a constant other than zero; a factor that is not
 * finite makes that sum, and hence t, not finite, whatever the other factor is. */
#include <string.h>
#include "panel.h"
#include "sources.h"

enum {
    BLOCK_CHANNELS = 64,  /* at most, of a block, input or output */
    GROUP_TILES = 28,     /* at most, summed in registers: more cost digits, fewer cost time */
    ITEMS = 8,            /* wanted for balance between threads */
    CHUNK_TILES = 48,     /* at least, or a chunk is not worth its sums */
    SUMS_BYTES = 8 << 20, /* at most, of the sums of several chunks */
    FINISHED_ROWS = 16,   /* input channels that are finished at a time */
};

struct layout {
    int64_t values;                 /* (m + 2)^2 */
    int64_t rows, row_blocks;       /* input channels in a block, and blocks */
    struct panels panels;           /* of output channels */
    int64_t units, unit_blocks;     /* panels in a block, and blocks */
    int64_t tiles, chunk, chunks;   /* tiles; tiles in a chunk; chunks */
    int64_t group;                  /* tiles in a group */
    int64_t tile_step, input_step;  /* elements from tile to tile and from value to value of the inputs ... */
    int64_t gradient_step;          /* ... and from value to value of the gradients */
    int64_t sums;                   /* bytes of the sums of a block */
    int64_t all_sums;               /* of all blocks and chunks, if there are several chunks */
    int64_t zeros, sources, inputs; /* bytes of a thread's scratch: its first three parts, ... */
    int64_t gradients, scratch;     /* ... its fourth, and all */
};

static struct walk walk_tiles(const struct conv2d_geometry *g, int64_t m, bool gradient) {
    struct walk walk = {.batch = g->batch};
    for (int axis = 0; axis < 2; axis++)
        walk.axis[axis] = (struct axis){
            .count = ceil_div(g->output[axis], m),
            .step = 1,
            .source_size = gradient ? g->output[axis] : g->input[axis],
            .source_step = m,
            .offset = gradient ? 0 : -g->padding[axis],
            .offset_step = 1,
            .taps = gradient ? m : m + 2,
            .tap_step = 1,
        };
    return walk;
}

static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels, int64_t m) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t size = plan->element_size, line = 64 / size;
    struct walk walk = walk_tiles(g, m, true);
    struct layout l = {
        .values = (m + 2) * (m + 2),
        .panels = cut_into_panels(1, g->out_channels, kernels),
        .tiles = walk_pixels(&walk),
    };
    l.rows = round_up(ceil_div(g->in_channels, ceil_div(g->in_channels, BLOCK_CHANNELS)), FINISHED_ROWS);
    l.row_blocks = ceil_div(g->in_channels, l.rows);
    l.units = ceil_div(l.panels.count, ceil_div(g->out_channels, BLOCK_CHANNELS));
    l.unit_blocks = ceil_div(l.panels.count, l.units);
    int64_t blocks = l.row_blocks * l.unit_blocks;
    int64_t columns = min64(l.units * l.panels.width, l.panels.padded);

    l.sums = cache_lines(l.values * l.rows * columns * size);
    int64_t chunks = min64(ceil_div(ITEMS, blocks), SUMS_BYTES / (blocks * l.sums));
    l.chunk = ceil_div(l.tiles, max64(min64(chunks, l.tiles / CHUNK_TILES), 1));
    l.chunks = ceil_div(l.tiles, l.chunk);
    l.all_sums = l.chunks == 1 ? 0 : l.chunks * blocks * l.sums;
    l.group = ceil_div(l.chunk, ceil_div(l.chunk, GROUP_TILES));

    /* Steps of an odd number of cache lines: powers of two would compete for the same places in the cache. */
    l.tile_step = (ceil_div(l.rows, line) | 1) * line;
    l.input_step = (l.group * l.tile_step / line | 1) * line;
    l.gradient_step = (ceil_div(l.group * columns, line) | 1) * line;
    l.zeros = cache_lines(max64(g->in_channels, g->out_channels) * size);
    l.sources = cache_lines(l.values * l.group * (int64_t)sizeof(void *));
    l.inputs = max64(l.values * l.input_step, 9 * FINISHED_ROWS * l.panels.width) * size; /* or finished taps */
    l.gradients = l.values * l.gradient_step * size;
    l.scratch = l.zeros + l.sources + l.inputs + l.gradients + (l.chunks == 1 ? l.sums : 0);
    return l;
}

static bool plan_weight(struct conv2d_plan *plan, const struct kernels *kernels, int64_t m) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map != CONV2D_WEIGHT || g->groups != 1 || g->batch * g->in_channels * g->out_channels == 0)
        return false;
    for (int axis = 0; axis < 2; axis++)
        if (g->kernel[axis] != 3 || g->stride[axis] != 1 || g->dilation[axis] != 1 || g->output[axis] == 0)
            return false;
    struct layout l = layout_of(plan, kernels, m);
    double sums = (double)l.values * g->in_channels * l.panels.padded;
    plan->stages = l.chunks == 1 ? 1 : 2;
    plan->items[0] = l.chunks * l.row_blocks * l.unit_blocks;
    plan->nanoseconds[0] = sums * l.tiles / (4 * kernels->lanes);
    plan->items[1] = l.panels.count * ceil_div(g->in_channels, FINISHED_ROWS);
    plan->nanoseconds[1] = sums * l.chunks / kernels->lanes;
    plan->workspace_size = l.all_sums + plan->threads * l.scratch;
    return true;
}

/* A thread's scratch. */
struct scratch {
    char *zeros;
    const void **sources;
    char *inputs, *gradients, *sums;
};

static struct scratch scratch_of(const struct conv2d_job *job, const struct layout *l, int32_t thread) {
    struct scratch s = {.zeros = job->workspace + l->all_sums + thread * l->scratch};
    s.sources = (const void **)(s.zeros + l->zeros);
    s.inputs = (char *)s.sources + l->sources;
    s.gradients = s.inputs + l->inputs;
    s.sums = s.gradients + l->gradients;
    return s;
}

/* Turns one panel's sums for a few input channels from `row` on into taps, first in scratch `taps`. `sums` are those of
 * the first chunk of the block. */
static void finish(const struct conv2d_job *job, const struct layout *l, int64_t m, int64_t u, int64_t row,
                   const char *sums, char *taps) {
    const struct conv2d_geometry *g = &job->plan->geometry;
    int64_t size = job->plan->element_size;
    struct unit unit = unit_of(&l->panels, u);
    int64_t rows = min64(FINISHED_ROWS, g->in_channels - row);
    struct winograd_sums piece = {
        .count = rows * unit.width,
        .chunks = l->chunks,
        .chunk_step = l->row_blocks * l->unit_blocks * l->sums / size,
        .value_step = l->rows * unit.width,
        .sums = sums + (u % l->units * l->panels.width * l->values * l->rows + row % l->rows * unit.width) * size,
        .taps = taps,
    };
    if (!job->kernels->winograd_taps[m == 4](&piece))
        atomic_store(job->status, STATUS_NOT_FINITE);
    struct panel panel = {
        .columns = unit.columns,
        .width = unit.width,
        .depth = rows,
        .chunk = rows,
        .taps = {3, 3},
        .origin = (unit.column * g->in_channels + row) * 9,
        .column_step = g->in_channels * 9,
        .channel_step = 9,
        .tap_step = {3, 1},
    };
    unpack_panel(&panel, job->plan->element_size, taps, job->weight);
}

static void accumulate(const struct conv2d_job *job, int64_t item, int32_t thread, int64_t m) {
    const struct conv2d_geometry *g = &job->plan->geometry;
    struct layout l = layout_of(job->plan, job->kernels, m);
    struct scratch scratch = scratch_of(job, &l, thread);
    struct walk input_walk = walk_tiles(g, m, false), gradient_walk = walk_tiles(g, m, true);
    int64_t size = job->plan->element_size;

    int64_t row = item % l.row_blocks * l.rows, rows = min64(l.rows, g->in_channels - row);
    int64_t first_unit = item / l.row_blocks % l.unit_blocks * l.units;
    int64_t units = min64(l.units, l.panels.count - first_unit);
    int64_t chunk = item / (l.row_blocks * l.unit_blocks);
    char *sums = l.chunks == 1 ? scratch.sums : job->workspace + item * l.sums;
    memset(scratch.zeros, 0, (size_t)l.zeros);

    int64_t end = min64((chunk + 1) * l.chunk, l.tiles);
    for (int64_t tile = chunk * l.chunk; tile < end; tile += l.group) {
        struct winograd_tiles inputs = {
            .tiles = min64(l.group, end - tile),
            .channels = rows,
            .first = row,
            .pitch = l.group,
            .sources = scratch.sources,
            .value_step = l.input_step,
            .tile_step = l.tile_step,
            .result = scratch.inputs,
        };
        fill_sources(&input_walk, tile, inputs.tiles, job->x, g->in_channels * size, scratch.zeros, scratch.sources,
                     l.group);
        job->kernels->winograd_inputs[m == 4](&inputs);

        fill_sources(&gradient_walk, tile, inputs.tiles, job->y, g->out_channels * size, scratch.zeros, scratch.sources,
                     l.group);
        for (int64_t u = 0; u < units; u++) {
            struct unit unit = unit_of(&l.panels, first_unit + u);
            struct winograd_tiles gradients = {
                .tiles = inputs.tiles,
                .channels = unit.columns,
                .first = unit.column,
                .pitch = l.group,
                .sources = scratch.sources,
                .value_step = l.gradient_step,
                .tile_step = unit.width,
                .result = scratch.gradients + u * l.group * l.panels.width * size,
            };
            job->kernels->winograd_gradients[m == 4](&gradients);
        }

        for (int64_t t = 0; t < inputs.tiles; t++)
            scratch.sources[t] = scratch.inputs + t * l.tile_step * size;
        for (int64_t value = 0; value < l.values; value++)
            for (int64_t u = 0; u < units; u++) {
                struct unit unit = unit_of(&l.panels, first_unit + u);
                char *sum = sums + (u * l.panels.width * l.values + value * unit.width) * l.rows * size;
                struct gemm_over_pixels gemm = {
                    .rows = rows,
                    .columns = unit.width,
                    .pixels = inputs.tiles,
                    .first = value * l.input_step,
                    .sources = scratch.sources,
                    .panel = scratch.gradients + (value * l.gradient_step + u * l.group * l.panels.width) * size,
                    .before = tile > chunk * l.chunk ? sum : NULL,
                    .result = sum,
                    .result_step = unit.width,
                    .stored = unit.width,
                };
                job->kernels->gemm_over_pixels(&gemm);
            }
    }
    if (l.chunks == 1)
        for (int64_t u = first_unit; u < first_unit + units; u++)
            for (int64_t r = row; r < row + rows; r += FINISHED_ROWS)
                finish(job, &l, m, u, r, sums, scratch.inputs);
}

static void reduce(const struct conv2d_job *job, int64_t item, int32_t thread, int64_t m) {
    struct layout l = layout_of(job->plan, job->kernels, m);
    int64_t u = item % l.panels.count, row = item / l.panels.count * FINISHED_ROWS;
    int64_t block = u / l.units * l.row_blocks + row / l.rows;
    finish(job, &l, m, u, row, job->workspace + block * l.sums, scratch_of(job, &l, thread).inputs);
}

static bool plan_2x2(struct conv2d_plan *plan, const struct kernels *kernels) { return plan_weight(plan, kernels, 2); }

static void accumulate_2x2(const struct conv2d_job *job, int64_t item, int32_t thread) {
    accumulate(job, item, thread, 2);
}

static void reduce_2x2(const struct conv2d_job *job, int64_t item, int32_t thread) { reduce(job, item, thread, 2); }

/* In double precision nobody asks for less than all digits. */
static bool plan_4x4(struct conv2d_plan *plan, const struct kernels *kernels) {
    return plan->element_size == 4 && plan_weight(plan, kernels, 4);
}

static void accumulate_4x4(const struct conv2d_job *job, int64_t item, int32_t thread) {
    accumulate(job, item, thread, 4);
}

static void reduce_4x4(const struct conv2d_job *job, int64_t item, int32_t thread) { reduce(job, item, thread, 4); }

const struct conv2d_algorithm winograd_2x2_weight = {"winograd_2x2", plan_2x2, {accumulate_2x2, reduce_2x2}};
const struct conv2d_algorithm winograd_4x4_weight = {"winograd_4x4", plan_4x4, {accumulate_4x4, reduce_4x4}};
