/* The weight gradient by the indirect matrix product, with the reduction over pixels.
 *
 * Rows of the product are input channels (for each tap), columns are output channels, and every output pixel
 * contributes the outer product of a source pixel and the gradient's pixel. With a single tap they may change places:
 * then rows of the product are rows of the weights. In stage 0 an item is a range of panels times a range of rows times a fixed
 * chunk of the pixels; it walks the chunk in blocks, copies the columns of a block side by side, and adds each block's
 * sum, formed in registers, to its partial result: short sums of sums lose fewer digits than one long sum. With a single
 * tap, pixels whose rows would evict each other from the caches are copied, too. Stage 1 adds the chunks' partial results
 * in order and writes them as OIHW; if the rows are the weights' and there is one chunk, its last block does. */
#include <string.h>
#include "panel.h"
#include "sources.h"

enum {
    BLOCK_PIXELS = 112,      /* summed in registers; a panel of them takes half of a first-level cache */
    TABLE_ENTRIES = 1 << 15, /* of an indirection table, beyond which blocks get smaller */
    PATCH_CHANNELS = 8,      /* up to this many channels, and no groups, patches are copied instead of a table */
    FILTERS = 128,           /* from which on they are good rows: every column costs a copy */
    ALIASED_BYTES = 2 << 10, /* pixels a multiple of this apart evict each other from a first-level cache */
    COPIED_ROWS = 512,       /* at most, of copied pixels: a quarter of a second-level cache */
    ITEMS = 8,               /* wanted for balance between threads: chunks of pixels, then ranges of panels */
    CHUNK_BLOCKS = 4,        /* below which a chunk is not worth its partial result */
    PARTIAL_BYTES = 8 << 20, /* of all partial results, beyond which there are fewer chunks */
};

struct layout {
    bool by_filters;        /* rows are output channels, columns input channels */
    bool patches, copy;     /* whether patches of all taps, or the pixels' rows, are copied */
    bool whole;             /* stage 0 writes the weights */
    struct panels panels;
    int64_t rows, taps;     /* of a group; of the kernel */
    int64_t products, length; /* matrix products of a panel and a block, rows of each */
    int64_t step, ranges;     /* rows in a range, ranges */
    int64_t pixels, block;
    int64_t splits, units;  /* ranges of panels, panels in a range */
    int64_t chunks, blocks; /* chunks of pixels, a power of two; blocks in all of them */
    int64_t partial;        /* bytes of one chunk's result */
    int64_t copy_size;      /* bytes from one copied patch or pixel to the next */
    int64_t zeros, sources, panel, scratch; /* bytes of a thread's scratch: its first three parts, and all */
};

/* `pairs`: of operands that are rounded and paired while they are copied (below). */
static struct layout layout_of(const struct conv2d_plan *plan, const struct kernels *kernels, bool pairs) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t size = plan->element_size;
    int64_t in = g->in_channels / g->groups, out = g->out_channels / g->groups;
    struct layout l = {
        .taps = g->kernel[0] * g->kernel[1],
        .pixels = g->batch * g->output[0] * g->output[1],
    };
    bool single = l.taps == 1 && g->groups == 1 && !pairs;
    int64_t width = kernels->lanes * kernels->vectors;
    /* No more lanes are empty, and the copies of columns are worth it: or there is but one block, whose sums are written
     * where they belong. */
    l.by_filters = single && round_up(in, width) * out <= round_up(out, width) * in &&
                   (l.pixels <= BLOCK_PIXELS || (out >= FILTERS && out <= in));
    l.panels = cut_into_panels(g->groups, l.by_filters ? in : out, kernels);
    l.rows = l.by_filters ? out : in;
    l.patches = g->groups == 1 && l.rows <= PATCH_CHANNELS && l.taps > 1;
    l.copy = single && (l.by_filters ? out : in * g->stride[1]) * size % ALIASED_BYTES == 0;
    l.products = l.patches ? 1 : l.taps;
    l.length = l.patches ? l.taps * l.rows : l.rows;
    l.step = max64(l.copy ? min64(l.length, COPIED_ROWS) : l.length, 1);
    l.ranges = max64(ceil_div(l.length, l.step), 1);
    l.block = max64(min64(min64(BLOCK_PIXELS, TABLE_ENTRIES / l.taps), l.pixels), 1);

    l.partial = cache_lines(l.panels.groups * l.panels.padded * l.taps * l.rows * size);
    l.blocks = ceil_div(l.pixels, l.block);
    l.block = max64(ceil_div(l.pixels, max64(l.blocks, 1)), 1);
    int64_t chunks = max64(min64(min64(ITEMS, PARTIAL_BYTES / max64(l.partial, 1)), l.blocks / CHUNK_BLOCKS), 1);
    for (l.chunks = 1; 2 * l.chunks <= chunks;)
        l.chunks *= 2;
    l.whole = l.by_filters && l.chunks == 1 && l.pixels > 0;
    if (l.whole && l.blocks == 1)
        l.partial = 0;
    int64_t units = l.panels.groups * l.panels.count;
    l.units = max64(ceil_div(units, ceil_div(ITEMS, l.chunks * l.ranges)), 1);
    l.splits = ceil_div(units, l.units);

    l.zeros = cache_lines(g->in_channels * size);
    l.sources = cache_lines((l.taps + 1 + l.copy) * l.block * (int64_t)sizeof(void *));
    l.panel = cache_lines(l.block * l.panels.width * size);
    if (l.patches)
        l.copy_size = l.length * size;
    else if (l.copy)
        l.copy_size = (ceil_div(l.step * size, 64) | 1) * 64;
    l.scratch = l.zeros + l.sources + l.panel + cache_lines(l.block * l.copy_size);
    return l;
}

