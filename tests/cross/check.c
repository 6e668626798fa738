/* Compares the kernels with plain loops in double, through api.h alone; built and run by run.py for another processor,
 * or for tiles that this one lacks.
 *
 * Reads geometries, one a line: `conv` or `pool` and the numbers of the struct in api.h in their order. On each, every
 * algorithm of every instruction set computes every map in float and double. For each of these a line is printed with the
 * greatest error, in units of epsilon times the sum of the products' absolute values, and as a part of what is allowed.
 * Convolutions must also give the same bits on several threads, put infinities and NaNs where the direct algorithm does,
 * take denormal numbers for zero and leave the caller's floating-point mode alone. The exit status is 1 if anything is
 * wrong. With the argument `spoil` one value of each result is changed, and everything must be found wrong. Another
 * argument is how the names of the algorithms begin that are checked. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "api.h"

enum { ISAS = 4, ALGORITHMS = 32, CONV_MAPS = 3, POOL_MAPS = 5 };

static const char *const conv_maps[] = {"conv2d", "conv2d_input", "conv2d_weight"};
static const char *const pool_maps[] = {"max_pool2d", "max_gather2d", "max_scatter2d", "avg_pool2d",
                                        "avg_pool2d_adjoint"};

static struct tally {
    int64_t cases, wrong;
    double epsilons, part; /* the greatest error */
} conv_tally[ISAS][2][CONV_MAPS][ALGORITHMS], pool_tally[ISAS][2][POOL_MAPS];

static bool spoil;
static const char *names = ""; /* how those of the algorithms begin */
static char where[256]; /* the geometry, as it was read */

/* ---- Arrays ---- */

/* Room that ends where a page without access begins, so that a read or write past its end is fatal. Its bits are ones,
 * which are NaNs, so that values that were never written are seen. */
struct room {
    void *data, *pages;
    size_t size;
};

static struct room room(int64_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = ((size_t)bytes + page - 1) / page * page;
    char *pages = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + whole, page, PROT_NONE) != 0) {
        perror("room");
        exit(2);
    }
    memset(pages, 0xff, whole);
    return (struct room){pages + whole - bytes, pages, whole + page};
}

static void leave(struct room room) { munmap(room.pages, room.size); }

static void store(void *array, int64_t i, int32_t size, double value) {
    if (size == 4)
        ((float *)array)[i] = (float)value;
    else
        ((double *)array)[i] = value;
}

static double load(const void *array, int64_t i, int32_t size) {
    return size == 4 ? ((const float *)array)[i] : ((const double *)array)[i];
}

/* From -1 to 1, in steps of 2**-52. */
static double random_number(void) {
    static uint64_t state = 1;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(state >> 11) * 0x1p-52 - 1;
}

static struct room random_array(int64_t count, int32_t size) {
    struct room array = room(count * size);
    for (int64_t i = 0; i < count; i++)
        store(array.data, i, size, random_number());
    return array;
}

static double *zeros(int64_t count) {
    double *array = calloc((size_t)count + 1, sizeof *array);
    if (!array)
        exit(2);
    return array;
}

/* ---- Verdicts ---- */

static void wrong(struct tally *tally, const char *what, int32_t isa, int32_t size, const char *map, const char *how) {
    tally->wrong++;
    if (!spoil)
        printf("WRONG: %s: %s float%d %s %s on %s", what, isa_name(isa), 8 * size, map, how, where);
}

/* Whether each value is as close as `epsilons` (of the magnitude of its terms) allow. */
static bool close_enough(struct tally *tally, void *actual, const double *expected, const double *magnitudes,
                         int64_t count, int32_t size, double epsilons) {
    double unit = size == 4 ? FLT_EPSILON : DBL_EPSILON, least = size == 4 ? FLT_MIN : DBL_MIN;
    bool good = true;
    if (spoil && count)
        store(actual, count / 2, size, load(actual, count / 2, size) + 1);
    for (int64_t i = 0; i < count; i++) {
        double error = fabs(load(actual, i, size) - expected[i]), bound = epsilons * unit * magnitudes[i] + least;
        good &= error < bound; /* false for NaN */
        tally->part = fmax(tally->part, error / bound);
        if (magnitudes[i] > 0)
            tally->epsilons = fmax(tally->epsilons, error / (unit * magnitudes[i]));
    }
    tally->cases++;
    return good;
}

