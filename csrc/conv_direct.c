/* Convolution and its input gradient by the indirect matrix product: one driver, two walks (sources.h).
 *
 * Rows of the product are pixels of the result, columns its channels, and the reduction runs over taps and source
 * channels. Stage 0 packs the weights into panels, each led by its columns' initial values (the bias). In stage 1 an
 * item is a block of pixels of one phase times a range of panels: it builds the block's indirection table once and
 * multiplies panel by panel, chunk by chunk, so that a chunk of weights is read from the second-level cache and the
 * block's sources stay close. Where all pixels are one block, stage 0 has nothing to do, and stage 1 packs each chunk of a
 * panel just before its only use. */
#include <string.h>
#include "panel.h"
#include "sources.h"

enum {
    BLOCK_PIXELS = 224,      /* pixels in a block: 16 tiles of the tallest tile */
    COPIED_PIXELS = 112,     /* the same where each is copied for one product only */
    FEW_PIXELS = 448,        /* which are one block if they have a single tap and are not copied */
    SMALL_BLOCK_PIXELS = 98, /* to which it may shrink to keep all threads busy */
    TABLE_ENTRIES = 1 << 15, /* of an indirection table, beyond which blocks get smaller */
    CHUNK_BYTES = 256 << 10, /* of a panel's chunk: part of a second-level cache */
    ALIASED_BYTES = 4 << 10, /* pixels a multiple of this apart evict each other from a first-level cache */
    GATHER_PANELS = 2,       /* of weights, above which copying such pixels first pays */
    GATHERED_BYTES = 576 << 10, /* of their copies: a larger part of a second-level cache */
    GATHER_RANGE = 1 << 18,  /* pixels among which a block's are looked for */
    CLEARED_BYTES = 2 << 10, /* of a pixel, from which it is not cleared panel by panel: each would be in another page */
    PATCH_CHANNELS = 8,      /* up to this many channels, and no groups, patches are copied instead of a table */
    PACK_CHANNELS = 16,      /* packed at a time when channels lie far apart */
    PHASES = 16,             /* packed at a time */
    LINES_AHEAD = 8,         /* of a panel that are fetched before they are written */
    FETCHED_BYTES = 256 << 10, /* of weights that are fetched at a time: part of a second-level cache */
    ITEMS = 8,               /* wanted for each of several threads; blocks shrink and panels are split to get them */
};

struct layout {
    struct panels panels;
    int64_t depth, chunk; /* reduction channels of a group, and in a chunk */
    int64_t parts;        /* of each operand; a source pixel has them side by side, weights one after another */
    int64_t source_channels, result_channels; /* the source's with all parts */
    int64_t taps, phases[2]; /* of the kernel; of the walk */
    int64_t phase_taps;      /* of the phase that has most */
    bool patches, whole; /* `whole`: all pixels with taps are one block */
    int64_t block, blocks;  /* pixels in a block, blocks of the largest phase */
    int64_t run, runs;      /* blocks in an item, such items of a phase */
    int64_t splits, units;  /* ranges of panels, panels in a range */
    int64_t gathered, copy; /* source pixels of a block if they are copied, else 0, and bytes of a copy */
    int64_t zeros, sources, results, copies, pixels, panel, scratch; /* bytes of a thread's scratch: its parts, and all */
    int64_t packed;                           /* bytes of all panels of one part */
};

static struct walk walk_of(const struct conv2d_plan *plan, int64_t phase_row, int64_t phase_column) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D)
        return (struct walk){{walk_output(g, 0), walk_output(g, 1)}, g->batch};
    return (struct walk){{walk_input(g, 0, phase_row), walk_input(g, 1, phase_column)}, g->batch};
}

/* Of the taps of all phases, those that are stored before a phase's. */
static int64_t taps_before(const struct conv2d_plan *plan, const struct walk *walk) {
    const struct axis *vertical = &walk->axis[0], *horizontal = &walk->axis[1];
    return vertical->taps_before * plan->geometry.kernel[1] + vertical->taps * horizontal->taps_before;
}

