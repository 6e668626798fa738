/* Choosing, planning and running an algorithm for the three convolution maps. To add one, add a row to the table. */
#include <string.h>
#include "internal.h"
#include "lines.h"

static bool always(const struct conv2d_plan *plan) {
    (void)plan;
    return true;
}

/* What a 3x3 convolution costs in tiles of m x m results (or gradients), direct if m is 1: products, and the transforms
 * of the filters or of their gradient's sums, which are like the products of some more tiles. */
static double tiles_cost(const struct conv2d_plan *plan, int64_t m) {
    const struct conv2d_geometry *g = &plan->geometry;
    const int64_t *size = plan->map == CONV2D_INPUT ? g->input : g->output;
    int64_t tiles = g->batch * ceil_div(size[0], m) * ceil_div(size[1], m);
    return (double)((m + 2) * (m + 2)) * (double)(tiles + (plan->map == CONV2D_WEIGHT ? 10 : 5));
}

/* Transforms take time for every channel; what they save goes with the product of the channels. */
static int64_t fewest_channels(const struct conv2d_plan *plan) {
    return min64(plan->geometry.in_channels, plan->geometry.out_channels) / plan->geometry.groups;
}

static int64_t source_channels(const struct conv2d_plan *plan) {
    return plan->map == CONV2D_INPUT ? plan->geometry.out_channels : plan->geometry.in_channels;
}

static int64_t result_channels(const struct conv2d_plan *plan) {
    return plan->map == CONV2D_INPUT ? plan->geometry.in_channels : plan->geometry.out_channels;
}

/* With few channels much must be saved: at 7x7, where tiles hang over the edge, it is too little. Weight gradients of 16
 * by 16 channels are better summed over copied lines. */
static bool winograd_2x2_pays(const struct conv2d_plan *plan) {
    if (plan->map == CONV2D_WEIGHT)
        return fewest_channels(plan) >= 16 && source_channels(plan) * result_channels(plan) >= 512 &&
               tiles_cost(plan, 2) < tiles_cost(plan, 1);
    double most = fewest_channels(plan) < 64 ? 0.55 : 1.0;
    return fewest_channels(plan) >= 32 && tiles_cost(plan, 2) < most * tiles_cost(plan, 1);
}

static bool winograd_4x4_pays(const struct conv2d_plan *plan) {
    bool few_products = tiles_cost(plan, 4) < tiles_cost(plan, 2) && tiles_cost(plan, 4) < tiles_cost(plan, 1);
    return plan->element_size == 4 && fewest_channels(plan) >= 16 && few_products;
}

/* The sources of a line of the kernel fill a vector, and the channels of the result do not. */
static bool few_results(const struct conv2d_plan *plan) {
    const int64_t vector = 16;
    return result_channels(plan) <= vector / 2 && source_channels(plan) * plan->geometry.kernel[1] >= vector;
}

/* Pixels of a line of the result that meet the same taps, from which tiles of copied lines are made. */
static int64_t line_pixels(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    return plan->map == CONV2D_INPUT ? ceil_div(g->input[1], g->stride[1]) : g->output[1];
}

/* Copying the sources channel by channel is worth it for few of them, or where several taps read a copy; with a stride,
 * columns must be parted as well. */
static bool few_sources(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool several = g->kernel[0] * g->kernel[1] > 1 && (plan->map == CONV2D_INPUT || g->stride[1] == 1);
    return source_channels(plan) <= 8 || (several && source_channels(plan) <= 32 && line_pixels(plan) >= 8);
}

/* Beyond, a line of the kernel reads enough to keep the registers busy without a copy; but few results leave them empty
 * unless they change places with the sources. */
static bool few_channels(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    bool few = g->in_channels <= 64 || g->out_channels <= 8;
    return few && g->groups == 1 && (line_pixels(plan) >= 6 || g->in_channels <= 8);
}

static bool many_weights(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    return g->in_channels * g->out_channels * g->kernel[0] * g->kernel[1] >= INT64_C(1) << 16;
}

/* The channels of a few groups, as narrow on both sides, fill a vector, or those of one group a vector or two. */
static bool whole_vectors(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    const struct kernels *kernels = kernels_for(plan->isa, plan->element_size);
    int64_t columns = (plan->map == CONV2D_INPUT ? g->in_channels : g->out_channels) / g->groups;
    if (g->in_channels == g->out_channels && turns_of(g->groups, columns, plan->element_size, kernels) > 1)
        return true;
    return g->groups > 1 && (columns == kernels->lanes || columns == 2 * kernels->lanes);
}

