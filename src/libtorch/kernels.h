// Loops over plain memory, compiled once for each set of vector instructions: `kernels.cpp`, `build.rs`.

#pragma once

#include <cstdint>

// Queries [example, head, token, width] and the keys and values [example, group of heads, key, width] that they attend to; y is as the queries. In memory
// these stand as the steps say, numbers of one row side by side. The rows of a group are those of its first head, then those of its second, ...
struct Attending {
    const void *x, *k, *v;
    void* y;
    // The logarithm of the sum of each row's weights before they are divided by it, [example, head, token] of S; not written where null.
    void* sums;
    struct Steps {
        int64_t example, head, token;
    } of_x, of_k, of_v, of_y;
    // Bits [example, token, key / 32], the first key's the lowest; from one example to the next are `seen_step` words, 0 where all see the same.
    const uint32_t* seen;
    int64_t seen_step;
    // Heads are a multiple of groups.
    int64_t groups, heads, tokens, keys, width;
    double scale;

    // The number of keys that are read at once, and the maximum number of rows that share them.
    static constexpr int64_t KEYS = 128, MOST_ROWS = 48;

    // Numbers of the room that a thread needs: queries and output, weights, keys or values; the weights of single rows.
    int64_t room() const { return 2 * width * MOST_ROWS + KEYS * MOST_ROWS + KEYS * (width + 1) + keys; }
};

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
    // y = softmax(scale k x) v, as `Attending` says, for the blocks of `attend_rows` rows from `begin` to before `end`: example by example, group by
    // group. `room` is of `Attending::room` numbers of S.
    void (*attend)(const Attending& what, int64_t begin, int64_t end, void* room);
    int64_t attend_rows;
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
const Kernels* ia2_kernels_avx512_bf16();
#endif
}