/* Where columns leave a quarter of the lanes of several vectors empty, vectors half as wide. */
static const struct kernels *kernels_of(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t columns = (plan->map == CONV2D ? g->out_channels : g->in_channels) / g->groups;
    const struct kernels *narrow = columns > kernels->lanes ? kernels->narrow : NULL;
    return narrow && 4 * round_up(columns, narrow->lanes) <= 3 * round_up(columns, kernels->lanes) ? narrow : kernels;
}

static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size;
    int64_t in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    struct layout l = {
        .panels = cut_into_panels(g->groups, forward ? out : in, kernels),
        .depth = forward ? in : out,
        .parts = parts_of(plan->products),
        .source_channels = parts_of(plan->products) * (forward ? g->in_channels : g->out_channels),
        .result_channels = forward ? g->out_channels : g->in_channels,
        .taps = g->kernel[0] * g->kernel[1],
        .phases = {forward ? 1 : input_phases(g, 0), forward ? 1 : input_phases(g, 1)},
    };
    int64_t pixels = g->batch, range = 0;
    l.phase_taps = 1;
    for (int axis = 0; axis < 2; axis++) {
        pixels *= forward ? g->output[axis] : ceil_div(g->input[axis], g->stride[axis]);
        l.phase_taps *= forward ? g->kernel[axis] : ceil_div(g->kernel[axis], min64(g->stride[axis], g->kernel[axis]));
    }
    /* A dilation that shares a factor with the stride puts more taps into fewer phases. */
    if (!forward && (g->dilation[0] > 1 || g->dilation[1] > 1))
        l.phase_taps = l.taps;
    l.patches = g->groups == 1 && l.depth <= PATCH_CHANNELS && l.taps > 1 && l.parts == 1;

    int64_t step = l.source_channels * size * (forward ? g->stride[1] : 1); /* between neighbours in a tile */
    bool aliased = step % ALIASED_BYTES == 0 && l.panels.count > GATHER_PANELS && g->groups == 1 && !plan->unrounded;
    int64_t most = aliased && l.phase_taps == 1 ? COPIED_PIXELS : BLOCK_PIXELS;
    if (!aliased && l.taps == 1 && pixels <= FEW_PIXELS)
        most = FEW_PIXELS;
    int64_t block = max64(min64(most, TABLE_ENTRIES / l.phase_taps) / kernels->rows, 1) * kernels->rows;
    l.block = min64(block, round_up(pixels, kernels->rows));

    for (int64_t phase = 0; aliased && l.block && phase < l.phases[0] * l.phases[1]; phase++) {
        struct walk walk = walk_of(plan, phase / l.phases[1], phase % l.phases[1]);
        if (walk_pixels(&walk) > 0) {
            l.gathered = max64(l.gathered, most_sources(&walk, l.block));
            range = max64(range, most_range(&walk, l.block));
        }
    }
    if (range > GATHER_RANGE)
        l.gathered = range = 0;
    if (plan->unrounded)
        l.gathered = l.block;
    int64_t chunk = CHUNK_BYTES / (l.panels.width * size * l.phase_taps);
    if (l.gathered)
        chunk = min64(chunk, GATHERED_BYTES / (l.gathered * size));
    int64_t chunks = l.patches ? 1 : max64(ceil_div(l.depth, max64(chunk, 16)), 1);
    l.chunk = max64(ceil_div(l.depth, chunks), 1);
    l.copy = cache_lines(l.chunk * size) + 64;

    /* Only from here on may anything depend on the number of threads: none of it changes the order of a sum. */
    int64_t units = l.panels.groups * l.panels.count, phases = l.phases[0] * l.phases[1];
    int64_t items = ITEMS * plan->threads / (l.gathered ? 2 : 1);
    items = plan->threads > 1 ? ceil_div(items, max64(phases, 1)) : 1;
    l.blocks = ceil_div(pixels, max64(l.block, 1));
    l.whole = l.blocks == 1 && l.phase_taps == l.taps;
    if (!l.whole && l.blocks < items && l.block > SMALL_BLOCK_PIXELS)
        l.blocks = min64(round_up(l.blocks, items), ceil_div(pixels, SMALL_BLOCK_PIXELS));
    l.block = l.blocks ? round_up(ceil_div(pixels, l.blocks), kernels->rows) : 0;
    l.run = max64(l.blocks / items, 1);
    l.runs = ceil_div(l.blocks, l.run);
    l.units = max64(ceil_div(units, ceil_div(items, max64(l.runs, 1))), 1);
    l.splits = ceil_div(units, l.units);

    if (l.whole)
        l.panel = cache_lines(l.panels.width * (1 + l.phase_taps * l.chunk) * size);
    else
        l.packed = cache_lines(l.panels.groups * l.panels.padded * (1 + l.taps * l.depth) * size);
    l.zeros = cache_lines(l.source_channels * size);
    l.sources = cache_lines(l.phase_taps * l.block * (int64_t)sizeof(void *));
    l.results = cache_lines(l.block * (int64_t)sizeof(void *));
    l.copies = cache_lines(l.patches ? l.block * l.phase_taps * l.depth * size : l.gathered * l.copy);
    l.pixels = cache_lines(l.gathered * (int64_t)sizeof(void *));
    l.scratch = l.zeros + l.sources + l.results + l.copies + l.pixels + l.panel;
    l.scratch += cache_lines(range * (int64_t)sizeof(int32_t));
    return l;
}

