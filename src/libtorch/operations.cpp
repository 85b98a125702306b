// Operations of a decoder with frozen weights, with backward passes that keep less than libtorch's own compositions do.
//
// libtorch composes a root-mean-square norm, a gated activation or a rotation of several operations, each of which keeps what it needs for
// its own gradient; and its oneDNN product keeps a copy of its input for the gradient of a weight that is never trained. Here each keeps
// the least that its gradient can be computed from. Rust has no way to add to libtorch's graph; this file is the way.

#include "kernels.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Logging.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <string>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

extern "C" {
// OpenMP's own entry points, which GNU's and LLVM's libraries have: no compiler needs a flag for them.
void GOMP_parallel(void (*function)(void*), void* data, unsigned threads, unsigned flags);
int omp_get_thread_num();
int omp_get_num_threads();
}

namespace {

// libtorch adds its own stack to the text of every error, forty lines of C++ that say nothing to whoever typed Rust. Done when the library is
// loaded, for errors that never pass through this crate, too: a cell prints them as they are. libtorch's own variable asks for them.
const bool without_frames = [] {
    if (std::getenv("TORCH_SHOW_CPP_STACKTRACES") == nullptr) {
        c10::SetStackTraceFetcher([] { return std::string(); });
    }
    return true;
}();

// From this many rows on oneDNN's preparations are worth it.
constexpr int64_t ONEDNN_ROWS = 4;
// And from this many multiplications on: a call of oneDNN's costs 11 us, one of MKL's 2, which is then at half its speed.
constexpr int64_t ONEDNN_PRODUCTS = 800'000;

// The backward passes below are no functions that libtorch could derive again: a second derivative would be wrong in silence.
void first_derivatives_only() {
    TORCH_CHECK(!at::GradMode::is_enabled(), "second derivatives (create_graph) of the decoder are not supported");
}

at::ScalarType wide(at::ScalarType kind) { return kind == at::kDouble ? at::kDouble : at::kFloat; }

// How a product is computed: by oneDNN; and of f32 numbers rounded to bf16, by libtorch's own switch, where the processor has such products.
constexpr int64_t ONEDNN = 1, ROUNDED = 2;

// The switch is the process's: it is turned for one product and turned back.
struct Switch {
    bool turned;
    at::Float32Precision before = at::Float32Precision::NONE;
    explicit Switch(bool turned) : turned(turned) {
        if (!turned) return;
        before = at::globalContext().float32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL);
        at::globalContext().setFloat32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL, at::Float32Precision::BF16);
    }
    ~Switch() {
        if (turned) at::globalContext().setFloat32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL, before);
    }
};

// input weight^T + bias.
Tensor product(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, int64_t how) {
    Switch rounded((how & ROUNDED) != 0);
    bool onednn = (how & ONEDNN) != 0;
    bool small = input.numel() < ONEDNN_ROWS * input.size(-1) || input.numel() * weight.size(0) < ONEDNN_PRODUCTS;
    if (!onednn || small) return at::linear(input, weight, bias);
    using Pointwise = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view, c10::List<std::optional<at::Scalar>>,
                             std::optional<std::string_view>);
    static auto pointwise = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Pointwise>();
    return pointwise.call(input, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// y = x W^T + b with constants W and b: keeps neither x nor y.
struct FrozenLinear : Function<FrozenLinear> {
    static Tensor forward(AutogradContext* kept, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, int64_t how) {
        kept->save_for_backward({weight});
        kept->saved_data["how"] = how;
        return product(input, weight, bias, how);
    }
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto weight = kept->get_saved_variables()[0];
        return {product(gradients[0], weight.t(), std::nullopt, kept->saved_data["how"].toInt()), Tensor(), Tensor(), Tensor()};
    }
};

// The loops for tensors of this device and kind, or null: then libtorch's operations are composed.
const Kernels* loops(const Tensor& like) {
    static const Kernels* tables = [] {
#ifdef IA2_X86
        // What libtorch itself goes by, ATEN_CPU_CAPABILITY included.
        auto capability = at::get_cpu_capability();
        // libtorch does not say which of these processors multiply bf16 as well.
        if (capability == "AVX512") return __builtin_cpu_supports("avx512bf16") ? ia2_kernels_avx512_bf16() : ia2_kernels_avx512();
        if (capability == "AVX2") return ia2_kernels_avx2();
#endif
        return ia2_kernels_plain();
    }();
    if (!like.device().is_cpu()) return nullptr;
    switch (like.scalar_type()) {
        case at::kFloat: return tables + KERNEL_F32;
        case at::kBFloat16: return tables + KERNEL_BF16;
        case at::kDouble: return tables + KERNEL_F64;
        default: return nullptr;
    }
}

// `work(begin, end)` over 0 to `count` on libtorch's threads, in multiples of `step`, where each thread gets `least` or more. `work` throws nothing.
template <typename Work>
void split(int64_t count, int64_t least, int64_t step, const Work& work) {
    auto threads = std::min<int64_t>(at::get_num_threads(), count / std::max<int64_t>(least, 1));
    if (threads < 2 || at::in_parallel_region()) return work(0, count);
    struct Share {
        const Work& work;
        int64_t count, step;
    } share{work, count, step};
    GOMP_parallel(
        [](void* data) {
            auto& [work, count, step] = *static_cast<Share*>(data);
            int64_t pieces = (count + step - 1) / step, threads = omp_get_num_threads(), me = omp_get_thread_num();
            auto begin = pieces * me / threads * step, end = std::min(count, pieces * (me + 1) / threads * step);
            if (begin < end) work(begin, end);
        },
        &share, static_cast<unsigned>(threads), 0);
}

