/* The weight gradient over copied lines, for few channels on one side or in a group.
 *
 * What the taps of one line of the kernel read of the source, for one pixel of the output, is a run of adjacent values
 * in the copied lines (lines.h): rows of the product are the values of a run, columns are output channels, and the
 * reduction runs over pixels. With few output channels these are the rows, and the columns are the input channels of
 * one tap. In stage 0 an item is a fixed chunk of the batch's lines, and of groups some sets: one group each, or as
 * many as fill a vector with their output channels and take turns there, in copies of source and gradient. Each block
 * of it is summed in registers and added to the item's partial result: short sums of sums lose fewer digits than one
 * long sum. Meanwhile what the next set or block reads is fetched. Stage 1 adds the partial results in order and writes
 * them as OIHW.
 *
 * On bfloat16 numbers, an element of an image in the first half of the batch and that of one in the second half are a
 * pair, which takes the place of a float: this is a problem of half as many images, whose lines are rounded when they are
 * copied. */
#include <string.h>
#include "lines.h"
#include "panel.h"

enum {
    SUM_PIXELS = 128,            /* at most so many are summed in registers: some lines, or a part of one */
    LINES_BYTES = 20 << 10,      /* wanted of a block's copied lines: most of a first-level cache */
    MAX_RUN = 1 << 10,           /* values */
    MAX_SCRATCH_BYTES = 1 << 20, /* of a thread */
    RANGE_BYTES = 640 << 10,     /* wanted of an item's copies, or its result: part of a second-level cache */
    AHEAD_PRODUCTS = 64,         /* of vectors for each cache line, from which on lines are fetched ahead */
    PIECE_BYTES = 256,           /* wanted of a pixel at a time */
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
    bool ahead;                    /* whether what the next block reads is fetched */
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
    if (g->kernel[0] > 1) { /* else each line is read but once */
        int64_t lines = LINES_BYTES / max64(l->line * size, 1) - (g->kernel[0] - 1) * g->dilation[0];
        l->block = max64(min64(l->block, (lines - 1) / g->stride[0] + 1), 1);
    }
    l->image_blocks = ceil_div(g->output[0], l->block);
    l->block = max64(ceil_div(g->output[0], max64(l->image_blocks, 1)), 1);
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
    /* Processors foresee whole pixels by themselves, and few products for a cache line leave no time to fetch it. */
    int64_t vectors = l->panels.groups * l->panels.padded / kernels->lanes * g->kernel[0] * l->rows;
    l->ahead = g->groups > 1 || vectors * 64 >= AHEAD_PRODUCTS * (l->inputs + l->outputs) * size;
    int64_t chunks = min64(l->sets > 1 ? ITEMS / l->ranges : CHUNKS, PARTIAL_BYTES / max64(l->sets * l->partial, 1));
    l->blocks = max64(ceil_div(g->batch * l->image_blocks, max64(chunks, 1)), 1);
    l->chunks = max64(ceil_div(g->batch * l->image_blocks, l->blocks), 1);
    return true;
}

/* The plan of the problem that is summed, and its kernels. */
struct task {
    struct conv2d_plan plan;
    const struct kernels *kernels;
    const struct bf16 *bf16; /* or NULL */
};

static struct task floats(const struct conv2d_plan *plan, const struct kernels *kernels) {
    return (struct task){*plan, kernels, NULL};
}

static struct task pairs(const struct conv2d_plan *plan) {
    struct task task = {*plan, NULL, bf16_for(plan->isa, plan->element_size)};
    task.kernels = task.bf16->lines;
    task.plan.geometry.batch = ceil_div(plan->geometry.batch, 2);
    return task;
}