/* The columns' initial values, which lead a panel. */
static void pack_initial(const struct conv2d_job *job, const struct layout *l, const struct unit *unit, char *packed) {
    int64_t size = job->plan->element_size;
    memset(packed, 0, (size_t)(unit->width * size));
    if (job->bias)
        memcpy(packed, job->bias + (unit->group * l->panels.columns + unit->column) * size,
               (size_t)(unit->columns * size));
}

/* The taps of one walk. */
static struct panel panel_of(const struct conv2d_plan *plan, const struct layout *l, const struct unit *unit,
                             const struct walk *walk) {
    const struct conv2d_geometry *g = &plan->geometry;
    const struct axis *vertical = &walk->axis[0], *horizontal = &walk->axis[1];
    bool forward = plan->map == CONV2D;
    int64_t in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    struct panel panel = {
        .columns = unit->columns,
        .width = unit->width,
        .depth = l->depth,
        .chunk = l->chunk,
        .taps = {vertical->taps, horizontal->taps},
        .taps_before = taps_before(plan, walk),
        .column_step = forward ? in * l->taps : l->taps,
        .channel_step = forward ? l->taps : in * l->taps,
        .tap_step = {vertical->tap_step * g->kernel[1], horizontal->tap_step},
        .next = (forward || l->whole ? LINES_AHEAD : 1 + l->taps * l->depth) * unit->width * plan->element_size,
    };
    panel.origin = unit->group * out * in * l->taps + unit->column * panel.column_step +
                   vertical->first_tap * g->kernel[1] + horizontal->first_tap;
    return panel;
}

static const char *weights_of_part(const struct conv2d_job *job, const struct layout *l, int64_t part) {
    const struct conv2d_geometry *g = &job->plan->geometry;
    return job->weight + part * g->out_channels * (g->in_channels / g->groups) * l->taps * job->plan->element_size;
}

/* Packs channels begin..end of a panel of one part. A panel holds its initial values and then, phase by phase, its taps.
 */
