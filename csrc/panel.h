/* Panels: weights in the order in which the micro-kernel reads them.
 *
 * The columns of a group (the channels of the result) are cut into panels of two vectors; the last may be one vector
 * wide and is padded with zeros. A panel is [chunk][tap][channel][column]: the channels of the reduction come in chunks
 * that are small enough for a panel's chunk to stay in the second-level cache while a block of pixels passes. */
#pragma once
#include "internal.h"

/* A view of OIHW weights as one panel. Taps form a grid: of a strided input gradient, those of one phase, which begin
 * in the panel after `taps_before` others. */
struct panel {
    int64_t columns, width; /* real columns, and with padding */
    int64_t depth, chunk;   /* channels, and channels in a chunk */
    int64_t taps[2];        /* the grid, of at least one */
    int64_t taps_before;
    int64_t origin;         /* the weight at column 0, channel 0, first tap */
    int64_t column_step, channel_step, tap_step[2];
    int64_t next; /* bytes from a packed line to one that will be written soon */
};

/* Packs channels begin..end of a panel, in all of its phases, which differ in their taps. */
void pack_panel(const struct panel *phases, int64_t count, int32_t element_size, const void *weight, int64_t begin,
                int64_t end, void *packed);
/* The inverse, for a panel of whole filters in one chunk; its padding is ignored. */
void unpack_panel(const struct panel *panel, int32_t element_size, const void *packed, void *weight);

/* The columns of all groups, cut into panels: numbers shared by the stages of the direct algorithms. */
struct panels {
    int64_t groups, columns, padded; /* columns of a group, and with padding */
    int64_t width, count;            /* columns of a whole panel, panels of a group */
};

static inline struct panels cut_into_panels(int64_t groups, int64_t columns, const struct kernels *kernels) {
    int64_t width = kernels->lanes * kernels->vectors;
    return (struct panels){groups, columns, round_up(columns, kernels->lanes), width, ceil_div(columns, width)};
}

/* Panel number `unit` of all groups' panels. */
struct unit {
    int64_t group, column, columns, width; /* first column in the group, real columns, columns with padding */
    int64_t before;                        /* padded columns of all units before this one */
};

static inline struct unit unit_of(const struct panels *panels, int64_t unit) {
    int64_t count = max64(panels->count, 1); /* a group without columns has no panels */
    int64_t group = unit / count, column = unit % count * panels->width;
    return (struct unit){
        .group = group,
        .column = column,
        .columns = min64(panels->columns - column, panels->width),
        .width = min64(panels->padded - column, panels->width),
        .before = group * panels->padded + column,
    };
}
