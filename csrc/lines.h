/* Copied lines: a few lines of an image, with the zeros that pad them, where every tap of a pixel can be read. */
#pragma once
#include "internal.h"

enum {
    MAX_TURNS = 4,  /* groups in a vector */
    TURN_BYTES = 16 /* of their elements that are repeated over it, at most; columns of each are packed by so many */
};

/* How many groups of so many channels of the result fill a vector and take turns there (see `pixel_copy`), or 1. */
static inline int64_t turns_of(int64_t groups, int64_t channels, int64_t element_size, const struct kernels *kernels) {
    int64_t turns = channels && kernels->lanes % channels == 0 ? kernels->lanes / channels : 1;
    bool fit = turns <= MAX_TURNS && turns * element_size <= TURN_BYTES && channels * element_size % TURN_BYTES == 0;
    return fit && groups % turns == 0 ? turns : 1;
}

/* How far the copies of sets are apart: an odd number of cache lines, lest they evict each other. */
static inline int64_t set_bytes(int64_t bytes) { return round_up(bytes, 128) + 64; }

/* `count` lines of an image of size[0] lines of size[1] pixels, from line `first` on, and of each line `width` pixels from
 * column `low` on; zeros are what lies outside the image. A pixel has `pixel` elements, of which sets of channels are
 * copied, a set set_step elements after the other (see `pixel_copy`). With bf16, elements of the image and of its
 * `partner`, if there is one, are paired. */
struct line_copy {
    const char *image, *partner;
    const struct bf16 *bf16;
    const int64_t *size;
    int64_t element_size, pixel, sets, channels, turns, set_step, first, count, low, width;
};

/* False if a number is out of bf16's range. */
bool copy_lines(const struct kernels *kernels, const struct line_copy *copy, char *to);

/* Pieces of an array that will be copied or read soon, and how many of them to fetch at once. */
struct ahead {
    const char *next;
    int64_t pieces, bytes, step, share;
};

/* Of so many bytes of each of some adjacent pixels. */
struct ahead look_ahead(const char *first, int64_t pixels, int64_t bytes, int64_t pixel, int64_t shares);

void fetch_share(struct ahead *ahead);
