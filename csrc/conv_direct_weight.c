/* The weight gradient by the indirect matrix product, with the reduction over pixels.
 *
 * Rows of the product are input channels (for each tap), columns are output channels, and every output pixel
 * contributes the outer product of a source pixel and the gradient's pixel. In stage 0 an item is a range of panels
 * times a fixed chunk of the pixels; it walks the chunk in blocks, copies the gradient's columns of a block side by
 * side, and adds each block's sum, formed in registers, to its partial result: short sums of sums lose fewer digits
 * than one long sum. Source pixels whose distance would make them evict each other from the caches are copied, too, where
 * each is read by one tap only. Stage 1 adds the chunks' partial results in order
 * and writes them as OIHW. */
#include <string.h>
#include "panel.h"
#include "sources.h"

enum {
    BLOCK_PIXELS = 112,      /* summed in registers; a panel of them takes half of a first-level cache */
    TABLE_ENTRIES = 1 << 15, /* of an indirection table, beyond which blocks get smaller */
    PATCH_CHANNELS = 8,      /* up to this many channels, and no groups, patches are copied instead of a table */
    ALIASED_BYTES = 2 << 10, /* pixels a multiple of this apart evict each other from a first-level cache */
    COPIED_ROWS = 512,       /* at most, of copied source pixels: a quarter of a second-level cache */
    ITEMS = 8,               /* wanted for balance between threads: chunks of pixels, then ranges of panels */
    CHUNK_BLOCKS = 4,        /* below which a chunk is not worth its partial result */
    PARTIAL_BYTES = 8 << 20, /* of all partial results, beyond which there are fewer chunks */
};

struct layout {
    struct panels panels;
    int64_t rows, taps;     /* input channels of a group; taps of the kernel */
    bool patches, copy;     /* whether patches of all taps, or source pixels, are copied */
    int64_t products, length, step; /* matrix products of a panel and a block; rows of each, and at a time */
    int64_t pixels, block;
    int64_t splits, units;  /* ranges of panels, panels in a range */
    int64_t chunks, blocks; /* chunks of pixels, blocks in a chunk */
    int64_t partial;        /* bytes of one chunk's result */
    int64_t copy_size;      /* bytes from one copied patch or pixel to the next */
    int64_t zeros, sources, copied, scratch; /* bytes of a thread's scratch: its first three parts, and all */
};

static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t size = plan->element_size;
    struct layout l = {
        .panels = cut_into_panels(g->groups, g->out_channels / g->groups, kernels),
        .rows = g->in_channels / g->groups,
        .taps = g->kernel[0] * g->kernel[1],
        .pixels = g->batch * g->output[0] * g->output[1],
    };
    l.patches = g->groups == 1 && l.rows <= PATCH_CHANNELS && l.taps > 1;
    l.copy = g->groups == 1 && l.taps == 1 && g->in_channels * g->stride[1] * size % ALIASED_BYTES == 0;
    l.products = l.patches ? 1 : l.taps;
    l.length = l.patches ? l.taps * l.rows : l.rows;
    l.step = max64(l.copy ? min64(l.length, COPIED_ROWS) : l.length, 1);
    l.block = max64(min64(min64(BLOCK_PIXELS, TABLE_ENTRIES / l.taps), l.pixels), 1);

    l.partial = cache_lines(l.panels.groups * l.panels.padded * l.taps * l.rows * size);
    int64_t blocks = ceil_div(l.pixels, l.block);
    l.block = max64(ceil_div(l.pixels, max64(blocks, 1)), 1);
    int64_t chunks = max64(min64(min64(ITEMS, PARTIAL_BYTES / max64(l.partial, 1)), blocks / CHUNK_BLOCKS), 1);
    l.blocks = max64(ceil_div(blocks, chunks), 1);
    l.chunks = max64(ceil_div(blocks, l.blocks), 1);
    int64_t units = l.panels.groups * l.panels.count;
    l.units = max64(ceil_div(units, ceil_div(ITEMS, l.chunks)), 1);
    l.splits = ceil_div(units, l.units);

    l.zeros = cache_lines(g->in_channels * size);
    l.sources = cache_lines((l.taps + l.copy) * l.block * (int64_t)sizeof(void *));
    l.copied = cache_lines(l.block * l.panels.width * size);
    if (l.patches)
        l.copy_size = l.length * size;
    else if (l.copy)
        l.copy_size = (ceil_div(l.step * size, 64) | 1) * 64;
    l.scratch = l.zeros + l.sources + l.copied + cache_lines(l.block * l.copy_size);
    return l;
}

