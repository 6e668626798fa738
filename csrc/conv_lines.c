/* Convolution and its input gradient over copied lines, for few channels on one side or in a group.
 *
 * An item is a block of lines of one image of the result. The lines of the source that it needs are copied once, with
 * the zeros that pad them, and read where they lie by all taps: there is neither a table of pointers nor a copy for
 * each pixel. Three algorithms share this:
 *
 * - `lines`, for few channels of the source: the copy has a plane for each channel (and, of every source_step-th
 *   column, one for each remainder), in which the sources of adjacent pixels are adjacent. The lanes are channels of
 *   the result, as in the indirect product.
 * - `dots`, for few channels of the result: the copy keeps channels adjacent, and the lanes are channels of the
 *   source. A value is a sum of products of vectors, whose lanes are added up in the end.
 * - `lines_grouped`, for groups, in sets: one, or as many as fill a vector with their channels of the result, which are
 *   the lanes. Each set has a copy of its own, with its channels side by side. The groups of a set take turns in it and
 *   in the lanes, so that each step of the product repeats their next source values over a vector. */
#include <string.h>
#include "lines.h"
#include "panel.h"
#include "sources.h"

enum {
    LINES_BYTES = 128 << 10, /* wanted of copied lines: part of a second-level cache ... */
    SETS_BYTES = 512 << 10,  /* ... and of all groups, each of which is read from the first-level cache */
    MAX_LINES_BYTES = 1 << 20,
    MAX_STEPS = 1 << 14, /* taps times source channels */
    MAX_STRIDE = 8,
    MAX_REACH = 1 << 16, /* of taps, in sources */
    ITEMS = 8,           /* wanted for balance between threads */
    BLOCK_ROWS = 4,      /* wanted lines of a block, since adjacent blocks copy some lines twice */
};

/* What is copied of the source: a plane for each channel, all channels of pixels, or some of them. */
enum form { PLANES, PIXELS, GROUPS };

struct layout {
    struct panels panels;
    int64_t turns, sets;            /* groups in a set, whose channels fill a vector, and sets */
    int64_t range, ranges;          /* sets of an item, and ranges of so many */
    int64_t depth, result_channels; /* of a set */
    int64_t taps, phases[2];
    int64_t low[2], reach[2]; /* in any phase, the taps of pixel j lie within j * source_step + low + (0 .. reach - 1) */
    int64_t size[2];          /* pixels of the largest phase */
    int64_t step[2];          /* source_step */
    int64_t block, blocks;    /* lines in a block, blocks in an image */
    int64_t plane, line;      /* elements of a plane of a copied line, and of the line */
    int64_t copy;             /* bytes of the copied lines of a set */
    int64_t steps;            /* of a product, over all phases */
    int64_t packed;           /* bytes of all weights */
    int64_t offsets, scratch; /* bytes of a thread's scratch: its first part, and all */
};

static struct axis axis_of(const struct conv2d_plan *plan, int axis, int64_t phase) {
    return plan->map == CONV2D ? walk_output(&plan->geometry, axis) : walk_input(&plan->geometry, axis, phase);
}

/* Vectors of the products of one run of sources in `dots`: a line of the kernel, or a tap of it when dilated. */
static int64_t run_taps(const struct axis *horizontal) { return horizontal->offset_step == 1 ? horizontal->taps : 1; }
static int64_t runs_of(const struct axis *vertical, const struct axis *horizontal) {
    return horizontal->offset_step == 1 ? (horizontal->taps ? vertical->taps : 0) : vertical->taps * horizontal->taps;
}
static int64_t packed_dots(const struct layout *l, const struct axis *vertical, const struct axis *horizontal,
                           int64_t lanes) {
    int64_t vectors = ceil_div(run_taps(horizontal) * l->depth, lanes);
    return runs_of(vertical, horizontal) * vectors * l->result_channels * lanes;
}

