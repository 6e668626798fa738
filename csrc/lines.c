/* Copying lines, and fetching what will be copied (lines.h). */
#include <string.h>
#include "lines.h"

/* Zeros for some pixels of all sets. */
static void clear(const struct line_copy *c, int64_t pixels, char *to) {
    for (int64_t set = 0; set < c->sets; set++)
        memset(to + set * c->set_step * c->element_size, 0, (size_t)(pixels * c->channels * c->element_size));
}

bool copy_lines(const struct kernels *kernels, const struct line_copy *c, char *to) {
    int64_t begin = min64(max64(-c->low, 0), c->width), end = max64(min64(c->size[1] - c->low, c->width), begin);
    int64_t copied = c->channels * c->element_size;
    bool whole = c->channels == c->pixel && c->turns == 1, good = true;
    kernels = c->turns == 1 ? narrowed(kernels, c->channels) : kernels;
    for (int64_t row = c->first; row < c->first + c->count; row++, to += c->width * copied) {
        if (row < 0 || row >= c->size[0] || begin == end) {
            clear(c, c->width, to);
            continue;
        }
        int64_t first = (row * c->size[1] + c->low + begin) * c->pixel * c->element_size;
        const char *from = c->image + first;
        clear(c, begin, to);
        if (c->bf16)
            good &= c->bf16->round_pairs((const float *)from, c->partner ? (const float *)(c->partner + first) : NULL,
                                         (end - begin) * c->channels, 1, to + begin * copied, 0);
        else if (whole)
            memcpy(to + begin * copied, from, (size_t)((end - begin) * copied));
        else
            kernels->copy_pixels(&(struct pixel_copy){
                .pixels = end - begin,
                .sets = c->sets,
                .channels = c->channels,
                .turns = c->turns,
                .step = c->pixel,
                .set_step = c->set_step,
                .source = from,
                .result = to + begin * copied,
            });
        clear(c, c->width - end, to + end * copied);
    }
    return good;
}

struct ahead look_ahead(const char *first, int64_t pixels, int64_t bytes, int64_t pixel, int64_t shares) {
    struct ahead a = {first, pixels, bytes, pixel, 0};
    if (bytes == pixel) { /* there are no gaps */
        a.pieces = ceil_div(pixels * bytes, 64);
        a.bytes = a.step = 64;
    }
    a.share = ceil_div(a.pieces, max64(shares, 1));
    return a;
}

void fetch_share(struct ahead *a) {
    int64_t pieces = min64(a->share, a->pieces);
    for (int64_t piece = 0; piece < pieces; piece++)
        for (int64_t byte = 0; byte < a->bytes; byte += 64)
            __builtin_prefetch(a->next + piece * a->step + byte, 0, 2);
    a->next += pieces * a->step;
    a->pieces -= pieces;
}
