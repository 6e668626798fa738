/* The indirection table: which pixel each tap of each row of a product reads.
 *
 * All three maps walk their pixels along an axis by one rule: the j-th pixel of the walk is pixel start + j * step, and
 * its t-th tap reads source pixel j * source_step + offset + t * offset_step, or zeros when that lies outside the
 * source. Convolution and its weight gradient walk the output once. The input gradient walks the input once for each of
 * stride phases: the pixels of one phase meet the same taps, and within a phase the sources are adjacent. */
#pragma once
#include "internal.h"

struct axis {
    int64_t count, start, step;                            /* pixels walked */
    int64_t source_size, source_step, offset, offset_step; /* where their taps read */
    int64_t taps, first_tap, tap_step;                     /* which of the kernel's taps these are */
    int64_t taps_before;                                   /* taps of the phases that are stored before this one */
};

struct axis walk_output(const struct conv2d_geometry *geometry, int axis);
struct axis walk_input(const struct conv2d_geometry *geometry, int axis, int64_t phase);
/* Phases of one axis that have pixels: min(stride, input). */
int64_t input_phases(const struct conv2d_geometry *geometry, int axis);

/* A walk over the pixels of all images of a batch, rows of the image outside columns. */
struct walk {
    struct axis axis[2];
    int64_t batch;
};

static inline int64_t walk_pixels(const struct walk *walk) {
    return walk->batch * walk->axis[0].count * walk->axis[1].count;
}

/* For the `count` pixels from `first` on: sources[tap * pitch + pixel] = the pixel read of `source`, an image batch
 * whose pixels are `pixel_size` bytes apart, or `zeros`. */
void fill_sources(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                  const void *zeros, const void **sources, int64_t pitch);
/* For the same pixels: where in `result`, a batch of images of the given size, they lie. */
void fill_results(const struct walk *walk, int64_t first, int64_t count, char *result, const int64_t size[2],
                  int64_t pixel_size, void **results);
/* Copies instead of a table: patches[pixel] points at all taps of a pixel side by side in `copies`, zeros where they
 * lie outside. Pays where pixels have few channels. */
void copy_patches(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                  char *copies, const void **patches);
/* What `count` pixels from `first` on read that those before them did not, as a range of memory; roughly, and nothing
 * where the pixels read do not lie side by side. */
const char *new_sources(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                        int64_t *bytes);

/* At most this many different source pixels are read by `count` pixels in a row of a walk. */
int64_t most_sources(const struct walk *walk, int64_t count);
/* How many source pixels lie between the first and the last that `count` pixels in a row may read. */
int64_t most_range(const struct walk *walk, int64_t count);
/* Replaces the table's pixels (filled for the `count` pixels from `first` on) by copies, `copy_size` bytes apart, that
 * the caller is to make: pixels[n] is what copy number n is of. Returns how many there are. `numbers` is room for
 * most_range() numbers. */
int64_t number_sources(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                       const void *zeros, const void **sources, int64_t pitch, int32_t *numbers, char *copies,
                       int64_t copy_size, const char **pixels);
