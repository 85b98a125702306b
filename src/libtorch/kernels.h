// Loops over plain memory, compiled once for each set of vector instructions: `kernels.cpp`, `build.rs`.

#pragma once

#include <cstdint>

// Each works on the rows (or what else is said) from `begin` to before `end`. Numbers are of the table's type T; what is computed is computed
// in its wide type S, which is f32 for f32 and bf16, and f64 for f64.
struct Kernels {
    // y = x r w with r = 1 / sqrt(mean(x^2) + epsilon), kept for each row in scales [row]. With `wide` w is of S and meets x r before that is
    // brought back to T. With `added`, x becomes sum = x + added first, which is written, too.
    void (*norm)(const void* x, const void* added, void* sum, const void* w, bool wide, void* y, void* scales, int64_t begin, int64_t end,
                 int64_t width, double epsilon);
    // dx, to which `beside` is added if it is there.
    void (*norm_backward)(const void* x, const void* w, bool wide, const void* scales, const void* g, const void* beside, void* dx, int64_t begin,
                          int64_t end, int64_t width);
    // Rows are [.., token, head]. The first `turning` numbers of each are normed, if there is a w, and turned by their token's angles; a token's
    // angles are those of row `token % angles`. What follows behind `turning` stays. From one token of x to the next are `step` numbers.
    void (*turn)(const void* x, int64_t step, const void* w, bool wide, void* scales, const void* cos, const void* sin, int64_t angles, void* y,
                 int64_t begin, int64_t end, int64_t heads, int64_t width, int64_t turning, double epsilon);
    void (*turn_backward)(const void* x, int64_t step, const void* w, bool wide, const void* scales, const void* cos, const void* sin, int64_t angles,
                          const void* g, void* dx, int64_t begin, int64_t end, int64_t heads, int64_t width, int64_t turning);
    // y = f(a) b, number by number: f is silu, or gelu by its hyperbolic tangent. From one row of a, b, da and db to the next are `step` numbers.
    void (*gated)(const void* a, const void* b, int64_t step, void* y, int64_t begin, int64_t end, int64_t width, bool gelu);
    void (*gated_backward)(const void* a, const void* b, int64_t step, const void* g, void* da, void* db, int64_t begin, int64_t end, int64_t width,
                           bool gelu);
    // loss = log sum exp x - x[label], both kept, of S.
    void (*entropy)(const void* x, const int64_t* labels, void* loss, void* log_sums, int64_t begin, int64_t end, int64_t width);
    void (*entropy_backward)(const void* x, const int64_t* labels, const void* log_sums, const void* g, void* dx, int64_t begin, int64_t end,
                             int64_t width);
    // thin [row, rank] = factor x a^T, with a [rank, width] and thin of S. From one row of x to the next are `step` numbers, and so below.
    void (*down)(const void* x, int64_t step, const void* a, void* thin, double factor, int64_t begin, int64_t end, int64_t width, int64_t rank);
    // y += thin b, with b [rank, width] of S.
    void (*up)(void* y, int64_t step, const void* thin, const void* b, int64_t begin, int64_t end, int64_t width, int64_t rank);
    // out [rank, width] = thin^T x, the columns from `begin` to before `end`; all of S but x.
    void (*outer)(const void* thin, const void* x, int64_t step, void* out, int64_t rows, int64_t begin, int64_t end, int64_t width, int64_t rank);
    // y [width] = softmax(scale k x) v over the keys that are `seen`: one query x [width] of a head against `keys` keys and values, from one of
    // which to the next are `key_step` and `value_step` numbers. `weights` [key] of S is room to work in.
    void (*attend)(const void* x, const void* k, int64_t key_step, const void* v, int64_t value_step, const bool* seen, void* weights, void* y,
                   int64_t keys, int64_t width, double scale);
    // One step of Adam on numbers of S: p *= shrink; m += (g - m) (1 - beta1); v = beta2 v + (1 - beta2) g^2; p -= rate m / (sqrt(v) / root + epsilon).
    void (*adam)(void* p, void* m, void* v, const void* g, int64_t begin, int64_t end, double shrink, double beta1, double beta2, double rate,
                 double root, double epsilon);
};

// In the order of the tables.
enum KernelType { KERNEL_F32, KERNEL_BF16, KERNEL_F64, KERNEL_TYPES };

extern "C" {
// Those that build.rs compiles.
const Kernels* ia2_kernels_plain();
#ifdef IA2_X86
const Kernels* ia2_kernels_avx2();
const Kernels* ia2_kernels_avx512();
#endif
}
