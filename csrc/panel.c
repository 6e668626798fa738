/* Panels (panel.h) for both element types. Moving values needs no arithmetic, so elements move as integers of their
 * size. */
#include <string.h>
#include "panel.h"

enum {
    CACHE_LINE = 64, /* bytes */
    AHEAD = 3 * CACHE_LINE, /* bytes of a column's weights that are fetched before they are read or written */
};

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED_FOR _Pragma("GCC unroll 16") for

#define T uint32_t
#define NAME(x) x##_32
#include "panel.inc"
#undef T
#undef NAME

#define T uint64_t
#define NAME(x) x##_64
#include "panel.inc"

void pack_panel(const struct panel *phases, int64_t count, int32_t element_size, const void *weight, int64_t begin,
                int64_t end, void *packed) {
    if (element_size == 4)
        pack_32(phases, count, weight, begin, end, packed);
    else
        pack_64(phases, count, weight, begin, end, packed);
}

void unpack_panel(const struct panel *panel, int32_t element_size, const void *packed, void *weight) {
    if (element_size == 4)
        unpack_32(panel, packed, weight);
    else
        unpack_64(panel, packed, weight);
}
