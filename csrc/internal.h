/* What the C files share and Python does not see: the kernel tables, the plan's innards and the parallel loop. */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include "api.h"

/* Rows are output pixels. For each tap and row, sources[tap * pitch + row] points at a pixel's channels (or at zeros),
 * of which `depth` are read from `first` on; `panel` is [tap][channel][columns rounded up to whole vectors]. Row r of
 * the product goes to results[r], from element `column` on; it starts from `initial` (one value a column), or from what
 * the result holds when `initial` is NULL. Meanwhile `next_bytes` from `next` on, which will be wanted soon, are fetched
 * into the second-level cache. With `stream`, results are stored past the caches (see `streams`). */
struct gemm {
    int64_t rows, columns, taps, depth, first, column, pitch, next_bytes;
    const void *const *sources;
    const void *panel, *initial, *next;
    void *const *results;
    bool stream;
};

/* Rows are channels, the reduction runs over pixels: result[row][column] = sum over pixels of
 * sources[pixel][first + row] * panel[pixel][column] + before[row][column], where a row of panel and before is `columns`
 * long, and `before` may be NULL. Rows of the result, which may be `before`, are `result_step` apart, and their first
 * `stored` columns are written. `next` is as above. */
struct gemm_over_pixels {
    int64_t rows, columns, pixels, first, next_bytes, result_step, stored;
    const void *const *sources;
    const void *panel, *next, *before;
    void *result;
};

/* Rows are channels of the result, columns (at most two vectors) its pixels: result[row][column] += sum over c of
 * weights[row * row_step + c * depth_step] * panel[c][column], a row of panel and result being `columns` long. */
struct gemm_by_weights {
    int64_t rows, columns, depth, row_step, depth_step;
    const void *weights, *panel;
    void *result;
};

/* Products channel by channel, lanes being channels. Channels are cut into vectors; the last one overlaps the one before
 * where they do not divide evenly, so that it is whole, too. */
static inline int64_t vector_start(int64_t n, int64_t channels, int64_t lanes) {
    return n * lanes + lanes <= channels || channels < lanes ? n * lanes : channels - lanes;
}

/* Vectors first..last take part; `channels` is all there are in a pixel. Taps are lines of `width`. Pixel k of a run
 * reads, for tap v of a line, source pixel run.first + k * stride + v * dilation of the `size` in a row, source pixels
 * being `step` elements apart, or zeros where there is no such pixel. Weights and sums are [vector][tap][lane], initial
 * values [vector][lane], `zeros` a vector of zeros. With `stream`, results are stored past the caches (see `streams`).
 * With `across`, sums over pixels walk across the vectors of a tile, not along the runs of a vector. */
struct depthwise {
    int64_t channels, first, last, lines, width, stride, dilation, size, step, result_step;
    int64_t next_rows, row_size, result_ahead; /* see struct run; in bytes */
    const void *weights, *initial, *zeros;
    void *sums;
    bool stream, across;
};

/* Adjacent pixels of a row of the result, of which lines[line] is a row of the source, or NULL for zeros. From address
 * `next` on, unless it is 0, are next_rows rows of the source that will be wanted soon, row_size bytes apart; for sums
 * over pixels so are the gradients that lie result_ahead bytes after these. */
struct run {
    int64_t columns, first;
    const void *const *lines;
    char *result; /* of the first pixel; for sums over pixels, the gradient */
    uintptr_t next;
};
enum { TILE_COLUMNS = 8 };

/* Plane i of the result, `pitch` elements after the one before, is one vector for each pixel. It is made of the source
 * vectors that begin at channels starts[n], by shuffles of what is there so far with the next of them, whose numbers are
 * lanes[plane][n]. Of later pixels, `ahead` channels are about to be read. */
struct group_spread {
    int64_t pixels, channels, planes, vectors, pitch, ahead;
    const int64_t *starts;
    const void *lanes, *source;
    void *result;
};

/* Square tiles for Winograd's algorithm: sources[(row * side + column) * pitch + tile] points at the channels of a
 * pixel, of which those from `first` on take part. The transformed value v of tile t, channel c, goes to
 * result[v * value_step + t * tile_step + c], where a last partial vector is filled up with zeros. */
struct winograd_tiles {
    int64_t tiles, channels, first, pitch;
    const void *const *sources;
    int64_t value_step, tile_step;
    void *result;
};

/* 3x3 filters: column k, channel c begins at weight[k * column_step + c * channel_step], and the weights end at `end`.
 * The transformed value v goes to result[v * value_step + c * width + k], where columns up to `width` (whole vectors)
 * repeat the last. `flipped` filters are read from their last tap to their first. */
