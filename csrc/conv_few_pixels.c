/* Convolution and its input gradient where the result has few pixels: the weights are read where they lie.
 *
 * With many filters and a handful of pixels, putting the weights into panels takes longer than multiplying them. So the
 * roles change: rows of the product are channels of the result, each a line of weights that is read once; columns are
 * pixels, and what is put into panels is the source. Stage 0 copies the patches of every pixel (all its taps) into
 * panels of pixels, in the order in which the weights are stored. In stage 1 an item is a block of rows; it adds up
 * chunk after chunk of the reduction, so that a chunk of all panels stays in the second-level cache, and writes its
 * channels of the result. */
#include <string.h>
#include "sources.h"

enum {
    MOST_PIXELS = 32,         /* of a result */
    BLOCK_ROWS = 112,         /* channels in a block */
    CHUNK_BYTES = 384 << 10,  /* of all panels' chunk: part of a second-level cache */
    ALIASED_BYTES = 1 << 10,  /* rows a multiple of this apart evict each other from a first-level cache */
};

struct layout {
    int64_t rows, depth; /* channels of the result, and of the source */
    int64_t taps, pixels, padded, width;
    int64_t row_step, depth_step; /* between weights, in elements */
    int64_t chunk;                /* of the reduction, over channels and taps */
    int64_t block, blocks;        /* rows of a block */
    bool copied;                  /* rows of weights are copied to where they do not evict each other */
    int64_t panels;               /* bytes of all panels */
    int64_t products, copies, scratch;
};

static struct walk walk_of(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D)
        return (struct walk){{walk_output(g, 0), walk_output(g, 1)}, g->batch};
    return (struct walk){{walk_input(g, 0, 0), walk_input(g, 1, 0)}, g->batch};
}

static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, taps = g->kernel[0] * g->kernel[1];
    struct layout l = {
        .rows = forward ? g->out_channels : g->in_channels,
        .depth = forward ? g->in_channels : g->out_channels,
        .taps = taps,
        .pixels = g->batch * (forward ? g->output[0] * g->output[1] : g->input[0] * g->input[1]),
        .width = kernels->lanes * kernels->vectors,
        .row_step = forward ? g->in_channels * taps : taps,
        .depth_step = forward ? 1 : g->in_channels * taps,
    };
    l.padded = round_up(l.pixels, kernels->lanes);
    int64_t all = l.depth * l.taps, chunk = max64(CHUNK_BYTES / max64(l.padded * size, 1), 32);
    /* Of the input gradient, a chunk is of channels of one tap. */
    int64_t reduction = forward ? all : l.depth;
    l.chunk = max64(ceil_div(reduction, max64(ceil_div(reduction, chunk), 1)), 1);
    l.block = BLOCK_ROWS / kernels->rows * kernels->rows;
    if (plan->threads > 1) /* which changes the order of no sum */
        l.block = min64(l.block, round_up(max64(ceil_div(l.rows, 4 * plan->threads), 1), kernels->rows));
    l.blocks = ceil_div(l.rows, l.block);
    l.copied = forward && l.row_step * size % ALIASED_BYTES == 0;
    l.panels = cache_lines(l.padded * all * size);
    l.products = cache_lines(l.block * l.padded * size);
    l.copies = l.copied ? l.block * (cache_lines(l.chunk * size) + 64) : 0;
    l.scratch = max64(l.products + l.copies, cache_lines(l.depth * size)); /* or a row of zeros */
    return l;
}

static bool plan_few_pixels(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool forward = plan->map == CONV2D;
    if (plan->map == CONV2D_WEIGHT || g->groups != 1 || (!forward && (g->stride[0] > 1 || g->stride[1] > 1)))
        return false;
    struct layout l = layout_of(plan, kernels);
    if (l.pixels > MOST_PIXELS || l.pixels == 0 || l.rows == 0)
        return false;
    plan->stages = 2;
    plan->items[0] = l.padded / kernels->lanes * l.taps;
    plan->nanoseconds[0] = (double)l.padded * l.depth * l.taps / 4;
    plan->items[1] = l.blocks;
    plan->nanoseconds[1] = (double)l.padded * l.depth * l.taps * l.rows / (4 * kernels->lanes);
    plan->workspace_size = l.panels + plan->threads * l.scratch;
    return true;
}