/* Lanes that are channels of the result are no more than it has. Where they are channels of the source, loads bound
 * the products with one or two channels of the result, and two vectors half as wide are loaded at a time. */
static const struct kernels *kernels_of(const struct conv2d_plan *plan, const struct kernels *kernels, enum form form) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t results = (plan->map == CONV2D ? g->out_channels : g->in_channels) / g->groups;
    if (form == PIXELS)
        return kernels->narrow && results <= 2 ? kernels->narrow : kernels;
    return turns_of(g->groups, results, plan->element_size, kernels) > 1 ? kernels : narrowed(kernels, results);
}

/* False where a line would take too much room. */
static bool find_layout(const struct conv2d_plan *plan, const struct kernels *kernels, enum form form,
                        struct layout *l) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool forward = plan->map == CONV2D;
    int64_t in = g->in_channels / g->groups, out = g->out_channels / g->groups, size = plan->element_size;
    int64_t turns = turns_of(g->groups, forward ? out : in, size, kernels);
    *l = (struct layout){
        .turns = turns,
        .sets = g->groups / turns,
        .panels = cut_into_panels(g->groups / turns, turns * (forward ? out : in), kernels),
        .depth = turns * (forward ? in : out),
        .result_channels = turns * (forward ? out : in),
        .taps = g->kernel[0] * g->kernel[1],
    };
    if ((form == GROUPS) != (g->groups > 1) || l->taps > MAX_STEPS || l->depth > MAX_STEPS ||
        l->taps * l->depth > MAX_STEPS || (form == PIXELS && l->result_channels > DOTS))
        return false;
    for (int axis = 0; axis < 2; axis++) {
        if (g->stride[axis] > MAX_STRIDE || g->dilation[axis] > MAX_REACH / g->kernel[axis])
            return false;
        l->phases[axis] = forward ? 1 : input_phases(g, axis);
        int64_t low = INT64_MAX, high = INT64_MIN;
        for (int64_t phase = 0; phase < l->phases[axis]; phase++) {
            struct axis a = axis_of(plan, axis, phase);
            l->size[axis] = max64(l->size[axis], a.count);
            l->step[axis] = a.source_step;
            if (a.taps == 0)
                continue;
            low = min64(low, a.offset);
            high = max64(high, a.offset + (a.taps - 1) * a.offset_step);
        }
        if (low > high) /* no tap at all */
            low = high = 0;
        l->low[axis] = low;
        l->reach[axis] = high - low + 1;
    }
    l->plane = l->size[1] + (l->reach[1] - 1) / max64(l->step[1], 1);
    if (l->plane > MAX_LINES_BYTES)
        return false;
    l->line = l->depth * max64(l->step[1], 1) * l->plane;
    int64_t line_bytes = max64(l->line * size, 1);
    int64_t lines = (form == GROUPS ? SETS_BYTES / l->sets : LINES_BYTES) / line_bytes;
    int64_t fewest = form == GROUPS ? max64(min64(BLOCK_ROWS, l->size[0]), 1) : 1;
    l->block = max64((lines - l->reach[0]) / max64(l->step[0], 1) + 1, fewest);
    l->block = min64(l->block, max64(ceil_div(l->size[0] * g->batch, ITEMS), BLOCK_ROWS));
    l->blocks = ceil_div(l->size[0], l->block);
    l->block = l->blocks ? ceil_div(l->size[0], l->blocks) : 0;
    lines = max64(l->block - 1, 0) * l->step[0] + l->reach[0];
    if (lines > MAX_LINES_BYTES / line_bytes)
        return false;
    l->copy = set_bytes(lines * l->line * size);
    int64_t most = max64(MAX_LINES_BYTES / l->copy, 1), items = ceil_div(ITEMS, max64(g->batch * l->blocks, 1));
    l->range = max64(min64(l->sets / items, most), 1);
    l->ranges = ceil_div(l->sets, l->range);

    l->steps = l->taps * l->depth / l->turns;
    l->packed = l->sets * l->panels.padded * (1 + l->steps);
    if (form == PIXELS) {
        l->packed = DOT_VALUES;
        for (int64_t phase = 0; phase < l->phases[0] * l->phases[1]; phase++) {
            struct axis vertical = axis_of(plan, 0, phase / l->phases[1]);
            struct axis horizontal = axis_of(plan, 1, phase % l->phases[1]);
            l->packed += packed_dots(l, &vertical, &horizontal, kernels->lanes);
        }
    }
    l->packed = cache_lines(l->packed * size);
    l->offsets = cache_lines(l->taps * l->depth * (int64_t)sizeof(int32_t));
    l->scratch = l->offsets + l->range * l->copy + cache_lines(kernels->lanes * size); /* a vector may overhang */
    return true;
}