struct winograd_filters {
    int64_t columns, width, channels, column_step, channel_step;
    bool flipped;
    const void *weight, *end;
    int64_t value_step;
    void *result;
};

/* The value v of the products of tile t, column k, is products[v * value_step + t * tile_step + k]. The outputs of
 * their inverse transform, plus initial[k], go to results[(row * m + column) * pitch + tile][first + k]. */
struct winograd_outputs {
    int64_t tiles, columns, first, pitch;
    const void *products, *initial;
    int64_t value_step, tile_step;
    void *const *results;
};

/* taps[tap * count + i] = the 3x3 taps made of the sums at sums[value * value_step + i], after adding up those of all
 * chunks, chunk_step apart. `count` is a multiple of the lanes. */
struct winograd_sums {
    int64_t count, chunks, chunk_step, value_step;
    const void *sums;
    void *taps;
};

/* Columns begin .. end - 1 of a line of pixels, spread over a plane for each channel and remainder of the column:
 * planes[(channel * step + column % step) * plane + column / step] = source[column * channels + channel]. The rest of
 * each plane is zeros. */
struct line_planes {
    int64_t channels, step, plane, begin, end;
    const void *source;
    void *planes;
};

/* Rows are pixels of one line of the result, `pitch` elements apart. In each step, pixel r reads source[offsets[step] +
 * r] and `panel` [step][columns rounded up to whole vectors]; `initial` is one value a column. With `stream`, results are
 * stored past the caches. */
struct line_gemm {
    int64_t rows, columns, steps, pitch;
    const int32_t *offsets;
    const void *source, *panel, *initial;
    void *result;
    bool stream;
};

/* Some channels of so many pixels, `step` elements apart, in sets of `channels`, each side by side; in a set, `turns`
 * groups take turns: result[set * set_step + p * channels + c * turns + t] =
 * source[p * step + set * channels + t * (channels / turns) + c]. Source and result are the same or do not overlap. */
struct pixel_copy {
    int64_t pixels, sets, channels, turns, step, set_step;
    const void *source;
    void *result;
};

/* Rows are pixels of one line of the result, whose sources' channels are adjacent: what pixel r reads are `runs` runs of
 * `length` times `turns` elements, from source[offsets[run] + r * step] on. Column k is multiplied with element
 * k % turns of each step, and goes to result[r * pitch + k % turns * columns / turns + k / turns]; with turns, columns
 * are one vector. `panel` is [run][length][columns rounded up to whole vectors]; `initial`, `stream` as above. */
struct line_groups {
    int64_t rows, columns, turns, runs, length, step, pitch;
    const int32_t *offsets;
    const void *source, *panel, *initial;
    void *result;
    bool stream;
};

/* Rows are pixels as above; what pixel r reads are `runs` runs of `length` elements, from source[offsets[run] + r *
 * step] on. `panel` is [run][length in vectors][column][lane]; up to DOTS columns. `initial` has DOT_VALUES values, the
 * columns' again and again. */
enum { DOTS = 8, DOT_VALUES = 32 };
struct line_dots {
    int64_t rows, columns, runs, length, step, pitch;
    const int32_t *offsets;
    const void *source, *panel, *initial;
    void *result;
};

/* result[row][column] = before[row][column] + sum over pixels of source[row * turns + column % turns] * gradient[column],
 * over `lines` lines of `pixels` pixels that lie *_line and *_step elements apart; without `before` it is the sum. A row of
 * either is whole vectors, and so much of the gradient is read; with turns it is one vector. */
struct line_outer {
    int64_t rows, columns, turns, lines, pixels, source_line, source_step, gradient_line, gradient_step;
    const void *source, *gradient, *before;
    void *result;
    const void *next; /* what is wanted in the first-level cache afterwards */
    int64_t next_bytes;
};

/* Lines of pooling's results that lie a fixed distance apart and are reduced alike, channel by channel, each from a grid
 * of taps: the cells of a window, or the windows that cover a cell. Distances are in elements, and `offsets`, if there
 * are any, lie as far apart as what they belong to: the results of max and gather, the sources of scatter. */