static bool plan_direct_weight(struct conv2d_plan *plan, const struct kernels *kernels) {
    if (plan->map != CONV2D_WEIGHT)
        return false;
    struct layout l = layout_of(plan, kernels);
    double weights = (double)l.panels.groups * l.panels.padded * l.taps * l.rows;
    plan->stages = 2;
    plan->items[0] = l.splits * l.chunks;
    plan->nanoseconds[0] = weights * l.pixels / (4 * kernels->lanes);
    plan->items[1] = l.panels.groups * l.panels.count;
    plan->nanoseconds[1] = weights * l.chunks;
    plan->workspace_size = l.chunks * l.partial + plan->threads * l.scratch;
    return true;
}

/* Copies a panel's columns of each pixel side by side and pads them to `width`. Those that lie `ahead` bytes further on
 * will be wanted next. */
static void copy_columns(const char *from, int64_t pixel_size, int64_t pixels, int64_t columns_size, int64_t width_size,
                         int64_t ahead, char *to) {
    for (int64_t pixel = 0; pixel < pixels; pixel++, from += pixel_size, to += width_size) {
        for (int64_t line = 0; line < columns_size; line += 64)
            __builtin_prefetch(from + ahead + line, 0, 2);
        int64_t whole = columns_size / 64 * 64;
        for (int64_t line = 0; line < whole; line += 64)
            memcpy(to + line, from + line, 64);
        if (whole < width_size) {
            memcpy(to + whole, from + whole, (size_t)(columns_size - whole));
            memset(to + columns_size, 0, (size_t)(width_size - columns_size));
        }
    }
}

static void accumulate(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct layout l = layout_of(plan, job->kernels);
    struct walk walk = {{walk_output(g, 0), walk_output(g, 1)}, g->batch};
    int64_t size = plan->element_size;

    char *zeros = job->workspace + l.chunks * l.partial + thread * l.scratch;
    const void **sources = (const void **)(zeros + l.zeros);
    const void **operands = l.copy ? sources + l.block : sources; /* of the products: copies or originals */
    char *copied = (char *)sources + l.sources;
    char *copies = copied + l.copied;
    memset(zeros, 0, (size_t)(g->in_channels * size));

    int64_t chunk = item % l.chunks, split = item / l.chunks;
    char *partial = job->workspace + chunk * l.partial;
    int64_t first_unit = split * l.units, last_unit = min64(first_unit + l.units, l.panels.groups * l.panels.count) - 1;
    struct unit unit = unit_of(&l.panels, last_unit);
    int64_t begin = unit_of(&l.panels, first_unit).before, end = unit.before + unit.width;
    if (l.pixels == 0)
        memset(partial + begin * l.taps * l.rows * size, 0, (size_t)((end - begin) * l.taps * l.rows * size));

    for (int64_t block = chunk * l.blocks; block < (chunk + 1) * l.blocks; block++) {
        int64_t first = block * l.block, pixels = min64(l.block, l.pixels - first);
        if (pixels <= 0)
            break;
        int64_t following = first + 2 * l.block <= l.pixels ? l.block : 0, bytes;
        int64_t after = first + pixels, multiplications = ceil_div(l.length, l.step) * (last_unit + 1 - first_unit) * l.products;
        const char *next = new_sources(&walk, after, min64(l.block, l.pixels - after), job->x, g->in_channels * size, &bytes);
        const char *next_end = next + bytes;
        int64_t share = cache_lines(ceil_div(bytes, max64(multiplications, 1)));
        if (l.patches)
            copy_patches(&walk, first, pixels, job->x, g->in_channels * size, copies, operands);
        else
            fill_sources(&walk, first, pixels, job->x, g->in_channels * size, zeros, sources, l.block);
        for (int64_t row = 0; row < l.length; row += l.step) {
            int64_t rows = min64(l.step, l.length - row);
            for (int64_t pixel = 0; l.copy && pixel < pixels; pixel++) {
                operands[pixel] = copies + pixel * l.copy_size;
                memcpy(copies + pixel * l.copy_size, (const char *)sources[pixel] + row * size, (size_t)(rows * size));
            }
            for (int64_t u = first_unit; u <= last_unit; u++) {
                unit = unit_of(&l.panels, u);
                const char *gradient =
                    job->y + (first * g->out_channels + unit.group * l.panels.columns + unit.column) * size;
                copy_columns(gradient, g->out_channels * size, pixels, unit.columns * size, unit.width * size,
                             following * g->out_channels * size, copied);
                struct gemm_over_pixels gemm = {
                    .rows = rows,
                    .columns = unit.width,
                    .pixels = pixels,
                    .first = l.patches || l.copy ? 0 : unit.group * l.rows,
                    .panel = copied,
                    .add = block > chunk * l.blocks,
                };
                for (int64_t tap = 0; tap < l.products; tap++) {
                    gemm.sources = operands + tap * l.block;
                    gemm.result = partial + (unit.before * l.taps * l.rows + (tap * l.rows + row) * unit.width) * size;
                    gemm.next = next;
                    gemm.next_bytes = min64(share, next_end - next);
                    job->kernels->gemm_over_pixels(&gemm);
                    next += gemm.next_bytes;
                }
            }
        }
    }
}

