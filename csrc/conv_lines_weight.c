/* The weight gradient over copied lines, for few channels on one side.
 *
 * What the taps of one line of the kernel read of the source, for one pixel of the output, is a run of adjacent values
 * in the copied lines (lines.h): rows of the product are the values of a run, columns are output channels, and the
 * reduction runs over pixels. With few output channels these are the rows, and the columns are the input channels of one
 * tap. In stage 0 an item is a fixed chunk of the batch's lines; each block of it is summed in
 * registers and added to the chunk's partial result: short sums of sums lose fewer digits than one long sum. Stage 1
 * adds the partial results in order and writes them as OIHW. */
#include <string.h>
#include "lines.h"
#include "panel.h"

enum {
    SUM_PIXELS = 128,            /* at most so many are summed in registers: some lines, or a part of one */
    MAX_RUN = 1 << 10,           /* values */
    MAX_SCRATCH_BYTES = 1 << 20, /* of a thread */
    CHUNKS = 16,                 /* for balance between threads */
    PARTIAL_BYTES = 8 << 20,     /* of all partial results, beyond which there are fewer chunks */
    MAX_STRIDE = 8,
    FEW_OUTPUTS = 8,
};

struct layout {
    const struct kernels *kernels; /* whose vectors suit the columns */
    bool exchanged;                /* rows are output channels */
    struct panels panels;          /* of output channels, or of the input channels of each tap of a line */
    int64_t run, rows;             /* values that a line of the kernel reads; rows of a product */
    int64_t width, line;           /* columns and elements of a copied line */
    int64_t block, image_blocks;   /* lines in a block, blocks in an image */
    int64_t part;                  /* pixels of a line that are summed in registers */
    int64_t chunks, blocks;        /* chunks of the batch, blocks in a chunk */
    int64_t partial;               /* bytes of a chunk's result */
    int64_t lines, scratch;        /* bytes of a thread's scratch: the copied lines, and all */
};

/* False where the scratch would take too much room. */
static bool find_layout(const struct conv2d_plan *plan, const struct kernels *kernels, struct layout *l) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool exchanged = g->out_channels <= FEW_OUTPUTS && g->in_channels >= kernels->lanes;
    kernels = narrowed(kernels, exchanged ? g->in_channels : g->out_channels);
    int64_t size = plan->element_size, vector = kernels->lanes * size;
    if (g->groups != 1 || (g->dilation[1] > 1 && g->kernel[1] > 1) || g->stride[0] > MAX_STRIDE ||
        g->stride[1] > MAX_STRIDE || g->kernel[1] > MAX_RUN || g->in_channels > MAX_RUN / g->kernel[1] ||
        g->dilation[0] > MAX_SCRATCH_BYTES / g->kernel[0] || g->output[1] > MAX_SCRATCH_BYTES)
        return false;
    *l = (struct layout){
        .kernels = kernels,
        .exchanged = exchanged,
        .panels = cut_into_panels(exchanged ? g->kernel[1] : 1, exchanged ? g->in_channels : g->out_channels, kernels),
        .run = g->kernel[1] * g->in_channels,
        .width = (max64(g->output[1], 1) - 1) * g->stride[1] + g->kernel[1],
        .block = max64(min64(SUM_PIXELS / max64(g->output[1], 1), g->output[0]), 1),
        .part = ceil_div(g->output[1], max64(ceil_div(g->output[1], SUM_PIXELS), 1)),
    };
    l->rows = exchanged ? g->out_channels : l->run;
    l->line = l->width * g->in_channels;
    l->image_blocks = ceil_div(g->output[0], l->block);
    l->lines = cache_lines(((l->block - 1) * g->stride[0] + (g->kernel[0] - 1) * g->dilation[0] + 1) * l->line * size);
    l->scratch = l->lines + cache_lines(l->block * g->output[1] * g->out_channels * size + 2 * vector);
    if (l->scratch > MAX_SCRATCH_BYTES)
        return false;

    l->partial = cache_lines(l->panels.groups * l->panels.padded * g->kernel[0] * l->rows * size);
    int64_t chunks = max64(min64(CHUNKS, PARTIAL_BYTES / max64(l->partial, 1)), 1);
    l->blocks = max64(ceil_div(g->batch * l->image_blocks, chunks), 1);
    l->chunks = max64(ceil_div(g->batch * l->image_blocks, l->blocks), 1);
    return true;
}

static bool plan_lines_weight(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    if (plan->map != CONV2D_WEIGHT || !find_layout(plan, kernels, &l))
        return false;
    double weights = (double)l.panels.groups * l.panels.padded * g->kernel[0] * l.rows;
    plan->stages = 2;
    plan->items[0] = l.chunks;
    plan->nanoseconds[0] = weights * g->batch * g->output[0] * g->output[1] / (4 * l.kernels->lanes);
    plan->items[1] = l.panels.groups * l.panels.count;
    plan->nanoseconds[1] = weights * l.chunks / l.kernels->lanes;
    plan->workspace_size = l.chunks * l.partial + plan->threads * l.scratch;
    return true;
}