struct pool_run {
    int64_t lines, results, channels;
    int64_t next_source_line, next_result_line;                /* from a line to the next */
    int64_t next_source, next_result;                          /* from a result to the next */
    int64_t rows, columns, row_step, column_step;              /* of taps */
    int64_t position, position_row_step, position_column_step; /* of a cell in its window: first tap's, steps */
    /* Scatter, mean: cells in a rectangle with the same taps. Along a line of them positions rise by 1. */
    int64_t neighbour_lines, neighbours, next_neighbour_line, next_neighbour, position_neighbour_line;
    int64_t ahead;          /* windows: of the last line, from a source to one that will be wanted soon, or 0 */
    const void *sources;    /* the first tap of the first result */
    void *target, *offsets; /* the first result; the first offsets */
    int32_t offset_size;
    double divisor, factor; /* of mean; the factor is 1 / divisor where that is exact, else 0 */
    bool add;               /* mean: to what the results hold */
    bool stream;            /* see `streams` */
};

/* Independent multiply-adds in peak.inc: enough to fill the units while each waits for its last result, and few enough
 * for sixteen registers. */
enum { PEAK_CHAINS = 14 };

/* The inner loops for one element type on one instruction set. */
struct kernels {
    int64_t lanes;   /* elements in a vector */
    int64_t rows;    /* register tile: rows ... */
    int64_t vectors; /* ... by vectors */
    const struct kernels *narrow; /* of vectors half as wide, or NULL */
    /* `count` zeros; with `stream` past the caches (see `streams`). */
    void (*clear)(void *result, int64_t count, bool stream);
    void (*gemm)(const struct gemm *);
    void (*gemm_over_pixels)(const struct gemm_over_pixels *);
    void (*gemm_by_weights)(const struct gemm_by_weights *);
    /* Transposition of at most `lanes` pixels: to[c * step + p] = from[p][c], zero from p = `pixels` on; and
     * to[p][first + c] = from[c * step + p] + initial[c], where `initial` may be NULL. */
    void (*columns_from_pixels)(const void *const *from, int64_t pixels, int64_t channels, void *to, int64_t step);
    void (*pixels_from_columns)(const void *from, int64_t step, const void *initial, int64_t first, int64_t pixels,
                                int64_t channels, void *const *to);
    /* A run of the result: initial[c] + sum over taps of source[c] * weights[tap][c]. */
    void (*depthwise)(const struct depthwise *, const struct run *);
    /* sums[tap][c] += sum over the pixels of all runs of source[c] * result[c]. */
    void (*depthwise_over_pixels)(const struct depthwise *, const struct run *, int64_t runs);
    void (*spread_groups)(const struct group_spread *);
    /* Winograd's algorithm, for tiles of 2x2 and of 4x4 outputs. False if a result is not finite. */
    void (*winograd_inputs[2])(const struct winograd_tiles *);
    void (*winograd_filters[2])(const struct winograd_filters *);
    bool (*winograd_outputs[2])(const struct winograd_outputs *);
    void (*winograd_gradients[2])(const struct winograd_tiles *);
    bool (*winograd_taps[2])(const struct winograd_sums *);
    void (*copy_pixels)(const struct pixel_copy *);
    void (*line_planes)(const struct line_planes *);
    void (*line_gemm)(const struct line_gemm *);
    void (*line_groups)(const struct line_groups *);
    void (*line_dots)(const struct line_dots *);
    void (*line_outer)(const struct line_outer *);
    /* Pooling: the taps' maximum and its position; the tap at the offset; the sum of taps whose offset names the result;
     * the sum of taps over the divisor. */
    void (*max)(const struct pool_run *);
    void (*gather)(const struct pool_run *);
    void (*scatter)(const struct pool_run *);
    void (*mean)(const struct pool_run *);
    /* What one core can do at most: `steps` times PEAK_CHAINS vectors of multiply-adds; reading memory. */
    void (*multiply_add)(int64_t steps);
    void (*read)(const void *memory, int64_t bytes);
};

/* A float32 is nearly the sum of two bfloat16 numbers, and exactly that of three: its parts, each of which is what the
 * parts before it leave, rounded. The product of two such sums is that of the first parts and some more, of which the
 * largest are kept. Here they are from the smallest on: those in use are the last `products` of them. */
struct part_product {
    int8_t source, weight; /* which parts; in the weight gradient, those of x and y */
};
enum { MOST_PRODUCTS = 6 };
static const struct part_product part_products[MOST_PRODUCTS] = {{0, 2}, {1, 1}, {2, 0}, {0, 1}, {1, 0}, {0, 0}};

/* 1 part for 1 product, 2 for 3, 3 for 6. */
static inline int64_t parts_of(int32_t products) { return products == 1 ? 1 : products == 3 ? 2 : 3; }

/* Products of bfloat16 pairs: kernels whose gemm takes two neighbours along the reduction as one element. round writes
 * `count` numbers side by side, padded with a zero to whole pairs, and round_pixels some pixels, each padded like that;
 * round_pairs pairs two lines (`second` may be NULL). They write the only part, or round and round_pairs one part after
 * another, `step` bytes apart, and return false if a number is out of range: if it is not finite, or its only part would
 * not be, or if it is so large or small that products of several parts overflow or parts underflow. */