// Numbers that are worth a thread.
constexpr int64_t NUMBERS = 16384;

// Rows of this width that are.
int64_t rows_for(int64_t width) { return std::max<int64_t>(1, NUMBERS / std::max<int64_t>(width, 1)); }

const void* in(const Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }
void* out(const Tensor& tensor) { return tensor.defined() ? tensor.data_ptr() : nullptr; }

// One number per row of `input`, in the wide kind.
Tensor per_row(const Tensor& input) {
    return at::empty({input.numel() / std::max<int64_t>(input.size(-1), 1)}, input.options().dtype(wide(input.scalar_type())));
}

// Whether a norm's weight fits the loops: as wide as a row, of the input's kind, or of the wide one.
bool fits(const Tensor& weight, const Tensor& input) {
    return weight.dim() == 1 && weight.size(0) == input.size(-1) && weight.is_contiguous() && weight.device() == input.device() &&
           (weight.scalar_type() == input.scalar_type() || weight.scalar_type() == wide(input.scalar_type()));
}

// y = x / sqrt(mean(x^2) + eps) * w with a constant w, computed in f32 at least; restored to x's kind before the product with w, or after it
// where w is of the wide kind. With `added` x + added is normed, and given as well. Keeps x and one number per row.
struct RmsNorm : Function<RmsNorm> {
    static variable_list forward(AutogradContext* kept, const Tensor& input, const std::optional<Tensor>& addition, const Tensor& weight,
                                 double epsilon) {
        auto added = addition.value_or(Tensor());
        TORCH_CHECK(!added.defined() || (added.sizes() == input.sizes() && added.scalar_type() == input.scalar_type()), "values ", input.sizes(),
                    " and what is added to them, ", added.sizes(), ", differ in size or kind");
        auto kind = wide(input.scalar_type());
        Tensor sum, output, scale;
        auto loop = loops(input);
        if (loop && input.numel() > 0 && fits(weight, input)) {
            auto x = input.contiguous();
            auto other = added.defined() ? added.contiguous() : added;
            sum = other.defined() ? at::empty_like(x) : x;
            output = at::empty_like(x);
            scale = per_row(x);
            auto width = x.size(-1);
            split(scale.numel(), rows_for(width), 1, [&](int64_t begin, int64_t end) {
                loop->norm(in(x), in(other), out(sum), in(weight), weight.scalar_type() != x.scalar_type(), out(output), out(scale), begin, end,
                           width, epsilon);
            });
        } else {
            sum = added.defined() ? input + added : input;
            scale = sum.to(kind).square().mean(-1, true).add_(epsilon).rsqrt_();
            auto normed = sum.to(kind).mul(scale);
            output = weight.scalar_type() == sum.scalar_type() ? normed.to(sum.scalar_type()).mul(weight) : normed.mul(weight).to(sum.scalar_type());
        }
        kept->save_for_backward({sum, weight, scale});
        kept->saved_data["two"] = added.defined();
        if (!added.defined()) return {output};
        return {sum, output};
    }
    // With u = g w and r = 1 / sqrt(mean(x^2) + eps): dx = r u - r^3 mean(u x) x.
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto [input, weight, scale] = std::tie(saved[0], saved[1], saved[2]);
        bool two = kept->saved_data["two"].toBool();
        auto beside = two ? gradients[0] : Tensor();
        auto gradient = gradients[two ? 1 : 0];
        auto both = [&](const Tensor& of) -> variable_list { return {of, two ? of : Tensor(), Tensor(), Tensor()}; };
        if (!gradient.defined()) return both(beside);
        auto loop = loops(input);
        if (loop && input.numel() > 0 && scale.dim() == 1 && fits(weight, input)) {
            auto g = gradient.contiguous();
            if (beside.defined()) beside = beside.contiguous();
            auto result = at::empty_like(input);
            auto width = input.size(-1);
            split(scale.numel(), rows_for(width), 1, [&](int64_t begin, int64_t end) {
                loop->norm_backward(in(input), in(weight), weight.scalar_type() != input.scalar_type(), in(scale), in(g), in(beside), out(result),
                                    begin, end, width);
            });
            return both(result);
        }
        auto kind = wide(input.scalar_type());
        auto x = input.to(kind);
        auto u = gradient.to(kind) * weight;
        auto share = (u * x).mean(-1, true).mul_(scale.pow(3)).neg_();
        auto result = u.mul_(scale).addcmul_(x, share).to(input.scalar_type());
        return both(beside.defined() ? result.add_(beside) : result);
    }
};

// gelu by its hyperbolic tangent, or silu.
Tensor curve(const Tensor& gate, bool gelu) { return gelu ? at::gelu(gate, "tanh") : at::silu(gate); }

