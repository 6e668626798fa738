/* Grouped convolution with few channels in a group, by the loops of depthwise convolution (depthwise.inc).
 *
 * The lanes of a vector are adjacent channels of the result, of several groups. With I source channels in a group, lane
 * l needs I products for each tap, the i-th with the i-th source channel of its group. So the source is spread into I
 * planes of whole vectors: plane i holds, for the group of every lane, its i-th channel. Each plane is then a depthwise
 * convolution, and its lines of taps are just more lines of one tile. No lane multiplies with a zero of another group,
 * whatever the sizes of groups.
 *
 * An item is a range of vectors for a block of rows of an image. For each vector it spreads the source rows that the block needs,
 * framed by zeros where they lie outside the image, and computes tile by tile, downwards. */
#include <string.h>
#include "sources.h"

enum {
    ITEMS = 32,                /* wanted for balance between threads: blocks of rows, then ranges of vectors */
    PLANES = 32,               /* source channels in a group, at most */
    SPREAD_BYTES = 192 << 10,  /* wanted of an item's planes: part of a second-level cache */
    STRIP_BYTES = 24 << 10,    /* wanted of what the taps of a strip of tiles read: part of a first-level cache */
    SPREAD_LIMIT = 16 << 20,   /* beyond which another algorithm serves */
    CHUNKS = 16,               /* weight gradient: chunks of blocks at most */
    PARTIAL_BYTES = 8 << 20,   /* of all partial weight gradients, beyond which there are fewer chunks */
    MAX_RUNS = 64,             /* weight gradient: rows summed in registers */
};

struct layout {
    int64_t source_channels, result_channels; /* in all ... */
    int64_t planes, columns;                  /* ... and in a group */
    int64_t taps, phases[2];
    int64_t vectors, sources;          /* vectors of the result's channels; source vectors that one of them needs */
    int64_t rows, block, blocks;       /* of an image's result, in an item, items of an image */
    int64_t tiles, strips;             /* in a row of the result, of tiles; ranges of tiles */
    int64_t left, width;               /* source columns in a plane: the first and how many */
    int64_t spread_rows;               /* source rows of an item, at most */
    int64_t splits;                    /* ranges of vectors */
    int64_t chunks, units;             /* weight gradient: chunks of blocks, blocks in a chunk */
    int64_t vector_size;               /* bytes */
    int64_t lanes, weights, sums;      /* bytes of a vector's lane numbers, its weights and initial values, or its sums */
    int64_t axes, pointers, scratch;   /* bytes of a thread's axes, pointers, and all */
};

static struct axis axis_of(const struct conv2d_plan *plan, int axis, int64_t phase) {
    return plan->map == CONV2D_INPUT ? walk_input(&plan->geometry, axis, phase) : walk_output(&plan->geometry, axis);
}

/* The source pixels that the pixels begin..end of a walk read are *first..*last. */
static void reach(const struct axis *axis, int64_t begin, int64_t end, int64_t *first, int64_t *last) {
    if (begin >= end || axis->taps == 0)
        return;
    *first = min64(*first, begin * axis->source_step + axis->offset);
    *last = max64(*last, (end - 1) * axis->source_step + axis->offset + (axis->taps - 1) * axis->offset_step + 1);
}

/* The source rows of a block of result rows, whose pixel of the walk is row / phases. */
static void reach_rows(const struct conv2d_plan *plan, const struct layout *l, int64_t begin, int64_t end,
                       int64_t *first, int64_t *last) {
    *first = INT64_MAX;
    *last = INT64_MIN;
    for (int64_t row = begin; row < min64(end, begin + l->phases[0]); row++) {
        struct axis axis = axis_of(plan, 0, row % l->phases[0]);
        reach(&axis, row / l->phases[0], (end - 1 - row) / l->phases[0] + row / l->phases[0] + 1, first, last);
    }
    if (*first > *last)
        *first = *last = 0;
}

