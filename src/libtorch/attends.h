// Attention, for `kernels.cpp` alone, which includes this between its vectors and its loops.
//
// Rows that share keys and values stand in the lanes of vectors: the keys are then read as they lie, number by number, and the largest score, the sum of
// the weights and what a row sees are found without going across a vector. Keys are read `Attending::KEYS` at a time, and the output grows from one to
// the next (Milakov and Gimelshein 2018, Dao et al. 2022).

// How many numbers of the left side, and vectors of the right, a product holds in the registers there are.
#if defined(__AVX512F__)
constexpr int64_t TALL = 8, BROAD = 3;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr int64_t TALL = 6, BROAD = 1;
#else
constexpr int64_t TALL = 2, BROAD = 1;
#endif

// A product in the wide kind.
template <typename T>
struct WideProduct {
    typedef Lanes<T> L;
    typedef typename L::S S;
    typedef typename L::V V;
    typedef Lanes<S> LS;
    // The left side's, and how many numbers along the product one of them holds.
    typedef S A;
    static constexpr int64_t EACH = 1;

    static V step(V sum, A a, V b) { return sum + LS::all(a) * b; }
    // One row of the left side along the product.
    static void row(const T* x, A* to, int64_t width) {
        for (int64_t i = 0; i < width; i += L::N) put(to + i, take(x + i, width - i), width - i);
    }
    // One row that the product goes across.
    static void across(const T* x, const T*, A* to, int64_t width) { row(x, to, width); }
    // Weights of keys as the right side.
    static void weights(S*, int64_t, int64_t) {}
};

template <typename T>
struct Product : WideProduct<T> {};

#ifdef __AVX512BF16__
// A product of pairs of bf16, which the processor multiplies and adds to an f32 as one.
template <>
struct Product<bf16> {
    typedef uint32_t A;
    static constexpr int64_t EACH = 2;

    static F16 step(F16 sum, A a, F16 b) { return (F16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(U16{} + a), (__m512bh)b); }
    static void row(const bf16* x, A* to, int64_t width) {
        __builtin_memcpy(to, x, width / 2 * 4);
        if (width % 2) to[width / 2] = x[width - 1].bits;
    }
    static void across(const bf16* x, const bf16* next, A* to, int64_t width) {
        if (!next) {
            for (int64_t i = 0; i < width; i++) to[i] = x[i].bits;
            return;
        }
        for (int64_t i = 0; i < width; i++) to[i] = x[i].bits | (uint32_t)next[i].bits << 16;
    }
    // In place: a pair stands before both of its numbers.
    static void weights(float* w, int64_t keys, int64_t broad) {
        for (int64_t key = 0; key < keys; key += 2) {
            for (int64_t i = 0; i < broad; i += 16) {
                F16 first = Lanes<float>::load(w + key * broad + i), second = key + 1 < keys ? Lanes<float>::load(w + (key + 1) * broad + i) : F16{};
                U16 pair = Lanes<bf16>::upper(first) | Lanes<bf16>::upper(second) << 16;
                __builtin_memcpy(w + key / 2 * broad + i, &pair, 64);
            }
        }
    }
};
#endif

template <typename T>
struct Attends {
    typedef Lanes<T> L;
    typedef typename L::S S;
    typedef typename L::V V;
    typedef Lanes<S> LS;
    typedef typename LS::U U;
    typedef Product<T> M;
    typedef typename M::A A;
    static constexpr int64_t N = L::N, ROWS = BROAD * N, KEYS = Attending::KEYS, WORDS = KEYS / 32;
    static_assert(ROWS <= Attending::MOST_ROWS, "room for the rows");
    // Below, most lanes would be empty.
    static constexpr int64_t FEW = 4;

    // Of one row: where its query and output are, and its token's bits.
    struct Row {
        const T* x;
        T* y;
        S* sum;
        const uint32_t* seen;
    };

    // c [tall, B vectors] = a b, or c + a b, with a [tall, deep] in its own steps and b [deep, B vectors].
    template <int B>
    static void multiply(const A* a, int64_t across, int64_t along, const S* b, S* c, int64_t tall, int64_t deep, bool adds) {
        for (int64_t row = 0; row < tall; row += TALL) {
            const A* at[TALL];
            for (int64_t i = 0; i < TALL; i++) at[i] = a + (row + i < tall ? row + i : tall - 1) * across;
            int64_t here = tall - row < TALL ? tall - row : TALL;
            S* to = c + row * B * N;
            V sums[TALL][B] = {};
            if (adds)
                for (int64_t i = 0; i < here; i++)
                    for (int v = 0; v < B; v++) sums[i][v] = LS::load(to + (i * B + v) * N);
            for (int64_t k = 0; k < deep; k++) {
                V right[B];
                for (int v = 0; v < B; v++) right[v] = LS::load(b + (k * B + v) * N);
#pragma GCC unroll 8
                for (int64_t i = 0; i < TALL; i++)
                    for (int v = 0; v < B; v++) sums[i][v] = M::step(sums[i][v], at[i][k * along], right[v]);
            }
            for (int64_t i = 0; i < here; i++)
                for (int v = 0; v < B; v++) LS::store(to + (i * B + v) * N, sums[i][v]);
        }
    }