// From one row to the next of what is parted by rows, of which a joined product gives two side by side; 0 where the rows are no such.
int64_t row_step(const Tensor& of) {
    if (of.dim() == 0 || of.numel() == 0 || of.stride(-1) != 1) return 0;
    if (of.dim() == 1) return of.size(0);
    for (int64_t axis = of.dim() - 3; axis >= 0; axis--)
        if (of.stride(axis) != of.stride(axis + 1) * of.size(axis + 1)) return 0;
    return of.stride(-2) >= of.size(-1) ? of.stride(-2) : 0;
}

// y = f(a) b: keeps a and b alone.
struct Gated : Function<Gated> {
    static Tensor forward(AutogradContext* kept, const Tensor& gate, const Tensor& up, bool gelu) {
        TORCH_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "gate and up differ: ", gate.sizes(), ", ", up.sizes());
        auto loop = loops(gate);
        auto a = gate, b = up;
        if (!loop || row_step(a) == 0 || row_step(a) != row_step(b)) a = gate.contiguous(), b = up.contiguous();
        kept->save_for_backward({a, b});
        kept->saved_data["gelu"] = gelu;
        if (!loop || a.numel() == 0) return curve(a, gelu).mul_(b);
        auto output = at::empty(a.sizes(), a.options());
        auto width = a.size(-1);
        split(a.numel() / width, rows_for(width), 1,
              [&](int64_t begin, int64_t end) { loop->gated(in(a), in(b), row_step(a), out(output), begin, end, width, gelu); });
        return output;
    }
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto [gate, up] = std::tie(saved[0], saved[1]);
        auto gelu = kept->saved_data["gelu"].toBool();
        auto g = gradients[0].contiguous();
        auto loop = loops(gate);
        if (!loop || gate.numel() == 0) {
            auto of_gate = g * up;
            of_gate = gelu ? at::gelu_backward(of_gate, gate, "tanh") : at::silu_backward(of_gate, gate);
            return {of_gate, curve(gate, gelu).mul_(g), Tensor()};
        }
        auto width = gate.size(-1), step = row_step(gate), rows = gate.numel() / width;
        Tensor of_gate, of_up;
        if (step == 2 * width) {
            // Side by side as they were: what is joined need not be joined again.
            auto both = at::empty({rows, step}, gate.options());
            of_gate = both.as_strided(gate.sizes(), gate.strides());
            of_up = both.as_strided(gate.sizes(), gate.strides(), width);
        } else {
            of_gate = at::empty_strided(gate.sizes(), gate.strides(), gate.options());
            of_up = at::empty_strided(gate.sizes(), gate.strides(), gate.options());
        }
        split(rows, rows_for(width), 1, [&](int64_t begin, int64_t end) {
            loop->gated_backward(in(gate), in(up), step, in(g), out(of_gate), out(of_up), begin, end, width, gelu);
        });
        return {of_gate, of_up, Tensor()};
    }
};

// y = x cos + (-x2, x1) sin over the halves x1, x2 of the last axis, with constant angles.
Tensor turned(const Tensor& input, const Tensor& cos, const Tensor& sin, double direction) {
    auto width = cos.size(-1), half = width / 2;
    auto inner = input.narrow(-1, 0, width);
    auto output = inner * cos;
    auto first = [&](const Tensor& values) { return values.narrow(-1, 0, half); };
    auto second = [&](const Tensor& values) { return values.narrow(-1, half, half); };
    first(output).addcmul_(second(inner), first(sin), -direction);
    second(output).addcmul_(first(inner), second(sin), direction);
    return width == input.size(-1) ? output : at::cat({output, input.narrow(-1, width, input.size(-1) - width)}, -1);
}