static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool over_input = plan->map == CONV2D_INPUT;
    int64_t size = plan->element_size, in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    struct layout l = {
        .source_channels = over_input ? g->out_channels : g->in_channels,
        .result_channels = over_input ? g->in_channels : g->out_channels,
        .planes = over_input ? out : in,
        .columns = over_input ? in : out,
        .taps = g->kernel[0] * g->kernel[1],
        .phases = {over_input ? input_phases(g, 0) : 1, over_input ? input_phases(g, 1) : 1},
        .rows = over_input ? g->input[0] : g->output[0],
        .vector_size = kernels->lanes * size,
    };
    l.vectors = ceil_div(l.result_channels, kernels->lanes);
    /* Unless vectors begin with groups, lanes of one more may meet in a vector. */
    int64_t groups = l.columns && kernels->lanes % l.columns == 0
                         ? kernels->lanes / l.columns
                         : ceil_div(kernels->lanes - 1, max64(l.columns, 1)) + 1;
    l.sources = max64(ceil_div(groups * l.planes, kernels->lanes), 1);

    int64_t first = INT64_MAX, last = INT64_MIN;
    for (int64_t phase = 0; phase < l.phases[1]; phase++) {
        struct axis axis = axis_of(plan, 1, phase);
        reach(&axis, 0, axis.count, &first, &last);
    }
    l.left = first > last ? 0 : first;
    l.width = first > last ? 0 : last - first;

    /* No more than these source rows are read by a block: (block - 1) * step + rest, where over the input step is a
     * fraction, 1 / stride. */
    int64_t row_size = max64(min64(l.width, SPREAD_LIMIT) * l.planes * l.vector_size, 1), stride = g->stride[0];
    int64_t taps_reach = min64((g->kernel[0] - 1) * g->dilation[0], SPREAD_LIMIT), room = SPREAD_BYTES / row_size;
    int64_t block = over_input ? (room - 2) * stride - taps_reach + 1 : (room - 1 - taps_reach) / stride + 1;
    l.blocks = ceil_div(l.rows, max64(min64(block, l.rows), 1));
    l.block = ceil_div(l.rows, max64(l.blocks, 1));
    l.spread_rows = over_input ? (l.block - 1 + taps_reach) / stride + 2 : (l.block - 1) * stride + taps_reach + 1;
    l.splits = max64(min64(ceil_div(ITEMS, max64(g->batch * l.blocks, 1)), l.result_channels / kernels->lanes), 1);
    l.tiles = ceil_div(over_input ? ceil_div(g->input[1], g->stride[1]) : g->output[1], TILE_COLUMNS);
    int64_t tile_bytes = g->kernel[0] * l.planes * TILE_COLUMNS * (over_input ? 1 : g->stride[1]) * l.vector_size;
    l.strips = ceil_div(l.tiles, max64(STRIP_BYTES / max64(tile_bytes, 1), 1));
    l.lanes = cache_lines(l.sources * (l.planes * l.vector_size + (int64_t)sizeof(int64_t)));
    int64_t runs = 1;
    if (plan->map == CONV2D_WEIGHT) {
        l.sums = l.taps * l.planes * l.vector_size;
        int64_t chunks = max64(min64(CHUNKS, PARTIAL_BYTES / max64(l.vectors * l.sums, 1)), 1);
        l.units = max64(ceil_div(g->batch * l.blocks, chunks), 1);
        l.chunks = ceil_div(g->batch * l.blocks, l.units);
        runs = MAX_RUNS;
    } else {
        l.weights = (1 + l.taps * l.planes) * l.vector_size;
    }
    l.axes = cache_lines((l.phases[0] + l.phases[1]) * (int64_t)sizeof(struct axis));
    l.pointers = cache_lines(runs * ((int64_t)sizeof(struct run) + g->kernel[0] * l.planes * (int64_t)sizeof(void *)));
    l.scratch = l.axes + l.pointers + cache_lines(min64(l.spread_rows, SPREAD_LIMIT) * row_size);
    return l;
}

static bool serves(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (g->groups < 2 || g->in_channels < kernels->lanes || g->out_channels < kernels->lanes)
        return false;
    int64_t in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    if (max64(in, out) > PLANES || g->stride[0] > 16 || g->stride[1] > 16 || g->input[0] == 0 || g->output[0] == 0)
        return false;
    return layout_of(plan, kernels).scratch <= SPREAD_LIMIT;
}

