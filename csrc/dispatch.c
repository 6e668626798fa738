/* The instruction sets that this build has kernels for, best first. Python chooses among those the processor supports.
 */
#include <string.h>
#include "internal.h"

#if defined(__x86_64__)
extern const struct kernel_set kernel_set_avx512, kernel_set_avx2;
#elif defined(__aarch64__)
extern const struct kernel_set kernel_set_neon;
#endif
extern const struct kernel_set kernel_set_generic;

static const struct kernel_set *const kernel_sets[] = {
#if defined(__x86_64__)
    &kernel_set_avx512,
    &kernel_set_avx2,
#elif defined(__aarch64__)
    &kernel_set_neon,
#endif
    &kernel_set_generic,
};

int32_t isa_count(void) { return sizeof kernel_sets / sizeof *kernel_sets; }

const char *isa_name(int32_t isa) { return isa >= 0 && isa < isa_count() ? kernel_sets[isa]->name : NULL; }

int32_t isa_supported(int32_t isa) { return isa >= 0 && isa < isa_count() && kernel_sets[isa]->supported(); }

const struct kernels *kernels_for(int32_t isa, int32_t element_size) {
    if (!isa_supported(isa))
        return NULL;
    return element_size == 4 ? &kernel_sets[isa]->f32 : element_size == 8 ? &kernel_sets[isa]->f64 : NULL;
}

const struct bf16 *bf16_for(int32_t isa, int32_t element_size) {
#if defined(__x86_64__)
    if (isa_supported(isa) && strcmp(isa_name(isa), "avx512") == 0 && element_size == 4)
        return bf16_amx.supported() ? &bf16_amx : bf16_avx512.supported() ? &bf16_avx512 : NULL;
#else
    (void)isa, (void)element_size;
#endif
    return NULL;
}