    // At most B vectors of rows, which share keys and values.
    template <int B>
    static void block(const Attending& what, const Row* rows, int64_t count, const T* k, const T* v, S* room) {
        constexpr int64_t BROADS = B * N;
        int64_t width = what.width, deep = (width + M::EACH - 1) / M::EACH, words = (what.keys + 31) / 32;
        S *output = room, *scores = output + width * BROADS, *asking = scores + KEYS * BROADS, *left = asking + width * BROADS;
        A* lefts = (A*)left;
        for (int64_t i = 0; i < width * BROADS; i++) output[i] = 0;
        for (int64_t i = 0; i < deep * BROADS; i++) asking[i] = 0;
        for (int64_t row = 0; row < count; row++) {
            M::row(rows[row].x, lefts, width);
            for (int64_t i = 0; i < deep; i++) ((A*)asking)[i * BROADS + row] = lefts[i];
        }
        const V none = LS::all(-__builtin_inf());
        V most[B], totals[B] = {};
        for (int b = 0; b < B; b++) most[b] = none;
        for (int64_t word = 0; word < words; word += WORDS) {
            // Which of these keys some row sees, and whether all see the same.
            typename LS::W own[WORDS][BROADS] = {};
            uint32_t any[WORDS] = {}, all[WORDS];
            int64_t ids[KEYS], n = 0;
            bool same = true;
            for (int64_t w = 0; w < WORDS; w++) {
                all[w] = ~0u;
                for (int64_t row = 0; row < count; row++) {
                    uint32_t bits = word + w < words ? rows[row].seen[word + w] : 0;
                    own[w][row] = bits;
                    any[w] |= bits;
                    all[w] &= bits;
                }
                same = same && any[w] == all[w];
                for (uint32_t bits = any[w]; bits; bits &= bits - 1) ids[n++] = w * 32 + __builtin_ctz(bits);
            }
            if (n == 0) continue;
            const T* from = k + word * 32 * what.of_k.token;
            for (int64_t i = 0; i < n; i++) M::row(from + ids[i] * what.of_k.token, lefts + i * deep, width);
            multiply<B>(lefts, deep, 1, asking, scores, n, deep, false);
            for (int b = 0; b < B; b++) {
                S* at = scores + b * N;
                U seen[WORDS];
                __builtin_memset(seen, 0, sizeof(seen));
                for (int64_t w = 0; w < WORDS; w++) __builtin_memcpy(&seen[w], &own[w][b * N], sizeof(U));
                V top = most[b];
                for (int64_t i = 0; i < n; i++) {
                    V s = LS::load(at + i * BROADS) * LS::all((S)what.scale);
                    if (!same) s = ((seen[ids[i] / 32] >> (ids[i] % 32)) & 1) != 0 ? s : none;
                    LS::store(at + i * BROADS, s);
                    top = s > top ? s : top;
                }
                // Of what sees nothing yet.
                V base = top == none ? V{} : top, shrink = LS::exp(most[b] - base), total = {};
                for (int64_t i = 0; i < n; i++) {
                    V s = LS::load(at + i * BROADS), weight = LS::exp(s - base);
                    weight = s == none ? V{} : weight;
                    total += weight;
                    LS::store(at + i * BROADS, weight);
                }
                bool grown = false;
                for (int64_t i = 0; i < N; i++) grown = grown || top[i] != most[b][i];
                most[b] = top;
                totals[b] = totals[b] * shrink + total;
                if (!grown) continue;
                for (int64_t i = 0; i < width; i++) LS::store(output + (i * B + b) * N, LS::load(output + (i * B + b) * N) * shrink);
            }
            M::weights(scores, n, BROADS);
            from = v + word * 32 * what.of_v.token;
            for (int64_t i = 0; i < n; i += M::EACH) {
                const T* next = M::EACH > 1 && i + 1 < n ? from + ids[i + 1] * what.of_v.token : nullptr;
                M::across(from + ids[i] * what.of_v.token, next, lefts + i / M::EACH * width, width);
            }
            multiply<B>(lefts, 1, width, scores, output, width, (n + M::EACH - 1) / M::EACH, true);
        }
        for (int64_t row = 0; row < count; row++) {
            S total = totals[row / N][row % N];
            // Of nothing that is seen comes nothing.
            S share = total == 0 ? 0 : 1 / total;
            if (rows[row].sum) *rows[row].sum = total == 0 ? 0 : most[row / N][row % N] + LS::log(total);
            for (int64_t i = 0; i < width; i++) left[i] = output[i * BROADS + row] * share;
            for (int64_t i = 0; i < width; i += N) put(rows[row].y + i, take(left + i, width - i), width - i);
        }
    }