/* ---- Packing ---- */

/* A panel: its initial values (the bias) and then, phase by phase, [tap][channel][column]. Groups that take turns are
 * packed side by side, each as some of the channels of a panel as wide as the group, and then put in order. */
static void pack_lines(const struct conv2d_job *job, int64_t item, enum form form) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    const struct kernels *kernels = kernels_of(plan, job->kernels, form);
    struct layout l;
    find_layout(plan, kernels, form, &l);
    struct unit unit = unit_of(&l.panels, item);
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    char *panel_start = job->workspace + unit.before * (1 + l.steps) * size, *packed = panel_start;

    memset(packed, 0, (size_t)(unit.width * size));
    if (job->bias)
        memcpy(packed, job->bias + (unit.group * l.result_channels + unit.column) * size,
               (size_t)(unit.columns * size));
    packed += unit.width * size;

    struct panel panel = {
        .columns = unit.columns / l.turns,
        .width = unit.width / l.turns,
        .depth = l.depth,
        .chunk = max64(l.depth, 1),
        .column_step = forward ? in * l.taps : l.taps,
        .channel_step = forward ? l.taps : in * l.taps,
    };
    int64_t group_step = out * in * l.taps, origin = unit.group * l.turns * group_step + unit.column * panel.column_step;
    for (int64_t phase = 0; phase < l.phases[0] * l.phases[1]; phase++) {
        struct axis vertical = axis_of(plan, 0, phase / l.phases[1]);
        struct axis horizontal = axis_of(plan, 1, phase % l.phases[1]);
        if (vertical.taps * horizontal.taps == 0)
            continue;
        int64_t first_tap = vertical.first_tap * g->kernel[1] + horizontal.first_tap;
        panel.taps[0] = vertical.taps;
        panel.taps[1] = horizontal.taps;
        panel.tap_step[0] = vertical.tap_step * g->kernel[1];
        panel.tap_step[1] = horizontal.tap_step;
        panel.origin = origin + first_tap;
        if (l.turns == 1)
            pack_panel(&panel, 1, plan->element_size, job->weight, 0, l.depth, packed);
        for (int64_t c = 0; l.turns > 1 && c < l.depth; c++) {
            int64_t turn = c % l.turns;
            panel.origin = origin + first_tap + turn * group_step + (c / l.turns - c) * panel.channel_step;
            pack_panel(&panel, 1, plan->element_size, job->weight, c, c + 1, packed);
        }
        packed += vertical.taps * horizontal.taps * l.depth * panel.width * size;
    }
    if (l.turns > 1)
        kernels->copy_pixels(&(struct pixel_copy){
            .pixels = 1 + l.steps,
            .sets = 1,
            .channels = unit.width,
            .turns = l.turns,
            .step = unit.width,
            .source = panel_start,
            .result = panel_start,
        });
}

static void pack_planes(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    pack_lines(job, item, PLANES);
}

static void pack_groups(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    pack_lines(job, item, GROUPS);
}

