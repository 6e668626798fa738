/* The weight gradient over copied lines, for few channels on one side or in a group.
 *
 * What the taps of one line of the kernel read of the source, for one pixel of the output, is a run of adjacent values
 * in the copied lines (lines.h): rows of the product are the values of a run, columns are output channels, and the
 * reduction runs over pixels. With few output channels these are the rows, and the columns are the input channels of one
 * tap. In stage 0 an item is a fixed chunk of the batch's lines, and of groups one, or as many as fill a vector with
 * their output channels: in copies of source and gradient they take turns. Each block of it is summed in registers and
 * added to the item's partial result: short sums of sums lose fewer digits than one long sum. Stage 1 adds the partial
 * results in order and writes them as OIHW. */
#include <string.h>
#include "lines.h"
#include "panel.h"

enum {
    SUM_PIXELS = 128,            /* at most so many are summed in registers: some lines, or a part of one */
    MAX_RUN = 1 << 10,           /* values */
    MAX_SCRATCH_BYTES = 1 << 20, /* of a thread */
    RANGE_BYTES = 640 << 10,     /* wanted of an item's copies, or its result: part of a second-level cache */
    PIECE_BYTES = 1 << 10,       /* wanted of a pixel at a time */
    CHUNKS = 16,                 /* for balance between threads ... */
    ITEMS = 8,                   /* ... and with groups: ranges of sets, then chunks */
    PARTIAL_BYTES = 8 << 20,     /* of all partial results, beyond which there are fewer chunks */
    MAX_STRIDE = 8,
    FEW_OUTPUTS = 8,
};

struct layout {
    const struct kernels *kernels; /* whose vectors suit the columns */
    int64_t turns, sets;           /* groups in a set, whose channels fill a vector, and sets */
    int64_t range, ranges;         /* sets of an item, and ranges of so many; what follows is of one set: */
    int64_t inputs, outputs;       /* channels */
    bool exchanged;                /* rows are output channels */
    struct panels panels;          /* of output channels, or of the input channels of each tap of a line */
    int64_t run, rows;             /* values that a line of the kernel reads; rows of a product */
    int64_t width, line;           /* columns and elements of a copied line */
    int64_t block, image_blocks;   /* lines in a block, blocks in an image */
    int64_t part;                  /* pixels of a line that are summed in registers */
    int64_t chunks, blocks;        /* chunks of the batch, blocks in a chunk */
    int64_t partial;               /* bytes of a chunk's result */
    int64_t lines, gradients;      /* bytes of the copied lines and of the gradient's */
    int64_t scratch;               /* bytes of a thread's */
};

/* False where the scratch would take too much room. */
static bool find_layout(const struct conv2d_plan *plan, const struct kernels *kernels, struct layout *l) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t in = g->in_channels / g->groups, out = g->out_channels / g->groups, size = plan->element_size;
    int64_t turns = turns_of(g->groups, out, size, kernels);
    bool exchanged = turns == 1 && out <= FEW_OUTPUTS && in >= kernels->lanes;
    if (turns == 1)
        kernels = narrowed(kernels, exchanged ? in : out);
    int64_t vector = kernels->lanes * size;
    if ((g->dilation[1] > 1 && g->kernel[1] > 1) || g->stride[0] > MAX_STRIDE || g->stride[1] > MAX_STRIDE ||
        g->kernel[1] > MAX_RUN || in > MAX_RUN / g->kernel[1] || g->dilation[0] > MAX_SCRATCH_BYTES / g->kernel[0] ||
        g->output[1] > MAX_SCRATCH_BYTES)
        return false;
    *l = (struct layout){
        .kernels = kernels,
        .turns = turns,
        .sets = g->groups / turns,
        .inputs = turns * in,
        .outputs = turns * out,
        .exchanged = exchanged,
        .panels = cut_into_panels(exchanged ? g->kernel[1] : 1, exchanged ? in : turns * out, kernels),
        .run = g->kernel[1] * in,
        .width = (max64(g->output[1], 1) - 1) * g->stride[1] + g->kernel[1],
        .block = max64(min64(SUM_PIXELS / max64(g->output[1], 1), g->output[0]), 1),
        .part = ceil_div(g->output[1], max64(ceil_div(g->output[1], SUM_PIXELS), 1)),
    };
    l->rows = exchanged ? out : l->run;
    l->line = l->width * l->inputs;
    l->image_blocks = ceil_div(g->output[0], l->block);
    l->lines = set_bytes(((l->block - 1) * g->stride[0] + (g->kernel[0] - 1) * g->dilation[0] + 1) * l->line * size);
    l->gradients = set_bytes(l->block * g->output[1] * l->outputs * size + 2 * vector);
    if (l->lines + l->gradients > MAX_SCRATCH_BYTES)
        return false;

    l->partial = cache_lines(l->panels.groups * l->panels.padded * g->kernel[0] * l->rows * size);
    int64_t most = RANGE_BYTES / max64(max64(l->partial, l->lines + l->gradients), 1);
    int64_t wanted = max64(ceil_div(l->sets, ITEMS), PIECE_BYTES / max64(l->inputs * size, 1));
    l->range = max64(min64(min64(most, wanted), l->sets), 1);
    l->ranges = ceil_div(l->sets, l->range);
    l->scratch = l->range * (l->lines + l->gradients);
    int64_t chunks = min64(l->sets > 1 ? ITEMS / l->ranges : CHUNKS, PARTIAL_BYTES / max64(l->sets * l->partial, 1));
    l->blocks = max64(ceil_div(g->batch * l->image_blocks, max64(chunks, 1)), 1);
    l->chunks = max64(ceil_div(g->batch * l->image_blocks, l->blocks), 1);
    return true;
}