static void reduce(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    const struct conv2d_plan *plan = job->plan;
    struct layout l = layout_of(plan, job->kernels);
    struct unit unit = unit_of(&l.panels, item);
    int64_t size = plan->element_size, taps_of_column = l.taps * l.rows;
    char *total = job->workspace + unit.before * taps_of_column * size;
    for (int64_t chunk = 1; chunk < l.chunks; chunk++)
        add_arrays(plan->element_size, unit.width * taps_of_column, total + chunk * l.partial, total);
    struct panel panel = {
        .columns = unit.columns,
        .width = unit.width,
        .depth = l.rows,
        .chunk = max64(l.rows, 1),
        .taps = {plan->geometry.kernel[0], plan->geometry.kernel[1]},
        .origin = (unit.group * l.panels.columns + unit.column) * taps_of_column,
        .column_step = taps_of_column,
        .channel_step = l.taps,
        .tap_step = {plan->geometry.kernel[1], 1},
    };
    unpack_panel(&panel, plan->element_size, total, job->weight);
}

/* The same on bfloat16 parts of the operands: two neighbouring pixels are a pair, which takes the place of a float. The
 * products of parts of a block are summed as one longer reduction. */
struct pairs {
    int64_t parts, count;           /* of each operand; pairs of a block */
    int64_t sources, source, panel; /* bytes: the table of source pairs, one part of them, a panel of the gradient's */
    int64_t scratch;                /* bytes of all of a thread's */
};

static struct pairs pairs_of(const struct conv2d_plan *plan, const struct layout *l) {
    struct pairs p = {.parts = parts_of(plan->products), .count = ceil_div(l->block, 2)};
    p.sources = cache_lines(plan->products * p.count * (int64_t)sizeof(void *));
    p.source = p.count * l->rows * 4;
    p.panel = cache_lines(plan->products * p.count * l->panels.width * 4);
    p.scratch = p.sources + cache_lines(p.parts * p.source) + l->units * p.panel;
    return p;
}

static bool plan_pairs(struct conv2d_plan *plan, const struct kernels *kernels, int32_t products) {
    if (!bf16_for(plan->isa, plan->element_size) || plan->geometry.groups != 1 || !plan_direct_weight(plan, kernels))
        return false;
    plan->products = products;
    struct layout l = layout_of(plan, kernels);
    plan->nanoseconds[0] *= products;
    plan->workspace_size += plan->threads * pairs_of(plan, &l).scratch;
    return !l.patches;
}

static bool plan_one(struct conv2d_plan *plan, const struct kernels *kernels) { return plan_pairs(plan, kernels, 1); }

static bool plan_three(struct conv2d_plan *plan, const struct kernels *kernels) { return plan_pairs(plan, kernels, 3); }

static bool plan_six(struct conv2d_plan *plan, const struct kernels *kernels) { return plan_pairs(plan, kernels, 6); }

/* A panel of the gradient's columns, product by product. The first products meet each part of the gradient once, from the
 * last part to the first. False if a number is out of range. */
static bool pair_columns(const struct conv2d_plan *plan, const struct unit *unit, const float *y, int64_t pixels,
                         char *panel) {
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    const struct part_product *products = part_products + MOST_PRODUCTS - plan->products;
    int64_t channels = plan->geometry.out_channels, line = unit->width * 4, size = ceil_div(pixels, 2) * line;
    int64_t parts = parts_of(plan->products);
    bool good = true;
    char *to = panel + (parts - 1) * size;
    for (int64_t p = 0; p < pixels; p += 2, y += 2 * channels, to += line) {
        good &= bf16->round_pairs(y, p + 1 < pixels ? y + channels : NULL, unit->columns, parts, to, -size);
        for (int64_t part = 0; part < parts; part++)
            memset(to - part * size + unit->columns * 4, 0, (size_t)(line - unit->columns * 4));
    }
    for (int64_t n = parts; n < plan->products; n++)
        memcpy(panel + n * size, panel + (parts - 1 - products[n].weight) * size, (size_t)size);
    return good;
}

