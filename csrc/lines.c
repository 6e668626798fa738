/* Copying lines (lines.h). */
#include <string.h>
#include "lines.h"

void copy_lines(const char *image, const int64_t size[2], int64_t pixel_bytes, int64_t first, int64_t count, int64_t low,
                int64_t width, char *to) {
    int64_t begin = min64(max64(-low, 0), width), end = max64(min64(size[1] - low, width), begin);
    size_t left = (size_t)(begin * pixel_bytes), inside = (size_t)((end - begin) * pixel_bytes);
    for (int64_t row = first; row < first + count; row++, to += width * pixel_bytes) {
        if (row < 0 || row >= size[0] || begin == end) {
            memset(to, 0, (size_t)(width * pixel_bytes));
            continue;
        }
        memset(to, 0, left);
        memcpy(to + left, image + ((row * size[1] + low + begin) * pixel_bytes), inside);
        memset(to + left + inside, 0, (size_t)(width * pixel_bytes) - left - inside);
    }
}