/* Lets what was the source be the columns. */
static void exchange(struct line_outer *outer) {
    const struct line_outer before = *outer;
    outer->source = before.gradient;
    outer->source_line = before.gradient_line;
    outer->source_step = before.gradient_step;
    outer->gradient = before.source;
    outer->gradient_line = before.source_line;
    outer->gradient_step = before.source_step;
}

static void accumulate(const struct conv2d_job *job, int64_t chunk, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    find_layout(plan, job->kernels, &l);
    int64_t size = plan->element_size, pixel = g->in_channels * size, step = g->stride[1] * g->in_channels;
    char *partial = job->workspace + chunk * l.partial;
    char *copies = job->workspace + l.chunks * l.partial + thread * l.scratch;
    memset(partial, 0, (size_t)l.partial);

    for (int64_t b = chunk * l.blocks; b < min64((chunk + 1) * l.blocks, g->batch * l.image_blocks); b++) {
        int64_t image = b / l.image_blocks, top = b % l.image_blocks * l.block;
        int64_t rows = min64(l.block, g->output[0] - top);
        int64_t first = top * g->stride[0] - g->padding[0], low = -g->padding[1], line = l.line;
        int64_t count = (rows - 1) * g->stride[0] + (g->kernel[0] - 1) * g->dilation[0] + 1;
        const char *image_source = job->x + image * g->input[0] * g->input[1] * pixel, *lines = copies;
        /* Where reading would end: columns are read in whole vectors. */
        int64_t last = (image * g->input[0] + first + count - 1) * g->input[1] + low + l.width;
        int64_t read = last * pixel + (l.exchanged ? (l.panels.padded - l.panels.columns) * size : 0);
        if (first >= 0 && first + count <= g->input[0] && low >= 0 && low + l.width <= g->input[1] &&
            read <= g->batch * g->input[0] * g->input[1] * pixel) {
            /* There is no padding to add: the image itself will do. */
            lines = image_source + (first * g->input[1] + low) * pixel;
            line = g->input[1] * g->in_channels;
        } else {
            copy_lines(image_source, g->input, pixel, first, count, low, l.width, copies);
        }

        const char *gradient = job->y + (image * g->output[0] + top) * g->output[1] * g->out_channels * size;
        const char *end = job->y + g->batch * g->output[0] * g->output[1] * g->out_channels * size;
        if (!l.exchanged && gradient + ((rows * g->output[1] - 1) * g->out_channels + l.panels.padded) * size > end) {
            /* Whole vectors of columns would reach over the end of the array. */
            char *copy = copies + l.lines;
            memcpy(copy, gradient, (size_t)(rows * g->output[1] * g->out_channels * size));
            gradient = copy;
        }
        for (int64_t u = 0; u < l.panels.groups * l.panels.count; u++) {
            struct unit unit = unit_of(&l.panels, u);
            for (int64_t tap = 0; tap < g->kernel[0]; tap++)
                for (int64_t column = 0; column < g->output[1]; column += l.part) {
                    struct line_outer outer = {
                        .rows = l.rows,
                        .columns = unit.columns,
                        .lines = rows,
                        .pixels = min64(l.part, g->output[1] - column),
                        .source_line = g->stride[0] * line,
                        .source_step = step,
                        .gradient_line = g->output[1] * g->out_channels,
                        .gradient_step = g->out_channels,
                        .source = lines + (tap * g->dilation[0] * line + column * step) * size,
                        .gradient = gradient + column * g->out_channels * size,
                        .result = partial + (unit.before * g->kernel[0] + tap * unit.width) * l.rows * size,
                    };
                    if (l.exchanged)
                        exchange(&outer);
                    int64_t first_column = (l.exchanged ? unit.group * g->in_channels : 0) + unit.column;
                    outer.gradient = (const char *)outer.gradient + first_column * size;
                    l.kernels->line_outer(&outer);
                }
        }
    }
}

static void reduce(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    find_layout(plan, job->kernels, &l);
    struct unit unit = unit_of(&l.panels, item);
    int64_t size = plan->element_size, filter = g->kernel[0] * l.run, taps = g->kernel[0] * g->kernel[1];
    int64_t lines = g->kernel[0] * l.rows; /* of columns */
    char *total = job->workspace + unit.before * lines * size;
    for (int64_t chunk = 1; chunk < l.chunks; chunk++)
        add_arrays(plan->element_size, unit.width * lines, total + chunk * l.partial, total);
    if (l.exchanged) {
        for (int64_t i = 0; i < lines; i++)
            for (int64_t c = 0; c < unit.columns; c++) {
                int64_t tap = i / l.rows * g->kernel[1] + unit.group;
                int64_t weight = i % l.rows * filter + (unit.column + c) * taps + tap;
                memcpy(job->weight + weight * size, total + (i * unit.width + c) * size, (size_t)size);
            }
        return;
    }
    struct panel panel = {
        .columns = unit.columns,
        .width = unit.width,
        .depth = g->in_channels,
        .chunk = max64(g->in_channels, 1),
        .taps = {g->kernel[0], g->kernel[1]},
        .origin = unit.column * filter,
        .column_step = filter,
        .channel_step = taps,
        .tap_step = {g->kernel[1], 1},
    };
    unpack_panel(&panel, plan->element_size, total, job->weight);
}

const struct conv2d_algorithm lines_weight = {"lines", plan_lines_weight, {accumulate, reduce}};