struct bf16 {
    bool (*supported)(void); /* on a processor with AVX-512 */
    struct kernels kernels;
    bool tiles; /* AMX: many more products at a time */
    const struct kernels *lines; /* for copied lines, which tiles do not suit */
    bool (*round)(const float *from, int64_t count, int64_t parts, void *to, int64_t step);
    bool (*round_pixels)(const float *from, int64_t pixels, int64_t channels, uint16_t *to);
    bool (*round_pairs)(const float *first, const float *second, int64_t count, int64_t parts, void *to, int64_t step);
};

#if defined(__x86_64__)
extern const struct bf16 bf16_avx512, bf16_amx;
bool bf16_round(const float *from, int64_t count, int64_t parts, void *to, int64_t step);
bool bf16_round_pixels(const float *from, int64_t pixels, int64_t channels, uint16_t *to);
bool bf16_round_pairs(const float *first, const float *second, int64_t count, int64_t parts, void *to, int64_t step);
#endif

/* NULL where the processor does not have them. */
const struct bf16 *bf16_for(int32_t isa, int32_t element_size);

struct kernel_set {
    const char *name;
    bool (*supported)(void);
    struct kernels f32, f64;
};

const struct kernels *kernels_for(int32_t isa, int32_t element_size);

/* Kernels whose vectors are no wider than so many columns fill. */
static inline const struct kernels *narrowed(const struct kernels *kernels, int64_t columns) {
    while (kernels->narrow && columns <= kernels->narrow->lanes)
        kernels = kernels->narrow;
    return kernels;
}

/* Runs body(context, item, thread) for begin <= item < end on at most `threads` threads, numbered from 0. Without a
 * second thread, or when another caller has the pool, the calling thread does everything. Denormals are flushed to
 * zero inside the bodies when `flush` is set; the caller's floating-point mode is as before afterwards. */
typedef void parallel_body(const void *context, int64_t item, int32_t thread);
void parallel_for(int64_t begin, int64_t end, int32_t threads, bool flush, parallel_body *body, const void *context);

/* Whether a result of so many bytes should be stored past the caches: a large one would be read from memory before it is
 * overwritten there, for nothing, and drive out of the caches what is still needed. Each pixel of it must begin at a cache
 * line. (The lock that ends a parallel loop also waits for such stores.) */
static inline bool streams(const void *result, int64_t pixel_size, int64_t bytes) {
    const int64_t large = INT64_C(4) << 20;
    return bytes >= large && pixel_size % 64 == 0 && (intptr_t)result % 64 == 0;
}

/* What the items of a stage are given. */
struct conv2d_job {
    const struct conv2d_plan *plan;
    const struct kernels *kernels;
    char *x, *weight, *y;
    const char *bias;
    char *workspace;    /* aligned to a cache line */
    atomic_int *status; /* for a stage to set, if not all is well */
};

/* One algorithm: plan fills stages, items, nanoseconds and workspace_size, or returns false when it does not serve the
 * problem; stage[s] computes one item of stage s. */
struct conv2d_algorithm {
    const char *name;
    bool (*plan)(struct conv2d_plan *, const struct kernels *);
    void (*stage[4])(const struct conv2d_job *, int64_t item, int32_t thread);
};

extern const struct conv2d_algorithm direct_bf16, direct_bf16x3, direct_bf16x6, lines_bf16, lines_bf16_weight;
extern const struct conv2d_algorithm direct_bf16_weight, direct_bf16x3_weight, direct_bf16x6_weight, few_pixels;
extern const struct conv2d_algorithm direct, direct_weight, depthwise, depthwise_weight, winograd_2x2, winograd_4x4;
extern const struct conv2d_algorithm winograd_2x2_weight, winograd_4x4_weight, lines, lines_weight, dots;
extern const struct conv2d_algorithm grouped, grouped_weight, lines_grouped;

/* to[i] += from[i]: how partial results are summed, chunk after chunk. */
void add_arrays(int32_t element_size, int64_t count, const void *from, void *to);

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
/* How many steps it takes to cover a distance; most steps are 1, and division is slow. */
static inline int64_t steps_over(int64_t distance, int64_t step) {
    return step == 1 ? distance : ceil_div(distance, step);
}
/* Sizes in a workspace are multiples of a cache line, so that no two threads write to one. */
static inline int64_t cache_lines(int64_t bytes) { return round_up(bytes, 64); }