/* Initial values and then, phase by phase, [run][vector][column][lane]; the last vector of a run is padded. */
static void pack_dots(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)item, (void)thread;
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l;
    const struct kernels *kernels = kernels_of(plan, job->kernels, PIXELS);
    find_layout(plan, kernels, PIXELS, &l);
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, lanes = kernels->lanes;
    int64_t column_step = forward ? g->in_channels * l.taps : l.taps;
    int64_t channel_step = forward ? l.taps : g->in_channels * l.taps;
    char *packed = job->workspace;
    memset(packed, 0, (size_t)l.packed);
    for (int64_t i = 0; job->bias && l.result_channels > 0 && i < DOT_VALUES; i++)
        memcpy(packed + i * size, job->bias + i % l.result_channels * size, (size_t)size);
    packed += DOT_VALUES * size;

    for (int64_t phase = 0; phase < l.phases[0] * l.phases[1]; phase++) {
        struct axis vertical = axis_of(plan, 0, phase / l.phases[1]);
        struct axis horizontal = axis_of(plan, 1, phase % l.phases[1]);
        int64_t length = run_taps(&horizontal) * l.depth, vectors = ceil_div(length, lanes);
        for (int64_t tap = 0; tap < vertical.taps * horizontal.taps; tap++) {
            int64_t run = tap / run_taps(&horizontal), before = tap % run_taps(&horizontal) * l.depth;
            int64_t row = vertical.first_tap + tap / horizontal.taps * vertical.tap_step;
            int64_t column = horizontal.first_tap + tap % horizontal.taps * horizontal.tap_step;
            const char *weight = job->weight + (row * g->kernel[1] + column) * size;
            for (int64_t c = 0; c < l.depth; c++) {
                int64_t vector = run * vectors + (before + c) / lanes, lane = (before + c) % lanes;
                for (int64_t n = 0; n < l.result_channels; n++)
                    memcpy(packed + ((vector * l.result_channels + n) * lanes + lane) * size,
                           weight + (n * column_step + c * channel_step) * size, (size_t)size);
            }
        }
        packed += packed_dots(&l, &vertical, &horizontal, lanes) * size;
    }
}

/* ---- Multiplying ---- */

/* Copies `count` lines of an image, spread over planes. */
static void copy_planes(const struct kernels *kernels, const struct layout *l, const char *image, const int64_t size[2],
                        int64_t element_size, int64_t first, int64_t count, char *to) {
    int64_t width = l->plane * l->step[1], low = l->low[1];
    int64_t begin = min64(max64(-low, 0), width), end = max64(min64(size[1] - low, width), begin);
    for (int64_t row = first; row < first + count; row++, to += l->line * element_size) {
        if (row < 0 || row >= size[0] || begin == end) {
            memset(to, 0, (size_t)(l->line * element_size));
            continue;
        }
        kernels->line_planes(&(struct line_planes){
            .channels = l->depth,
            .step = l->step[1],
            .plane = l->plane,
            .begin = begin,
            .end = end,
            .source = image + (row * size[1] + low) * l->depth * element_size,
            .planes = to,
        });
    }
}

/* One block of lines of the result, of a range of sets of groups, and those of the source that it needs. */
struct block {
    int64_t begin, end;   /* sets */
    int64_t image, top;   /* of the result */
    int64_t first, count; /* lines of the source, padding among them */
};

static struct block block_of(const struct layout *l, int64_t item) {
    struct block b = {
        .begin = item % l->ranges * l->range,
        .image = item / l->ranges / l->blocks,
        .top = item / l->ranges % l->blocks * l->block,
    };
    b.end = min64(b.begin + l->range, l->sets);
    b.first = b.top * l->step[0] + l->low[0];
    b.count = (min64(l->block, l->size[0] - b.top) - 1) * l->step[0] + l->reach[0];
    return b;
}