/* The parts of the workspace: lane numbers and weights of each vector, or sums of each chunk's vectors; scratch. */
static char *lanes_at(const struct conv2d_job *job, const struct layout *l, int64_t vector) {
    return job->workspace + vector * l->lanes;
}

static char *weights_at(const struct conv2d_job *job, const struct layout *l, int64_t vector) {
    return job->workspace + l->vectors * l->lanes + vector * l->weights;
}

static char *sums_at(const struct conv2d_job *job, const struct layout *l, int64_t chunk, int64_t vector) {
    return job->workspace + l->vectors * l->lanes + cache_lines(l->vectors * l->sums) * chunk + vector * l->sums;
}

static char *scratch_at(const struct conv2d_job *job, const struct layout *l, int32_t thread) {
    return job->workspace + l->vectors * l->lanes + cache_lines(l->vectors * l->weights) +
           max64(l->chunks, 1) * cache_lines(l->vectors * l->sums) + thread * l->scratch;
}

static int64_t workspace_of(const struct conv2d_plan *plan, const struct layout *l) {
    return l->vectors * l->lanes + cache_lines(l->vectors * l->weights) +
           max64(l->chunks, 1) * cache_lines(l->vectors * l->sums) + plan->threads * l->scratch;
}

static void copy_element(int64_t size, const char *from, char *to) {
    if (size == 4)
        memcpy(to, from, 4);
    else
        memcpy(to, from, 8);
}

/* Where a vector's source vectors start, after its lane numbers. */
static int64_t *starts_at(const struct conv2d_job *job, const struct layout *l, int64_t vector) {
    return (int64_t *)(lanes_at(job, l, vector) + l->sources * l->planes * l->vector_size);
}

static void fill_lanes(const struct conv2d_job *job, const struct layout *l, int64_t vector) {
    int64_t lanes = job->kernels->lanes, count = 0;
    int64_t start = vector_start(vector, l->result_channels, lanes), base = start / l->columns * l->planes;
    int64_t *starts = starts_at(job, l, vector);
    char *numbers = lanes_at(job, l, vector);
    for (int64_t n = 0; n < l->sources; n++)
        starts[n] = min64(base + n * lanes, l->source_channels - lanes);
    for (int64_t plane = 0; plane < l->planes; plane++)
        for (int64_t n = 0; n < l->sources; n++)
            for (int64_t lane = 0; lane < lanes; lane++, count++) {
                int64_t from = (start + lane) / l->columns * l->planes + plane - starts[n];
                int64_t number = from >= 0 && from < lanes ? lanes + from : lane;
                if (job->plan->element_size == 4)
                    ((int32_t *)numbers)[count] = (int32_t)number;
                else
                    ((int64_t *)numbers)[count] = number;
            }
}

/* Spreads source rows top..bottom of an image, framed. */
static void spread(const struct conv2d_job *job, const struct layout *l, int64_t vector, const char *image,
                   int64_t top, int64_t bottom, const int64_t size[2], int64_t ahead, char *spread) {
    int64_t pixel = l->source_channels * job->plan->element_size, plane = l->width * l->vector_size;
    int64_t before = max64(min64(-l->left, l->width), 0), end = max64(min64(size[1] - l->left, l->width), before);
    for (int64_t row = top; row < bottom; row++, spread += l->planes * plane) {
        if (row < 0 || row >= size[0]) {
            memset(spread, 0, (size_t)(l->planes * plane));
            continue;
        }
        for (int64_t i = 0; i < l->planes; i++) {
            memset(spread + i * plane, 0, (size_t)(before * l->vector_size));
            memset(spread + i * plane + end * l->vector_size, 0, (size_t)((l->width - end) * l->vector_size));
        }
        struct group_spread s = {
            .pixels = end - before,
            .channels = l->source_channels,
            .planes = l->planes,
            .vectors = l->sources,
            .pitch = l->width * job->kernels->lanes,
            .ahead = ahead,
            .starts = starts_at(job, l, vector),
            .lanes = lanes_at(job, l, vector),
            .source = image + (row * size[1] + l->left + before) * pixel,
            .result = spread + before * l->vector_size,
        };
        job->kernels->spread_groups(&s);
    }
}