/* As in tests/test_kernels.py: the roundings of a long sum partly cancel, but a misplaced product is wrong by far more. */
static double allowed(int64_t terms) { return terms < 15 ? (double)terms + 1 : 16; }

/* ---- Convolution ---- */

/* The operands of <y, conv2d(x, weight)>, each at the number of the map whose result is like it: y, x, weight. */
struct operands {
    int64_t count[CONV_MAPS];
    struct room array[CONV_MAPS], bias;
};

static struct operands operands_of(const struct conv2d_geometry *g, int32_t size) {
    struct operands o = {
        .count = {g->batch * g->out_channels * g->output[0] * g->output[1],
                  g->batch * g->in_channels * g->input[0] * g->input[1],
                  g->out_channels * (g->in_channels / g->groups) * g->kernel[0] * g->kernel[1]},
        .bias = random_array(g->out_channels, size),
    };
    for (int map = 0; map < CONV_MAPS; map++)
        o.array[map] = random_array(o.count[map], size);
    return o;
}

static void leave_operands(struct operands *o) {
    for (int map = 0; map < CONV_MAPS; map++)
        leave(o->array[map]);
    leave(o->bias);
}

/* One map by plain loops over all products, and the sums of their absolute values. */
static void plain(const struct conv2d_geometry *g, int map, const struct operands *o, int32_t size, double *values,
                  double *magnitudes) {
    int64_t inputs = g->in_channels / g->groups, outputs = g->out_channels / g->groups;
    int one = (map + 1) % CONV_MAPS, other = (map + 2) % CONV_MAPS;
    int64_t at[CONV_MAPS];
    for (int64_t n = 0; n < g->batch; n++)
    for (int64_t i = 0; i < g->output[0]; i++)
    for (int64_t j = 0; j < g->output[1]; j++)
    for (int64_t u = 0; u < g->kernel[0]; u++)
    for (int64_t v = 0; v < g->kernel[1]; v++) {
        int64_t h = i * g->stride[0] - g->padding[0] + u * g->dilation[0];
        int64_t w = j * g->stride[1] - g->padding[1] + v * g->dilation[1];
        if (h < 0 || h >= g->input[0] || w < 0 || w >= g->input[1])
            continue;
        for (int64_t k = 0; k < g->out_channels; k++)
        for (int64_t c = 0; c < inputs; c++) {
            at[CONV2D] = ((n * g->output[0] + i) * g->output[1] + j) * g->out_channels + k;
            at[CONV2D_INPUT] = ((n * g->input[0] + h) * g->input[1] + w) * g->in_channels + k / outputs * inputs + c;
            at[CONV2D_WEIGHT] = ((k * inputs + c) * g->kernel[0] + u) * g->kernel[1] + v;
            double product = load(o->array[one].data, at[one], size) * load(o->array[other].data, at[other], size);
            values[at[map]] += product;
            magnitudes[at[map]] += fabs(product);
        }
    }
    for (int64_t i = 0; map == CONV2D && i < o->count[map]; i++) {
        values[i] += load(o->bias.data, i % g->out_channels, size);
        magnitudes[i] += fabs(load(o->bias.data, i % g->out_channels, size));
    }
}

/* One map by one algorithm into `result`, which is like the operand of the map's number; STATUS_NO_ALGORITHM where it does
 * not serve the problem. */
