// The loops of `kernels.h`, in vectors of 64 bytes as GNU's and Clang's compilers know them: they become one register or several, whatever the
// processor has. Compiled several times, so nothing here may be a function that the linker could merge with another compilation's: all is
// in a nameless namespace, and no header of C++ with code of its own is included.

#include "kernels.h"

#ifdef __AVX512BF16__
// Instructions, none of them a function that is linked.
#include <immintrin.h>
#endif

namespace {

struct bf16 {
    uint16_t bits;
};

typedef float F16 __attribute__((vector_size(64)));
typedef uint32_t U16 __attribute__((vector_size(64)));
typedef int32_t I16 __attribute__((vector_size(64)));
typedef uint16_t H16 __attribute__((vector_size(32)));
typedef double D8 __attribute__((vector_size(64)));
typedef uint64_t U8 __attribute__((vector_size(64)));

template <typename T>
struct Lanes;

// Vectors of 16 f32.
struct Wide32 {
    typedef float S;
    typedef F16 V;
    typedef U16 U;
    typedef uint32_t W;
    static constexpr int64_t N = 16;
    static F16 all(float value) { return F16{} + value; }
    // e^x to about a unit in the last place: 2^k e^r with |r| <= ln 2 / 2, and Cephes's polynomial for e^r.
    static F16 exp(F16 x) {
        x = x < all(-87.3f) ? all(-87.3f) : x;
        x = x > all(88.3f) ? all(88.3f) : x;
        const F16 magic = all(12582912.0f);
        F16 shifted = x * 1.44269504088896341f + magic;
        I16 k = (I16)shifted - (I16)magic;
        F16 whole = shifted - magic;
        F16 r = x - whole * 0.693359375f;
        r = r + whole * 2.12194440e-4f;
        F16 p = all(1.9875691500e-4f);
        p = p * r + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        p = p * r * r + r + 1.0f;
        // What is no number stays none.
        return x != x ? x : (F16)((I16)p + (k << 23));
    }
    static F16 sqrt(F16 x) {
        for (int i = 0; i < 16; i++) x[i] = __builtin_sqrtf(x[i]);
        return x;
    }
    static float log(float x) { return __builtin_logf(x); }
    static float root(float x) { return __builtin_sqrtf(x); }
    static float sum(F16 v) {
        float s[16];
        __builtin_memcpy(s, &v, 64);
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++) s[i] += s[i + half];
        return s[0];
    }
};

template <>
struct Lanes<float> : Wide32 {
    static F16 load(const float* from) {
        F16 v;
        __builtin_memcpy(&v, from, 64);
        return v;
    }
    static void store(float* to, F16 v) { __builtin_memcpy(to, &v, 64); }
    static F16 rounded(F16 v) { return v; }
    static float number(float x) { return x; }
};

template <>
struct Lanes<bf16> : Wide32 {
    static F16 load(const bf16* from) {
        H16 h;
        __builtin_memcpy(&h, from, 32);
        return (F16)(__builtin_convertvector(h, U16) << 16);
    }
    // To the nearest, ties to even; what is no number stays none.
    static U16 upper(F16 v) {
#ifdef __AVX512BF16__
        return __builtin_convertvector((H16)_mm512_cvtneps_pbh((__m512)v), U16);
#else
        U16 u = (U16)v;
        U16 r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
        U16 none = (U16)(v != v);
        return (r & ~none) | (none & 0x7fc0u);
#endif
    }
    static void store(bf16* to, F16 v) {
        H16 h = __builtin_convertvector(upper(v), H16);
        __builtin_memcpy(to, &h, 32);
    }
    static F16 rounded(F16 v) { return (F16)(upper(v) << 16); }
    static float number(bf16 x) {
        uint32_t bits = (uint32_t)x.bits << 16;
        float f;
        __builtin_memcpy(&f, &bits, 4);
        return f;
    }
};