/* The lines that the pixels in `row` of the walk read. */
static void fill_lines(const struct layout *l, const struct axis *vertical, int64_t row, const char *spread, int64_t top,
                       const void **lines) {
    int64_t plane = l->width * l->vector_size;
    for (int64_t u = 0; u < vertical->taps; u++) {
        int64_t source_row = row * vertical->source_step + vertical->offset + u * vertical->offset_step;
        for (int64_t i = 0; i < l->planes; i++)
            *lines++ = spread + ((source_row - top) * l->planes + i) * plane;
    }
}

/* The source column of the first tap of a pixel, in planes. */
static int64_t first_column(const struct layout *l, const struct axis *horizontal, int64_t column) {
    return column * horizontal->source_step + horizontal->offset - l->left;
}

static struct depthwise product_of(const struct layout *l, const struct kernels *kernels, const struct axis *vertical,
                                   const struct axis *horizontal) {
    return (struct depthwise){
        .channels = kernels->lanes,
        .last = 1,
        .lines = vertical->taps * l->planes,
        .width = horizontal->taps,
        .stride = horizontal->source_step,
        .dilation = horizontal->offset_step,
        .size = l->width,
        .step = kernels->lanes,
        .result_step = horizontal->step * l->result_channels,
    };
}

/* The vectors of one of `splits` ranges. A partial vector overlaps the one before, so that the two belong together. */
static void set_range(const struct layout *l, const struct kernels *kernels, int64_t split, int64_t *first,
                      int64_t *last) {
    int64_t whole = l->result_channels / kernels->lanes;
    *first = whole * split / l->splits;
    *last = split + 1 == l->splits ? l->vectors : whole * (split + 1) / l->splits;
}

/* ---- Convolution and input gradient ---- */

static bool plan_grouped(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D_WEIGHT || !serves(plan, kernels))
        return false;
    struct layout l = layout_of(plan, kernels);
    double vectors = (double)l.vectors * g->batch * g->output[0] * g->output[1];
    plan->stages = 2;
    plan->items[0] = l.vectors;
    plan->nanoseconds[0] = 1.0 * l.result_channels * l.taps * l.planes;
    plan->items[1] = l.splits * g->batch * l.blocks;
    plan->nanoseconds[1] = vectors * (0.4 * l.taps * l.planes + 1.0);
    plan->workspace_size = workspace_of(plan, &l);
    return true;
}

/* The lane numbers of one vector; its initial values; and phase by phase [line][plane][tap][lane] of the weights. */
static void pack(const struct conv2d_job *job, int64_t vector, int32_t thread) {
    (void)thread;
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    int64_t size = plan->element_size, lanes = job->kernels->lanes;
    int64_t start = vector_start(vector, l.result_channels, lanes);
    fill_lanes(job, &l, vector);
    char *to = weights_at(job, &l, vector);
    memset(to, 0, (size_t)l.vector_size);
    if (job->bias)
        memcpy(to, job->bias + start * size, (size_t)l.vector_size);
    char *first = to + l.vector_size;
    for (int64_t phase = 0; phase < l.phases[0] * l.phases[1]; phase++) {
        struct axis vertical = axis_of(plan, 0, phase / l.phases[1]), horizontal = axis_of(plan, 1, phase % l.phases[1]);
        int64_t before = vertical.taps_before * g->kernel[1] + vertical.taps * horizontal.taps_before;
        to = first + before * l.planes * l.vector_size;
        for (int64_t u = 0; u < vertical.taps; u++)
            for (int64_t i = 0; i < l.planes; i++)
                for (int64_t v = 0; v < horizontal.taps; v++)
                    for (int64_t lane = 0; lane < lanes; lane++, to += size) {
                        int64_t tap = (vertical.first_tap + u * vertical.tap_step) * g->kernel[1] +
                                      horizontal.first_tap + v * horizontal.tap_step;
                        int64_t group = (start + lane) / l.columns, column = (start + lane) % l.columns;
                        int64_t filter = plan->map == CONV2D ? (start + lane) * l.planes + i
                                                             : (group * l.planes + i) * l.columns + column;
                        copy_element(size, job->weight + (filter * l.taps + tap) * size, to);
                    }
    }
}

