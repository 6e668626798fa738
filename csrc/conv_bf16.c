/* Convolution and its input gradient on bfloat16 numbers, two of which are multiplied where one float is.
 *
 * Two neighbours along the reduction (channels of the source) are a pair, as large as a float. So this is the direct
 * algorithm, or for few channels that over copied lines, on a problem with half as many source channels, and with another
 * multiply-add. Stage 0 rounds source and weights to pairs, of one or more parts; the other stages are that algorithm's.
 * Where a single tap reads pairs of one part, it is the direct algorithm that rounds the source, block by block. Of
 * several products of parts, the smaller are summed first, over the whole reduction: next to them the roundings of the
 * last sum are the only large ones, as many as in a sum of floats. */
#include "internal.h"

enum { ROUNDED_AT_ONCE = 1 << 15 }; /* values of the source, in an item */

struct layout {
    struct conv2d_plan pairs;                 /* the plan of the algorithm that multiplies */
    const struct kernels *kernels;            /* its kernels */
    int64_t source_channels, parts;           /* of the source */
    int64_t pixels;                           /* of the source, that stage 0 rounds */
    int64_t pixels_at_once, filters;          /* of an item: pixels; items of weights */
    int64_t pixel, part;                      /* bytes of a part of a pixel, of a part of the weights */
    int64_t source, weights;                  /* bytes of their pairs */
};

static bool forward(const struct conv2d_plan *plan) { return plan->map == CONV2D; }

static struct layout layout_of(const struct conv2d_plan *plan, const struct conv2d_algorithm *multiplier) {
    const struct conv2d_geometry *g = &plan->geometry;
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    struct layout l = {
        .pairs = *plan,
        .kernels = multiplier == &lines ? bf16->lines : &bf16->kernels,
        .source_channels = forward(plan) ? g->in_channels : g->out_channels,
    };
    const int64_t *size = forward(plan) ? g->input : g->output;
    int64_t *channels = forward(plan) ? &l.pairs.geometry.in_channels : &l.pairs.geometry.out_channels;
    *channels = ceil_div(*channels, 2);
    l.parts = parts_of(plan->products);
    if (multiplier == &direct && g->kernel[0] * g->kernel[1] == 1 && l.parts == 1 && l.source_channels % 2 == 0)
        l.pairs.unrounded = l.source_channels;
    else
        l.pixels = g->batch * size[0] * size[1];
    l.pixels_at_once = max64(ROUNDED_AT_ONCE / max64(l.source_channels, 1), 1);
    l.filters = forward(plan) ? g->out_channels : ceil_div(g->out_channels, 2);
    l.pixel = *channels * 4;
    l.part = l.pairs.geometry.in_channels * l.pairs.geometry.out_channels * g->kernel[0] * g->kernel[1] * 4;
    l.source = cache_lines(l.pixels * l.parts * l.pixel);
    l.weights = cache_lines(l.parts * l.part);
    return l;
}

static bool plan_products(struct conv2d_plan *plan, const struct conv2d_algorithm *multiplier, int32_t products) {
    if (!bf16_for(plan->isa, plan->element_size) || plan->map == CONV2D_WEIGHT || plan->geometry.groups != 1)
        return false;
    plan->products = products;
    struct layout l = layout_of(plan, multiplier);
    if (!multiplier->plan(&l.pairs, l.kernels))
        return false;
    plan->stages = 3;
    plan->items[0] = ceil_div(l.pixels, l.pixels_at_once) + l.filters;
    plan->nanoseconds[0] = (double)(l.source + l.weights) / 16;
    for (int stage = 0; stage < 2; stage++) {
        plan->items[stage + 1] = l.pairs.items[stage];
        plan->nanoseconds[stage + 1] = l.pairs.nanoseconds[stage];
    }
    plan->workspace_size = l.source + l.weights + l.pairs.workspace_size;
    return true;
}

static bool plan_one(struct conv2d_plan *plan, const struct kernels *kernels) {
    (void)kernels;
    return plan_products(plan, &direct, 1);
}

static bool plan_three(struct conv2d_plan *plan, const struct kernels *kernels) {
    (void)kernels;
    return plan_products(plan, &direct, 3);
}

static bool plan_six(struct conv2d_plan *plan, const struct kernels *kernels) {
    (void)kernels;
    return plan_products(plan, &direct, 6);
}

static bool plan_lines(struct conv2d_plan *plan, const struct kernels *kernels) {
    (void)kernels;
    return plan_products(plan, &lines, 1);
}