    // One row alone.
    static void one(const Attending& what, const Row& row, const T* k, const T* v, S* weights) {
        int64_t keys = what.keys, width = what.width;
        auto sees = [&](int64_t key) { return row.seen[key / 32] >> (key % 32) & 1; };
        S most = -__builtin_inf();
        for (int64_t key = 0; key < keys; key++) {
            if (!sees(key)) continue;
            V sum = {};
            for (int64_t i = 0; i < width; i += N) sum += take(row.x + i, width - i) * take(k + key * what.of_k.token + i, width - i);
            weights[key] = LS::sum(sum) * (S)what.scale;
            if (weights[key] > most) most = weights[key];
        }
        S total = 0;
        for (int64_t first = 0; first < keys; first += N) {
            S some[N];
            int64_t here = keys - first < N ? keys - first : N;
            for (int64_t at = 0; at < here; at++) some[at] = sees(first + at) ? weights[first + at] - most : 0;
            for (int64_t at = here; at < N; at++) some[at] = 0;
            LS::store(some, LS::exp(LS::load(some)));
            for (int64_t at = 0; at < here; at++) {
                weights[first + at] = sees(first + at) ? some[at] : 0;
                total += weights[first + at];
            }
        }
        S share = total == 0 ? 0 : 1 / total;
        if (row.sum) *row.sum = total == 0 ? 0 : most + LS::log(total);
        // Four vectors of the output at once stay in registers.
        for (int64_t first = 0; first < width; first += 4 * N) {
            V sums[4] = {};
            int64_t end = width - first < 4 * N ? width : first + 4 * N;
            for (int64_t key = 0; key < keys; key++) {
                if (!sees(key)) continue;
                const T* from = v + key * what.of_v.token;
                V weight = LS::all(weights[key]);
                for (int64_t i = first; i < end; i += N) sums[(i - first) / N] += weight * take(from + i, width - i);
            }
            for (int64_t i = first; i < end; i += N) put(row.y + i, L::rounded(sums[(i - first) / N] * LS::all(share)), width - i);
        }
    }

    static void attend(const Attending& what, int64_t begin, int64_t end, void* room) {
        int64_t of_group = what.heads / what.groups, all = of_group * what.tokens, blocks = (all + ROWS - 1) / ROWS, words = (what.keys + 31) / 32;
        for (int64_t number = begin; number < end; number++) {
            int64_t example = number / blocks / what.groups, group = number / blocks % what.groups, first = number % blocks * ROWS;
            int64_t count = all - first < ROWS ? all - first : ROWS;
            Row rows[ROWS];
            for (int64_t i = 0; i < count; i++) {
                int64_t head = group * of_group + (first + i) / what.tokens, token = (first + i) % what.tokens;
                auto place = [&](const Attending::Steps& steps) { return example * steps.example + head * steps.head + token * steps.token; };
                S* sum = what.sums ? (S*)what.sums + (example * what.heads + head) * what.tokens + token : nullptr;
                rows[i] = {(const T*)what.x + place(what.of_x), (T*)what.y + place(what.of_y), sum, what.seen + example * what.seen_step + token * words};
            }
            const T* k = (const T*)what.k + example * what.of_k.example + group * what.of_k.head;
            const T* v = (const T*)what.v + example * what.of_v.example + group * what.of_v.head;
            if (count < FEW) {
                for (int64_t i = 0; i < count; i++) one(what, rows[i], k, v, (S*)room);
            } else if (count <= N) {
                block<1>(what, rows, count, k, v, (S*)room);
            } else if (BROAD < 3 || count <= 2 * N) {
                block<(BROAD < 2 ? 1 : 2)>(what, rows, count, k, v, (S*)room);
            } else {
                block<BROAD>(what, rows, count, k, v, (S*)room);
            }
        }
    }
};