static void multiply(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    bool forward = plan->map == CONV2D;
    const int64_t *from = forward ? g->input : g->output, *to = forward ? g->output : g->input;
    int64_t size = plan->element_size;
    char *scratch = scratch_at(job, &l, thread), *planes = scratch + l.axes + l.pointers;
    struct axis *axes = (struct axis *)scratch;
    const void **lines = (const void **)(scratch + l.axes);
    for (int64_t phase = 0; phase < l.phases[0]; phase++)
        axes[phase] = axis_of(plan, 0, phase);
    for (int64_t phase = 0; phase < l.phases[1]; phase++)
        axes[l.phases[0] + phase] = axis_of(plan, 1, phase);

    int64_t image = item / l.splits / l.blocks, block = item / l.splits % l.blocks, first, last;
    set_range(&l, job->kernels, item % l.splits, &first, &last);
    int64_t begin = l.rows * block / l.blocks, end = l.rows * (block + 1) / l.blocks, top, bottom;
    reach_rows(plan, &l, begin, end, &top, &bottom);
    const char *source = (forward ? job->x : job->y) + image * from[0] * from[1] * l.source_channels * size;
    int64_t pixel_size = l.result_channels * size, image_size = to[0] * to[1] * pixel_size;
    char *results = forward ? job->y : job->x, *result = results + image * image_size;
    /* A vector passes over the whole block: it must fill cache lines by itself. */
    bool stream = l.vector_size % 64 == 0 && streams(results, pixel_size, g->batch * image_size);
    for (int64_t vector = first; vector < last; vector++) {
        /* The first brings the source of all into the second-level cache, in the order in which it lies in memory. */
        int64_t ahead = vector > first ? 0 : (last - first) * job->kernels->lanes / l.columns * l.planes;
        spread(job, &l, vector, source, top, bottom, from, ahead, planes);
        char *packed = weights_at(job, &l, vector);
        int64_t start = vector_start(vector, l.result_channels, job->kernels->lanes);
        for (int64_t strip = 0; strip < l.strips; strip++)
            for (int64_t row = begin; row < end; row++)
                for (int64_t phase = 0; phase < l.phases[1]; phase++) {
                    const struct axis *vertical = &axes[row % l.phases[0]], *horizontal = &axes[l.phases[0] + phase];
                    int64_t before = vertical->taps_before * g->kernel[1] + vertical->taps * horizontal->taps_before;
                    int64_t column = horizontal->count * strip / l.strips;
                    int64_t pixel = row * to[1] + horizontal->start + column * horizontal->step;
                    struct depthwise product = product_of(&l, job->kernels, vertical, horizontal);
                    product.stream = stream;
                    product.initial = packed;
                    product.weights = packed + (1 + before * l.planes) * l.vector_size;
                    fill_lines(&l, vertical, row / l.phases[0], planes, top, lines);
                    struct run run = {
                        .columns = horizontal->count * (strip + 1) / l.strips - column,
                        .first = first_column(&l, horizontal, column),
                        .lines = lines,
                        .result = result + pixel * pixel_size + start * size,
                    };
                    job->kernels->depthwise(&product, &run);
                }
    }
}

const struct conv2d_algorithm grouped = {"grouped", plan_grouped, {pack, multiply}};

/* ---- Weight gradient ---- */

static bool plan_grouped_weight(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map != CONV2D_WEIGHT || !serves(plan, kernels))
        return false;
    struct layout l = layout_of(plan, kernels);
    double vectors = (double)l.vectors * g->batch * g->output[0] * g->output[1];
    plan->stages = 3;
    plan->items[0] = l.vectors;
    plan->nanoseconds[0] = 1.0 * l.planes * l.sources * kernels->lanes * l.vectors;
    plan->items[1] = l.vectors * l.chunks;
    plan->nanoseconds[1] = vectors * (0.4 * l.taps * l.planes + 1.0);
    plan->items[2] = l.splits;
    plan->nanoseconds[2] = (0.1 * l.chunks + 1.0) * g->out_channels * l.taps * l.planes;
    plan->workspace_size = workspace_of(plan, &l);
    return true;
}