template <>
struct Lanes<double> {
    typedef double S;
    typedef D8 V;
    typedef U8 U;
    typedef uint64_t W;
    static constexpr int64_t N = 8;
    static D8 all(double value) { return D8{} + value; }
    static D8 load(const double* from) {
        D8 v;
        __builtin_memcpy(&v, from, 64);
        return v;
    }
    static void store(double* to, D8 v) { __builtin_memcpy(to, &v, 64); }
    static D8 rounded(D8 v) { return v; }
    static double number(double x) { return x; }
    static D8 exp(D8 x) {
        for (int i = 0; i < 8; i++) x[i] = __builtin_exp(x[i]);
        return x;
    }
    static D8 sqrt(D8 x) {
        for (int i = 0; i < 8; i++) x[i] = __builtin_sqrt(x[i]);
        return x;
    }
    static double log(double x) { return __builtin_log(x); }
    static double root(double x) { return __builtin_sqrt(x); }
    static double sum(D8 v) {
        double s = 0;
        for (int i = 0; i < 8; i++) s += v[i];
        return s;
    }
};

// The next vector of a row, of which `left` numbers are left; beyond them are zeros.
template <typename T>
typename Lanes<T>::V take(const T* from, int64_t left) {
    if (left >= Lanes<T>::N) return Lanes<T>::load(from);
    T part[Lanes<T>::N] = {};
    for (int64_t i = 0; i < left; i++) part[i] = from[i];
    return Lanes<T>::load(part);
}

template <typename T>
void put(T* to, typename Lanes<T>::V v, int64_t left) {
    if (left >= Lanes<T>::N) return Lanes<T>::store(to, v);
    T part[Lanes<T>::N];
    Lanes<T>::store(part, v);
    for (int64_t i = 0; i < left; i++) to[i] = part[i];
}

#include "attends.h"

template <typename T>
struct Of {
    typedef Lanes<T> L;
    typedef typename L::S S;
    typedef typename L::V V;
    typedef Lanes<S> LS;
    static constexpr int64_t N = L::N;

    // The norm's weight at column i.
    static V weight(const void* w, bool wide, int64_t i, int64_t left) {
        return wide ? take((const S*)w + i, left) : take((const T*)w + i, left);
    }

    // x r w as the norm rounds it.
    static V normed(V x, S scale, const void* w, bool wide, int64_t i, int64_t left) {
        V n = x * L::all(scale);
        return L::rounded((wide ? n : L::rounded(n)) * weight(w, wide, i, left));
    }

    static S scale_of(const T* x, int64_t width, double epsilon) {
        V sum = {};
        for (int64_t i = 0; i < width; i += N) {
            V v = take(x + i, width - i);
            sum += v * v;
        }
        return 1 / L::root(L::sum(sum) / width + (S)epsilon);
    }

    static void norm(const void* xs, const void* addeds, void* sums, const void* w, bool wide, void* ys, void* scales, int64_t begin, int64_t end,
                     int64_t width, double epsilon) {
        for (int64_t row = begin; row < end; row++) {
            const T* x = (const T*)xs + row * width;
            T* y = (T*)ys + row * width;
            if (addeds) {
                const T* added = (const T*)addeds + row * width;
                T* sum = (T*)sums + row * width;
                for (int64_t i = 0; i < width; i += N) put(sum + i, take(x + i, width - i) + take(added + i, width - i), width - i);
                x = sum;
            }
            S scale = scale_of(x, width, epsilon);
            ((S*)scales)[row] = scale;
            for (int64_t i = 0; i < width; i += N) put(y + i, normed(take(x + i, width - i), scale, w, wide, i, width - i), width - i);
        }
    }

    // With u = g w: dx = r u - r^3 mean(u x) x. `g` may be of S, a row in a buffer.
    template <typename G>
    static void norm_row(const T* x, const void* w, bool wide, S scale, const G* g, const T* beside, T* dx, int64_t width) {
        V sum = {};
        for (int64_t i = 0; i < width; i += N) sum += take(g + i, width - i) * weight(w, wide, i, width - i) * take(x + i, width - i);
        S share = -scale * scale * scale * (L::sum(sum) / width);
        for (int64_t i = 0; i < width; i += N) {
            V u = take(g + i, width - i) * weight(w, wide, i, width - i);
            V d = u * L::all(scale) + take(x + i, width - i) * L::all(share);
            if (beside) d += take(beside + i, width - i);
            put(dx + i, d, width - i);
        }
    }