static bool plan_task(struct conv2d_plan *plan, const struct task *task) {
    const struct conv2d_geometry *g = &task->plan.geometry;
    struct layout l;
    if (!find_layout(&task->plan, task->kernels, &l))
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

static bool plan_floats(struct conv2d_plan *plan, const struct kernels *kernels) {
    struct task task = floats(plan, kernels);
    return plan->map == CONV2D_WEIGHT && plan_task(plan, &task);
}

static bool plan_pairs(struct conv2d_plan *plan, const struct kernels *kernels) {
    (void)kernels;
    if (plan->map != CONV2D_WEIGHT || plan->geometry.groups > 1 || !bf16_for(plan->isa, plan->element_size))
        return false;
    struct task task = pairs(plan);
    return plan_task(plan, &task);
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

/* Some lines of the gradient and those of the source that they meet, in the arrays or in copies. */
struct block {
    int64_t image, top, rows; /* of the gradient */
    int64_t first, count;     /* lines of the source, padding among them */
    const char *lines;        /* of the first set's source ... */
    int64_t line, lines_step; /* ... elements of each; bytes to the next set's */
    const char *gradients;    /* of the first set's pixels ... */
    int64_t pixel, gradients_step;
};

static struct block block_of(const struct conv2d_geometry *g, const struct layout *l, int64_t b) {
    struct block block = {.image = b / l->image_blocks, .top = b % l->image_blocks * l->block};
    block.rows = min64(l->block, g->output[0] - block.top);
    block.first = block.top * g->stride[0] - g->padding[0];
    block.count = (block.rows - 1) * g->stride[0] + (g->kernel[0] - 1) * g->dilation[0] + 1;
    return block;
}

/* What block number b reads of the source and the gradient, from set number `begin` on, in so many shares; of the images
 * that lie `images` further on. */
static void look_at_block(const struct conv2d_job *job, const struct layout *l, int64_t b, int64_t images, int64_t begin,
                          int64_t sets, int64_t shares, struct ahead ahead[2]) {
    const struct conv2d_geometry *g = &job->plan->geometry;
    int64_t size = job->plan->element_size;
    struct block block = block_of(g, l, b);
    block.image = min64(block.image + images, g->batch - 1);
    int64_t first = max64(block.first, 0), rows = min64(block.first + block.count, g->input[0]) - first;
    int64_t source = (block.image * g->input[0] + first) * g->input[1] * g->in_channels + begin * l->inputs;
    int64_t gradient = (block.image * g->output[0] + block.top) * g->output[1] * g->out_channels + begin * l->outputs;
    ahead[0] = look_ahead(job->x + source * size, max64(rows, 0) * g->input[1], sets * l->inputs * size,
                          g->in_channels * size, shares);
    ahead[1] = look_ahead(job->y + gradient * size, block.rows * g->output[1], sets * l->outputs * size,
                          g->out_channels * size, shares);
}

/* Products of a block in one set, which are added to the partial result unless they are the first. */
static void multiply(const struct conv2d_plan *plan, const struct layout *l, const struct block *block, int64_t set,
                     bool first, const char *next, struct ahead ahead[4], char *partial) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t size = plan->element_size, step = g->stride[1] * l->inputs;
    int64_t next_bytes = next ? cache_lines(l->lines / g->kernel[0]) : 0;
    const char *lines = block->lines + set * block->lines_step;
    const char *gradients = block->gradients + set * block->gradients_step;
    for (int64_t u = 0; u < l->panels.groups * l->panels.count; u++) {
        struct unit unit = unit_of(&l->panels, u);
        for (int64_t tap = 0; tap < g->kernel[0]; tap++)
            for (int64_t column = 0; column < g->output[1]; column += l->part) {
                for (int i = 0; i < 4; i++)
                    fetch_share(&ahead[i]);
                char *sum = partial + (unit.before * g->kernel[0] + tap * unit.width) * l->rows * size;
                struct line_outer outer = {
                    .rows = l->rows,
                    .columns = unit.columns,
                    .turns = l->turns,
                    .lines = block->rows,
                    .pixels = min64(l->part, g->output[1] - column),
                    .source_line = g->stride[0] * block->line,
                    .source_step = step,
                    .gradient_line = g->output[1] * block->pixel,
                    .gradient_step = block->pixel,
                    .source = lines + (tap * g->dilation[0] * block->line + column * step) * size,
                    .gradient = gradients + column * block->pixel * size,
                    .before = first && column == 0 ? NULL : sum,
                    .result = sum,
                };
                if (u == 0 && column == 0 && next) {
                    outer.next = next + tap * next_bytes;
                    outer.next_bytes = max64(min64(next_bytes, l->lines - tap * next_bytes), 0);
                }
                if (l->exchanged)
                    exchange(&outer);
                int64_t first_column = (l->exchanged ? unit.group * l->inputs : 0) + unit.column;
                outer.gradient = (const char *)outer.gradient + first_column * size;
                l->kernels->line_outer(&outer);
            }
    }
}

static void accumulate(const struct conv2d_job *job, const struct task *task, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = &task->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    find_layout(plan, task->kernels, &l);
    bool good = true;
    int64_t size = plan->element_size, pixel = g->in_channels * size;
    int64_t begin = item % l.ranges * l.range, sets = min64(l.range, l.sets - begin), chunk = item / l.ranges;
    char *partial = job->workspace + (chunk * l.sets + begin) * l.partial;
    char *copied_lines = job->workspace + l.chunks * l.sets * l.partial + thread * l.scratch;
    char *copied_gradients = copied_lines + l.range * l.lines;
    if (g->batch * g->output[0] * g->output[1] == 0)
        memset(partial, 0, (size_t)(sets * l.partial));

    int64_t begin_block = chunk * l.blocks, end_block = min64(begin_block + l.blocks, g->batch * l.image_blocks);
    int64_t products = l.panels.groups * l.panels.count * g->kernel[0] * ceil_div(g->output[1], max64(l.part, 1));
    for (int64_t b = begin_block; b < end_block; b++) {
        struct block block = block_of(g, &l, b);
        int64_t low = -g->padding[1];
        const char *image_source = job->x + block.image * g->input[0] * g->input[1] * pixel;
        /* Where reading would end: columns are read in whole vectors. */
        int64_t overhang = (l.panels.padded - l.panels.columns) * size;
        int64_t last = (block.image * g->input[0] + block.first + block.count - 1) * g->input[1] + low + l.width;
        int64_t read = last * pixel + (l.exchanged ? overhang : 0);
        /* Whether there is an image to pair with, and how far apart the two are. */
        bool paired = block.image + g->batch < job->plan->geometry.batch;
        int64_t source_step = g->batch * g->input[0] * g->input[1] * pixel;
        int64_t gradient_step = g->batch * g->output[0] * g->output[1] * g->out_channels * size;
        if (!task->bf16 && g->groups == 1 && block.first >= 0 && block.first + block.count <= g->input[0] && low >= 0 &&
            low + l.width <= g->input[1] && read <= g->batch * g->input[0] * g->input[1] * pixel) {
            /* There is no padding to add: the image itself will do. */
            block.lines = image_source + (block.first * g->input[1] + low) * pixel;
            block.line = g->input[1] * g->in_channels;
        } else {
            struct line_copy copy = {
                .image = image_source + begin * l.inputs * size,
                .partner = paired ? image_source + source_step : NULL,
                .bf16 = task->bf16,
                .size = g->input,
                .element_size = size,
                .pixel = g->in_channels,
                .sets = sets,
                .channels = l.inputs,
                .turns = l.turns,
                .set_step = l.lines / size,
                .first = block.first,
                .count = block.count,
                .low = low,
                .width = l.width,
            };
            good &= copy_lines(l.kernels, &copy, copied_lines);
            block.lines = copied_lines;
            block.line = l.line;
            block.lines_step = l.lines;
        }

        int64_t row = block.image * g->output[0] + block.top, row_size = g->output[1] * g->out_channels * size;
        block.gradients = job->y + row * row_size + begin * l.outputs * size;
        read = (row + block.rows) * row_size + (l.exchanged ? 0 : overhang);
        if (task->bf16 || l.turns > 1 || read > g->batch * g->output[0] * row_size) {
            /* Pairs must be made, channels of groups must take turns, or whole vectors of columns would reach over the end
             * of the array. */
            struct line_copy copy = {
                .image = block.gradients,
                .partner = paired ? block.gradients + gradient_step : NULL,
                .bf16 = task->bf16,
                .size = g->output,
                .element_size = size,
                .pixel = g->out_channels,
                .sets = sets,
                .channels = l.outputs,
                .turns = l.turns,
                .set_step = l.gradients / size,
                .count = block.rows,
                .width = g->output[1],
            };
            good &= copy_lines(l.kernels, &copy, copied_gradients);
            block.gradients = copied_gradients;
            block.pixel = l.outputs;
            block.gradients_step = l.gradients;
        } else {
            block.pixel = g->out_channels;
            block.gradients_step = l.outputs * size;
        }
        struct ahead ahead[4] = {{0}};
        if (l.ahead && b + 1 < end_block) {
            look_at_block(job, &l, b + 1, 0, begin, sets, sets * products, ahead);
            if (task->bf16)
                look_at_block(job, &l, b + 1, g->batch, begin, sets, sets * products, ahead + 2);
        }
        for (int64_t set = 0; set < sets; set++) {
            bool copied = block.lines_step > 0 && set + 1 < sets;
            multiply(plan, &l, &block, set, b == begin_block, copied ? block.lines + (set + 1) * l.lines : NULL, ahead,
                     partial + set * l.partial);
        }
    }
    if (!good)
        atomic_store_explicit(job->status, STATUS_NOT_FINITE, memory_order_relaxed);
}

static void reduce(const struct conv2d_job *job, const struct task *task, int64_t item) {
    const struct conv2d_plan *plan = &task->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    find_layout(plan, task->kernels, &l);
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

static void accumulate_floats(const struct conv2d_job *job, int64_t item, int32_t thread) {
    struct task task = floats(job->plan, job->kernels);
    accumulate(job, &task, item, thread);
}

static void reduce_floats(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    struct task task = floats(job->plan, job->kernels);
    reduce(job, &task, item);
}

static void accumulate_pairs(const struct conv2d_job *job, int64_t item, int32_t thread) {
    struct task task = pairs(job->plan);
    accumulate(job, &task, item, thread);
}

static void reduce_pairs(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    struct task task = pairs(job->plan);
    reduce(job, &task, item);
}

const struct conv2d_algorithm lines_weight = {"lines", plan_floats, {accumulate_floats, reduce_floats}};
const struct conv2d_algorithm lines_bf16_weight = {"lines_bf16", plan_pairs, {accumulate_pairs, reduce_pairs}};
