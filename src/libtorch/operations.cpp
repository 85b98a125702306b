// Operations of a decoder with frozen weights, with backward passes that keep less than libtorch's own compositions do.
//
// libtorch composes a root-mean-square norm, a gated activation or a rotation of several operations, each of which keeps what it needs for
// its own gradient; and its oneDNN product keeps a copy of its input for the gradient of a weight that is never trained. Here each keeps
// the least that its gradient can be computed from. Rust has no way to add to libtorch's graph; this file is the way.

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Logging.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

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

// The backward passes below are no functions that libtorch could derive again: a second derivative would be wrong in silence.
void first_derivatives_only() {
    TORCH_CHECK(!at::GradMode::is_enabled(), "second derivatives (create_graph) of the decoder are not supported");
}

at::ScalarType wide(at::ScalarType kind) { return kind == at::kDouble ? at::kDouble : at::kFloat; }

// input weight^T + bias.
Tensor product(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, bool onednn) {
    if (!onednn || input.numel() < ONEDNN_ROWS * input.size(-1)) return at::linear(input, weight, bias);
    using Pointwise = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view, c10::List<std::optional<at::Scalar>>,
                             std::optional<std::string_view>);
    static auto pointwise = c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Pointwise>();
    return pointwise.call(input, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// y = x W^T + b with constants W and b: keeps neither x nor y.
struct FrozenLinear : Function<FrozenLinear> {
    static Tensor forward(AutogradContext* kept, const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias, bool onednn) {
        kept->save_for_backward({weight});
        kept->saved_data["onednn"] = onednn;
        return product(input, weight, bias, onednn);
    }
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto weight = kept->get_saved_variables()[0];
        return {product(gradients[0], weight.t(), std::nullopt, kept->saved_data["onednn"].toBool()), Tensor(), Tensor(), Tensor()};
    }
};

// y = x / sqrt(mean(x^2) + eps) * w with a constant w, computed in f32 at least and restored to x's kind before the product with w: keeps x
// and one number per row.
struct RmsNorm : Function<RmsNorm> {
    static Tensor forward(AutogradContext* kept, const Tensor& input, const Tensor& weight, double epsilon) {
        auto kind = wide(input.scalar_type());
        auto scale = input.to(kind).square().mean(-1, true).add_(epsilon).rsqrt_();
        kept->save_for_backward({input, weight, scale});
        return (input * scale).to(input.scalar_type()).mul_(weight);
    }
    // With u = g w and r = 1 / sqrt(mean(x^2) + eps): dx = r u - r^3 mean(u x) x.
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto [input, weight, scale] = std::tie(saved[0], saved[1], saved[2]);
        auto kind = wide(input.scalar_type());
        auto x = input.to(kind);
        auto u = gradients[0].to(kind) * weight;
        auto share = (u * x).mean(-1, true).mul_(scale.pow(3)).neg_();
        return {u.mul_(scale).addcmul_(x, share).to(input.scalar_type()), Tensor(), Tensor()};
    }
};

// y = silu(a) b: keeps a and b alone.
struct SwiGlu : Function<SwiGlu> {
    static Tensor forward(AutogradContext* kept, const Tensor& gate, const Tensor& up) {
        kept->save_for_backward({gate, up});
        return at::silu(gate).mul_(up);
    }
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        auto [gate, up] = std::tie(saved[0], saved[1]);
        auto of_up = at::silu(gate).mul_(gradients[0]);
        return {at::silu_backward(gradients[0] * up, gate), of_up};
    }
};

// y = x cos + (-x2, x1) sin over the halves x1, x2 of the last axis, with constant angles: keeps the angles alone.
Tensor turned(const Tensor& input, const Tensor& cos, const Tensor& sin, double direction) {
    auto output = input * cos;
    auto half = input.size(-1) / 2;
    auto first = [&](const Tensor& values) { return values.narrow(-1, 0, half); };
    auto second = [&](const Tensor& values) { return values.narrow(-1, half, half); };
    first(output).addcmul_(second(input), first(sin), -direction);
    second(output).addcmul_(first(input), second(sin), direction);
    return output;
}

struct Rotate : Function<Rotate> {
    static Tensor forward(AutogradContext* kept, const Tensor& input, const Tensor& cos, const Tensor& sin) {
        kept->save_for_backward({cos, sin});
        return turned(input, cos, sin, 1.0);
    }
    // The transposed rotation; the angles of both halves are the same.
    static variable_list backward(AutogradContext* kept, variable_list gradients) {
        first_derivatives_only();
        auto saved = kept->get_saved_variables();
        return {turned(gradients[0], saved[0], saved[1], -1.0), Tensor(), Tensor()};
    }
};

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

}  // namespace

extern "C" {

void* ia2_linear(const Tensor* input, const Tensor* weight, const Tensor* bias, bool onednn, char* error) {
    return owned(error, [&] { return FrozenLinear::apply(*input, *weight, bias ? std::optional(*bias) : std::nullopt, onednn); });
}

void* ia2_rms_norm(const Tensor* input, const Tensor* weight, double epsilon, char* error) {
    return owned(error, [&] { return RmsNorm::apply(*input, *weight, epsilon); });
}

void* ia2_swiglu(const Tensor* gate, const Tensor* up, char* error) {
    return owned(error, [&] { return SwiGlu::apply(*gate, *up); });
}

bool ia2_gradients() { return at::GradMode::is_enabled(); }

void ia2_set_gradients(bool recorded) { at::GradMode::set_enabled(recorded); }

void* ia2_rotate(const Tensor* input, const Tensor* cos, const Tensor* sin, char* error) {
    return owned(error, [&] { return Rotate::apply(*input, *cos, *sin); });
}

void* ia2_dropout(const Tensor* input, double probability, uint64_t seed, char* error) {
    return owned(error, [&] { return dropout(*input, probability, seed); });
}
}