/* In all phases. Meanwhile the source of the item that is likely to be the next one here is fetched. */
static void multiply(const struct conv2d_job *job, enum form form, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    const struct kernels *kernels = kernels_of(plan, job->kernels, form);
    struct layout l;
    find_layout(plan, kernels, form, &l);
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, lanes = kernels->lanes;
    const int64_t *source_size = forward ? g->input : g->output, *result_size = forward ? g->output : g->input;
    int64_t source_channels = l.sets * l.depth, result_channels = l.sets * l.result_channels;
    struct block b = block_of(&l, item);
    const char *sources = forward ? job->x : job->y;
    const char *source = sources + b.image * source_size[0] * source_size[1] * source_channels * size;
    char *result = (forward ? job->y : job->x) + b.image * result_size[0] * result_size[1] * result_channels * size;

    char *scratch = job->workspace + l.packed + thread * l.scratch;
    int32_t *offsets = (int32_t *)scratch;
    char *lines = scratch + l.offsets;
    if (form == PLANES && (l.depth > 1 || l.step[1] > 1)) {
        copy_planes(kernels, &l, source, source_size, size, b.first, b.count, lines);
    } else {
        struct line_copy copy = {
            .image = source + b.begin * l.depth * size,
            .size = source_size,
            .element_size = size,
            .pixel = source_channels,
            .sets = b.end - b.begin,
            .channels = l.depth,
            .turns = l.turns,
            .set_step = l.copy / size,
            .first = b.first,
            .count = b.count,
            .low = l.low[1],
            .width = l.plane * l.step[1],
        };
        copy_lines(kernels, &copy, lines);
    }

    struct ahead ahead = {0};
    if (item + 1 < plan->items[1]) {
        struct block next = block_of(&l, item + 1);
        bool below = next.image == b.image && next.begin == b.begin;
        int64_t top = max64(next.first, below ? b.first + b.count : 0);
        int64_t rows = max64(min64(next.first + next.count, source_size[0]) - top, 0);
        int64_t line = next.image * source_size[0] + top, products = l.phases[0] * l.phases[1] * (b.end - b.begin);
        ahead = look_ahead(sources + (line * source_size[1] * source_channels + next.begin * l.depth) * size,
                           rows * source_size[1], (next.end - next.begin) * l.depth * size, source_channels * size,
                           products * l.panels.count * l.block);
    }

    const char *packed = job->workspace;
    int64_t result_bytes = g->batch * result_size[0] * result_size[1] * result_channels * size;
    bool stream = streams(forward ? job->y : job->x, l.result_channels * size, result_bytes);
    for (int64_t phase = 0, before = 0; phase < l.phases[0] * l.phases[1]; phase++) {
        struct axis vertical = axis_of(plan, 0, phase / l.phases[1]);
        struct axis horizontal = axis_of(plan, 1, phase % l.phases[1]);
        int64_t steps = vertical.taps * horizontal.taps * l.depth / l.turns;
        int64_t pitch = horizontal.step * result_channels;
        int64_t source_line = l.step[0] * l.line, result_line = vertical.step * result_size[1] * result_channels;
        int64_t bottom = min64(b.top + l.block, vertical.count);
        int32_t *offset = offsets;
        for (int64_t u = 0; u < vertical.taps; u++)
            for (int64_t v = 0; v < horizontal.taps; v++) {
                int64_t line = (vertical.offset - l.low[0] + u * vertical.offset_step) * l.line;
                int64_t column = horizontal.offset - l.low[1] + v * horizontal.offset_step;
                if (form != PLANES && v % run_taps(&horizontal) == 0)
                    *offset++ = (int32_t)(line + column * l.depth);
                for (int64_t c = 0; c < l.depth && form == PLANES; c++)
                    *offset++ = (int32_t)(line + (c * l.step[1] + column % l.step[1]) * l.plane + column / l.step[1]);
            }
        struct line_dots dots = {
            .rows = horizontal.count,
            .columns = l.result_channels,
            .runs = runs_of(&vertical, &horizontal),
            .length = run_taps(&horizontal) * l.depth,
            .step = l.step[1] * l.depth,
            .pitch = pitch,
            .offsets = offsets,
            .panel = packed + (DOT_VALUES + before) * size,
            .initial = packed,
        };
        int64_t units = form == PIXELS ? 1 : l.panels.count; /* of a set */
        for (int64_t u = b.begin * units; u < b.end * units; u++) {
            struct unit unit = unit_of(&l.panels, u);
            const char *initial = packed + unit.before * (1 + l.steps) * size;
            const char *panel = initial + (1 + before) * unit.width * size;
            struct line_gemm gemm = {
                .rows = horizontal.count,
                .columns = unit.columns,
                .steps = steps,
                .pitch = pitch,
                .offsets = offsets,
                .panel = panel,
                .initial = initial,
                .stream = stream,
            };
            struct line_groups groups = {
                .rows = horizontal.count,
                .columns = unit.columns,
                .turns = l.turns,
                .runs = dots.runs,
                .length = dots.length / l.turns,
                .step = dots.step,
                .pitch = pitch,
                .offsets = offsets,
                .panel = panel,
                .initial = initial,
                .stream = stream,
            };
            int64_t channel = unit.group * l.result_channels + unit.column;
            int64_t y = vertical.start + b.top * vertical.step;
            const char *from = lines + (unit.group - b.begin) * l.copy;
            char *to = result + ((y * result_size[1] + horizontal.start) * result_channels + channel) * size;
            for (int64_t row = b.top; row < bottom; row++, from += source_line * size, to += result_line * size) {
                dots.source = gemm.source = groups.source = from;
                dots.result = gemm.result = groups.result = to;
                if (form == PIXELS)
                    kernels->line_dots(&dots);
                else if (form == PLANES)
                    kernels->line_gemm(&gemm);
                else
                    kernels->line_groups(&groups);
                fetch_share(&ahead);
            }
        }
        before += form == PIXELS ? packed_dots(&l, &vertical, &horizontal, lanes) : steps;
    }
}