// Queries or keys x [example, head, token, width], whose first numbers, as many as the angles [example or 1, 1, token, turning] have, are turned;
// normed before as above if there is a weight, else only the angles are kept. The loops see [example, token, head, width], as projections give it.
struct Turn : Function<Turn> {
    static Tensor forward(AutogradContext* kept, const Tensor& input, const Tensor& cos, const Tensor& sin, const std::optional<Tensor>& norm,
                          double epsilon) {
        auto weight = norm.value_or(Tensor());
        TORCH_CHECK(input.dim() == 4 && cos.dim() == 4 && cos.sizes() == sin.sizes() && cos.size(-1) <= input.size(-1) && cos.size(-1) % 2 == 0,
                    "values ", input.sizes(), " cannot be turned by angles ", cos.sizes());
        auto loop = loops(input);
        Tensor scale, x;
        auto tokens = input.size(2), width = input.size(3), heads = input.size(1), turning = cos.size(3);
        bool agrees = cos.size(1) == 1 && cos.size(2) == tokens && (cos.size(0) == 1 || cos.size(0) == input.size(0)) && width <= 1024 &&
                      cos.scalar_type() == input.scalar_type() && (!weight.defined() || fits(weight, input));
        kept->saved_data["loops"] = loop && agrees && input.numel() > 0;
        if (loop && agrees && input.numel() > 0) {
            x = input.transpose(1, 2);
            // A part of a joined product has the other parts between its tokens.
            if (x.stride(3) != 1 || x.stride(2) != width || x.stride(1) < heads * width || x.stride(0) != tokens * x.stride(1)) x = x.contiguous();
            auto c = cos.contiguous(), s = sin.contiguous();
            // In the memory of x, and seen as the input is.
            auto output = at::empty_strided(input.sizes(), {tokens * heads * width, width, heads * width, 1}, input.options());
            if (weight.defined()) scale = per_row(x);
            split(x.numel() / width, rows_for(width), heads, [&](int64_t begin, int64_t end) {
                loop->turn(in(x), x.stride(1), in(weight), weight.defined() && weight.scalar_type() != x.scalar_type(), out(scale), in(c), in(s),
                           cos.size(0) * tokens, out(output), begin, end, heads, width, turning, epsilon);
            });
            kept->save_for_backward({weight.defined() ? x : Tensor(), c, s, weight, scale});
            return output;
        }
        Tensor normed = input;
        if (weight.defined()) {
            auto kind = wide(input.scalar_type());
            scale = input.to(kind).square().mean(-1, true).add_(epsilon).rsqrt_();
            auto grown = input.to(kind).mul(scale);
            normed = weight.scalar_type() == input.scalar_type() ? grown.to(input.scalar_type()).mul(weight) : grown.mul(weight).to(input.scalar_type());
        }
        kept->save_for_backward({weight.defined() ? input : Tensor(), cos, sin, weight, scale});
        return turned(normed, cos, sin, 1.0);
    }
    // The transposed rotation, the angles of both halves being the same; then the norm's.
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto [x, cos, sin, weight, scale] = std::tie(saved[0], saved[1], saved[2], saved[3], saved[4]);
        auto result = [](const Tensor& of) -> variable_list { return {of, Tensor(), Tensor(), Tensor(), Tensor()}; };
        if (kept->saved_data["loops"].toBool()) {
            auto g = gradients[0].transpose(1, 2).contiguous();
            auto loop = loops(g);
            auto heads = g.size(2), width = g.size(3);
            auto of_x = at::empty_like(g);
            split(g.numel() / width, rows_for(width), heads, [&](int64_t begin, int64_t end) {
                loop->turn_backward(in(x), x.defined() ? x.stride(1) : 0, in(weight), weight.defined() && weight.scalar_type() != g.scalar_type(), in(scale), in(cos), in(sin),
                                    cos.size(0) * cos.size(2), in(g), out(of_x), begin, end, heads, width, cos.size(3));
            });
            return result(of_x.transpose(1, 2));
        }
        auto g = turned(gradients[0], cos, sin, -1.0);
        if (!weight.defined()) return result(g);
        auto kind = wide(x.scalar_type());
        auto wide_x = x.to(kind);
        auto u = g.to(kind) * weight;
        auto share = (u * wide_x).mean(-1, true).mul_(scale.pow(3)).neg_();
        return result(u.mul_(scale).addcmul_(wide_x, share).to(x.scalar_type()));
    }
};

// Which keys each query sees, as `Attending` has it, [1 or example, token, key / 32]: those that the mask [1 or example, 1, token, key] names, or all up to
// its own place.
Tensor seen_keys(const std::optional<Tensor>& mask, int64_t tokens, int64_t keys) {
    auto words = (keys + 31) / 32, examples = mask ? mask->size(0) : 1;
    auto result = at::zeros({examples, tokens, words}, at::kInt);
    auto bits = reinterpret_cast<uint32_t*>(result.data_ptr<int32_t>());
    auto given = mask ? mask->contiguous() : Tensor();
    const bool* names = mask ? given.const_data_ptr<bool>() : nullptr;
    for (int64_t row = 0; row < examples * tokens; row++, bits += words) {
        auto until = names ? keys : std::min(keys, row + 1);
        for (int64_t first = 0; first < until; first += 8) {
            uint64_t eight = 0x0101010101010101, here = std::min<int64_t>(8, until - first);
            if (here < 8) eight >>= 8 * (8 - here);
            if (names) {
                eight = 0;
                std::memcpy(&eight, names + row * keys + first, here);
            }
            // The lowest bits of eight bytes, side by side.
            bits[first / 32] |= static_cast<uint32_t>((eight * 0x0102040810204080) >> 56) << (first % 32);
        }
    }
    return result;
}

// Whether the loops for attention know this kind, and a mask of this shape.
bool attends(const Tensor& query, const std::optional<Tensor>& mask) {
    return loops(query) && (!mask || (mask->dim() == 4 && mask->size(1) == 1 && mask->scalar_type() == at::kBool));
}