/* A group would leave most of a vector empty. With more channels in a group there is too much to spread: sooner where a
 * stride makes a pixel serve fewer products, and where sums take the place of results. */
static bool narrow_groups(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    int64_t lanes = kernels_for(plan->isa, plan->element_size)->lanes;
    int64_t columns = (plan->map == CONV2D_INPUT ? g->in_channels : g->out_channels) / g->groups;
    bool strided = g->stride[0] * g->stride[1] > 1;
    bool few = plan->map == CONV2D_WEIGHT || (plan->map == CONV2D && strided);
    return columns <= min64(lanes / 2, few ? 4 : 8);
}

static bool winograd_serves(const struct conv2d_geometry *g) {
    return g->kernel[0] == 3 && g->kernel[1] == 3 && g->stride[0] * g->stride[1] * g->dilation[0] * g->dilation[1] == 1;
}

/* Twice the products in an instruction, but whole vectors of channels are rounded and multiplied, and pairs are of two
 * images in the weight gradient. A quarter of the products is even less where their transforms are worth it. */
static bool bf16_pays(const struct conv2d_plan *plan) {
    const struct conv2d_geometry *g = &plan->geometry;
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    bool weight = plan->map == CONV2D_WEIGHT;
    bool fills = weight ? g->in_channels >= 16 && g->out_channels > 16 && g->batch > 1
                        : source_channels(plan) >= 16 && !few_results(plan);
    int64_t channels = fewest_channels(plan);
    bool winograd = winograd_serves(g) && (weight ? channels <= 128 : channels >= 64) &&
                    tiles_cost(plan, 4) < 0.4 * tiles_cost(plan, 1);
    return bf16 && fills && (bf16->tiles || !winograd);
}

/* Two products in an instruction for two channels of the source, or in the weight gradient for those of two images. */
static bool bf16_lines_pay(const struct conv2d_plan *plan) {
    bool weight = plan->map == CONV2D_WEIGHT;
    bool pairs = weight ? plan->geometry.batch > 1 : source_channels(plan) > 1 && few_sources(plan);
    return bf16_for(plan->isa, plan->element_size) && pairs && source_channels(plan) < 16 && result_channels(plan) >= 16;
}

/* Three products of parts are no quicker than one of floats but in tiles, which take 32 channels at a time. */
static bool split_pays(const struct conv2d_plan *plan) {
    const struct bf16 *bf16 = bf16_for(plan->isa, plan->element_size);
    return bf16 && bf16->tiles && fewest_channels(plan) >= 32;
}

static bool on_request(const struct conv2d_plan *plan) {
    (void)plan;
    return false;
}

/* The choice: the first row that is accurate enough, whose algorithm serves the problem, and that pays there. */
static const struct {
    const struct conv2d_algorithm *algorithm;
    int32_t precision; /* the class of its errors */
    bool (*pays)(const struct conv2d_plan *);
    const char *reason;
} choices[] = {
    {&depthwise, HIGHEST, always, "every input channel is a group of its own"},
    {&depthwise_weight, HIGHEST, always, "every input channel is a group of its own"},
    {&lines_grouped, HIGHEST, whole_vectors, "the channels of one, two or four groups fill one vector or two"},
    {&lines_weight, HIGHEST, whole_vectors, "the channels of one, two or four groups fill one vector or two"},
    {&grouped, HIGHEST, narrow_groups, "groups have at most 8 channels (4 at a stride), and several fit in a vector"},
    {&grouped_weight, HIGHEST, narrow_groups, "groups have at most 4 channels, and several fit in a vector"},
    {&direct_bf16, MEDIUM, bf16_pays, "bfloat16, channels enough: two products where float32 has one"},
    {&direct_bf16_weight, MEDIUM, bf16_pays, "bfloat16, channels enough: two products where float32 has one"},
    {&lines_bf16, MEDIUM, bf16_lines_pay, "bfloat16, few source channels: two products where float32 has one"},
    {&lines_bf16_weight, MEDIUM, bf16_lines_pay, "bfloat16, few source channels: two products where float32 has one"},
    {&winograd_4x4, HIGH, winograd_4x4_pays,
     "3x3 at stride 1, channels and 4x4 tiles enough: a quarter of the products"},
    {&winograd_4x4_weight, HIGH, winograd_4x4_pays,
     "3x3 at stride 1, channels and 4x4 tiles enough: a quarter of the products"},
    {&direct_bf16x3, HIGH, split_pays, "three products of bfloat16 parts, in tiles, where float32 has one"},
    {&direct_bf16x3_weight, HIGH, split_pays, "three products of bfloat16 parts, in tiles, where float32 has one"},
    {&winograd_2x2, HIGHEST, winograd_2x2_pays, "3x3 at stride 1, channels enough: four ninths of the products"},
    {&winograd_2x2_weight, HIGHEST, winograd_2x2_pays, "3x3 at stride 1, channels enough: four ninths of the products"},
    {&dots, HIGHEST, few_results, "the result has few channels"},
    {&lines, HIGHEST, few_sources, "the source has few channels"},
    {&lines_weight, HIGHEST, few_channels, "source or result has few channels"},
    {&few_pixels, HIGHEST, many_weights, "few pixels, many weights, which are better read where they lie"},
    {&direct, HIGHEST, always, "serves every problem"},
    {&direct_weight, HIGHEST, always, "serves every problem"},
    {&direct_bf16x6, HIGHEST, on_request, "on request only: six products of bfloat16 parts where float32 has one"},
    {&direct_bf16x6_weight, HIGHEST, on_request, "on request only: six products of bfloat16 parts where float32 has one"},
};