    static void norm_backward(const void* x, const void* w, bool wide, const void* scales, const void* g, const void* beside, void* dx,
                              int64_t begin, int64_t end, int64_t width) {
        for (int64_t row = begin; row < end; row++) {
            int64_t at = row * width;
            norm_row((const T*)x + at, w, wide, ((const S*)scales)[row], (const T*)g + at, beside ? (const T*)beside + at : nullptr, (T*)dx + at,
                     width);
        }
    }

    // From `from` to `to`, both of S, in `direction` 1 or -1.
    static void turned(const S* from, const T* cos, const T* sin, S* to, int64_t turning, S direction) {
        int64_t half = turning / 2;
        V d = L::all(direction);
        for (int64_t i = 0; i < half; i += N) {
            int64_t left = half - i;
            V a = take(from + i, left), b = take(from + half + i, left);
            V ca = take(cos + i, left), cb = take(cos + half + i, left), sa = take(sin + i, left), sb = take(sin + half + i, left);
            put(to + i, a * ca - d * b * sa, left);
            put(to + half + i, b * cb + d * a * sb, left);
        }
    }

    static constexpr int64_t HEAD = 1024;

    static void turn(const void* xs, int64_t step, const void* w, bool wide, void* scales, const void* cos, const void* sin, int64_t angles,
                     void* ys, int64_t begin, int64_t end, int64_t heads, int64_t width, int64_t turning, double epsilon) {
        S buffer[HEAD], after[HEAD];
        for (int64_t row = begin; row < end; row++) {
            const T* x = (const T*)xs + row / heads * step + row % heads * width;
            T* y = (T*)ys + row * width;
            int64_t at = (row / heads) % angles * turning;
            if (w) {
                S scale = scale_of(x, width, epsilon);
                ((S*)scales)[row] = scale;
                for (int64_t i = 0; i < width; i += N) put(buffer + i, normed(take(x + i, width - i), scale, w, wide, i, width - i), width - i);
            } else {
                for (int64_t i = 0; i < width; i += N) put(buffer + i, take(x + i, width - i), width - i);
            }
            turned(buffer, (const T*)cos + at, (const T*)sin + at, after, turning, 1);
            for (int64_t i = 0; i < turning; i += N) put(y + i, take(after + i, turning - i), turning - i);
            for (int64_t i = turning; i < width; i += N) put(y + i, take(buffer + i, width - i), width - i);
        }
    }

    static void turn_backward(const void* xs, int64_t step, const void* w, bool wide, const void* scales, const void* cos, const void* sin,
                              int64_t angles, const void* gs, void* dxs, int64_t begin, int64_t end, int64_t heads, int64_t width, int64_t turning) {
        S buffer[HEAD], after[HEAD];
        for (int64_t row = begin; row < end; row++) {
            const T* g = (const T*)gs + row * width;
            T* dx = (T*)dxs + row * width;
            int64_t at = (row / heads) % angles * turning;
            for (int64_t i = 0; i < width; i += N) put(buffer + i, take(g + i, width - i), width - i);
            turned(buffer, (const T*)cos + at, (const T*)sin + at, after, turning, -1);
            for (int64_t i = turning; i < width; i++) after[i] = buffer[i];
            if (w) {
                norm_row((const T*)xs + row / heads * step + row % heads * width, w, wide, ((const S*)scales)[row], after, (const T*)nullptr, dx, width);
            } else {
                for (int64_t i = 0; i < width; i += N) put(dx + i, take(after + i, width - i), width - i);
            }
        }
    }

    // f(a) and f'(a).
    static void curve(V a, bool gelu, V& value, V& slope) {
        const V one = L::all(1);
        if (!gelu) {
            V s = one / (one + L::exp(-a));
            value = a * s;
            slope = s * (one + a * (one - s));
            return;
        }
        const S root = (S)0.79788456080286535588, cubic = (S)0.044715;
        V inner = L::all(root) * (a + L::all(cubic) * a * a * a);
        // (1 + tanh u) / 2, which cancels nothing in this form.
        V s = one / (one + L::exp(-(inner + inner)));
        value = a * s;
        slope = s + a * s * (one - s) * L::all(2 * root) * (one + L::all(3 * cubic) * a * a);
    }