static bool plan_direct_weight(struct conv2d_plan *plan, const struct kernels *kernels) {
    if (plan->map != CONV2D_WEIGHT)
        return false;
    struct layout l = layout_of(plan, kernels, false);
    double weights = (double)l.panels.groups * l.panels.padded * l.taps * l.rows;
    plan->stages = 2;
    plan->items[0] = l.splits * l.ranges * l.chunks;
    plan->nanoseconds[0] = weights * l.pixels / (4 * kernels->lanes);
    plan->items[1] = l.whole ? 0 : l.panels.groups * l.panels.count;
    plan->nanoseconds[1] = weights * l.chunks;
    plan->workspace_size = l.chunks * l.partial + plan->threads * l.scratch;
    return true;
}

/* From the columns of panel `u` in a block's first pixel to those that will be wanted next, in elements: of the next panel
 * of a range, or of its first one in the next block, if that is whole and its pixels are neighbours. */
static int64_t next_columns(const struct conv2d_plan *plan, const struct layout *l, int64_t first_unit, int64_t last_unit,
                            int64_t u, int64_t first_pixel) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool neighbours = !l->by_filters || g->stride[0] * g->stride[1] == 1;
    int64_t blocks = u == last_unit && neighbours ? first_pixel + 2 * l->block <= l->pixels : 0;
    struct unit unit = unit_of(&l->panels, u);
    struct unit next = unit_of(&l->panels, u < last_unit ? u + 1 : blocks ? first_unit : u);
    int64_t between = (next.group - unit.group) * l->panels.columns + next.column - unit.column;
    return blocks * l->block * (l->by_filters ? g->in_channels : g->out_channels) + between;
}

/* Copies a panel's columns of each pixel, from its byte number `first` on, side by side and pads them to `width`. Those
 * that lie `ahead` bytes further on will be wanted next. */