// Attention without a gradient, of queries [example, head, token, width] and keys and values of as many heads or of groups of them, to [example, head,
// token, width]; the mask is as above, and the sums are those of `Attending`. libtorch's own multiplies by MKL, which on processors that Intel did not make takes slow loops: one without
// vectors for one query in bf16, one of half the width for many.
Tensor attend(const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& mask, double scale,
              const Tensor& sums = Tensor()) {
    auto loop = loops(query);
    auto rows = [](const Tensor& values) { return values.stride(3) == 1 ? values : values.contiguous(); };
    TORCH_CHECK(loop && query.dim() == 4 && key.dim() == 4 && key.scalar_type() == query.scalar_type() && value.scalar_type() == query.scalar_type(),
                "queries ", query.sizes(), " do not go with keys ", key.sizes());
    auto q = rows(query), k = rows(key), v = rows(value);
    auto examples = q.size(0), heads = q.size(1), tokens = q.size(2), groups = k.size(1), keys = k.size(2), width = q.size(3);
    TORCH_CHECK(k.size(0) == examples && v.sizes() == k.sizes() && k.size(3) == width && groups > 0 && heads % groups == 0, "queries ", q.sizes(),
                " do not go with keys ", k.sizes(), " and values ", v.sizes());
    TORCH_CHECK(!mask || (mask->dim() == 4 && mask->scalar_type() == at::kBool && (mask->size(0) == 1 || mask->size(0) == examples) &&
                          mask->size(1) == 1 && mask->size(2) == tokens && mask->size(3) == keys),
                "a mask ", mask ? mask->sizes() : at::IntArrayRef(), " does not go with queries ", q.sizes(), " and keys ", k.sizes());
    // As what follows takes it: all heads of a token side by side.
    auto result = at::empty({examples, tokens, heads, width}, q.options()).transpose(1, 2);
    if (result.numel() == 0) return result;
    auto seen = seen_keys(mask, tokens, keys);
    auto steps = [](const Tensor& of) { return Attending::Steps{of.stride(0), of.stride(1), of.stride(2)}; };
    Attending what{in(q), in(k), in(v), out(result), out(sums), steps(q), steps(k), steps(v), steps(result),
                   reinterpret_cast<const uint32_t*>(seen.const_data_ptr<int32_t>()), seen.size(0) == 1 ? 0 : seen.stride(0),
                   groups, heads, tokens, keys, width, scale};
    auto of_group = heads / groups * tokens, blocks = (of_group + loop->attend_rows - 1) / loop->attend_rows;
    std::atomic<bool> failed{false};
    split(examples * groups * blocks, rows_for(2 * std::min(of_group, loop->attend_rows) * keys * width), 1, [&](int64_t begin, int64_t end) {
        try {
            auto room = at::empty({what.room()}, q.options().dtype(wide(q.scalar_type())));
            loop->attend(what, begin, end, out(room));
        } catch (...) {
            failed = true;
        }
    });
    TORCH_CHECK(!failed, "no memory for attention over ", keys, " keys");
    return result;
}

// The same with a gradient, which is computed in f32 at least: libtorch's own in bf16 multiplies small matrices one by one by oneDNN, whose calls took
// 44 % of a step of training (SmolLM2, 45 tokens), five times what the same takes in f32.
struct Attention : Function<Attention> {
    static Tensor forward(AutogradContext* kept, const Tensor& query, const Tensor& key, const Tensor& value, const std::optional<Tensor>& mask,
                          double scale) {
        Tensor output, sums;
        if (attends(query, mask)) {
            sums = at::empty({query.size(0), query.size(1), query.size(2)}, query.options().dtype(wide(query.scalar_type())));
            output = attend(query, key, value, mask, scale, sums);
        } else {
            std::tie(output, sums) = at::_scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, !mask, added(mask, query), scale);
        }
        kept->save_for_backward({query, key, value, output, sums, mask.value_or(Tensor())});
        kept->saved_data["scale"] = scale;
        return output;
    }
    // What libtorch adds to scores for a mask of what is seen.
    static std::optional<Tensor> added(const std::optional<Tensor>& mask, const Tensor& like) {
        if (!mask || mask->scalar_type() != at::kBool) return mask;
        return at::zeros(mask->sizes(), like.options()).masked_fill_(mask->logical_not(), -std::numeric_limits<double>::infinity());
    }
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto kind = saved[0].scalar_type();
        auto widened = [&](const Tensor& values) { return values.to(wide(kind)); };
        auto [q, k, v, output] = std::tuple(widened(saved[0]), widened(saved[1]), widened(saved[2]), widened(saved[3]));
        auto mask = saved[5].defined() ? std::optional(widened(*added(saved[5], q))) : std::nullopt;
        auto g = widened(gradients[0].stride(3) == 1 ? gradients[0] : gradients[0].contiguous());
        auto [of_q, of_k, of_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(g, q, k, v, output, saved[4], 0.0, !mask, mask,
                                                                                           kept->saved_data["scale"].toDouble());
        return {of_q.to(kind), of_k.to(kind), of_v.to(kind), Tensor(), Tensor()};
    }
};

// -log softmax(x)[label] of each row, in f32 at least: keeps the logits and one number per row, where libtorch's own would keep, and before
// that make, a copy in f32 and one of its logarithms.
struct CrossEntropy : Function<CrossEntropy> {
    static Tensor forward(AutogradContext* kept, const Tensor& logits, const Tensor& labels) {
        TORCH_CHECK(logits.dim() == 2 && labels.dim() == 1 && labels.size(0) == logits.size(0) && labels.scalar_type() == at::kLong,
                    "logits ", logits.sizes(), " do not go with labels ", labels.sizes());
        auto loop = loops(logits);
        auto x = logits.contiguous(), y = labels.contiguous();
        if (loop && y.device() == x.device()) {
            for (int64_t row = 0; row < y.numel(); row++) {
                auto label = y.const_data_ptr<int64_t>()[row];
                TORCH_CHECK(label >= 0 && label < x.size(1), "the label ", label, " is none of the ", x.size(1), " tokens");
            }
            auto loss = per_row(x), log_sums = per_row(x);
            auto width = x.size(1);
            split(x.size(0), rows_for(width), 1, [&](int64_t begin, int64_t end) {
                loop->entropy(in(x), y.const_data_ptr<int64_t>(), out(loss), out(log_sums), begin, end, width);
            });
            kept->save_for_backward({x, y, log_sums});
            return loss;
        }
        auto wider = x.to(wide(x.scalar_type()));
        auto log_sums = wider.logsumexp(-1);
        kept->save_for_backward({x, y, log_sums});
        return log_sums - wider.gather(1, y.unsqueeze(1)).squeeze(1);
    }
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto [x, y, log_sums] = std::tie(saved[0], saved[1], saved[2]);
        if (auto loop = loops(x)) {
            auto g = gradients[0].contiguous();
            auto result = at::empty_like(x);
            auto width = x.size(1);
            split(x.size(0), rows_for(width), 1, [&](int64_t begin, int64_t end) {
                loop->entropy_backward(in(x), y.const_data_ptr<int64_t>(), in(log_sums), in(g), out(result), begin, end, width);
            });
            return {result, Tensor()};
        }
        auto share = x.to(log_sums.scalar_type()).sub(log_sums.unsqueeze(1)).exp_();
        share.scatter_add_(1, y.unsqueeze(1), at::full({y.size(0), 1}, -1.0, share.options()));
        return {share.mul_(gradients[0].unsqueeze(1)).to(x.scalar_type()), Tensor()};
    }
};