static int32_t run(struct conv2d_plan *plan, const struct conv2d_geometry *g, int32_t map, int32_t size, int32_t isa,
                   int32_t threads, const char *algorithm, const struct operands *o, struct room result) {
    int32_t status = conv2d_plan(plan, g, map, size, isa, MEDIUM, threads, algorithm);
    if (status != STATUS_OK)
        return status;
    void *array[CONV_MAPS];
    for (int like = 0; like < CONV_MAPS; like++)
        array[like] = like == map ? result.data : o->array[like].data;
    struct room workspace = room(plan->workspace_size);
    for (int32_t stage = 0; stage < plan->stages && status == STATUS_OK; stage++)
        status = conv2d_run(plan, stage, 0, plan->items[stage], array[CONV2D_INPUT], array[CONV2D_WEIGHT],
                            map == CONV2D ? o->bias.data : NULL, array[CONV2D], workspace.data);
    leave(workspace);
    return status;
}

static int64_t terms(const struct conv2d_geometry *g, int map) {
    int64_t taps = g->kernel[0] * g->kernel[1];
    return map == CONV2D         ? taps * g->in_channels / g->groups + 1
           : map == CONV2D_INPUT ? taps * g->out_channels / g->groups
                                 : g->batch * g->output[0] * g->output[1];
}

static bool same_kind(double a, double b) {
    return isnan(a) ? isnan(b) : isinf(a) ? a == b : isfinite(b); /* signs of NaNs mean nothing */
}

/* Whether infinities and NaNs come out where the direct algorithm puts them, or are reported for it to decide. */
static bool spreads_no_further(const struct conv2d_geometry *g, int map, int32_t size, int32_t isa, const char *algorithm,
                               int64_t count) {
    static const double special[] = {NAN, INFINITY, -INFINITY};
    struct operands o = operands_of(g, size);
    struct conv2d_plan plan;
    struct room expected = room(count * size), actual = room(count * size);
    for (int like = 0; like < CONV_MAPS; like++)
        for (int s = 0; s < 3 && o.count[like]; s++)
            store(o.array[like].data, o.count[like] * (2 * s + 1) / 7, size, special[(s + like) % 3]);
    bool good = run(&plan, g, map, size, isa, 1, "direct", &o, expected) == STATUS_OK;
    int32_t status = run(&plan, g, map, size, isa, 1, algorithm, &o, actual);
    good &= status == STATUS_OK || status == STATUS_NOT_FINITE;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++)
        good &= same_kind(load(actual.data, i, size), load(expected.data, i, size));
    leave(expected), leave(actual), leave_operands(&o);
    return good;
}

/* Whether denormal operands count as zero, in the workers, too, and only inside. */
static bool takes_denormals_for_zero(const struct conv2d_geometry *g, int map, int32_t size, int32_t isa,
                                     const char *algorithm, int64_t count) {
    volatile double tiny = size == 4 ? 1e-40 : 1e-310, scale = size == 4 ? 1 : 0.5;
    struct operands o = operands_of(g, size);
    struct conv2d_plan plan;
    struct room result = room(count * size);
    for (int64_t k = 0; k < g->out_channels; k++)
        store(o.bias.data, k, size, 0);
    for (int like = 0; like < CONV_MAPS; like++)
        for (int64_t i = 0; i < o.count[like]; i++)
            store(o.array[like].data, i, size, like == CONV2D_WEIGHT ? 1 : tiny);
    bool good = run(&plan, g, map, size, isa, 3, algorithm, &o, result) == STATUS_OK;
    for (int64_t i = 0; i < count; i++)
        good &= load(result.data, i, size) == 0;
    leave(result), leave_operands(&o);
    return good && tiny * scale > 0;
}