static void copy_columns(const void *const *pixels, int64_t count, int64_t first, int64_t columns_size, int64_t width_size,
                         int64_t ahead, char *to) {
    for (int64_t pixel = 0; pixel < count; pixel++, to += width_size) {
        const char *from = (const char *)pixels[pixel] + first;
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
    struct layout l = layout_of(plan, job->kernels, false);
    struct walk walk = {{walk_output(g, 0), walk_output(g, 1)}, g->batch};
    int64_t size = plan->element_size;

    char *zeros = job->workspace + l.chunks * l.partial + thread * l.scratch;
    const void **sources = (const void **)(zeros + l.zeros);
    const void **gradients = sources + l.taps * l.block, **copied_rows = gradients + l.block;
    const void **columns = l.by_filters ? sources : gradients, **originals = l.by_filters ? gradients : sources;
    const void **rows_of = l.copy ? copied_rows : originals;
    char *panel = (char *)sources + l.sources, *copies = panel + l.panel;
    memset(zeros, 0, (size_t)(g->in_channels * size));

    int64_t chunk = item % l.chunks, range = item / l.chunks % l.ranges, split = item / l.chunks / l.ranges;
    int64_t row = range * l.step, rows = min64(l.step, l.length - row);
    char *partial = job->workspace + chunk * l.partial;
    int64_t first_unit = split * l.units, last_unit = min64(first_unit + l.units, l.panels.groups * l.panels.count) - 1;
    struct unit unit = unit_of(&l.panels, last_unit);
    int64_t begin = unit_of(&l.panels, first_unit).before, end = unit.before + unit.width;
    if (l.pixels == 0 && range == 0)
        memset(partial + begin * l.taps * l.rows * size, 0, (size_t)((end - begin) * l.taps * l.rows * size));

    int64_t begin_block = chunk * l.blocks / l.chunks, end_block = (chunk + 1) * l.blocks / l.chunks;
    for (int64_t block = begin_block; block < end_block; block++) {
        int64_t first = block * l.block, pixels = min64(l.block, l.pixels - first);
        int64_t after = first + pixels, following = min64(l.block, l.pixels - after), bytes;
        const char *next = job->y + after * g->out_channels * size;
        if (l.by_filters)
            bytes = following * g->out_channels * size;
        else
            next = new_sources(&walk, after, following, job->x, g->in_channels * size, &bytes);
        const char *next_end = next + bytes;
        int64_t share = cache_lines(ceil_div(bytes, max64((last_unit + 1 - first_unit) * l.products, 1)));
        if (l.patches)
            copy_patches(&walk, first, pixels, job->x, g->in_channels * size, copies, sources);
        else
            fill_sources(&walk, first, pixels, job->x, g->in_channels * size, zeros, sources, l.block);
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            gradients[pixel] = job->y + (first + pixel) * g->out_channels * size;
        for (int64_t pixel = 0; l.copy && pixel < pixels; pixel++) {
            copied_rows[pixel] = copies + pixel * l.copy_size;
            memcpy(copies + pixel * l.copy_size, (const char *)originals[pixel] + row * size, (size_t)(rows * size));
        }
        for (int64_t u = first_unit; u <= last_unit; u++) {
            unit = unit_of(&l.panels, u);
            int64_t column = unit.group * l.panels.columns + unit.column;
            copy_columns(columns, pixels, column * size, unit.columns * size, unit.width * size,
                         next_columns(plan, &l, first_unit, last_unit, u, first) * size, panel);
            for (int64_t tap = 0; tap < l.products; tap++) {
                char *sum = partial + (unit.before * l.taps * l.rows + (tap * l.rows + row) * unit.width) * size;
                struct gemm_over_pixels gemm = {
                    .rows = rows,
                    .columns = unit.width,
                    .pixels = pixels,
                    .first = l.patches || l.copy ? 0 : unit.group * l.rows,
                    .sources = rows_of + tap * l.block,
                    .panel = panel,
                    .before = block > begin_block ? sum : NULL,
                    .result = sum,
                    .result_step = unit.width,
                    .stored = unit.width,
                    .next = next,
                    .next_bytes = min64(share, next_end - next),
                };
                if (l.whole && block == l.blocks - 1) {
                    gemm.result = job->weight + (row * g->in_channels + column) * size;
                    gemm.result_step = g->in_channels;
                    gemm.stored = unit.columns;
                }
                job->kernels->gemm_over_pixels(&gemm);
                next += gemm.next_bytes;
            }
        }
    }
}

/* Of a panel: `partial` is the first chunk's results. */
static void add_chunks(const struct conv2d_job *job, const struct layout *l, int64_t u, char *partial) {
    const struct conv2d_plan *plan = job->plan;
    struct unit unit = unit_of(&l->panels, u);
    int64_t size = plan->element_size, taps_of_column = l->taps * l->rows;
    char *total = partial + unit.before * taps_of_column * size;
    for (int64_t chunk = 1; chunk < l->chunks; chunk++)
        add_arrays(plan->element_size, unit.width * taps_of_column, total + chunk * l->partial, total);
    if (l->by_filters) {
        int64_t filter = plan->geometry.in_channels * size;
        for (int64_t row = 0; row < l->rows; row++)
            memcpy(job->weight + row * filter + unit.column * size, total + row * unit.width * size,
                   (size_t)(unit.columns * size));
        return;
    }
    struct panel panel = {
        .columns = unit.columns,
        .width = unit.width,
        .depth = l->rows,
        .chunk = max64(l->rows, 1),
        .taps = {plan->geometry.kernel[0], plan->geometry.kernel[1]},
        .origin = (unit.group * l->panels.columns + unit.column) * taps_of_column,
        .column_step = taps_of_column,
        .channel_step = l->taps,
        .tap_step = {plan->geometry.kernel[1], 1},
    };
    unpack_panel(&panel, plan->element_size, total, job->weight);
}

static void reduce(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    struct layout l = layout_of(job->plan, job->kernels, false);
    add_chunks(job, &l, item, job->workspace);
}

/* The same on bfloat16 parts of the operands. A pixel of an image in the first half of the batch and the same pixel of
 * one in the second half are a pair, which takes the place of a float: whatever the taps, this is a problem of half as
 * many images. The products of parts of a block are summed as one longer reduction. Where several taps or ranges of panels
 * meet each source pixel, all pairs of the source are made in a stage of their own and kept; else an item makes those of a
 * block when it needs them. */
enum { ROUNDED_AT_ONCE = 1 << 14 }; /* values of each half of the source, in an item */

struct pairs {
    struct conv2d_plan half; /* of half as many images */
    struct layout l;         /* of that */
    int64_t parts, pixels;   /* of each operand; pixels of half of the source */
    int64_t at_once;         /* pixels of an item that makes pairs */
    int64_t part, pixel;     /* bytes of a part of a source pair, from pair to pair */
    int64_t kept;            /* bytes of all source pairs, if they are kept */
    int64_t zeros, sources, copies, scratch; /* bytes of a thread's scratch: its first three parts, and all */
};

static struct pairs pairs_of(const struct conv2d_plan *plan, const struct kernels *kernels) {
    const struct conv2d_geometry *g = &plan->geometry;
    struct pairs p = {.half = *plan, .parts = parts_of(plan->products), .part = g->in_channels * 4};
    p.half.geometry.batch = ceil_div(g->batch, 2);
    p.l = layout_of(&p.half, kernels, true);
    bool keep = p.l.taps > 1 || (p.l.splits > 1 && g->stride[0] * g->stride[1] == 1);
    p.pixels = p.half.geometry.batch * g->input[0] * g->input[1];
    p.at_once = max64(ROUNDED_AT_ONCE / max64(g->in_channels, 1), 1);
    p.pixel = (ceil_div(p.parts * p.part, 64) | 1) * 64; /* so that pairs do not evict each other */
    p.kept = keep ? p.pixels * p.pixel : 0;
    p.zeros = p.pixel;
    p.sources = cache_lines(p.l.taps * plan->products * p.l.block * (int64_t)sizeof(void *));
    p.copies = keep ? 0 : p.l.block * p.pixel;
    p.scratch = p.zeros + p.sources + p.copies + cache_lines(plan->products * p.l.block * p.l.panels.width * 4);
    return p;
}

static bool plan_pairs(struct conv2d_plan *plan, const struct kernels *kernels, int32_t products) {
    if (!bf16_for(plan->isa, plan->element_size) || plan->geometry.groups != 1)
        return false;
    plan->products = products;
    struct pairs p = pairs_of(plan, kernels);
    if (p.l.patches || !plan_direct_weight(&p.half, kernels))
        return false;
    plan->stages = 3;
    plan->items[0] = p.kept ? ceil_div(p.pixels, p.at_once) : 0;
    plan->nanoseconds[0] = (double)p.kept / 8;
    plan->items[1] = p.l.splits * p.l.chunks;
    plan->nanoseconds[1] = p.half.nanoseconds[0] * products;
    plan->items[2] = p.l.panels.groups * p.l.panels.count;
    plan->nanoseconds[2] = p.half.nanoseconds[1];
    plan->workspace_size = p.kept + p.l.chunks * p.l.partial + plan->threads * p.scratch;
    return true;
}

static bool plan_one(struct conv2d_plan *plan, const struct kernels *kernels) { return plan_pairs(plan, kernels, 1); }

static bool plan_three(struct conv2d_plan *plan, const struct kernels *kernels) { return plan_pairs(plan, kernels, 3); }

static bool plan_six(struct conv2d_plan *plan, const struct kernels *kernels) { return plan_pairs(plan, kernels, 6); }

/* Of an array of images whose first half has `pixels` pixels: the partner of pixel number n, which lies `half` elements
 * after it, or NULL if the batch is odd and ends before it. */
static const float *partner(const struct conv2d_geometry *g, const float *pixel, int64_t n, int64_t pixels, int64_t half) {
    bool missing = g->batch % 2 && n >= pixels - pixels / ceil_div(g->batch, 2);
    return missing ? NULL : pixel + half;
}

static void finish_rounding(const struct conv2d_job *job, bool good) {
    if (!good)
        atomic_store_explicit(job->status, STATUS_NOT_FINITE, memory_order_relaxed);
}

static void pair_source(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    const struct conv2d_geometry *g = &job->plan->geometry;
    const struct bf16 *bf16 = bf16_for(job->plan->isa, job->plan->element_size);
    struct pairs p = pairs_of(job->plan, job->kernels);
    bool good = true;
    for (int64_t n = item * p.at_once; n < min64((item + 1) * p.at_once, p.pixels); n++) {
        const float *pixel = (const float *)job->x + n * g->in_channels;
        good &= bf16->round_pairs(pixel, partner(g, pixel, n, p.pixels, p.pixels * g->in_channels), g->in_channels,
                                  p.parts, job->workspace + n * p.pixel, p.part);
    }
    finish_rounding(job, good);
}

/* A panel of the gradient's columns, product by product. The first products meet each part of the gradient once, from the
 * last part to the first. What lies `ahead` elements further on will be wanted next. False if a number is out of range. */
static bool pair_columns(const struct conv2d_job *job, const struct pairs *p, const struct unit *unit, int64_t first,
                         int64_t pixels, int64_t ahead, char *panel) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    const struct part_product *products = part_products + MOST_PRODUCTS - plan->products;
    int64_t line = unit->width * 4, size = pixels * line, half = p->l.pixels * g->out_channels;
    bool good = true;
    char *to = panel + (p->parts - 1) * size;
    for (int64_t n = first; n < first + pixels; n++, to += line) {
        const float *pixel = (const float *)job->y + n * g->out_channels + unit->column;
        const float *second = partner(g, pixel, n, p->l.pixels, half);
        for (int64_t column = 0; column < unit->columns; column += 16) {
            __builtin_prefetch(pixel + ahead + column, 0, 2);
            __builtin_prefetch((second ? second : pixel) + ahead + column, 0, 2);
        }
        good &= bf16->round_pairs(pixel, second, unit->columns, p->parts, to, -size);
        for (int64_t part = 0; part < p->parts && unit->columns < unit->width; part++)
            memset(to - part * size + unit->columns * 4, 0, (size_t)(line - unit->columns * 4));
    }
    for (int64_t n = p->parts; n < plan->products; n++)
        memcpy(panel + n * size, panel + (p->parts - 1 - products[n].weight) * size, (size_t)size);
    return good;
}