static bool round_source(const struct conv2d_job *job, const struct layout *l, int64_t item) {
    const struct bf16 *bf16 = bf16_for(job->plan->isa, job->plan->element_size);
    int64_t first = item * l->pixels_at_once, count = min64(l->pixels - first, l->pixels_at_once);
    const float *from = (const float *)(forward(job->plan) ? job->x : job->y) + first * l->source_channels;
    char *to = job->workspace + first * l->parts * l->pixel;
    if (l->parts == 1)
        return bf16->round_pixels(from, count, l->source_channels, (uint16_t *)to);
    bool good = true;
    for (int64_t pixel = 0; pixel < count; pixel++, from += l->source_channels, to += l->parts * l->pixel)
        good &= bf16->round(from, l->source_channels, l->parts, to, l->pixel);
    return good;
}

/* The pairs of a filter or, of the input gradient, of a pair of filters. */
static bool round_weights(const struct conv2d_job *job, const struct layout *l, int64_t item) {
    const struct bf16 *bf16 = bf16_for(job->plan->isa, job->plan->element_size);
    const struct conv2d_geometry *g = &job->plan->geometry;
    int64_t taps = g->kernel[0] * g->kernel[1], line = g->in_channels * taps;
    const float *weight = (const float *)job->weight;
    float *to = (float *)(job->workspace + l->source);
    if (!forward(job->plan)) {
        weight += 2 * item * line;
        const float *second = 2 * item + 1 < g->out_channels ? weight + line : NULL;
        return bf16->round_pairs(weight, second, line, l->parts, to + item * line, l->part);
    }
    weight += item * line;
    to += item * ceil_div(g->in_channels, 2) * taps;
    if (taps == 1)
        return bf16->round(weight, line, l->parts, to, l->part);
    bool good = true;
    for (int64_t c = 0; c < g->in_channels; c += 2, weight += 2 * taps, to += taps) {
        const float *second = c + 1 < g->in_channels ? weight + taps : NULL;
        good &= bf16->round_pairs(weight, second, taps, l->parts, to, l->part);
    }
    return good;
}

static void round_operands(const struct conv2d_job *job, const struct conv2d_algorithm *multiplier, int64_t item) {
    struct layout l = layout_of(job->plan, multiplier);
    int64_t items = ceil_div(l.pixels, l.pixels_at_once);
    if (!(item < items ? round_source(job, &l, item) : round_weights(job, &l, item - items)))
        atomic_store_explicit(job->status, STATUS_NOT_FINITE, memory_order_relaxed);
}

static void run(const struct conv2d_job *job, const struct conv2d_algorithm *multiplier, int stage, int64_t item,
                int32_t thread) {
    struct layout l = layout_of(job->plan, multiplier);
    for (int s = 0; s < 2; s++)
        l.pairs.items[s] = job->plan->items[s + 1];
    struct conv2d_job pairs = *job;
    pairs.plan = &l.pairs;
    pairs.kernels = l.kernels;
    if (!l.pairs.unrounded)
        *(forward(job->plan) ? &pairs.x : &pairs.y) = job->workspace;
    pairs.weight = job->workspace + l.source;
    pairs.workspace = job->workspace + l.source + l.weights;
    multiplier->stage[stage](&pairs, item, thread);
}

/* The stages for each algorithm that multiplies. */
#define STAGES(multiplier) \
    static void round_for_##multiplier(const struct conv2d_job *job, int64_t item, int32_t thread) { \
        (void)thread; \
        round_operands(job, &multiplier, item); \
    } \
    static void pack_##multiplier(const struct conv2d_job *job, int64_t item, int32_t thread) { \
        run(job, &multiplier, 0, item, thread); \
    } \
    static void multiply_##multiplier(const struct conv2d_job *job, int64_t item, int32_t thread) { \
        run(job, &multiplier, 1, item, thread); \
    }
STAGES(direct)
STAGES(lines)

#define STAGES_OF(multiplier) {round_for_##multiplier, pack_##multiplier, multiply_##multiplier}
const struct conv2d_algorithm direct_bf16 = {"direct_bf16", plan_one, STAGES_OF(direct)};
const struct conv2d_algorithm direct_bf16x3 = {"direct_bf16x3", plan_three, STAGES_OF(direct)};
const struct conv2d_algorithm direct_bf16x6 = {"direct_bf16x6", plan_six, STAGES_OF(direct)};
const struct conv2d_algorithm lines_bf16 = {"lines_bf16", plan_lines, STAGES_OF(lines)};