    static void gated(const void* as, const void* bs, int64_t step, void* ys, int64_t begin, int64_t end, int64_t width, bool gelu) {
        for (int64_t row = begin; row < end; row++) {
            const T *a = (const T*)as + row * step, *b = (const T*)bs + row * step;
            T* y = (T*)ys + row * width;
            for (int64_t i = 0; i < width; i += N) {
                V value, slope;
                curve(take(a + i, width - i), gelu, value, slope);
                put(y + i, L::rounded(value) * take(b + i, width - i), width - i);
            }
        }
    }

    static void gated_backward(const void* as, const void* bs, int64_t step, const void* gs, void* das, void* dbs, int64_t begin, int64_t end,
                               int64_t width, bool gelu) {
        for (int64_t row = begin; row < end; row++) {
            int64_t at = row * step;
            const T *a = (const T*)as + at, *b = (const T*)bs + at, *g = (const T*)gs + row * width;
            for (int64_t i = 0; i < width; i += N) {
                V value, slope, v = take(g + i, width - i);
                curve(take(a + i, width - i), gelu, value, slope);
                put((T*)das + at + i, v * take(b + i, width - i) * slope, width - i);
                put((T*)dbs + at + i, v * L::rounded(value), width - i);
            }
        }
    }

    static void entropy(const void* xs, const int64_t* labels, void* loss, void* log_sums, int64_t begin, int64_t end, int64_t width) {
        for (int64_t row = begin; row < end; row++) {
            const T* x = (const T*)xs + row * width;
            S most = L::number(x[0]);
            V tops = L::all(most);
            int64_t whole = width - width % N;
            for (int64_t i = 0; i < whole; i += N) {
                V v = L::load(x + i);
                tops = v > tops ? v : tops;
            }
            for (int64_t i = 0; i < N; i++) most = tops[i] > most ? tops[i] : most;
            for (int64_t i = whole; i < width; i++) most = L::number(x[i]) > most ? L::number(x[i]) : most;
            V sums = {};
            for (int64_t i = 0; i < whole; i += N) sums += L::exp(L::load(x + i) - L::all(most));
            S sum = L::sum(sums);
            V rest = L::exp(take(x + whole, width - whole) - L::all(most));
            for (int64_t i = whole; i < width; i++) sum += rest[i - whole];
            S log_sum = most + L::log(sum);
            ((S*)log_sums)[row] = log_sum;
            ((S*)loss)[row] = log_sum - L::number(x[labels[row]]);
        }
    }

    static void entropy_backward(const void* xs, const int64_t* labels, const void* log_sums, const void* gs, void* dxs, int64_t begin,
                                 int64_t end, int64_t width) {
        for (int64_t row = begin; row < end; row++) {
            const T* x = (const T*)xs + row * width;
            T* dx = (T*)dxs + row * width;
            V log_sum = L::all(((const S*)log_sums)[row]), g = L::all(((const S*)gs)[row]);
            for (int64_t i = 0; i < width; i += N) put(dx + i, L::exp(take(x + i, width - i) - log_sum) * g, width - i);
            // At the label less one.
            int64_t at = labels[row];
            V v = (L::exp(L::all(L::number(x[at])) - log_sum) - L::all(1)) * g;
            put(dx + at, v, 1);
        }
    }