static void check_conv(const struct conv2d_geometry *g, int map, int32_t size, int32_t isa, int32_t a,
                       const struct operands *o, const double *values, const double *magnitudes) {
    const char *name = conv2d_algorithm_name(a), *map_name = conv_maps[map];
    struct tally *tally = &conv_tally[isa][size == 8][map][a];
    int64_t count = o->count[map];
    struct conv2d_plan plan;
    struct room result = room(count * size), again = room(count * size);
    int32_t status = run(&plan, g, map, size, isa, 1, name, o, result);
    /* Two rows of the table may have one name; the plan tells which of them it was. */
    if (status == STATUS_NO_ALGORITHM || (status == STATUS_OK && plan.algorithm != a)) {
        leave(result), leave(again);
        return;
    }
    if (status != STATUS_OK)
        wrong(tally, "it failed", isa, size, map_name, name);
    status = run(&plan, g, map, size, isa, 3, name, o, again);
    if (status != STATUS_OK || memcmp(result.data, again.data, (size_t)(count * size)) != 0)
        wrong(tally, "other bits on three threads", isa, size, map_name, name);

    /* Winograd's algorithms combine the values of a neighbourhood; class HIGH is 2e-5, which is 168 epsilons. */
    bool tiles = strncmp(name, "winograd", 8) == 0;
    double epsilons = tiles ? 16 : allowed(terms(g, map)), greatest = 0;
    if (conv2d_algorithm_precision(a) == HIGH)
        epsilons = 168;
    if (conv2d_algorithm_precision(a) == MEDIUM)
        epsilons += 0x1p-7 / FLT_EPSILON; /* both factors rounded to 8 bits */
    double *scale = zeros(count);
    for (int64_t i = 0; i < count; i++)
        greatest = fmax(greatest, magnitudes[i]);
    for (int64_t i = 0; i < count; i++)
        scale[i] = tiles ? greatest : magnitudes[i];
    if (!close_enough(tally, result.data, values, scale, count, size, epsilons))
        wrong(tally, "the error is too large", isa, size, map_name, name);
    if (!spreads_no_further(g, map, size, isa, name, count))
        wrong(tally, "an infinity or NaN is elsewhere", isa, size, map_name, name);
    if (!takes_denormals_for_zero(g, map, size, isa, name, count))
        wrong(tally, "denormals do not count as zero, or not only inside", isa, size, map_name, name);
    free(scale), leave(result), leave(again);
}

static void check_convs(const struct conv2d_geometry *g) {
    for (int32_t size = 4; size <= 8; size += 4) {
        struct operands o = operands_of(g, size);
        for (int map = 0; map < CONV_MAPS; map++) {
            double *values = zeros(o.count[map]), *magnitudes = zeros(o.count[map]);
            plain(g, map, &o, size, values, magnitudes);
            for (int32_t isa = 0; isa < isa_count(); isa++)
                for (int32_t a = 0; isa_supported(isa) && a < conv2d_algorithm_count(); a++)
                    if (strncmp(conv2d_algorithm_name(a), names, strlen(names)) == 0)
                        check_conv(g, map, size, isa, a, &o, values, magnitudes);
            free(values), free(magnitudes);
        }
        leave_operands(&o);
    }
}

/* ---- Pooling ---- */

static double divisor_of(const struct pool2d_call *call, const int64_t window[2]) {
    const struct pool2d_geometry *g = &call->geometry;
    double area = 1;
    for (int axis = 0; axis < 2; axis++) {
        int64_t cells = 0, margin = call->count_include_pad ? g->padding[axis] : 0;
        for (int64_t k = 0; k < g->kernel[axis]; k++) {
            int64_t cell = window[axis] * g->stride[axis] - g->padding[axis] + k;
            cells += cell >= -margin && cell < g->input[axis] + margin;
        }
        area *= (double)cells;
    }
    return call->divisor != 0 ? call->divisor : area;
}

/* One map by plain loops, and the sums of the absolute values of what is added. `offsets` are found by MAX_POOL2D and
 * used by MAX_GATHER2D and MAX_SCATTER2D. */
