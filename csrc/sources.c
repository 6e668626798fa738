/* Building the indirection table (sources.h), after Dukhan, "The Indirect Convolution Algorithm" (arXiv:1907.02129). */
#include <string.h>
#include "sources.h"

struct axis walk_output(const struct conv2d_geometry *geometry, int axis) {
    return (struct axis){
        .count = geometry->output[axis],
        .start = 0,
        .step = 1,
        .source_size = geometry->input[axis],
        .source_step = geometry->stride[axis],
        .offset = -geometry->padding[axis],
        .offset_step = geometry->dilation[axis],
        .taps = geometry->kernel[axis],
        .first_tap = 0,
        .tap_step = 1,
        .taps_before = 0,
    };
}

static int64_t greatest_common_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t remainder = a % b;
        a = b;
        b = remainder;
    }
    return a;
}

int64_t input_phases(const struct conv2d_geometry *geometry, int axis) {
    return min64(geometry->stride[axis], geometry->input[axis]);
}

/* Input pixel h = phase + j * stride receives output pixel i through tap t when h = i * stride - padding + t *
 * dilation. The taps that solve this for whole i are every (stride / gcd(stride, dilation))-th, and i is then j +
 * (phase + padding - t * dilation) / stride. Taps are stored by the first tap of their phase, and walked from the last
 * to the first, so that sources ascend. */
struct axis walk_input(const struct conv2d_geometry *geometry, int axis, int64_t phase) {
    int64_t stride = geometry->stride[axis], dilation = geometry->dilation[axis], kernel = geometry->kernel[axis];
    int64_t common = greatest_common_divisor(stride, dilation);
    int64_t tap_step = stride / common;
    int64_t target = phase + geometry->padding[axis];
    int64_t first = 0;
    while (first < min64(tap_step, kernel) && (target - first * dilation) % stride != 0)
        first++;
    bool any = first < min64(tap_step, kernel);
    int64_t taps = any ? ceil_div(kernel - first, tap_step) : 0;
    int64_t last = first + (taps - 1) * tap_step;
    return (struct axis){
        .count = ceil_div(max64(geometry->input[axis] - phase, 0), stride),
        .start = phase,
        .step = stride,
        .source_size = geometry->output[axis],
        .source_step = 1,
        .offset = any ? (target - last * dilation) / stride : 0,
        .offset_step = dilation / common,
        .taps = taps,
        .first_tap = any ? last : 0,
        .tap_step = -tap_step,
        .taps_before = any ? first * (kernel / tap_step) + min64(first, kernel % tap_step) : 0,
    };
}

/* A pixel of a walk: image, row and column, in that order of significance. */
struct position {
    int64_t image, row, column;
};

static struct position locate(const struct walk *walk, int64_t pixel) {
    int64_t columns = walk->axis[1].count, rows = walk->axis[0].count;
    return (struct position){pixel / columns / rows, pixel / columns % rows, pixel % columns};
}

static void advance(const struct walk *walk, struct position *at) {
    if (++at->column == walk->axis[1].count) {
        at->column = 0;
        if (++at->row == walk->axis[0].count) {
            at->row = 0;
            at->image++;
        }
    }
}

void fill_sources(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                  const void *zeros, const void **sources, int64_t pitch) {
    const struct axis *vertical = &walk->axis[0], *horizontal = &walk->axis[1];
    if (count < 1)
        return;
    struct position at = locate(walk, first);
    for (int64_t pixel = 0; pixel < count; pixel++, advance(walk, &at)) {
        const void **entry = sources + pixel;
        int64_t left = at.column * horizontal->source_step + horizontal->offset;
        int64_t row = at.row * vertical->source_step + vertical->offset;
        for (int64_t u = 0; u < vertical->taps; u++, row += vertical->offset_step) {
            bool inside = row >= 0 && row < vertical->source_size;
            int64_t line = (at.image * vertical->source_size + row) * horizontal->source_size;
            int64_t column = left;
            for (int64_t v = 0; v < horizontal->taps; v++, column += horizontal->offset_step, entry += pitch)
                *entry = inside && column >= 0 && column < horizontal->source_size
                             ? source + (line + column) * pixel_size
                             : zeros;
        }
    }
}

void fill_results(const struct walk *walk, int64_t first, int64_t count, char *result, const int64_t size[2],
                  int64_t pixel_size, void **results) {
    const struct axis *vertical = &walk->axis[0], *horizontal = &walk->axis[1];
    if (count < 1)
        return;
    struct position at = locate(walk, first);
    for (int64_t pixel = 0; pixel < count; pixel++, advance(walk, &at)) {
        int64_t row = vertical->start + at.row * vertical->step;
        int64_t column = horizontal->start + at.column * horizontal->step;
        results[pixel] = result + ((at.image * size[0] + row) * size[1] + column) * pixel_size;
    }
}

/* The taps t of an axis with 0 <= start + t * step < size are begin..end. */
static inline void taps_inside(const struct axis *axis, int64_t start, int64_t *begin, int64_t *end) {
    int64_t size = axis->source_size;
    *begin = start < 0 ? min64(steps_over(-start, axis->offset_step), axis->taps) : 0;
    *end = start < size ? max64(min64(steps_over(size - start, axis->offset_step), axis->taps), *begin) : *begin;
}

