/* Products of bfloat16 pairs in AMX tiles: the direct product at sixteen rows, columns and pairs an instruction.
 *
 * A tile is up to sixteen rows of 64 bytes. Two by two tiles accumulate 32 rows by 32 columns of the result; one step
 * of the reduction adds to them the products of two tiles of source rows, 16 pairs each, and two of a panel, whose
 * [pair][column] is a tile's layout as it stands. Source rows are gathered into a buffer, through which sums go to
 * and from the result as well. What does not fill tiles: rows are spread evenly over tiles of equal height; a reduction
 * is cut into steps of equal length, where the last may begin before the end of the one before it, and finds zeros there
 * in the buffer. So nothing is read outside the arrays. */
#include "internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIDE = 16, ROWS = 2 * SIDE, COLUMNS = 2 * SIDE };
/* Tiles 2 * i + j are sums, for rows of half i by columns of half j; then come the operands. (Instructions are written
 * with these numbers, so they are macros.) */
#define UPPER_ROWS 4
#define LOWER_ROWS 5
#define LEFT_COLUMNS 6
#define RIGHT_COLUMNS 7

extern const struct kernel_set kernel_set_avx512;

/* How a product is cut: `half` rows in a tile, `pairs` in each of `steps`. */
struct cut {
    int64_t half, steps, pairs;
    bool wide; /* two tiles of columns */
};

static struct cut cut_into_tiles(int64_t rows, int64_t columns, int64_t length) {
    struct cut cut = {.steps = ceil_div(length, SIDE), .wide = columns > SIDE};
    cut.half = ceil_div(ceil_div(rows, max64(ceil_div(rows, ROWS), 1)), 2);
    cut.pairs = max64(ceil_div(length, max64(cut.steps, 1)), 1); /* a tile of none is not allowed */
    return cut;
}

/* Where step number `step` begins, and how many of its pairs the one before has done. */
static int64_t step_start(const struct cut *cut, int64_t step, int64_t length, int64_t *done) {
    int64_t start = min64(step * cut->pairs, length - cut->pairs);
    *done = step * cut->pairs - start;
    return start;
}

/* The operand of LDTILECFG. */
struct configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* GCC 12 does not know that tile instructions read memory. */
#define MEMORY_BARRIER() __asm__ volatile("" ::: "memory")

static void configure(const struct cut *cut) {
    struct configuration configuration = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        bool rows = tile == UPPER_ROWS || tile == LOWER_ROWS, columns = tile >= LEFT_COLUMNS;
        configuration.row_bytes[tile] = (uint16_t)(rows ? 4 * cut->pairs : 4 * SIDE);
        configuration.rows[tile] = (uint8_t)(columns ? cut->pairs : cut->half);
    }
    MEMORY_BARRIER();
    _tile_loadconfig(&configuration);
}

/* What passes between memory and tiles. */
struct buffer {
    _Alignas(64) uint32_t rows[ROWS][SIDE]; /* pairs of the source */
    _Alignas(64) float sums[ROWS][COLUMNS];
};

static void load_sums(const struct cut *cut, const struct buffer *buffer) {
    MEMORY_BARRIER();
    _tile_loadd(0, buffer->sums[0], sizeof *buffer->sums);
    _tile_loadd(1, buffer->sums[0] + SIDE, sizeof *buffer->sums);
    _tile_loadd(2, buffer->sums[cut->half], sizeof *buffer->sums);
    _tile_loadd(3, buffer->sums[cut->half] + SIDE, sizeof *buffer->sums);
    MEMORY_BARRIER();
}

static void store_sums(const struct cut *cut, struct buffer *buffer) {
    _tile_stored(0, buffer->sums[0], sizeof *buffer->sums);
    _tile_stored(1, buffer->sums[0] + SIDE, sizeof *buffer->sums);
    _tile_stored(2, buffer->sums[cut->half], sizeof *buffer->sums);
    _tile_stored(3, buffer->sums[cut->half] + SIDE, sizeof *buffer->sums);
}

/* One step: the rows in the buffer by the panel. */
static inline void multiply(const struct cut *cut, const struct buffer *buffer, const uint32_t *panel) {
    MEMORY_BARRIER();
    int64_t panel_step = cut->wide ? 4 * COLUMNS : 4 * SIDE;
    _tile_loadd(UPPER_ROWS, buffer->rows[0], sizeof *buffer->rows);
    _tile_loadd(LOWER_ROWS, buffer->rows[cut->half], sizeof *buffer->rows);
    _tile_loadd(LEFT_COLUMNS, panel, panel_step);
    _tile_dpbf16ps(0, UPPER_ROWS, LEFT_COLUMNS);
    _tile_dpbf16ps(2, LOWER_ROWS, LEFT_COLUMNS);
    if (cut->wide) {
        _tile_loadd(RIGHT_COLUMNS, panel + SIDE, panel_step);
        _tile_dpbf16ps(1, UPPER_ROWS, RIGHT_COLUMNS);
        _tile_dpbf16ps(3, LOWER_ROWS, RIGHT_COLUMNS);
    }
    MEMORY_BARRIER();
}

static inline __mmask16 first_of(int64_t count) {
    return count < 1 ? 0 : count < SIDE ? (__mmask16)((1u << count) - 1) : 0xffff;
}

/* Sums begin with the initial values or with what the result holds. */
static void start(const struct gemm *g, int64_t row, int64_t rows, struct buffer *buffer) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < g->columns; n += SIDE) {
            const float *result = (const float *)g->results[row + r] + g->column;
            const float *from = (g->initial ? (const float *)g->initial : result) + n;
            _mm512_store_ps(buffer->sums[r] + n, _mm512_maskz_loadu_ps(first_of(g->columns - n), from));
        }
}

