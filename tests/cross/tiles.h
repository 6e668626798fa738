/* AMX in plain C: included before bf16_amx.c, it puts these functions in the place of the tile instructions.
 *
 * They do what Intel's manual says (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: LDTILECFG,
 * TILELOADD, TILESTORED, TDPBF16PS): a tile has the rows and bytes of its configuration, a load or store touches exactly
 * those, and what would fault ends the program, as does a run in which no tile was multiplied. */
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local struct {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } configuration;
    char data[8][16][64];
} tiles;

static atomic_long products_of_tiles;

static void require(_Bool holds, const char *what) {
    if (holds)
        return;
    fprintf(stderr, "tiles: %s\n", what);
    _exit(3);
}

__attribute__((destructor)) static void require_use(void) { require(products_of_tiles > 0, "none was multiplied"); }

static int rows_of(int tile) {
    require(tiles.configuration.palette == 1 && tiles.configuration.rows[tile] > 0, "one is not configured");
    return tiles.configuration.rows[tile];
}

static int bytes_of(int tile) { return rows_of(tile) ? tiles.configuration.row_bytes[tile] : 0; }

static void emulated_loadconfig(const void *from) {
    require(tiles.configuration.palette == 0, "configured, but not released before");
    memcpy(&tiles.configuration, from, sizeof tiles.configuration);
    require(tiles.configuration.palette == 1 && tiles.configuration.start_row == 0, "unknown palette");
    for (int tile = 0; tile < 16; tile++) {
        int rows = tiles.configuration.rows[tile], bytes = tiles.configuration.row_bytes[tile];
        require(tile < 8 ? rows <= 16 && bytes <= 64 && (rows > 0) == (bytes > 0) : rows + bytes == 0, "bad size");
    }
    memset(tiles.data, 0, sizeof tiles.data);
}

static void emulated_release(void) { memset(&tiles, 0, sizeof tiles); }

static void emulated_zero(int tile) { memset(tiles.data[tile], 0, (size_t)rows_of(tile) * 64); }

static void emulated_loadd(int tile, const void *base, int64_t stride) {
    memset(tiles.data[tile], 0, sizeof tiles.data[tile]);
    for (int row = 0; row < rows_of(tile); row++)
        memcpy(tiles.data[tile][row], (const char *)base + row * stride, (size_t)bytes_of(tile));
}

static void emulated_stored(int tile, void *base, int64_t stride) {
    for (int row = 0; row < rows_of(tile); row++)
        memcpy((char *)base + row * stride, tiles.data[tile][row], (size_t)bytes_of(tile));
}

/* Number i of a row of bfloat16 numbers. */
static float bf16_at(const char *row, int i) {
    uint32_t bits = (uint32_t)(uint8_t)row[2 * i] << 16 | (uint32_t)(uint8_t)row[2 * i + 1] << 24;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Even and odd products are summed apart; denormals count as zero, for which the caller has set the processor's mode. */
static void emulated_dpbf16ps(int to, int a, int b) {
    int rows = rows_of(to), columns = bytes_of(to) / 4, pairs = rows_of(b);
    require(rows_of(a) == rows && bytes_of(a) == 4 * pairs && bytes_of(b) == 4 * columns, "sizes do not match");
    require(to != a && to != b && a != b, "an operand is the result");
    products_of_tiles++;
    for (int m = 0; m < rows; m++)
        for (int n = 0; n < columns; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < pairs; k++) {
                even += bf16_at(tiles.data[a][m], 2 * k) * bf16_at(tiles.data[b][k], 2 * n);
                odd += bf16_at(tiles.data[a][m], 2 * k + 1) * bf16_at(tiles.data[b][k], 2 * n + 1);
            }
            memcpy(&sum, tiles.data[to][m] + 4 * n, 4);
            sum += even + odd;
            memcpy(tiles.data[to][m] + 4 * n, &sum, 4);
        }
}

static long emulated_syscall(long number, long request, long component) {
    return number == SYS_arch_prctl && request == 0x1023 && component == 18 ? 0 : -1;
}

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated_loadconfig
#define _tile_release emulated_release
#define _tile_zero emulated_zero
#define _tile_loadd emulated_loadd
#define _tile_stored emulated_stored
#define _tile_dpbf16ps emulated_dpbf16ps

/* The processor has tiles, and Linux permits them. */
#define __get_cpuid_count(leaf, subleaf, a, b, c, d) (*(a) = *(b) = *(c) = 0, *(d) = bit_AMX_TILE | bit_AMX_BF16, 1)
#define syscall emulated_syscall