static bool plan_lines_weight(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    if (plan->map != CONV2D_WEIGHT || !find_layout(plan, kernels, &l))
        return false;
    double weights = (double)l.sets * l.panels.groups * l.panels.padded * g->kernel[0] * l.rows;
    plan->stages = 2;
    plan->items[0] = l.chunks * l.ranges;
    plan->nanoseconds[0] = weights * g->batch * g->output[0] * g->output[1] / (4 * l.kernels->lanes);
    plan->items[1] = l.sets * l.panels.groups * l.panels.count;
    plan->nanoseconds[1] = weights * l.chunks / l.kernels->lanes;
    plan->workspace_size = l.chunks * l.sets * l.partial + plan->threads * l.scratch;
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

/* Products of one block of one set: `rows` lines of the gradient and the lines of the source that they meet. */
static void multiply(const struct conv2d_plan *plan, const struct layout *l, int64_t rows, const char *lines,
                     int64_t line, const char *gradient, char *partial) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t size = plan->element_size, step = g->stride[1] * l->inputs;
    for (int64_t u = 0; u < l->panels.groups * l->panels.count; u++) {
        struct unit unit = unit_of(&l->panels, u);
        for (int64_t tap = 0; tap < g->kernel[0]; tap++)
            for (int64_t column = 0; column < g->output[1]; column += l->part) {
                struct line_outer outer = {
                    .rows = l->rows,
                    .columns = unit.columns,
                    .turns = l->turns,
                    .lines = rows,
                    .pixels = min64(l->part, g->output[1] - column),
                    .source_line = g->stride[0] * line,
                    .source_step = step,
                    .gradient_line = g->output[1] * l->outputs,
                    .gradient_step = l->outputs,
                    .source = lines + (tap * g->dilation[0] * line + column * step) * size,
                    .gradient = gradient + column * l->outputs * size,
                    .result = partial + (unit.before * g->kernel[0] + tap * unit.width) * l->rows * size,
                };
                if (l->exchanged)
                    exchange(&outer);
                int64_t first_column = (l->exchanged ? unit.group * l->inputs : 0) + unit.column;
                outer.gradient = (const char *)outer.gradient + first_column * size;
                l->kernels->line_outer(&outer);
            }
    }
}