static void finish(const struct gemm *g, int64_t row, int64_t rows, const struct buffer *buffer) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < g->columns; n += SIDE) {
            float *result = (float *)g->results[row + r] + g->column + n;
            __m512 sums = _mm512_load_ps(buffer->sums[r] + n);
            if (g->stream && g->columns - n >= SIDE)
                _mm512_stream_ps(result, sums);
            else
                _mm512_mask_storeu_ps(result, first_of(g->columns - n), sums);
        }
}

static void gemm_amx(const struct gemm *g) {
    if (g->rows < 1)
        return;
    struct cut cut = cut_into_tiles(g->rows, g->columns, g->depth);
    struct buffer buffer = {0}; /* rows and columns that are not there are zeros */
    int64_t width = cut.wide ? COLUMNS : SIDE, share = ceil_div(g->next_bytes, ceil_div(g->rows, 2 * cut.half));
    int64_t fetched = 0;
    configure(&cut);
    for (int64_t row = 0; row < g->rows; row += 2 * cut.half) {
        int64_t rows = min64(2 * cut.half, g->rows - row);
        for (int64_t end = min64(fetched + share, g->next_bytes); fetched < end; fetched += 64)
            _mm_prefetch((const char *)g->next + fetched, _MM_HINT_T1);
        start(g, row, rows, &buffer);
        load_sums(&cut, &buffer);
        for (int64_t tap = 0; tap < g->taps; tap++)
            for (int64_t step = 0; step < cut.steps; step++) {
                int64_t done, first = step_start(&cut, step, g->depth, &done);
                __mmask16 pairs = first_of(cut.pairs) & (__mmask16)~first_of(done);
                for (int64_t r = 0; r < rows; r++) {
                    const uint32_t *from = (const uint32_t *)g->sources[tap * g->pitch + row + r] + g->first + first;
                    _mm512_store_si512(buffer.rows[r], _mm512_maskz_loadu_epi32(pairs, from));
                }
                multiply(&cut, &buffer, (const uint32_t *)g->panel + (tap * g->depth + first) * width);
            }
        store_sums(&cut, &buffer);
        finish(g, row, rows, &buffer);
    }
    _tile_release();
}

/* Here a row of the left operand is a channel, and its pairs come from as many pixels: the buffer is transposed. */
static void transpose_rows(const struct gemm_over_pixels *g, const struct cut *cut, int64_t row, int64_t rows,
                           int64_t first, int64_t done, struct buffer *buffer) {
    static const uint32_t zeros[SIDE];
    const void *from[SIDE];
    for (int64_t begin = 0; begin < rows; begin += cut->half) {
        for (int64_t p = 0; p < cut->pairs; p++)
            from[p] = p < done ? zeros : (const uint32_t *)g->sources[first + p] + g->first + row + begin;
        kernel_set_avx512.f32.columns_from_pixels(from, cut->pairs, min64(rows - begin, cut->half), buffer->rows[begin],
                                                  SIDE);
    }
}

static void gemm_over_pixels_amx(const struct gemm_over_pixels *g) {
    if (g->rows < 1)
        return;
    struct cut cut = cut_into_tiles(g->rows, g->columns, g->pixels);
    struct buffer buffer = {0};
    configure(&cut);
    for (int64_t row = 0; row < g->rows; row += 2 * cut.half) {
        int64_t rows = min64(2 * cut.half, g->rows - row);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int64_t step = 0; step < cut.steps; step++) {
            int64_t done, first = step_start(&cut, step, g->pixels, &done);
            transpose_rows(g, &cut, row, rows, first, done, &buffer);
            multiply(&cut, &buffer, (const uint32_t *)g->panel + first * g->columns);
        }
        store_sums(&cut, &buffer);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t n = 0; n < g->columns; n += SIDE) {
                float *result = (float *)g->result + (row + r) * g->result_step + n;
                __m512 sum = _mm512_load_ps(buffer.sums[r] + n);
                if (g->before)
                    sum = _mm512_add_ps(sum, _mm512_loadu_ps((const float *)g->before + (row + r) * g->columns + n));
                _mm512_mask_storeu_ps(result, first_of(g->stored - n), sum);
            }
    }
    _tile_release();
}

/* Linux gives a process the tiles' registers on request, and may refuse. */
static bool ask_for_tiles(void) {
    const long request_permission = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    const unsigned needed = bit_AMX_TILE | bit_AMX_BF16;
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & needed) == needed &&
           syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

static bool supported(void) {
    enum { UNKNOWN, REFUSED, GRANTED };
    static atomic_int answer = UNKNOWN;
    int known = atomic_load_explicit(&answer, memory_order_relaxed);
    if (known == UNKNOWN) {
        known = bf16_avx512.supported() && ask_for_tiles() ? GRANTED : REFUSED;
        atomic_store_explicit(&answer, known, memory_order_relaxed);
    }
    return known == GRANTED;
}

static void clear(void *result, int64_t count, bool stream) {
    (void)stream;
    memset(result, 0, (size_t)count * sizeof(float));
}

const struct bf16 bf16_amx = {
    .supported = supported,
    .kernels = {.lanes = SIDE,
                .rows = ROWS,
                .vectors = 2,
                .clear = clear,
                .gemm = gemm_amx,
                .gemm_over_pixels = gemm_over_pixels_amx},
    .tiles = true,
    .lines = &bf16_avx512.kernels,
    .round = bf16_round,
    .round_pixels = bf16_round_pixels,
    .round_pairs = bf16_round_pairs,
};

#endif