static void plain_pool(const struct pool2d_call *call, const void *source, int64_t *offsets, double *values,
                       double *magnitudes) {
    const struct pool2d_geometry *g = &call->geometry;
    for (int64_t n = 0; n < g->batch; n++)
    for (int64_t i = 0; i < g->output[0]; i++)
    for (int64_t j = 0; j < g->output[1]; j++)
    for (int64_t c = 0; c < g->channels; c++) {
        int64_t y = ((n * g->output[0] + i) * g->output[1] + j) * g->channels + c;
        double divisor = divisor_of(call, (int64_t[]){i, j}), best = 0;
        bool first = true;
        for (int64_t u = 0; u < g->kernel[0]; u++)
        for (int64_t v = 0; v < g->kernel[1]; v++) {
            int64_t h = i * g->stride[0] - g->padding[0] + u * g->dilation[0];
            int64_t w = j * g->stride[1] - g->padding[1] + v * g->dilation[1];
            if (h < 0 || h >= g->input[0] || w < 0 || w >= g->input[1])
                continue;
            int64_t x = ((n * g->input[0] + h) * g->input[1] + w) * g->channels + c, offset = u * g->kernel[1] + v;
            bool adjoint = call->map == MAX_SCATTER2D || call->map == AVG_POOL2D_ADJOINT;
            double value = load(source, adjoint ? y : x, call->element_size);
            if (call->map == MAX_POOL2D) {
                if (first || value > best || isnan(value)) {
                    best = value;
                    offsets[y] = offset;
                }
                first = false;
                values[y] = best;
            } else if (call->map == AVG_POOL2D || call->map == AVG_POOL2D_ADJOINT) {
                values[adjoint ? x : y] += value / divisor;
                magnitudes[adjoint ? x : y] += fabs(value / divisor);
            } else if (offsets[y] == offset) {
                values[adjoint ? x : y] += value;
                magnitudes[adjoint ? x : y] += fabs(value);
            }
        }
    }
}

static int64_t offset_at(const void *offsets, int64_t i, int32_t size) {
    return size == 1 ? ((const uint8_t *)offsets)[i] : ((const uint16_t *)offsets)[i];
}

static void check_pool(struct pool2d_call *call, struct room x, struct room y, struct room offsets, int64_t *positions,
                       int64_t cells, int64_t windows) {
    bool adjoint = call->map == MAX_SCATTER2D || call->map == AVG_POOL2D_ADJOINT;
    int64_t count = adjoint ? cells : windows;
    int32_t size = call->element_size;
    struct room result = room(count * size);
    double *values = zeros(count), *magnitudes = zeros(count);
    struct tally *tally = &pool_tally[call->isa][size == 8][call->map];
    plain_pool(call, adjoint ? y.data : x.data, positions, values, magnitudes);
    int32_t status = pool2d_run(call, 0, pool2d_items(call), adjoint ? result.data : x.data,
                                adjoint ? y.data : result.data, offsets.data);
    bool good = status == STATUS_OK;
    if (call->map == MAX_POOL2D) { /* values and positions are exact */
        tally->cases++;
        if (spoil && count)
            store(result.data, count / 2, size, load(result.data, count / 2, size) == 5 ? 6 : 5);
        for (int64_t i = 0; i < count; i++) {
            double value = load(result.data, i, size);
            good &= value == values[i] || (isnan(value) && isnan(values[i]));
            good &= offset_at(offsets.data, i, call->offset_size) == positions[i];
        }
    } else {
        int64_t taps = call->map == MAX_GATHER2D ? 0 : call->geometry.kernel[0] * call->geometry.kernel[1];
        good &= close_enough(tally, result.data, values, magnitudes, count, size, allowed(taps));
    }
    if (!good)
        wrong(tally, "a value is wrong", call->isa, size, pool_maps[call->map], "");
    leave(result), free(values), free(magnitudes);
}