/* The lane numbers of a vector, and the sums of the first chunk, which there may be no rows for. */
static void prepare(const struct conv2d_job *job, int64_t vector, int32_t thread) {
    (void)thread;
    struct layout l = layout_of(job->plan, job->kernels);
    fill_lanes(job, &l, vector);
    memset(sums_at(job, &l, 0, vector), 0, (size_t)l.sums);
}

static void accumulate(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    struct axis vertical = axis_of(plan, 0, 0), horizontal = axis_of(plan, 1, 0);
    int64_t size = plan->element_size, vector = item % l.vectors, chunk = item / l.vectors;
    char *scratch = scratch_at(job, &l, thread), *planes = scratch + l.axes + l.pointers;
    struct run *runs = (struct run *)(scratch + l.axes);
    const void **lines = (const void **)(runs + MAX_RUNS);
    struct depthwise product = product_of(&l, job->kernels, &vertical, &horizontal);
    product.sums = sums_at(job, &l, chunk, vector);
    memset(product.sums, 0, (size_t)l.sums);
    int64_t start = vector_start(vector, l.result_channels, job->kernels->lanes);
    for (int64_t unit = chunk * l.units; unit < min64((chunk + 1) * l.units, g->batch * l.blocks); unit++) {
        int64_t image = unit / l.blocks, block = unit % l.blocks;
        int64_t begin = l.rows * block / l.blocks, end = l.rows * (block + 1) / l.blocks, top, bottom;
        reach_rows(plan, &l, begin, end, &top, &bottom);
        spread(job, &l, vector, job->x + image * g->input[0] * g->input[1] * l.source_channels * size, top, bottom,
               g->input, job->kernels->lanes, planes);
        for (int64_t first = begin; first < end; first += MAX_RUNS) {
            int64_t count = min64(end - first, MAX_RUNS);
            for (int64_t r = 0; r < count; r++) {
                runs[r] = (struct run){
                    .columns = g->output[1],
                    .first = first_column(&l, &horizontal, 0),
                    .lines = lines + r * product.lines,
                    .result = job->y + ((image * l.rows + first + r) * g->output[1] * l.result_channels + start) * size,
                };
                fill_lines(&l, &vertical, first + r, planes, top, lines + r * product.lines);
            }
            job->kernels->depthwise_over_pixels(&product, runs, count);
        }
    }
}

static void reduce(const struct conv2d_job *job, int64_t split, int32_t thread) {
    (void)thread;
    const struct conv2d_geometry *g = &job->plan->geometry;
    struct layout l = layout_of(job->plan, job->kernels);
    int64_t size = job->plan->element_size, lanes = job->kernels->lanes;
    int64_t first, last;
    set_range(&l, job->kernels, split, &first, &last);
    for (int64_t vector = first; vector < last; vector++) {
        int64_t start = vector_start(vector, l.result_channels, lanes);
        char *total = sums_at(job, &l, 0, vector);
        for (int64_t chunk = 1; chunk < l.chunks; chunk++)
            add_arrays(job->plan->element_size, l.sums / size, sums_at(job, &l, chunk, vector), total);
        for (int64_t u = 0; u < g->kernel[0]; u++)
            for (int64_t i = 0; i < l.planes; i++)
                for (int64_t v = 0; v < g->kernel[1]; v++)
                    for (int64_t lane = 0; lane < lanes; lane++, total += size) {
                        int64_t tap = ((start + lane) * l.planes + i) * l.taps + u * g->kernel[1] + v;
                        copy_element(size, total, job->weight + tap * size);
                    }
    }
}

const struct conv2d_algorithm grouped_weight = {"grouped", plan_grouped_weight, {prepare, accumulate, reduce}};