int32_t conv2d_algorithm_count(void) { return sizeof choices / sizeof *choices; }

static bool known(int32_t algorithm) { return algorithm >= 0 && algorithm < conv2d_algorithm_count(); }

const char *conv2d_algorithm_name(int32_t algorithm) {
    return known(algorithm) ? choices[algorithm].algorithm->name : NULL;
}

int32_t conv2d_algorithm_precision(int32_t algorithm) { return known(algorithm) ? choices[algorithm].precision : -1; }

const char *conv2d_algorithm_reason(int32_t algorithm) { return known(algorithm) ? choices[algorithm].reason : NULL; }

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

/* The inputs along an axis, or those that one output reads if they are more. */
static int64_t whole_input(const struct conv2d_geometry *g, int axis) {
    return max64(g->input[axis], (g->kernel[axis] - 1) * g->dilation[axis] + 1);
}

int32_t conv2d_plan(struct conv2d_plan *plan, const struct conv2d_geometry *geometry, int32_t map, int32_t element_size,
                    int32_t isa, int32_t precision, int32_t threads, const char *algorithm) {
    const struct kernels *kernels = kernels_for(isa, element_size);
    if (!kernels || map < CONV2D || map > CONV2D_WEIGHT || precision < HIGHEST || precision > MEDIUM || threads < 1)
        return STATUS_BAD_ARGUMENT;
    int32_t status = check(geometry);
    if (status != STATUS_OK)
        return status;
    *plan = (struct conv2d_plan){.geometry = *geometry,
                                 .map = map,
                                 .element_size = element_size,
                                 .isa = isa,
                                 .precision = precision,
                                 .threads = threads,
                                 .products = 1};
    /* With one output along an axis the stride is of no account, and with a large one each input has one tap only. */
    for (int axis = 0; axis < 2 && map == CONV2D_INPUT; axis++)
        if (geometry->output[axis] == 1)
            plan->geometry.stride[axis] = max64(geometry->stride[axis], whole_input(geometry, axis));
    for (int32_t a = 0; a < conv2d_algorithm_count(); a++) {
        bool eligible = algorithm ? strcmp(algorithm, choices[a].algorithm->name) == 0
                                  : choices[a].precision <= precision && choices[a].pays(plan);
        plan->algorithm = a;
        if (eligible && choices[a].algorithm->plan(plan, kernels)) {
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
    choices[c->job.plan->algorithm].algorithm->stage[c->stage](&c->job, item, thread);
}

int32_t conv2d_run(const struct conv2d_plan *plan, int32_t stage, int64_t begin, int64_t end, void *x, void *weight,
                   const void *bias, void *y, void *workspace) {
    if (stage < 0 || stage >= plan->stages || begin < 0 || end > plan->items[stage])
        return STATUS_BAD_ARGUMENT;
    atomic_int status = STATUS_OK;
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
                .status = &status,
            },
        .stage = stage,
    };
    /* Waking threads for less than this takes longer than it saves. */
    const double worthwhile = 50e3;
    double work = plan->nanoseconds[stage] * (double)(end - begin) / (double)max64(plan->items[stage], 1);
    parallel_for(begin, end, work < worthwhile ? 1 : plan->threads, true, run_item, &context);
    return status;
}