    static void down(const void* xs, int64_t step, const void* as, void* thins, double factor, int64_t begin, int64_t end, int64_t width,
                     int64_t rank) {
        const S* a = (const S*)as;
        S* thin = (S*)thins;
        for (int64_t row = begin; row < end; row += 2) {
            const T* x0 = (const T*)xs + row * step;
            const T* x1 = row + 1 < end ? x0 + step : x0;
            for (int64_t k = 0; k < rank; k += 4) {
                const S* at[4];
                for (int j = 0; j < 4; j++) at[j] = a + (k + j < rank ? k + j : k) * width;
                V s0[4] = {}, s1[4] = {};
                for (int64_t i = 0; i < width; i += N) {
                    V v0 = take(x0 + i, width - i), v1 = take(x1 + i, width - i);
                    for (int j = 0; j < 4; j++) {
                        V w = take(at[j] + i, width - i);
                        s0[j] += v0 * w;
                        s1[j] += v1 * w;
                    }
                }
                for (int j = 0; j < 4 && k + j < rank; j++) {
                    thin[row * rank + k + j] = L::sum(s0[j]) * (S)factor;
                    if (row + 1 < end) thin[(row + 1) * rank + k + j] = L::sum(s1[j]) * (S)factor;
                }
            }
        }
    }

    static void up(void* ys, int64_t step, const void* thins, const void* bs, int64_t begin, int64_t end, int64_t width, int64_t rank) {
        const S* b = (const S*)bs;
        for (int64_t row = begin; row < end; row += 4) {
            int64_t rows = end - row < 4 ? end - row : 4;
            const S* thin[4];
            for (int j = 0; j < 4; j++) thin[j] = (const S*)thins + (row + (j < rows ? j : 0)) * rank;
            for (int64_t i = 0; i < width; i += N) {
                V sums[4] = {};
                for (int64_t k = 0; k < rank; k++) {
                    V v = take(b + k * width + i, width - i);
                    for (int j = 0; j < 4; j++) sums[j] += L::all(thin[j][k]) * v;
                }
                for (int j = 0; j < rows; j++) {
                    T* y = (T*)ys + (row + j) * step + i;
                    put(y, take((const T*)y, width - i) + sums[j], width - i);
                }
            }
        }
    }

    static void outer(const void* thins, const void* xs, int64_t step, void* outs, int64_t rows, int64_t begin, int64_t end, int64_t width,
                      int64_t rank) {
        for (int64_t k = 0; k < rank; k += 8) {
            int64_t ranks = rank - k < 8 ? rank - k : 8;
            for (int64_t i = begin; i < end; i += N) {
                V sums[8] = {};
                for (int64_t row = 0; row < rows; row++) {
                    V v = take((const T*)xs + row * step + i, end - i);
                    const S* thin = (const S*)thins + row * rank + k;
                    for (int j = 0; j < 8; j++) sums[j] += L::all(thin[j < ranks ? j : 0]) * v;
                }
                for (int64_t j = 0; j < ranks; j++) put((S*)outs + (k + j) * width + i, sums[j], end - i);
            }
        }
    }

    static void adam(void* ps, void* ms, void* vs, const void* gs, int64_t begin, int64_t end, double shrink, double beta1, double beta2,
                     double rate, double root, double epsilon) {
        for (int64_t i = begin; i < end; i += N) {
            S *pp = (S*)ps + i, *mm = (S*)ms + i, *vv = (S*)vs + i;
            int64_t left = end - i;
            V g = take((const S*)gs + i, left), m = take((const S*)mm, left), v = take((const S*)vv, left);
            m += (g - m) * LS::all((S)(1 - beta1));
            v = v * LS::all((S)beta2) + g * g * LS::all((S)(1 - beta2));
            put(mm, m, left);
            put(vv, v, left);
            if (rate == 0) continue;
            V p = take((const S*)pp, left) * LS::all((S)shrink);
            put(pp, p - LS::all((S)rate) * m / (LS::sqrt(v) / LS::all((S)root) + LS::all((S)epsilon)), left);
        }
    }

    static constexpr Kernels table() {
        return {norm, norm_backward, turn, turn_backward, gated, gated_backward, entropy, entropy_backward, down, up, outer, Attends<T>::attend, Attends<T>::ROWS, adam};
    }
};

const Kernels tables[KERNEL_TYPES] = {Of<float>::table(), Of<bf16>::table(), Of<double>::table()};

}  // namespace

#define IA2_JOIN(a, b) a##b
#define IA2_NAME(set) IA2_JOIN(ia2_kernels_, set)
extern "C" const Kernels* IA2_NAME(IA2_SET)() { return tables; }