/* The table of a block's source pairs, [tap][product][pixel]. False if a number is out of range. */
static bool fill_pairs(const struct conv2d_job *job, const struct pairs *p, const struct walk *walk, int64_t first,
                       int64_t pixels, const char *zeros, const void **sources, char *copies) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    const struct part_product *products = part_products + MOST_PRODUCTS - plan->products;
    int64_t pitch = plan->products * p->l.block;
    bool good = true;
    if (p->kept)
        fill_sources(walk, first, pixels, job->workspace, p->pixel, zeros, sources, pitch);
    else {
        fill_sources(walk, first, pixels, job->x, g->in_channels * 4, NULL, sources, pitch);
        for (int64_t n = 0; n < pixels; n++, copies += p->pixel) {
            const float *pixel = sources[n];
            sources[n] = pixel ? copies : zeros;
            if (pixel)
                good &= bf16->round_pairs(pixel, partner(g, pixel, first + n, p->l.pixels, p->pixels * g->in_channels),
                                          g->in_channels, p->parts, copies, p->part);
        }
    }
    for (int64_t tap = 0; tap < p->l.taps; tap++, sources += pitch)
        for (int64_t n = 1; n < plan->products; n++)
            for (int64_t pixel = 0; pixel < pixels; pixel++)
                sources[n * pixels + pixel] = (const char *)sources[pixel] + products[n].source * p->part;
    return good;
}