static void accumulate_pairs(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    const struct part_product *products = part_products + MOST_PRODUCTS - plan->products;
    struct layout l = layout_of(plan, job->kernels);
    struct pairs pairs = pairs_of(plan, &l);
    struct walk walk = {{walk_output(g, 0), walk_output(g, 1)}, g->batch};

    char *zeros = job->workspace + l.chunks * l.partial + thread * l.scratch;
    const void **sources = (const void **)(zeros + l.zeros);
    const void **source_pairs =
        (const void **)(job->workspace + l.chunks * l.partial + plan->threads * l.scratch + thread * pairs.scratch);
    char *x_pairs = (char *)source_pairs + pairs.sources;
    char *panels = x_pairs + cache_lines(pairs.parts * pairs.source);
    memset(zeros, 0, (size_t)(g->in_channels * 4));

    int64_t chunk = item % l.chunks, first_unit = item / l.chunks * l.units;
    int64_t end_unit = min64(first_unit + l.units, l.panels.count);
    char *partial = job->workspace + chunk * l.partial;
    if (l.pixels == 0) {
        struct unit last = unit_of(&l.panels, end_unit - 1);
        int64_t begin = unit_of(&l.panels, first_unit).before, end = last.before + last.width;
        memset(partial + begin * l.taps * l.rows * 4, 0, (size_t)((end - begin) * l.taps * l.rows * 4));
    }
    bool good = true;

    for (int64_t block = chunk * l.blocks; block < (chunk + 1) * l.blocks; block++) {
        int64_t first = block * l.block, pixels = min64(l.block, l.pixels - first), count = ceil_div(pixels, 2);
        if (pixels <= 0)
            break;
        fill_sources(&walk, first, pixels, job->x, g->in_channels * 4, zeros, sources, l.block);
        for (int64_t n = 0; n < plan->products; n++)
            for (int64_t pair = 0; pair < count; pair++)
                source_pairs[n * count + pair] = x_pairs + products[n].source * pairs.source + pair * l.rows * 4;
        for (int64_t u = first_unit; u < end_unit; u++) {
            struct unit unit = unit_of(&l.panels, u);
            const float *y = (const float *)job->y + first * g->out_channels + unit.column;
            good &= pair_columns(plan, &unit, y, pixels, panels + (u - first_unit) * pairs.panel);
        }
        for (int64_t tap = 0; tap < l.taps; tap++) {
            const void **from = sources + tap * l.block;
            for (int64_t p = 0; p < pixels; p += 2)
                good &= bf16->round_pairs(from[p], p + 1 < pixels ? from[p + 1] : NULL, l.rows, pairs.parts,
                                          x_pairs + p / 2 * l.rows * 4, pairs.source);
            for (int64_t u = first_unit; u < end_unit; u++) {
                struct unit unit = unit_of(&l.panels, u);
                struct gemm_over_pixels gemm = {
                    .rows = l.rows,
                    .columns = unit.width,
                    .pixels = plan->products * count,
                    .sources = source_pairs,
                    .panel = panels + (u - first_unit) * pairs.panel,
                    .add = block > chunk * l.blocks,
                    .result = partial + (unit.before * l.taps + tap * unit.width) * l.rows * 4,
                };
                bf16->kernels.gemm_over_pixels(&gemm);
            }
        }
    }
    if (!good)
        atomic_store_explicit(job->status, STATUS_NOT_FINITE, memory_order_relaxed);
}

const struct conv2d_algorithm direct_bf16_weight = {"direct_bf16", plan_one, {accumulate_pairs, reduce}};
const struct conv2d_algorithm direct_bf16x3_weight = {"direct_bf16x3", plan_three, {accumulate_pairs, reduce}};
const struct conv2d_algorithm direct_bf16x6_weight = {"direct_bf16x6", plan_six, {accumulate_pairs, reduce}};
const struct conv2d_algorithm direct_weight = {"direct", plan_direct_weight, {accumulate, reduce}};
