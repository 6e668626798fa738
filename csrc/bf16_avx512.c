/* Products of bfloat16 pairs for AVX-512 with its bfloat16 extension: the direct product at two multiply-adds a lane.
 *
 * A pair of neighbours along the reduction fills the 32 bits of a float, and the sum of its two products is added to a
 * float: so the text of the micro-kernel stays as it is, with another multiply-add. */
#include "internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define VECTOR_BYTES 64
#define ROWS 14
#define T float
#define NAME(x) x##_bf16
#define MULTIPLY_ADD(pair, pairs, sum) \
    ((V)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)_mm512_set1_ps(pair), (__m512bh)(pairs)))
#include "gemm.inc"
#include "transpose.inc"
#include "lines.inc"

enum {
    MAGNITUDE = 0x7fffffff,
    LARGE = 0x5d800000,  /* 2^60, from which on products of parts may overflow with either sign */
    SMALL = 0x10000000,  /* 2^-95, below which the last of three parts may underflow */
    NORMAL = 0x00800000, /* 2^-126, below which numbers count as zero */
};

static inline __mmask16 out_of_range(__m512 x) {
    __m512i size = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(MAGNITUDE));
    return _mm512_cmp_epi32_mask(size, _mm512_set1_epi32(LARGE), _MM_CMPINT_NLT) |
           (_mm512_cmp_epi32_mask(size, _mm512_set1_epi32(SMALL), _MM_CMPINT_LT) &
            _mm512_cmp_epi32_mask(size, _mm512_set1_epi32(NORMAL), _MM_CMPINT_NLT));
}

static inline __mmask16 first_of(int64_t count) { return count < 16 ? (__mmask16)((1u << count) - 1) : 0xffff; }

/* The next part of x, which is subtracted from it. */
static inline __m256i take_part(__m512 *x) {
    __m256i part = (__m256i)_mm512_cvtneps_pbh(*x);
    *x = _mm512_sub_ps(*x, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(part), 16)));
    return part;
}

/* The numbers of `low`, then those of `high`, rounded. `greatest` keeps the greatest of magnitudes, shifted to the left. */
static inline __m512i round_two(__m512 low, __m512 high, __m512i *greatest) {
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    *greatest = _mm512_max_epu16(*greatest, _mm512_slli_epi16(both, 1));
    return both;
}

/* Pairs of a number of the lower and one of the upper half of round_two's. */
static inline __m512i pair_up(__m512i both) {
    const __m512i low_halves = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i high_halves = _mm512_add_epi32(low_halves, _mm512_set1_epi32(16));
    return _mm512_permutexvar_epi16(_mm512_or_si512(low_halves, _mm512_slli_epi32(high_halves, 16)), both);
}

static inline bool all_finite(__m512i greatest) {
    const short infinite = (short)0xff00;
    return _mm512_cmp_epu16_mask(greatest, _mm512_set1_epi16(infinite), _MM_CMPINT_NLT) == 0;
}

/* The only part of each number. */
static bool round_whole(const float *from, int64_t count, uint16_t *to) {
    __m512i greatest = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 32) {
        __m512 low = _mm512_maskz_loadu_ps(first_of(count - i), from + i);
        __m512 high = _mm512_maskz_loadu_ps(first_of(max64(count - i - 16, 0)), from + i + 16);
        __mmask16 pairs = first_of(ceil_div(count - i, 2));
        _mm512_mask_storeu_epi32(to + i, pairs, round_two(low, high, &greatest));
    }
    return all_finite(greatest);
}