static void multiply_planes(const struct conv2d_job *job, int64_t item, int32_t thread) {
    multiply(job, PLANES, item, thread);
}

static void multiply_pixels(const struct conv2d_job *job, int64_t item, int32_t thread) {
    multiply(job, PIXELS, item, thread);
}

static void multiply_groups(const struct conv2d_job *job, int64_t item, int32_t thread) {
    multiply(job, GROUPS, item, thread);
}

static bool plan_form(struct conv2d_plan *plan, const struct kernels *kernels, enum form form) {
    const struct conv2d_geometry *g = &plan->geometry;
    kernels = kernels_of(plan, kernels, form);
    struct layout l;
    if (plan->map == CONV2D_WEIGHT || !find_layout(plan, kernels, form, &l))
        return false;
    double weights = (double)l.steps * l.sets * (form == PIXELS ? l.result_channels : l.panels.padded);
    plan->stages = 2;
    plan->items[0] = form == PIXELS ? 1 : l.sets * l.panels.count;
    plan->nanoseconds[0] = weights;
    plan->items[1] = l.ranges * g->batch * l.blocks;
    plan->nanoseconds[1] = weights * g->batch * g->output[0] * g->output[1] / (4 * kernels->lanes);
    plan->workspace_size = l.packed + plan->threads * l.scratch;
    return true;
}

static bool plan_planes(struct conv2d_plan *plan, const struct kernels *kernels) {
    return plan_form(plan, kernels, PLANES);
}

static bool plan_pixels(struct conv2d_plan *plan, const struct kernels *kernels) {
    return plan_form(plan, kernels, PIXELS);
}

static bool plan_groups(struct conv2d_plan *plan, const struct kernels *kernels) {
    return plan_form(plan, kernels, GROUPS);
}

const struct conv2d_algorithm lines = {"lines", plan_planes, {pack_planes, multiply_planes}};
const struct conv2d_algorithm dots = {"dots", plan_pixels, {pack_dots, multiply_pixels}};
const struct conv2d_algorithm lines_grouped = {"lines", plan_groups, {pack_groups, multiply_groups}};
