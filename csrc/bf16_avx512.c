/* Products of bfloat16 pairs for AVX-512 with its bfloat16 extension: the direct product at two multiply-adds a lane.
 *
 * A pair of neighbours along the reduction fills the 32 bits of a float, and the sum of its two products is added to a
 * float: so the text of the micro-kernel stays as it is, with another multiply-add. */
#include "internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define VECTOR_BYTES 64
#define ROWS 14
#define T float
#define NAME(x) x##_bf16
#define MULTIPLY_ADD(pair, pairs, sum) \
    ((V)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)_mm512_set1_ps(pair), (__m512bh)(pairs)))
#include "gemm.inc"

static const int32_t MAGNITUDE = 0x7fffffff, INFINITE = 0x7f800000, ROUNDS_TO_INFINITE = 0x7f7f8000;

/* Which of these numbers are finite and would not be after rounding. */
static inline __mmask16 overflows(__m512 x) {
    __m512i size = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(MAGNITUDE));
    return _mm512_cmp_epi32_mask(size, _mm512_set1_epi32(ROUNDS_TO_INFINITE), _MM_CMPINT_NLT) &
           _mm512_cmp_epi32_mask(size, _mm512_set1_epi32(INFINITE), _MM_CMPINT_LT);
}

static inline __mmask16 first_of(int64_t count) { return count < 16 ? (__mmask16)((1u << count) - 1) : 0xffff; }

static bool round_line(const float *from, int64_t count, void *to) {
    __mmask16 bad = 0;
    for (int64_t i = 0; i < count; i += 16) {
        __m512 x = _mm512_maskz_loadu_ps(first_of(count - i), from + i);
        bad |= overflows(x);
        __m256i rounded = (__m256i)_mm512_cvtneps_pbh(x);
        _mm256_mask_storeu_epi16((uint16_t *)to + i, first_of(round_up(count - i, 2)), rounded);
    }
    return bad == 0;
}

static bool round_pairs(const float *first, const float *second, int64_t count, void *to) {
    __mmask16 bad = 0;
    for (int64_t i = 0; i < count; i += 16) {
        __mmask16 valid = first_of(count - i);
        __m512 low = _mm512_maskz_loadu_ps(valid, first + i);
        __m512 high = second ? _mm512_maskz_loadu_ps(valid, second + i) : _mm512_setzero_ps();
        bad |= overflows(low) | overflows(high);
        __m512i pairs = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
        pairs = _mm512_or_si512(pairs, _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high)), 16));
        _mm512_mask_storeu_epi32((uint32_t *)to + i, valid, pairs);
    }
    return bad == 0;
}

static const struct bf16 bf16 = {
    .kernels = {.lanes = LANES, .rows = ROWS, .vectors = NAME(VECTORS), .gemm = NAME(gemm), .gemm_over_pixels = NAME(gemm_over_pixels)},
    .round = round_line,
    .round_pairs = round_pairs,
};

const struct bf16 *bf16_for(int32_t isa, int32_t element_size) {
    bool avx512 = isa_supported(isa) && strcmp(isa_name(isa), "avx512") == 0;
    return avx512 && element_size == 4 && __builtin_cpu_supports("avx512bf16") ? &bf16 : NULL;
}

#else
const struct bf16 *bf16_for(int32_t isa, int32_t element_size) {
    (void)isa;
    (void)element_size;
    return NULL;
}
#endif