/* Pixels of an odd number of channels, up to 31: as many as fill a vector of pairs are taken from two of numbers. */
static bool round_odd_pixels(const float *from, int64_t pixels, int64_t channels, uint16_t *to) {
    const int64_t pairs = ceil_div(channels, 2), at_once = 16 / pairs;
    int first[16];
    __mmask16 paired = 0;
    for (int64_t i = 0; i < 16; i++) {
        first[i] = (int)min64(i / pairs * channels + i % pairs * 2, 31);
        paired |= (__mmask16)((i % pairs < channels / 2) << i);
    }
    const __m512i low = _mm512_loadu_si512(first), high = _mm512_add_epi32(low, _mm512_set1_epi32(1));
    __m512i greatest = _mm512_setzero_si512();
    for (; pixels > 0; pixels -= at_once, from += at_once * channels, to += at_once * pairs * 2) {
        int64_t count = min64(pixels, at_once), numbers = count * channels;
        __m512 a = _mm512_maskz_loadu_ps(first_of(numbers), from);
        __m512 b = _mm512_maskz_loadu_ps(first_of(max64(numbers - 16, 0)), from + 16);
        __m512i both = round_two(_mm512_permutex2var_ps(a, low, b), _mm512_maskz_permutex2var_ps(paired, a, high, b),
                                 &greatest);
        _mm512_mask_storeu_epi32(to, first_of(count * pairs), pair_up(both));
    }
    return all_finite(greatest);
}

bool bf16_round_pixels(const float *from, int64_t pixels, int64_t channels, uint16_t *to) {
    if (channels % 2 == 0)
        return round_whole(from, pixels * channels, to);
    if (channels < 32)
        return round_odd_pixels(from, pixels, channels, to);
    bool good = true;
    for (int64_t pixel = 0; pixel < pixels; pixel++, from += channels, to += channels + 1)
        good &= round_whole(from, channels, to);
    return good;
}

static bool round_whole_pairs(const float *first, const float *second, int64_t count, uint32_t *to) {
    __m512i greatest = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 16) {
        __mmask16 valid = first_of(count - i);
        __m512 low = _mm512_maskz_loadu_ps(valid, first + i);
        __m512 high = second ? _mm512_maskz_loadu_ps(valid, second + i) : _mm512_setzero_ps();
        _mm512_mask_storeu_epi32(to + i, valid, pair_up(round_two(low, high, &greatest)));
    }
    return all_finite(greatest);
}

bool bf16_round(const float *from, int64_t count, int64_t parts, void *to, int64_t step) {
    if (parts == 1)
        return round_whole(from, count, to);
    __mmask16 bad = 0;
    for (int64_t i = 0; i < count; i += 16) {
        __m512 x = _mm512_maskz_loadu_ps(first_of(count - i), from + i);
        bad |= out_of_range(x);
        for (int64_t part = 0; part < parts; part++)
            _mm256_mask_storeu_epi16((uint16_t *)((char *)to + part * step) + i, first_of(round_up(count - i, 2)),
                                     take_part(&x));
    }
    return bad == 0;
}

bool bf16_round_pairs(const float *first, const float *second, int64_t count, int64_t parts, void *to, int64_t step) {
    if (parts == 1)
        return round_whole_pairs(first, second, count, to);
    __mmask16 bad = 0;
    for (int64_t i = 0; i < count; i += 16) {
        __mmask16 valid = first_of(count - i);
        __m512 low = _mm512_maskz_loadu_ps(valid, first + i);
        __m512 high = second ? _mm512_maskz_loadu_ps(valid, second + i) : _mm512_setzero_ps();
        bad |= out_of_range(low) | out_of_range(high);
        for (int64_t part = 0; part < parts; part++) {
            __m512i pairs = _mm512_cvtepu16_epi32(take_part(&low));
            pairs = _mm512_or_si512(pairs, _mm512_slli_epi32(_mm512_cvtepu16_epi32(take_part(&high)), 16));
            _mm512_mask_storeu_epi32((uint32_t *)((char *)to + part * step) + i, valid, pairs);
        }
    }
    return bad == 0;
}

static bool supported(void) { return __builtin_cpu_supports("avx512bf16"); }

const struct bf16 bf16_avx512 = {
    .supported = supported,
    .kernels = {.lanes = LANES,
                .rows = ROWS,
                .vectors = NAME(VECTORS),
                .clear = NAME(clear),
                .gemm = NAME(gemm),
                .gemm_over_pixels = NAME(gemm_over_pixels),
                .line_planes = NAME(line_planes),
                .line_gemm = NAME(line_gemm),
                .line_outer = NAME(line_outer)},
    .lines = &bf16_avx512.kernels,
    .round = bf16_round,
    .round_pixels = bf16_round_pixels,
    .round_pairs = bf16_round_pairs,
};

#endif