static void pack_unit(const struct conv2d_job *job, const struct layout *l, int64_t part, int64_t u, int64_t begin,
                      int64_t end) {
    const struct conv2d_plan *plan = job->plan;
    struct unit unit = unit_of(&l->panels, u);
    int64_t size = plan->element_size;
    char *packed = job->workspace + part * l->packed + unit.before * (1 + l->taps * l->depth) * size;
    if (begin == 0)
        pack_initial(job, l, &unit, packed);
    packed += unit.width * size;

    struct panel phases[PHASES];
    int64_t count = 0, all = l->phases[0] * l->phases[1];
    for (int64_t phase = 0; phase < all; phase++) {
        struct walk walk = walk_of(plan, phase / l->phases[1], phase % l->phases[1]);
        if (walk.axis[0].taps * walk.axis[1].taps > 0)
            phases[count++] = panel_of(plan, l, &unit, &walk);
        if (count == PHASES || (phase == all - 1 && count > 0)) {
            pack_panel(phases, count, plan->element_size, weights_of_part(job, l, part), begin, end, packed);
            count = 0;
        }
    }
}

/* An item is what is read in one sweep: a panel where its filters are contiguous, else a few channels of all panels. */
static int64_t pack_items(const struct conv2d_plan *plan, const struct layout *l) {
    if (l->whole)
        return 0;
    if (plan->map == CONV2D)
        return l->panels.groups * l->panels.count;
    return l->panels.groups * max64(ceil_div(l->depth, PACK_CHANNELS), 1);
}

static void pack(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    struct layout l = layout_of(job->plan, kernels_of(job->plan, job->kernels));
    int64_t group = item % l.panels.groups, begin = item / l.panels.groups * PACK_CHANNELS;
    if (job->plan->map == CONV2D) {
        for (int64_t part = 0; part < l.parts; part++)
            pack_unit(job, &l, part, item, 0, l.depth);
        return;
    }
    int64_t end = min64(begin + PACK_CHANNELS, l.depth), filter = l.panels.columns * l.taps * job->plan->element_size;
    for (int64_t part = 0; part < l.parts; part++) {
        const char *weight = weights_of_part(job, &l, part) + (group * l.depth + begin) * filter;
        /* Panels read them piece by piece; in one sweep they come faster. */
        for (int64_t line = 0; line < min64((end - begin) * filter, FETCHED_BYTES); line += 64)
            __builtin_prefetch(weight + line, 0, 2);
        for (int64_t panel = 0; panel < l.panels.count; panel++)
            pack_unit(job, &l, part, group * l.panels.count + panel, begin, end);
    }
}

/* The walk of one phase over one range of panels: what an item's blocks have in common. */
struct range {
    struct walk walk;
    int64_t taps, taps_before; /* of the phase, and of those stored before it */
    int64_t begin, end;        /* panels */
    bool stream;
};

/* A chunk of a panel and its initial values, from where stage 0 put them or packed now. */
static void find_panel(const struct conv2d_job *job, const struct layout *l, const struct range *range,
                       const struct unit *unit, int64_t part, int64_t channel, int64_t depth, char *packed,
                       const char **initial, const char **panel) {
    int64_t line = unit->width * job->plan->element_size;
    if (!l->whole) {
        *initial = job->workspace + unit->before * (1 + l->taps * l->depth) * job->plan->element_size;
        *panel = *initial + part * l->packed + (1 + range->taps_before * l->depth + range->taps * channel) * line;
        return;
    }
    pack_initial(job, l, unit, packed);
    *initial = packed;
    *panel = packed + line;
    if (range->taps == 0)
        return;
    struct panel chunk = panel_of(job->plan, l, unit, &range->walk);
    chunk.origin += channel * chunk.channel_step;
    chunk.depth = depth;
    chunk.taps_before = 0;
    pack_panel(&chunk, 1, job->plan->element_size, weights_of_part(job, l, part), 0, depth, packed + line);
}

/* Replaces a single tap's sources by copies that are to be made of the originals; returns how many these are. */
static int64_t replace_sources(const struct layout *l, int64_t pixels, const char *zeros, const void **sources,
                               char *copies, const char **originals) {
    int64_t count = 0;
    for (int64_t pixel = 0; pixel < pixels; pixel++)
        if (sources[pixel] != zeros) {
            originals[count] = sources[pixel];
            sources[pixel] = copies + count++ * l->copy;
        }
    return count;
}