/* What the next block reads of the source, in as many shares as there are products: a range of memory and, where pairs are
 * made of it, as much of the other half of the batch. */
struct ahead {
    const char *next;
    int64_t bytes, share, done, half;
};

static struct ahead ahead_of(const struct conv2d_job *job, const struct pairs *p, const struct walk *walk, int64_t first,
                             int64_t shares) {
    int64_t pixels = min64(p->l.block, p->l.pixels - first), pixel = p->kept ? p->pixel : p->part;
    struct ahead a = {.half = p->kept ? 0 : p->pixels * pixel};
    a.next = new_sources(walk, first, pixels, p->kept ? job->workspace : job->x, pixel, &a.bytes);
    a.share = cache_lines(ceil_div(a.bytes * (a.half ? 2 : 1), shares));
    return a;
}

static const void *next_share(struct ahead *a, int64_t *bytes) {
    if (a->done >= a->bytes && a->half) {
        a->next += a->half;
        a->half = a->done = 0;
    }
    const char *next = a->next + a->done;
    *bytes = max64(min64(a->share, a->bytes - a->done), 0);
    a->done += *bytes;
    return next;
}

static void accumulate_pairs(const struct conv2d_job *job, int64_t item, int32_t thread) {
    const struct conv2d_plan *plan = job->plan;
    const struct conv2d_geometry *g = &plan->geometry;
    struct pairs p = pairs_of(plan, job->kernels);
    const struct layout *l = &p.l;
    struct walk walk = {{walk_output(g, 0), walk_output(g, 1)}, p.half.geometry.batch};

    char *partials = job->workspace + p.kept;
    char *zeros = partials + l->chunks * l->partial + thread * p.scratch;
    const void **sources = (const void **)(zeros + p.zeros);
    char *copies = (char *)sources + p.sources, *panel = copies + p.copies;
    memset(zeros, 0, (size_t)p.zeros);

    int64_t chunk = item % l->chunks, first_unit = item / l->chunks * l->units;
    int64_t end_unit = min64(first_unit + l->units, l->panels.count);
    char *partial = partials + chunk * l->partial;
    if (l->pixels == 0) {
        struct unit last = unit_of(&l->panels, end_unit - 1);
        int64_t begin = unit_of(&l->panels, first_unit).before, end = last.before + last.width;
        memset(partial + begin * l->taps * l->rows * 4, 0, (size_t)((end - begin) * l->taps * l->rows * 4));
    }

    bool good = true;
    int64_t begin_block = chunk * l->blocks / l->chunks, end_block = (chunk + 1) * l->blocks / l->chunks;
    for (int64_t block = begin_block; block < end_block; block++) {
        int64_t first = block * l->block, pixels = min64(l->block, l->pixels - first);
        struct ahead ahead = ahead_of(job, &p, &walk, first + pixels, (end_unit - first_unit) * l->taps);
        good &= fill_pairs(job, &p, &walk, first, pixels, zeros, sources, copies);
        for (int64_t u = first_unit; u < end_unit; u++) {
            struct unit unit = unit_of(&l->panels, u);
            int64_t next = next_columns(plan, l, first_unit, end_unit - 1, u, first);
            good &= pair_columns(job, &p, &unit, first, pixels, next, panel);
            for (int64_t tap = 0; tap < l->taps; tap++) {
                char *sum = partial + (unit.before * l->taps + tap * unit.width) * l->rows * 4;
                struct gemm_over_pixels gemm = {
                    .rows = l->rows,
                    .columns = unit.width,
                    .pixels = plan->products * pixels,
                    .sources = sources + tap * plan->products * l->block,
                    .panel = panel,
                    .before = block > begin_block ? sum : NULL,
                    .result = sum,
                    .result_step = unit.width,
                    .stored = unit.width,
                };
                gemm.next = next_share(&ahead, &gemm.next_bytes);
                bf16_for(plan->isa, plan->element_size)->kernels.gemm_over_pixels(&gemm);
            }
        }
    }
    finish_rounding(job, good);
}

static void reduce_pairs(const struct conv2d_job *job, int64_t item, int32_t thread) {
    (void)thread;
    struct pairs p = pairs_of(job->plan, job->kernels);
    add_chunks(job, &p.l, item, job->workspace + p.kept);
}

const struct conv2d_algorithm direct_bf16_weight = {"direct_bf16", plan_one, {pair_source, accumulate_pairs, reduce_pairs}};
const struct conv2d_algorithm direct_bf16x3_weight = {
    "direct_bf16x3", plan_three, {pair_source, accumulate_pairs, reduce_pairs}};
const struct conv2d_algorithm direct_bf16x6_weight = {
    "direct_bf16x6", plan_six, {pair_source, accumulate_pairs, reduce_pairs}};
const struct conv2d_algorithm direct_weight = {"direct", plan_direct_weight, {accumulate, reduce}};
