/* Every type and function that Python sees. Included by the C sources and read by build.py as cffi's declarations, so
 * there is no preprocessor line in this file.
 *
 * Arrays are NCHW in shape and channels-last in memory; weights are OIHW, contiguous. Nothing here allocates: workspace
 * comes from the caller, and its size from a plan. */

/* One axis pair is {height, width}; padding is what lies before the first pixel (negative when cropping). */
struct conv2d_geometry {
    int64_t batch, in_channels, out_channels, groups;
    int64_t input[2], kernel[2], output[2], stride[2], dilation[2], padding[2];
};

struct pool2d_geometry {
    int64_t batch, channels;
    int64_t input[2], kernel[2], output[2], stride[2], dilation[2], padding[2];
};

/* The three partial derivatives of the trilinear form <y, conv2d(x, weight)>. */
enum conv2d_map { CONV2D, CONV2D_INPUT, CONV2D_WEIGHT };

/* Classes of accuracy, from the strictest. HIGHEST: no worse than the direct float32 convolution. HIGH: relative errors
 * up to about 2e-5. MEDIUM: operands rounded to bfloat16, sums in float32. */
enum precision { HIGHEST, HIGH, MEDIUM };

/* NOT_FINITE: an infinity or NaN came up in an algorithm that spreads them further than the sum of products does. */
enum status {
    STATUS_OK,
    STATUS_OVERFLOW,
    STATUS_BAD_ARGUMENT,
    STATUS_NO_ALGORITHM,
    STATUS_BAD_OFFSET,
    STATUS_NOT_FINITE
};

/* How one map of one geometry is computed: a list of stages, each a loop over independent items. The stages run in
 * order on one workspace; the items of a stage run in any order, in one call or several. Which items there are never
 * depends on the number of threads, hence neither does any bit of the result. */
struct conv2d_plan {
    struct conv2d_geometry geometry;
    int32_t map, element_size, isa, precision, threads, algorithm, stages;
    int32_t products; /* of parts of the operands, in place of each product of elements (bfloat16 only; else 1) */
    int64_t unrounded; /* channels of the source where it is rounded to bfloat16 block by block, else 0 */
    int64_t items[4];
    double nanoseconds[4];  /* a rough estimate of each stage's work on one thread */
    int64_t workspace_size; /* bytes */
};

enum { MAX_THREADS = 256 };

int32_t isa_count(void);
const char *isa_name(int32_t isa);
int32_t isa_supported(int32_t isa);

int32_t conv2d_algorithm_count(void);
const char *conv2d_algorithm_name(int32_t algorithm);
int32_t conv2d_algorithm_precision(int32_t algorithm); /* the class of its errors */
const char *conv2d_algorithm_reason(int32_t algorithm); /* when it is chosen */
/* Fills `plan` with the first algorithm of the table that is accurate enough, serves the problem and pays there. With a
 * name in `algorithm` it is the algorithm of that name instead, wherever it serves the problem. */
int32_t conv2d_plan(struct conv2d_plan *plan, const struct conv2d_geometry *geometry, int32_t map, int32_t element_size,
                    int32_t isa, int32_t precision, int32_t threads, const char *algorithm);
/* Runs items begin..end of one stage. The map says which of x, weight and y is the result; bias may be NULL. */
int32_t conv2d_run(const struct conv2d_plan *plan, int32_t stage, int64_t begin, int64_t end, void *x, void *weight,
                   const void *bias, void *y, void *workspace);

/* Pooling runs over items, begin..end in one call: bands of rows of results, which are windows, or for max_scatter2d and
 * avg_pool2d_adjoint cells of the input. `offsets` are positions in the window, row-major over the kernel's cells, as
 * unsigned integers of `offset_size` bytes; a position outside the window or the input is STATUS_BAD_OFFSET. */
enum pool2d_map { MAX_POOL2D, MAX_GATHER2D, MAX_SCATTER2D, AVG_POOL2D, AVG_POOL2D_ADJOINT };

struct pool2d_call {
    struct pool2d_geometry geometry;
    int32_t map, element_size, offset_size, isa, threads;
    int32_t count_include_pad; /* average only: the divisor counts padding */
    double divisor;            /* average only: the divisor if not 0 */
};

int64_t pool2d_items(const struct pool2d_call *call);
int32_t pool2d_run(const struct pool2d_call *call, int64_t begin, int64_t end, void *x, void *y, void *offsets);

/* Measures of the machine, one loop on every thread: multiply-adds, and reading `from`, or copying it to `to` if that is
 * not NULL, `repeats` times. They return the number of floating-point operations done and of bytes moved. */
int64_t peak_multiply_add(int32_t isa, int32_t element_size, int32_t threads, int64_t steps);
int64_t peak_stream(int32_t isa, int32_t threads, int64_t repeats, const void *from, void *to, int64_t bytes);

/* The error function, in place. */
void erf_float32(float *x, int64_t n);
void erf_float64(double *x, int64_t n);