/* Copies channels of the given pixels, or pairs of their rounded channels. False if one is out of bfloat16's range. */
static bool gather(const struct conv2d_plan *plan, const struct layout *l, const char *const *originals, int64_t count,
                   int64_t channel, int64_t depth, char *copies) {
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    int64_t size = plan->element_size;
    bool good = true;
    if (!plan->unrounded)
        for (int64_t n = 0; n < count; n++)
            memcpy(copies + n * l->copy, originals[n] + channel * size, (size_t)(depth * size));
    else
        for (int64_t n = 0; n < count; n++)
            good &= bf16->round((const float *)originals[n] + 2 * channel, 2 * depth, 1, copies + n * l->copy, 0);
    return good;
}

static void multiply_block(const struct conv2d_job *job, const struct layout *l, const struct range *range,
                           int64_t first, char *scratch) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    bool forward = plan->map == CONV2D;
    int64_t size = plan->element_size, all = walk_pixels(&range->walk);
    int64_t source_size = (plan->unrounded ? plan->unrounded : l->source_channels) * size;
    int64_t pixels = min64(l->block, all - first);
    const char *source = forward ? job->x : job->y;

    char *zeros = scratch;
    const void **sources = (const void **)(zeros + l->zeros);
    void **results = (void **)((char *)sources + l->sources);
    char *copies = (char *)results + l->results;
    const char **originals = (const char **)(copies + l->copies);
    char *packed = (char *)originals + l->pixels;
    int64_t gathered = 0;
    bool finite = true;
    if (l->patches)
        copy_patches(&range->walk, first, pixels, source, source_size, copies, (const void **)sources);
    else
        fill_sources(&range->walk, first, pixels, source, source_size, zeros, sources, l->block);
    if (plan->unrounded)
        gathered = replace_sources(l, range->taps ? pixels : 0, zeros, sources, copies, originals);
    else if (l->gathered)
        gathered = number_sources(&range->walk, first, pixels, source, source_size, zeros, sources, l->block,
                                  (int32_t *)(packed + l->panel), copies, l->copy, originals);
    fill_results(&range->walk, first, pixels, forward ? job->y : job->x, forward ? g->output : g->input,
                 l->result_channels * size, results);

    int64_t after = first + pixels, bytes;
    const char *next =
        new_sources(&range->walk, after, min64(l->block, all - after), source, source_size, &bytes);
    const char *next_end = next + bytes;
    int64_t chunks = ceil_div(max64(l->depth, 1), l->chunk), rounds = plan->products * chunks;
    int64_t share = cache_lines(ceil_div(bytes, (range->end - range->begin) * rounds));
    int64_t filter = l->depth * l->taps * size;
    for (int64_t round = 0; round < rounds; round++) {
        struct part_product part = part_products[MOST_PRODUCTS - plan->products + round / chunks];
        int64_t channel = round % chunks * l->chunk, depth = min64(l->chunk, l->depth - channel);
        int64_t source_channel = part.source * l->depth + channel;
        finite &= gather(plan, l, originals, gathered, source_channel, depth, copies);
        for (int64_t u = range->begin; u < range->end; u++) {
            struct unit unit = unit_of(&l->panels, u);
            const char *initial, *panel;
            find_panel(job, l, range, &unit, part.weight, channel, depth, packed, &initial, &panel);
            if (l->whole && forward && rounds == 1) { /* the filters of the next panel are wanted next */
                next = job->weight + (unit.group * l->panels.columns + unit.column + unit.columns) * filter;
                next_end = job->weight + g->out_channels * filter;
                share = l->panels.width * filter;
            }
            struct gemm gemm = {
                .rows = pixels,
                .columns = unit.columns,
                .taps = l->patches ? 1 : range->taps,
                .depth = l->patches ? range->taps * l->depth : depth,
                .first = l->gathered ? 0 : unit.group * l->depth + source_channel,
                .column = unit.group * l->panels.columns + unit.column,
                .pitch = l->block,
                .sources = sources,
                .panel = panel,
                .initial = round == 0 ? initial : NULL,
                .next = next,
                .next_bytes = min64(share, next_end - next),
                .results = results,
                .stream = range->stream,
            };
            kernels_of(plan, job->kernels)->gemm(&gemm);
            next += gemm.next_bytes;
        }
    }
    if (!finite)
        atomic_store_explicit(job->status, STATUS_NOT_FINITE, memory_order_relaxed);
}