static void accumulate(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    find_layout(plan, job->kernels, &l);
    int64_t size = plan->element_size, pixel = g->in_channels * size;
    int64_t begin = item % l.ranges * l.range, end = min64(begin + l.range, l.sets), chunk = item / l.ranges;
    char *partial = job->workspace + (chunk * l.sets + begin) * l.partial;
    char *copied_lines = job->workspace + l.chunks * l.sets * l.partial + thread * l.scratch;
    char *copied_gradients = copied_lines + l.range * l.lines;
    memset(partial, 0, (size_t)(max64(end - begin, 0) * l.partial));

    for (int64_t b = chunk * l.blocks; b < min64((chunk + 1) * l.blocks, g->batch * l.image_blocks); b++) {
        int64_t image = b / l.image_blocks, top = b % l.image_blocks * l.block;
        int64_t rows = min64(l.block, g->output[0] - top);
        int64_t first = top * g->stride[0] - g->padding[0], low = -g->padding[1], line = l.line;
        int64_t count = (rows - 1) * g->stride[0] + (g->kernel[0] - 1) * g->dilation[0] + 1;
        const char *image_source = job->x + image * g->input[0] * g->input[1] * pixel, *lines = copied_lines;
        /* Where reading would end: columns are read in whole vectors. */
        int64_t last = (image * g->input[0] + first + count - 1) * g->input[1] + low + l.width;
        int64_t read = last * pixel + (l.exchanged ? (l.panels.padded - l.panels.columns) * size : 0);
        if (g->groups == 1 && first >= 0 && first + count <= g->input[0] && low >= 0 && low + l.width <= g->input[1] &&
            read <= g->batch * g->input[0] * g->input[1] * pixel) {
            /* There is no padding to add: the image itself will do. */
            lines = image_source + (first * g->input[1] + low) * pixel;
            line = g->input[1] * g->in_channels;
        } else {
            struct line_copy copy = {
                .image = image_source + begin * l.inputs * size,
                .size = g->input,
                .element_size = size,
                .pixel = g->in_channels,
                .sets = end - begin,
                .channels = l.inputs,
                .turns = l.turns,
                .set_step = l.lines / size,
                .first = first,
                .count = count,
                .low = low,
                .width = l.width,
            };
            copy_lines(l.kernels, &copy, copied_lines);
        }

        const char *gradients = job->y + (image * g->output[0] + top) * g->output[1] * g->out_channels * size;
        const char *y_end = job->y + g->batch * g->output[0] * g->output[1] * g->out_channels * size;
        int64_t read_gradients = ((rows * g->output[1] - 1) * g->out_channels + l.panels.padded) * size;
        if (g->groups > 1 || (!l.exchanged && read_gradients > y_end - gradients)) {
            /* One group of several, or whole vectors of columns would reach over the end of the array. */
            struct line_copy copy = {
                .image = gradients + begin * l.outputs * size,
                .size = g->output,
                .element_size = size,
                .pixel = g->out_channels,
                .sets = end - begin,
                .channels = l.outputs,
                .turns = l.turns,
                .set_step = l.gradients / size,
                .count = rows,
                .width = g->output[1],
            };
            copy_lines(l.kernels, &copy, copied_gradients);
            gradients = copied_gradients;
        }
        for (int64_t set = 0; set < end - begin; set++)
            multiply(plan, &l, rows, lines + set * l.lines, line, gradients + set * l.gradients,
                     partial + set * l.partial);
    }
}

static void reduce(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    find_layout(plan, job->kernels, &l);
    int64_t units = max64(l.panels.groups * l.panels.count, 1), set = item / units;
    struct unit unit = unit_of(&l.panels, item % units);
    int64_t size = plan->element_size, in = g->in_channels / g->groups, taps = g->kernel[0] * g->kernel[1];
    int64_t filter = in * taps, lines = g->kernel[0] * l.rows; /* weights of an output; lines of columns */
    char *total = job->workspace + set * l.partial + unit.before * lines * size;
    char *weights = job->weight + set * l.outputs * filter * size;
    for (int64_t chunk = 1; chunk < l.chunks; chunk++)
        add_arrays(plan->element_size, unit.width * lines, total + chunk * l.sets * l.partial, total);
    if (l.exchanged) {
        for (int64_t i = 0; i < lines; i++)
            for (int64_t c = 0; c < unit.columns; c++) {
                int64_t tap = i / l.rows * g->kernel[1] + unit.group;
                int64_t weight = i % l.rows * filter + (unit.column + c) * taps + tap;
                memcpy(weights + weight * size, total + (i * unit.width + c) * size, (size_t)size);
            }
        return;
    }
    if (l.turns > 1) /* back to the order of channels */
        l.kernels->copy_pixels(&(struct pixel_copy){
            .pixels = lines,
            .sets = 1,
            .channels = unit.width,
            .turns = unit.width / l.turns,
            .step = unit.width,
            .source = total,
            .result = total,
        });
    struct panel panel = {
        .columns = unit.columns / l.turns,
        .width = unit.width,
        .depth = in,
        .chunk = max64(in, 1),
        .taps = {g->kernel[0], g->kernel[1]},
        .origin = unit.column * filter,
        .column_step = filter,
        .channel_step = taps,
        .tap_step = {g->kernel[1], 1},
    };
    for (int64_t turn = 0; turn < l.turns; turn++, panel.origin += panel.columns * filter)
        unpack_panel(&panel, plan->element_size, total + turn * panel.columns * size, weights);
}

const struct conv2d_algorithm lines_weight = {"lines", plan_lines_weight, {accumulate, reduce}};