// Ranks up to which the loops are quicker than a matrix library.
constexpr int64_t LOW_RANK = 32;

// How many modules of one input may be joined.
constexpr int64_t PARTS = 3;

// The modules of a joined product: how wide each is, and what its update is multiplied with.
struct Parts {
    int64_t count;
    int64_t widths[PARTS];
    double scales[PARTS];
};

// y = x W^T + b over x [.., in] with constants W and b, and of each part of y's columns, a module of its own, y += s (z A^T) B^T with its A and B, if
// it has them: z = x or, with dropout, what that left of x. Keeps z, and z A^T. The thin products are computed in f32 at least, as A and B are held.
struct LowRank : Function<LowRank> {
    using Some = std::optional<Tensor>;
    static variable_list forward(AutogradContext* kept, const Tensor& input, const Some& left, const Tensor& weight, const Some& bias, const Some& a0,
                                 const Some& b0, const Some& a1, const Some& b1, const Some& a2, const Some& b2, const Parts* parts, int64_t how) {
        auto dropped = left.value_or(Tensor());
        const Some* as[PARTS] = {&a0, &a1, &a2};
        const Some* bs[PARTS] = {&b0, &b1, &b2};
        // Rows: the product is then no view, so that the updates are added in its own memory.
        auto rows_of = [](const Tensor& of) { return of.reshape({-1, of.size(-1)}); };
        auto output = product(rows_of(input), weight, bias, how);
        auto x = rows_of(dropped.defined() ? dropped : input).contiguous();
        auto loop = loops(x);
        auto kind = wide(x.scalar_type());
        auto rows = x.size(0), inputs = x.size(1), whole = output.size(1);
        bool looped = loop && output.is_contiguous() && x.numel() > 0, any = false;
        int64_t sum = 0;
        for (int64_t i = 0; i < parts->count; i++) {
            sum += parts->widths[i];
            if (!as[i]->has_value()) continue;
            auto &a = **as[i], &b = **bs[i];
            any = true;
            looped = looped && a.size(0) <= LOW_RANK && a.scalar_type() == kind && b.scalar_type() == kind && a.is_contiguous() && b.dim() == 2 &&
                     a.size(1) == inputs && b.size(1) == a.size(0) && b.size(0) == parts->widths[i];
        }
        TORCH_CHECK(sum == whole, "parts of ", sum, " columns in all are none of ", whole);
        variable_list saved = {any ? x : Tensor(), weight};
        variable_list outputs;
        auto size = input.sizes().vec();
        std::vector<int64_t> strides(size.size(), 1);
        for (size_t axis = size.size() - 1; axis-- > 0;) strides[axis] = axis + 2 == size.size() ? whole : strides[axis + 1] * size[axis + 1];
        // Each is on its own for libtorch, in whose graph they are the outputs of one operation.
        at::AutoDispatchBelowADInplaceOrView apart;
        for (int64_t i = 0, at = 0; i < parts->count; at += parts->widths[i++]) {
            auto width = parts->widths[i], rank = as[i]->has_value() ? (*as[i])->size(0) : 0;
            auto scale = parts->scales[i];
            auto part = parts->count == 1 ? output : output.narrow(1, at, width);
            if (rank > 0 && looped) {
                auto& a = **as[i];
                auto across = (*bs[i])->t().contiguous();
                auto thin = at::empty({rows, rank}, a.options().requires_grad(false));
                split(rows, rows_for(inputs), 4, [&](int64_t begin, int64_t end) {
                    loop->down(in(x), inputs, in(a), out(thin), scale, begin, end, inputs, rank);
                    loop->up(out(part), whole, in(thin), in(across), begin, end, width, rank);
                });
                saved.insert(saved.end(), {a, across, thin});
            } else if (as[i]->has_value()) {
                auto here = [&](const Tensor& of) { return of.to(output.scalar_type()); };
                auto thin = at::mm(x, here(**as[i]).t());
                if (scale != 1.0) thin.mul_(scale);
                part.addmm_(thin, here(**bs[i]).t());
                saved.insert(saved.end(), {**as[i], **bs[i], thin});
            } else {
                saved.insert(saved.end(), {Tensor(), Tensor(), Tensor()});
            }
            size.back() = width;
            outputs.push_back(parts->count == 1 ? at::_unsafe_view(output, size) : output.as_strided(size, strides, at));
        }
        kept->save_for_backward(saved);
        kept->saved_data["how"] = how;
        kept->saved_data["looped"] = looped;
        kept->saved_data["scales"] = std::vector<double>(parts->scales, parts->scales + parts->count);
        kept->saved_data["widths"] = std::vector<int64_t>(parts->widths, parts->widths + parts->count);
        kept->saved_data["size"] = input.sizes().vec();
        kept->saved_data["dropped"] = dropped.defined();
        if (dropped.defined()) kept->saved_data["seen"] = dropped.sizes().vec();
        return outputs;
    }
    // The gradients of the parts side by side, as one product takes them.
    static Tensor beside(const variable_list& gradients, const std::vector<int64_t>& widths, const Tensor& like) {
        auto rows_of = [](const Tensor& of) { return of.reshape({-1, of.size(-1)}); };
        if (gradients.size() == 1) return rows_of(gradients[0]).contiguous();
        int64_t whole = 0, rows = 0;
        bool lie_so = true;
        for (size_t i = 0; i < gradients.size(); whole += widths[i++]) {
            auto& g = gradients[i];
            lie_so = lie_so && g.defined() && gradients[0].defined() && row_step(g) > g.size(-1) && row_step(g) == row_step(gradients[0]) &&
                     g.storage().data() == gradients[0].storage().data() && g.storage_offset() == gradients[0].storage_offset() + whole;
            if (g.defined()) rows = g.numel() / widths[i];
        }
        if (lie_so && row_step(gradients[0]) == whole) return gradients[0].as_strided({rows, whole}, {whole, 1});
        std::vector<Tensor> all;
        for (size_t i = 0; i < gradients.size(); i++)
            all.push_back(gradients[i].defined() ? rows_of(gradients[i]) : at::zeros({rows, widths[i]}, like.options()));
        return at::cat(all, 1);
    }
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto [x, weight] = std::tie(saved[0], saved[1]);
        auto scales = kept->saved_data["scales"].toDoubleVector();
        auto widths = kept->saved_data["widths"].toIntVector();
        auto how = kept->saved_data["how"].toInt();
        bool dropped = kept->saved_data["dropped"].toBool(), looped = kept->saved_data["looped"].toBool();
        auto g = beside(gradients, widths, weight);
        auto size = kept->saved_data["size"].toIntVector();
        Tensor of_input, of_dropped;
        if (kept->needs_input_grad(0)) of_input = product(g, weight.t(), std::nullopt, how);
        // What the updates' input gets is added to the base's where the two are one.
        bool wanted = kept->needs_input_grad(dropped ? 1 : 0);
        if (dropped && wanted) of_dropped = at::zeros_like(x);
        auto& target = dropped ? of_dropped : of_input;
        variable_list result(4 + 2 * PARTS + 2);
        for (size_t i = 0, at = 0; i < widths.size(); at += widths[i++]) {
            auto [a, b, thin] = std::tie(saved[2 + 3 * i], saved[3 + 3 * i], saved[4 + 3 * i]);
            if (!a.defined() || !gradients[i].defined()) continue;
            auto part = widths.size() == 1 ? g : g.narrow(1, at, widths[i]);
            auto scale = scales[i];
            auto &of_a = result[4 + 2 * i], &of_b = result[5 + 2 * i];
            if (looped) {
                auto loop = loops(x);
                auto rows = x.size(0), inputs = x.size(1), outputs = widths[i], rank = a.size(0), whole = g.size(1);
                auto of_thin = at::empty_like(thin);
                split(rows, rows_for(std::max(inputs, outputs)), 4, [&](int64_t begin, int64_t end) {
                    loop->down(in(part), whole, in(b), out(of_thin), scale, begin, end, outputs, rank);
                    if (wanted) loop->up(out(target), inputs, in(of_thin), in(a), begin, end, inputs, rank);
                });
                of_a = at::empty_like(a);
                auto across = at::empty_like(b);
                split(inputs, rows_for(rows * rank), 16, [&](int64_t begin, int64_t end) {
                    loop->outer(in(of_thin), in(x), inputs, out(of_a), rows, begin, end, inputs, rank);
                });
                split(outputs, rows_for(rows * rank), 16, [&](int64_t begin, int64_t end) {
                    loop->outer(in(thin), in(part), whole, out(across), rows, begin, end, outputs, rank);
                });
                of_b = across.t();
            } else {
                auto of_thin = at::mm(part, b.to(g.scalar_type()));
                if (scale != 1.0) of_thin.mul_(scale);
                if (wanted) target.addmm_(of_thin, a.to(g.scalar_type()));
                of_a = at::mm(of_thin.t(), x).to(a.scalar_type());
                of_b = at::mm(part.t(), thin).to(b.scalar_type());
            }
        }
        if (of_input.defined()) result[0] = of_input.view(size);
        if (of_dropped.defined()) result[1] = of_dropped.view(kept->saved_data["seen"].toIntVector());
        return result;
    }
};