static void check_pools(const struct pool2d_geometry *g) {
    int64_t cells = g->batch * g->channels * g->input[0] * g->input[1];
    int64_t windows = g->batch * g->channels * g->output[0] * g->output[1];
    int32_t offset_size = g->kernel[0] * g->kernel[1] <= 256 ? 1 : 2;
    int64_t *positions = calloc((size_t)windows + 1, sizeof *positions);
    for (int32_t isa = 0; isa < isa_count(); isa++)
        for (int32_t size = 4; isa_supported(isa) && size <= 8; size += 4) {
            struct room x = random_array(cells, size), y = random_array(windows, size);
            struct room awkward = room(cells * size), offsets = room(windows * offset_size);
            for (int64_t i = 0; i < cells; i++) { /* equal values, infinities and NaNs */
                double value = floor(3 * random_number());
                store(awkward.data, i, size, value == -3 ? -INFINITY : random_number() > 0.8 ? NAN : value);
            }
            struct pool2d_call call = {
                .geometry = *g, .element_size = size, .offset_size = offset_size, .isa = isa, .threads = 3};
            check_pool(&call, awkward, y, offsets, positions, cells, windows);
            for (call.map = MAX_POOL2D; call.map <= MAX_SCATTER2D; call.map++)
                check_pool(&call, x, y, offsets, positions, cells, windows);
            for (int option = 0; option < 3 && g->dilation[0] == 1 && g->dilation[1] == 1; option++) {
                call.count_include_pad = option == 1;
                call.divisor = option == 2 ? -3 : 0;
                for (call.map = AVG_POOL2D; call.map <= AVG_POOL2D_ADJOINT; call.map++)
                    check_pool(&call, x, y, offsets, positions, cells, windows);
            }
            leave(x), leave(y), leave(awkward), leave(offsets);
        }
    free(positions);
}

/* ---- The run ---- */

/* Whether all went well; when results are spoilt, whether that was always seen. */
static bool report(const struct tally *tally, int32_t isa, int32_t size, const char *map, const char *algorithm) {
    if (!tally->cases)
        return true;
    printf("%-8s float%d %-19s %-13s %3" PRId64 " cases %6.2f epsilons, %3.0f%% of the bound, %" PRId64 " wrong\n",
           isa_name(isa), 8 * size, map, algorithm, tally->cases, tally->epsilons, 100 * tally->part, tally->wrong);
    return spoil ? tally->wrong > 0 : tally->wrong == 0;
}

static int read_numbers(const char *text, int64_t *numbers, int count) {
    int used;
    for (int i = 0; i < count; i++, text += used)
        if (sscanf(text, "%" SCNd64 "%n", &numbers[i], &used) != 1)
            return 0;
    return 1;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "spoil") == 0)
            spoil = true;
        else
            names = argv[i];
    if (isa_count() > ISAS || conv2d_algorithm_count() > ALGORITHMS)
        return 2;
    while (fgets(where, sizeof where, stdin)) {
        struct conv2d_geometry conv;
        struct pool2d_geometry pool;
        if (strncmp(where, "conv ", 5) == 0 && read_numbers(where + 5, (int64_t *)&conv, sizeof conv / 8))
            check_convs(&conv);
        else if (strncmp(where, "pool ", 5) == 0 && read_numbers(where + 5, (int64_t *)&pool, sizeof pool / 8))
            check_pools(&pool);
        else
            return 2;
    }
    bool good = true;
    for (int32_t isa = 0; isa < isa_count(); isa++)
        for (int32_t size = 4; size <= 8; size += 4) {
            for (int map = 0; map < CONV_MAPS; map++)
                for (int32_t a = 0; a < conv2d_algorithm_count(); a++)
                    good &= report(&conv_tally[isa][size == 8][map][a], isa, size, conv_maps[map],
                                   conv2d_algorithm_name(a));
            for (int map = 0; map < POOL_MAPS; map++)
                good &= report(&pool_tally[isa][size == 8][map], isa, size, pool_maps[map], "");
        }
    return good ? 0 : 1;
}