/* The input gradient of pixels that no output reads: zeros, pixel by pixel. */
static void clear_block(const struct conv2d_job *job, const struct layout *l, const struct range *range, int64_t first,
                        char *scratch) {
    int64_t size = job->plan->element_size, pixels = min64(l->block, walk_pixels(&range->walk) - first);
    struct unit begin = unit_of(&l->panels, range->begin), last = unit_of(&l->panels, range->end - 1);
    int64_t column = begin.group * l->panels.columns + begin.column;
    int64_t end = last.group * l->panels.columns + last.column + last.columns;
    char **results = (char **)(scratch + l->zeros + l->sources);
    fill_results(&range->walk, first, pixels, job->x, job->plan->geometry.input, l->result_channels * size,
                 (void **)results);
    for (int64_t pixel = 0; pixel < pixels; pixel++)
        job->kernels->clear(results[pixel] + column * size, end - column, range->stream);
}

static void multiply(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, kernels_of(plan, job->kernels));
    int64_t size = plan->element_size, phases = l.phases[0] * l.phases[1];
    int64_t phase = item % phases, run = item / phases % l.runs, split = item / phases / l.runs;

    struct range range = {
        .walk = walk_of(plan, phase / l.phases[1], phase % l.phases[1]),
        .begin = split * l.units,
        .end = min64((split + 1) * l.units, l.panels.groups * l.panels.count),
    };
    const struct axis *vertical = &range.walk.axis[0], *horizontal = &range.walk.axis[1];
    range.taps = vertical->taps * horizontal->taps;
    range.taps_before = taps_before(plan, &range.walk);
    const int64_t *result_size = plan->map == CONV2D ? g->output : g->input;
    int64_t result_bytes = g->batch * result_size[0] * result_size[1] * l.result_channels * size;
    range.stream = l.chunk >= l.depth && plan->products == 1 && l.panels.columns * size % 64 == 0 &&
                   streams(plan->map == CONV2D ? job->y : job->x, l.result_channels * size, result_bytes);

    char *scratch = job->workspace + l.parts * l.packed + thread * l.scratch;
    memset(scratch, 0, (size_t)(l.source_channels * size)); /* the row of zeros */
    /* A phase may have fewer blocks than the largest. */
    for (int64_t block = run * l.run; block < (run + 1) * l.run; block++)
        if (block * l.block < walk_pixels(&range.walk)) {
            if (range.taps == 0 && plan->map == CONV2D_INPUT && l.result_channels * size >= CLEARED_BYTES)
                clear_block(job, &l, &range, block * l.block, scratch);
            else
                multiply_block(job, &l, &range, block * l.block, scratch);
        }
}

static bool plan_direct(struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    if (plan->map == CONV2D_WEIGHT)
        return false;
    kernels = kernels_of(plan, kernels);
    struct layout l = layout_of(plan, kernels);
    double weights = (double)l.panels.groups * l.panels.padded * l.taps * l.depth;
    double products = weights * g->batch * g->output[0] * g->output[1];
    plan->stages = 2;
    plan->items[0] = pack_items(plan, &l);
    plan->nanoseconds[0] = weights * l.parts;
    plan->items[1] = l.splits * l.phases[0] * l.phases[1] * l.runs;
    plan->nanoseconds[1] = plan->products * products / (4 * kernels->lanes);
    plan->workspace_size = l.parts * l.packed + plan->threads * l.scratch;
    return true;
}

const struct conv2d_algorithm direct = {"direct", plan_direct, {pack, multiply}};