// One pass of Adam over flat tensors; false where the loops do not fit.
bool adam(const Tensor& p, const Tensor& m, const Tensor& v, const Tensor& g, double shrink, double beta1, double beta2, double rate, double root,
          double epsilon) {
    auto loop = loops(p);
    for (auto& tensor : {p, m, v, g}) {
        if (!loop || !tensor.is_contiguous() || tensor.scalar_type() != wide(p.scalar_type()) || tensor.device() != p.device() ||
            tensor.numel() != p.numel()) {
            return false;
        }
    }
    split(p.numel(), NUMBERS, 64, [&](int64_t begin, int64_t end) {
        loop->adam(out(p), out(m), out(v), in(g), begin, end, shrink, beta1, beta2, rate, root, epsilon);
    });
    // As an operation of libtorch's does: whoever keeps what follows from them sees that they were written to.
    for (auto& tensor : {p, m, v}) tensor.unsafeGetTensorImpl()->bump_version();
    return true;
}

// Zeros with this probability and the rest grown to the same mean, from a generator of one's own: libtorch's own dropout draws from the one
// generator of the process. A copy of that one, begun anew, is of the right sort for whichever device.
Tensor dropout(const Tensor& input, double probability, uint64_t seed) {
    auto generator = [&] {
        auto shared = at::globalContext().defaultGenerator(input.device());
        std::lock_guard<std::mutex> lock(shared.mutex());
        return shared.clone();
    }();
    generator.set_current_seed(seed);
    auto kept = 1.0 - probability;
    auto mask = at::empty_like(input, input.options().requires_grad(false)).bernoulli_(kept, generator).div_(kept);
    return input * mask;
}