void copy_patches(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                  char *copies, const void **patches) {
    /* By value: the compiler must assume that writing through a char pointer changes what other pointers show. */
    const struct axis vertical = walk->axis[0], horizontal = walk->axis[1];
    int64_t line_size = horizontal.source_size * pixel_size, copy_size = horizontal.taps * pixel_size;
    if (count < 1)
        return;
    struct position at = locate(walk, first);
    for (int64_t pixel = 0; pixel < count; pixel++, advance(walk, &at)) {
        patches[pixel] = copies;
        int64_t row = at.row * vertical.source_step + vertical.offset;
        int64_t column = at.column * horizontal.source_step + horizontal.offset;
        int64_t top, bottom, left, right;
        taps_inside(&vertical, row, &top, &bottom);
        taps_inside(&horizontal, column, &left, &right);
        const char *image = source + at.image * vertical.source_size * line_size + column * pixel_size;
        for (int64_t u = 0; u < vertical.taps; u++, copies += copy_size) {
            if (u < top || u >= bottom || left == right) {
                memset(copies, 0, (size_t)copy_size);
                continue;
            }
            const char *line = image + (row + u * vertical.offset_step) * line_size;
            if (left > 0)
                memset(copies, 0, (size_t)(left * pixel_size));
            if (horizontal.offset_step == 1)
                memcpy(copies + left * pixel_size, line + left * pixel_size, (size_t)((right - left) * pixel_size));
            else
                for (int64_t v = left; v < right; v++)
                    memcpy(copies + v * pixel_size, line + v * horizontal.offset_step * pixel_size, (size_t)pixel_size);
            if (right < horizontal.taps)
                memset(copies + right * pixel_size, 0, (size_t)(copy_size - right * pixel_size));
        }
    }
}

const char *new_sources(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                        int64_t *bytes) {
    const struct axis *vertical = &walk->axis[0], *horizontal = &walk->axis[1];
    *bytes = 0;
    if (count < 1 || vertical->taps < vertical->source_step || horizontal->taps < horizontal->source_step)
        return source;
    struct position at = locate(walk, first);
    int64_t row = at.row * vertical->source_step + vertical->offset + (vertical->taps - 1) * vertical->offset_step;
    int64_t column = at.column * horizontal->source_step + horizontal->offset;
    int64_t line = at.image * vertical->source_size + max64(min64(row, vertical->source_size - 1), 0);
    int64_t pixel = line * horizontal->source_size + max64(min64(column, horizontal->source_size - 1), 0);
    int64_t rest = walk->batch * vertical->source_size * horizontal->source_size - pixel;
    *bytes = min64(count * vertical->source_step * horizontal->source_step, rest) * pixel_size;
    return source + pixel * pixel_size;
}

static int64_t most_images(const struct walk *walk, int64_t count) {
    return min64(ceil_div(count - 1, walk->axis[0].count * walk->axis[1].count) + 1, walk->batch);
}

/* Along one axis, when `count` pixels in a row are walked, `breaks` times of which the walk starts anew. */
static int64_t most_lines(const struct axis *axis, int64_t count, int64_t breaks) {
    if (axis->offset_step != 1)
        return count * axis->taps;
    return count * min64(axis->taps, axis->source_step) + breaks * max64(axis->taps - axis->source_step, 0);
}

int64_t most_sources(const struct walk *walk, int64_t count) {
    const struct axis *vertical = &walk->axis[0], *horizontal = &walk->axis[1];
    int64_t images = most_images(walk, count);
    int64_t rows = min64(ceil_div(count - 1, horizontal->count) + 1, images * vertical->count);
    int64_t lines = min64(most_lines(vertical, rows, images), images * vertical->source_size);
    int64_t columns = min64(most_lines(horizontal, horizontal->count, 1), horizontal->source_size);
    return min64(lines * columns, count * vertical->taps * horizontal->taps);
}

int64_t most_range(const struct walk *walk, int64_t count) {
    return most_images(walk, count) * walk->axis[0].source_size * walk->axis[1].source_size;
}

int64_t number_sources(const struct walk *walk, int64_t first, int64_t count, const char *source, int64_t pixel_size,
                       const void *zeros, const void **sources, int64_t pitch, int32_t *numbers, char *copies,
                       int64_t copy_size, const char **pixels) {
    const struct axis *vertical = &walk->axis[0], *horizontal = &walk->axis[1];
    int64_t image = first / (vertical->count * horizontal->count);
    const char *origin = source + image * vertical->source_size * horizontal->source_size * pixel_size;
    memset(numbers, -1, (size_t)(most_range(walk, count) * (int64_t)sizeof *numbers));
    int32_t found = 0;
    for (int64_t tap = 0; tap < vertical->taps * horizontal->taps; tap++)
        for (int64_t pixel = 0; pixel < count; pixel++) {
            const void **entry = &sources[tap * pitch + pixel];
            if (*entry == zeros)
                continue;
            int32_t *number = &numbers[((const char *)*entry - origin) / pixel_size];
            if (*number < 0) {
                pixels[found] = *entry;
                *number = found++;
            }
            *entry = copies + *number * copy_size;
        }
    return found;
}
