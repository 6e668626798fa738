/* Copied lines: a few lines of an image, with the zeros that pad them, where every tap of a pixel can be read. */
#pragma once
#include "internal.h"

/* Copies `count` lines of an image of size[0] lines of size[1] pixels, from line `first` on, and of each line `width`
 * pixels from column `low` on; zeros are what lies outside the image. */
void copy_lines(const char *image, const int64_t size[2], int64_t pixel_bytes, int64_t first, int64_t count, int64_t low,
                int64_t width, char *to);