// A tensor that the caller owns, or null and the reason in `error`, which holds 512 bytes: no C++ exception may reach Rust.
template <typename Compute>
void* owned(char* error, Compute compute) {
    try {
        return new Tensor(compute());
    } catch (const std::exception& failure) {
        snprintf(error, 512, "%s", failure.what());
    } catch (...) {
        snprintf(error, 512, "a C++ exception of an unknown kind");
    }
    return nullptr;
}

std::optional<Tensor> given(const Tensor* tensor) { return tensor ? std::optional(*tensor) : std::nullopt; }

}  // namespace

extern "C" {

void* ia2_linear(const Tensor* input, const Tensor* weight, const Tensor* bias, int64_t how, char* error) {
    return owned(error, [&] { return FrozenLinear::apply(*input, *weight, given(bias), how); });
}

// The parts of a joined product go to `outputs`; false where there are none.
bool ia2_low_rank(const Tensor* input, const Tensor* dropped, const Tensor* weight, const Tensor* bias, const Tensor* const* factors,
                  const Parts* parts, int64_t how, void** outputs, char* error) {
    auto first = owned(error, [&] {
        auto f = [&](int64_t place) { return given(factors[place]); };
        auto of = LowRank::apply(*input, given(dropped), *weight, given(bias), f(0), f(1), f(2), f(3), f(4), f(5), parts, how);
        for (size_t i = 1; i < of.size(); i++) outputs[i] = new Tensor(of[i]);
        return of[0];
    });
    outputs[0] = first;
    return first != nullptr;
}

void* ia2_rms_norm(const Tensor* input, const Tensor* weight, double epsilon, char* error) {
    return owned(error, [&] { return RmsNorm::apply(*input, std::optional<Tensor>(), *weight, epsilon)[0]; });
}

// The norm; the sum goes to `sum`.
void* ia2_add_rms_norm(const Tensor* input, const Tensor* added, const Tensor* weight, double epsilon, void** sum, char* error) {
    return owned(error, [&] {
        auto both = RmsNorm::apply(*input, given(added), *weight, epsilon);
        *sum = new Tensor(both[0]);
        return both[1];
    });
}

void* ia2_gated(const Tensor* gate, const Tensor* up, bool gelu, char* error) {
    return owned(error, [&] { return Gated::apply(*gate, *up, gelu); });
}

void* ia2_attention(const Tensor* query, const Tensor* key, const Tensor* value, const Tensor* mask, double scale, char* error) {
    return owned(error, [&] { return Attention::apply(*query, *key, *value, given(mask), scale); });
}

void* ia2_attend(const Tensor* query, const Tensor* key, const Tensor* value, const Tensor* mask, double scale, char* error) {
    return owned(error, [&] { return attend(*query, *key, *value, given(mask), scale); });
}

void* ia2_cross_entropy(const Tensor* logits, const Tensor* labels, char* error) {
    return owned(error, [&] { return CrossEntropy::apply(*logits, *labels); });
}

bool ia2_adam(const Tensor* p, const Tensor* m, const Tensor* v, const Tensor* g, double shrink, double beta1, double beta2, double rate,
              double root, double epsilon) {
    return adam(*p, *m, *v, *g, shrink, beta1, beta2, rate, root, epsilon);
}

bool ia2_gradients() { return at::GradMode::is_enabled(); }

void ia2_set_gradients(bool recorded) { at::GradMode::set_enabled(recorded); }

void* ia2_rotate(const Tensor* input, const Tensor* cos, const Tensor* sin, const Tensor* weight, double epsilon, char* error) {
    return owned(error, [&] { return Turn::apply(*input, *cos, *sin, given(weight), epsilon); });
}

void* ia2_dropout(const Tensor* input, double probability, uint64_t seed, char* error) {
    return owned(error, [&] { return dropout(*input, probability, seed); });
}
}
