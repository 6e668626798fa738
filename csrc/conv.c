/* Planning and running the three convolution maps. To add an algorithm, add a row to the table. */
#include <string.h>
#include "internal.h"

/* In order of preference: the first whose plan accepts the problem serves it. */
static const struct conv2d_algorithm *const algorithms[] = {&depthwise, &depthwise_weight, &direct, &direct_weight};

int32_t conv2d_algorithm_count(void) { return sizeof algorithms / sizeof *algorithms; }

const char *conv2d_algorithm_name(int32_t algorithm) {
    return algorithm >= 0 && algorithm < conv2d_algorithm_count() ? algorithms[algorithm]->name : NULL;
}

void add_arrays(int32_t element_size, int64_t count, const void *from, void *to) {
    if (element_size == 4)
        for (int64_t i = 0; i < count; i++)
            ((float *)to)[i] += ((const float *)from)[i];
    else
        for (int64_t i = 0; i < count; i++)
            ((double *)to)[i] += ((const double *)from)[i];
}

/* Sizes come checked from Python; this is the second look that keeps 64-bit arithmetic safe whoever calls. */
static bool too_large(const int64_t *sizes, int count) {
    int64_t product = 8;
    for (int i = 0; i < count; i++)
        if (sizes[i] < 0 || __builtin_mul_overflow(product, max64(sizes[i], 1), &product) || product > INT64_C(1) << 47)
            return true;
    return false;
}

static int32_t check(const struct conv2d_geometry *g) {
    if (g->groups < 1 || g->in_channels < 0 || g->out_channels < 0)
        return STATUS_BAD_ARGUMENT;
    if (g->in_channels % g->groups || g->out_channels % g->groups)
        return STATUS_BAD_ARGUMENT;
    const int64_t limit = INT64_C(1) << 31;
    for (int axis = 0; axis < 2; axis++) {
        int64_t reach;
        if (g->kernel[axis] < 1 || g->stride[axis] < 1 || g->dilation[axis] < 1)
            return STATUS_BAD_ARGUMENT;
        if (g->stride[axis] >= limit || g->dilation[axis] >= limit || g->padding[axis] >= limit ||
            g->padding[axis] <= -limit)
            return STATUS_OVERFLOW;
        if (__builtin_mul_overflow(g->output[axis], g->stride[axis], &reach) || reach > INT64_C(1) << 61 ||
            __builtin_mul_overflow(g->kernel[axis], g->dilation[axis], &reach) || reach > INT64_C(1) << 61)
            return STATUS_OVERFLOW;
    }
    if (too_large((int64_t[]){g->batch, g->in_channels, g->input[0], g->input[1]}, 4) ||
        too_large((int64_t[]){g->batch, g->out_channels, g->output[0], g->output[1]}, 4) ||
        too_large((int64_t[]){g->out_channels, g->in_channels / g->groups, g->kernel[0], g->kernel[1]}, 4))
        return STATUS_OVERFLOW;
    return STATUS_OK;
}

int32_t conv2d_plan(struct conv2d_plan *plan, const struct conv2d_geometry *geometry, int32_t map, int32_t element_size,
                    int32_t isa, int32_t threads, const char *algorithm) {
    const struct kernels *kernels = kernels_for(isa, element_size);
    if (!kernels || map < CONV2D || map > CONV2D_WEIGHT || threads < 1)
        return STATUS_BAD_ARGUMENT;
    int32_t status = check(geometry);
    if (status != STATUS_OK)
        return status;
    *plan = (struct conv2d_plan){
        .geometry = *geometry, .map = map, .element_size = element_size, .isa = isa, .threads = threads};
    for (int32_t a = 0; a < conv2d_algorithm_count(); a++) {
        plan->algorithm = a;
        if ((!algorithm || strcmp(algorithm, algorithms[a]->name) == 0) && algorithms[a]->plan(plan, kernels)) {
            plan->workspace_size += 64; /* room to align it */
            return STATUS_OK;
        }
    }
    return STATUS_NO_ALGORITHM;
}

struct stage_context {
    struct conv2d_job job;
    int32_t stage;
};

static void run_item(const void *context, int64_t item, int32_t thread) {
    const struct stage_context *c = context;
    algorithms[c->job.plan->algorithm]->stage[c->stage](&c->job, item, thread);
}

int32_t conv2d_run(const struct conv2d_plan *plan, int32_t stage, int64_t begin, int64_t end, void *x, void *weight,
                   const void *bias, void *y, void *workspace) {
    if (stage < 0 || stage >= plan->stages || begin < 0 || end > plan->items[stage])
        return STATUS_BAD_ARGUMENT;
    struct stage_context context = {
        .job =
            {
                .plan = plan,
                .kernels = kernels_for(plan->isa, plan->element_size),
                .x = x,
                .weight = weight,
                .y = y,
                .bias = bias,
                .workspace = (char *)round_up((intptr_t)workspace, 64),
            },
        .stage = stage,
    };
    /* Waking threads for less than this takes longer than it saves. */
    const double worthwhile = 50e3;
    double work = plan->nanoseconds[stage] * (double)(end - begin) / (double)max64(plan->items[stage], 1);
    parallel_for(begin, end, work < worthwhile ? 1 : plan->threads, true, run_item, &context);
    return STATUS_OK;
}