/* One vector of pixels, one tap. A panel's row of the reduction is (channel, tap) or, of the input gradient, (tap,
 * channel): as the weights lie. */
static void put_pixels(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    struct layout l = layout_of(plan, job->kernels);
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, lanes = job->kernels->lanes;
    int64_t first = item / l.taps * lanes, tap = item % l.taps, pixels = min64(l.pixels - first, lanes);
    int64_t panel = first / l.width * l.width, width = min64(l.padded - panel, l.width);

    struct walk walk = walk_of(plan);
    int64_t position[2] = {tap / walk.axis[1].taps, tap % walk.axis[1].taps};
    for (int axis = 0; axis < 2; axis++) {
        walk.axis[axis].offset += position[axis] * walk.axis[axis].offset_step;
        walk.axis[axis].taps = 1;
    }
    const void *sources[lanes];
    char *zeros = job->workspace + l.panels + thread * l.scratch;
    memset(zeros, 0, (size_t)(l.depth * size));
    fill_sources(&walk, first, pixels, forward ? job->x : job->y, l.depth * size, zeros, sources, lanes);
    /* The walk of the input gradient meets the taps from the last to the first. */
    int64_t before = forward ? tap : (l.taps - 1 - tap) * l.depth;
    char *to = job->workspace + (panel * l.depth * l.taps + before * width + first - panel) * size;
    job->kernels->columns_from_pixels(sources, pixels, l.depth, to, width * (forward ? l.taps : 1));
}

static void multiply(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, lanes = job->kernels->lanes;
    int64_t row = item * l.block, rows = min64(l.rows - row, l.block);
    char *products = job->workspace + l.panels + thread * l.scratch, *copies = products + l.products;
    int64_t copy = cache_lines(l.chunk * size) + 64;
    memset(products, 0, (size_t)(rows * l.padded * size));

    int64_t reduction = forward ? l.depth * l.taps : l.depth;
    for (int64_t tap = 0; tap < (forward ? 1 : l.taps); tap++)
        for (int64_t c = 0; c < reduction; c += l.chunk) {
            int64_t depth = min64(l.chunk, reduction - c);
            struct gemm_by_weights gemm = {
                .rows = rows,
                .depth = depth,
                .row_step = l.copied ? copy / size : l.row_step,
                .depth_step = l.depth_step,
                .weights = job->weight + (row * l.row_step + c * l.depth_step + tap) * size,
            };
            if (l.copied) {
                for (int64_t r = 0; r < rows; r++)
                    memcpy(copies + r * copy, (const char *)gemm.weights + r * l.row_step * size,
                           (size_t)(depth * size));
                gemm.weights = copies;
            }
            for (int64_t pixel = 0; pixel < l.padded; pixel += l.width) {
                gemm.columns = min64(l.padded - pixel, l.width);
                gemm.panel = job->workspace + (pixel * l.depth * l.taps + (tap * l.depth + c) * gemm.columns) * size;
                gemm.result = products + pixel * rows * size;
                job->kernels->gemm_by_weights(&gemm);
            }
        }

    struct walk walk = walk_of(plan);
    for (int64_t first = 0; first < l.pixels; first += lanes) {
        int64_t pixel = first / l.width * l.width, pixels = min64(l.pixels - first, lanes);
        void *results[lanes];
        fill_results(&walk, first, pixels, forward ? job->y : job->x, forward ? g->output : g->input, l.rows * size,
                     results);
        const char *bias = job->bias ? job->bias + row * size : NULL;
        job->kernels->pixels_from_columns(products + (pixel * rows + first % l.width) * size,
                                          min64(l.padded - pixel, l.width), bias, row, pixels, rows, results);
    }
}

const struct conv2d_algorithm few_pixels = {"few_pixels", plan_few_pixels, {put_pixels, multiply}};
