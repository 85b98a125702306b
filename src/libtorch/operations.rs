//! Operations of a decoder whose weights are frozen, which keep less for their gradients than libtorch's own compositions: `operations.cpp`.
//!
//! f32 products go by oneDNN, the other matrix library inside libtorch, where MKL, its usual one, does not use the widest vectors, which is on
//! processors that Intel did not make: on an AMD EPYC with AVX-512 it was measured at 97 Gflop/s per core where oneDNN reaches 215, and at 64
//! against 105 for eight rows. [`PRODUCTS`] chooses one of the two on any processor.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// The environment variable that names the library of f32 products, `onednn` or `mkl`; read once. The two differ in the last bits.
pub(crate) const PRODUCTS: &str = "IA2_PRODUCTS";

type Handle = *const c_void;

unsafe extern "C" {
    fn ia2_linear(input: Handle, weight: Handle, bias: Handle, how: i64, error: *mut c_char) -> *mut c_void;
    fn ia2_low_rank(
        input: Handle,
        dropped: Handle,
        weight: Handle,
        bias: Handle,
        a: Handle,
        b: Handle,
        scale: f64,
        how: i64,
        error: *mut c_char,
    ) -> *mut c_void;
    fn ia2_rms_norm(input: Handle, weight: Handle, epsilon: f64, error: *mut c_char) -> *mut c_void;
    fn ia2_add_rms_norm(
        input: Handle,
        added: Handle,
        weight: Handle,
        epsilon: f64,
        sum: *mut *mut c_void,
        error: *mut c_char,
    ) -> *mut c_void;
    fn ia2_gated(gate: Handle, up: Handle, gelu: bool, error: *mut c_char) -> *mut c_void;
    fn ia2_cross_entropy(logits: Handle, labels: Handle, error: *mut c_char) -> *mut c_void;
    fn ia2_rotate(input: Handle, cos: Handle, sin: Handle, weight: Handle, epsilon: f64, error: *mut c_char) -> *mut c_void;
    fn ia2_adam(
        parameters: Handle,
        first: Handle,
        second: Handle,
        gradient: Handle,
        shrink: f64,
        beta1: f64,
        beta2: f64,
        rate: f64,
        root: f64,
        epsilon: f64,
    ) -> bool;
    safe fn ia2_gradients() -> bool;
    safe fn ia2_set_gradients(recorded: bool);
    fn ia2_dropout(input: Handle, probability: f64, seed: u64, error: *mut c_char) -> *mut c_void;
}

/// `input weight^T + bias`, whose backward pass keeps neither input nor output, weight and bias being constants; `rounded` as
/// [`Precision::Rounded`](crate::nn::Precision::Rounded) says.
pub(crate) fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, rounded: bool) -> Result<Tensor> {
    if weight.requires_grad() || bias.is_some_and(Tensor::requires_grad) {
        return Ok(input.f_linear(weight, bias)?);
    }
    let how = how(input, weight, rounded);
    call(|error| {
        // SAFETY: see `call`.
        unsafe { ia2_linear(handle(input), handle(weight), bias.map_or(null(), handle), how, error) }
    })
}

/// `input weight^T + bias + scale (x a^T) b^T` with `x` the input or, with dropout, what it left of the input: `a [rank, in]` and `b [out, rank]`
/// are trained, weight and bias constants.
pub(crate) fn low_rank(
    (input, dropped): (&Tensor, Option<&Tensor>),
    (weight, bias): (&Tensor, Option<&Tensor>),
    (a, b): (&Tensor, &Tensor),
    scale: f64,
    rounded: bool,
) -> Result<Tensor> {
    let (dropped, bias, how) = (dropped.map_or(null(), handle), bias.map_or(null(), handle), how(input, weight, rounded));
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_low_rank(handle(input), dropped, handle(weight), bias, handle(a), handle(b), scale, how, error) })
}

/// `x / sqrt(mean(x^2) + epsilon) * weight` over the last axis, in f32 at least; restored to the kind of `x` before it meets the weight, or
/// afterwards where the weight is of the wider kind.
pub(crate) fn rms_norm(input: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_rms_norm(handle(input), handle(weight), epsilon, error) })
}

/// `input + added`, and its [`rms_norm`], in one pass.
pub(crate) fn add_rms_norm(input: &Tensor, added: &Tensor, weight: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    let mut sum = null_mut();
    // SAFETY: see `call`.
    let normed = call(|error| unsafe { ia2_add_rms_norm(handle(input), handle(added), handle(weight), epsilon, &raw mut sum, error) })?;
    // SAFETY: where the norm is given, so is the sum, in the same way.
    Ok((unsafe { Tensor::from_ptr(sum.cast()) }, normed))
}

/// `silu(gate) * up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_gated(handle(gate), handle(up), false, error) })
}

/// `gelu(gate) * up`, with gelu's approximation by a hyperbolic tangent.
pub(crate) fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_gated(handle(gate), handle(up), true, error) })
}

/// `[row]`: `-log softmax(logits)[label]` of `logits [row, class]`, in f32 at least; `labels` are i64.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_cross_entropy(handle(logits), handle(labels), error) })
}

/// `(x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias` over the last axis, in f32 at least, restored to the kind of `x`.
pub(crate) fn layer_norm(input: &Tensor, weight: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Tensor> {
    Ok(input.f_layer_norm(weight.size(), Some(weight), Some(bias), epsilon, true)?)
}

/// `x Phi(x)`, with the normal distribution `Phi` or, `by_tanh`, its approximation by a hyperbolic tangent.
pub(crate) fn gelu(input: &Tensor, by_tanh: bool) -> Result<Tensor> {
    Ok(input.f_gelu(if by_tanh { "tanh" } else { "none" })?)
}

/// `cap tanh(x / cap)`.
pub(crate) fn soft_cap(input: &Tensor, cap: f64) -> Result<Tensor> {
    Ok(input.f_div_scalar(cap)?.f_tanh()?.f_mul_scalar(cap)?)
}

/// `x cos + (-x2, x1) sin` over the halves `x1`, `x2` of the last axis of `[example, head, token, width]`; the angles `[example or 1, 1, token,
/// turning]` are the same in both halves. Where they are narrower than the values, what lies behind them stays as it is.
pub(crate) fn rotate(input: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_rotate(handle(input), handle(cos), handle(sin), null(), 0.0, error) })
}

/// The [`rms_norm`] of each head and token, [rotated](rotate), in one pass.
pub(crate) fn norm_rotate(input: &Tensor, weight: &Tensor, epsilon: f64, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_rotate(handle(input), handle(cos), handle(sin), handle(weight), epsilon, error) })
}

/// One step of Adam in one pass, in place, on flat tensors on the CPU; false, and nothing is done, on others.
pub(crate) fn adam([parameters, first, second, gradient]: [&Tensor; 4], step: &AdamStep) -> bool {
    let AdamStep { shrink, beta1, beta2, rate, root, epsilon } = *step;
    // SAFETY: the handles outlive the call.
    unsafe {
        let [parameters, first, second, gradient] = [parameters, first, second, gradient].map(handle);
        ia2_adam(parameters, first, second, gradient, shrink, beta1, beta2, rate, root, epsilon)
    }
}

/// `p *= shrink; m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2; p -= rate m / (sqrt(v) / root + epsilon)`.
pub(crate) struct AdamStep {
    pub shrink: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub rate: f64,
    pub root: f64,
    pub epsilon: f64,
}

/// Whether this thread records what gradients need; tch can only switch it within a scope.
// Never inlined, as the next one: a door is generic and may be compiled in a notebook's cell, from where C symbols cannot be reached.
#[inline(never)]
pub(crate) fn gradients() -> bool {
    ia2_gradients()
}

/// Records what gradients need from now on, or no longer.
#[inline(never)]
pub(crate) fn set_gradients(recorded: bool) {
    ia2_set_gradients(recorded);
}

/// `input` with each number zero with this probability, and the others grown by `1 / (1 - probability)`, drawn from a generator of its own
/// that begins with `seed`: libtorch's `dropout` after `manual_seed`, but for what else draws in the process.
pub(crate) fn dropout(input: &Tensor, probability: f64, seed: u64) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_dropout(handle(input), probability, seed, error) })
}

/// How C++ computes a product: 1 by oneDNN, 2 rounded.
fn how(input: &Tensor, weight: &Tensor, rounded: bool) -> i64 {
    let here = [input.device(), weight.device()] == [Device::Cpu; 2] && [input.kind(), weight.kind()] == [Kind::Float; 2];
    i64::from(here && has_onednn()) + 2 * i64::from(here && rounded)
}

fn handle(tensor: &Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

/// Runs a function of `operations.cpp`: it is given the addresses of `at::Tensor`s that outlive the call, which is what tch's handles are, and
/// returns a new `at::Tensor` that nobody else owns, or null and a message in the buffer.
fn call(function: impl FnOnce(*mut c_char) -> *mut c_void) -> Result<Tensor> {
    let mut error = [0 as c_char; 512];
    let output = function(error.as_mut_ptr());
    if output.is_null() {
        // SAFETY: C++ wrote a string that ends within the buffer.
        let text = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy();
        // What follows the first line says where in C++.
        return Err(Error::torch(format!("libtorch refused an operation: {}", text.lines().next().unwrap_or_default())));
    }
    // SAFETY: see above.
    Ok(unsafe { Tensor::from_ptr(output.cast()) })
}

/// Whether f32 products go by oneDNN: where this processor calls for it, or as [`PRODUCTS`] says.
pub(crate) fn has_onednn() -> bool {
    static CALLED_FOR: OnceLock<bool> = OnceLock::new();
    *CALLED_FOR.get_or_init(|| {
        let wanted = match std::env::var(PRODUCTS).as_deref() {
            Ok("onednn") => true,
            Ok("mkl") => false,
            _ => {
                let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                processor.contains("AuthenticAMD") && processor.contains("avx512f")
            }
        };
        wanted && tch::utils::has_mkldnn()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::widened;
    use crate::libtorch::door;

    fn draw(size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Double, Device::Cpu))
    }

    /// Values and gradients of ours against libtorch's composition, in each kind with its tolerance. There are no loops for f16: what is
    /// composed in their place is tested by it.
    fn same(name: &str, inputs: &[Tensor], ours: impl Fn(&[Tensor]) -> Tensor, usual: impl Fn(&[Tensor]) -> Tensor) {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5), (Kind::BFloat16, 3e-2), (Kind::Half, 4e-3)] {
            let leaves = || inputs.iter().map(|input| input.to_kind(kind).set_requires_grad(true)).collect::<Vec<_>>();
            let (a, b) = (leaves(), leaves());
            let (left, right) = (ours(&a), usual(&b));
            assert_eq!((left.size(), left.kind(), left.requires_grad()), (right.size(), kind, true), "{name}");
            let weights = Tensor::randn(left.size(), (Kind::Double, Device::Cpu)).to_kind(kind);
            let gradients =
                |output: &Tensor, leaves: &[Tensor]| Tensor::run_backward(&[(output * &weights).sum(None)], leaves, false, false);
            let (of_left, of_right) = (gradients(&left, &a), gradients(&right, &b));
            for (left, right) in std::iter::once((&left, &right)).chain(of_left.iter().zip(&of_right)) {
                let (left, right) = (left.to_kind(Kind::Double), right.to_kind(Kind::Double));
                let apart = (&left - &right).abs().max().double_value(&[]) / right.abs().max().double_value(&[]);
                assert!(apart < tolerance, "{name} in {kind:?}: {apart:.1e}");
            }
            // What would be wrong in silence is refused.
            let input = leaves();
            let again = door("deriving", || Ok(Tensor::run_backward(&[ours(&input).sum(None)], &input, true, true)));
            assert!(again.unwrap_err().to_string().contains("second derivatives"), "{name}");
            let _inference = tch::no_grad_guard();
            assert!(!ours(&a).requires_grad());
        }
    }

    #[test]
    fn products_are_libtorchs() -> Result<()> {
        for (rows, with_bias) in [(1, true), (5, false), (64, true)] {
            let (weight, bias) = (draw(&[17, 33]), draw(&[17]));
            let of = |kind: Kind| (weight.to_kind(kind), with_bias.then(|| bias.to_kind(kind)));
            let ours = |input: &[Tensor]| linear(&input[0], &of(input[0].kind()).0, of(input[0].kind()).1.as_ref(), false).unwrap();
            let usual = |input: &[Tensor]| input[0].linear(&of(input[0].kind()).0, of(input[0].kind()).1.as_ref());
            same("linear", &[draw(&[rows, 2, 33])], ours, usual);
            let turned = |input: &[Tensor]| linear(&input[0].transpose(0, 1), &of(input[0].kind()).0, None, false).unwrap();
            same("linear, turned", &[draw(&[rows, 2, 33])], turned, |input| {
                input[0].transpose(0, 1).linear::<Tensor>(&of(input[0].kind()).0, None)
            });
        }
        let wrong = linear(&draw(&[2, 3]), &draw(&[2, 4]), None, false).unwrap_err();
        assert!(wrong.to_string().contains("shapes") && wrong.to_string().lines().count() == 1, "{wrong}");
        // Nor do libtorch's own errors, which a cell may print as they are, hold forty frames of C++.
        let own = draw(&[2, 3]).f_matmul(&draw(&[2, 3])).unwrap_err().to_string();
        assert!(own.contains("mat1 and mat2") && !own.contains("frame #"), "{own}");
        Ok(())
    }

    #[test]
    fn dropout_is_libtorchs_from_a_generator_of_its_own() -> Result<()> {
        for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
            let input = draw(&[40, 50]).to_kind(kind).set_requires_grad(true);
            // The process's generator goes on as if nothing had been drawn.
            let ours = dropout(&input, 0.3, 7)?;
            assert_eq!(ours, dropout(&input, 0.3, 7)?);
            assert_ne!(ours, dropout(&input, 0.3, 8)?);
            let kept = ours.ne(0.0).to_kind(Kind::Double).mean(None).double_value(&[]);
            assert!((kept - 0.7).abs() < 0.06, "{kept}");
            let scale = ours.to_kind(Kind::Double).abs().sum(None) / (ours.ne(0.0) * &input).to_kind(Kind::Double).abs().sum(None);
            assert!((scale.double_value(&[]) - 1.0 / 0.7).abs() < 0.01);
            let gradient = Tensor::run_backward(&[ours.sum(None)], &[&input], false, false).remove(0);
            assert_eq!(gradient.ne(0.0), ours.ne(0.0));
        }
        Ok(())
    }

    fn usual_norm(input: &Tensor, weight: &Tensor) -> Tensor {
        let values = widened(input);
        let scale = (values.square().mean_dim([-1i64].as_slice(), true, None) + 1e-6).rsqrt();
        match weight.kind() == input.kind() {
            true => (values * scale).to_kind(input.kind()) * weight,
            false => (values * scale * weight).to_kind(input.kind()),
        }
    }

    #[test]
    fn norms_and_gates_are_libtorchs() {
        // Widths with and without a rest behind the last whole vector; the last is more than one thread's.
        for size in [vec![3, 5, 24], vec![2, 64], vec![700, 40], vec![1, 1, 3]] {
            let weight = draw(&size[size.len() - 1..]);
            // A weight of the wider kind meets what is not rounded yet.
            for kind_of in [(|kind| kind) as fn(Kind) -> Kind, crate::kind::wide] {
                let weight = |input: &[Tensor]| weight.to_kind(kind_of(input[0].kind()));
                let ours = |input: &[Tensor]| rms_norm(&input[0], &weight(input), 1e-6).unwrap();
                same("rms_norm", &[draw(&size)], ours, |input| usual_norm(&input[0], &weight(input)));
                // Both outputs, with a part of the gradient each, and with the norm's alone.
                for both in [true, false] {
                    let joined = |(sum, normed): (Tensor, Tensor)| if both { sum + normed } else { normed };
                    let ours = |input: &[Tensor]| joined(add_rms_norm(&input[0], &input[1], &weight(input), 1e-6).unwrap());
                    same("add_rms_norm", &[draw(&size), draw(&size)], ours, |input| {
                        let sum = &input[0] + &input[1];
                        let normed = usual_norm(&sum, &weight(input));
                        joined((sum, normed))
                    });
                }
            }
            let two = [draw(&size), draw(&size)];
            same("swiglu", &two, |input| swiglu(&input[0], &input[1]).unwrap(), |input| input[0].silu() * &input[1]);
            same("geglu", &two, |input| geglu(&input[0], &input[1]).unwrap(), |input| input[0].gelu("tanh") * &input[1]);
        }
    }

    #[test]
    fn rotations_are_libtorchs() {
        // Whole heads and parts of them; one example's angles for all, and each its own.
        for (width, turning, examples) in [(8, 8, 1), (24, 10, 3), (64, 64, 3), (64, 16, 1)] {
            let angle = draw(&[examples, 1, 5, turning / 2]);
            let angles = |kind: Kind| {
                let both = Tensor::cat(&[&angle, &angle], -1);
                (both.cos().to_kind(kind), both.sin().to_kind(kind))
            };
            let usual = |values: &Tensor| {
                let (cos, sin) = angles(values.kind());
                let inner = values.narrow(-1, 0, turning);
                let halves = inner.chunk(2, -1);
                let turned = &inner * cos + Tensor::cat(&[&halves[1].neg(), &halves[0]], -1) * sin;
                Tensor::cat(&[turned, values.narrow(-1, turning, width - turning)], -1)
            };
            let input = [draw(&[3, 5, 2, width])];
            let of = |input: &[Tensor]| input[0].transpose(1, 2);
            same("rotate", &input, |input| rotate(&of(input), &angles(input[0].kind())).unwrap(), |input| usual(&of(input)));
            // In another memory than a projection's.
            let contiguous = |input: &[Tensor]| of(input).contiguous();
            same("rotate", &input, |input| rotate(&contiguous(input), &angles(input[0].kind())).unwrap(), |input| usual(&of(input)));
            let weight = draw(&[width]);
            let weight = |input: &[Tensor]| weight.to_kind(input[0].kind());
            let ours = |input: &[Tensor]| norm_rotate(&of(input), &weight(input), 1e-6, &angles(input[0].kind())).unwrap();
            same("norm_rotate", &input, ours, |input| usual(&usual_norm(&of(input), &weight(input))));
        }
        let angles = (draw(&[1, 1, 5, 8]), draw(&[1, 1, 5, 8]));
        assert!(rotate(&draw(&[1, 1, 5, 4]), &angles).unwrap_err().to_string().contains("cannot be turned"));
    }

    #[test]
    fn cross_entropy_is_libtorchs() {
        for (rows, classes) in [(1, 1), (7, 50), (40, 1000), (3, 16)] {
            let labels = Tensor::randint(classes, [rows], (Kind::Int64, Device::Cpu));
            let usual = |input: &[Tensor]| {
                let logs = widened(&(&input[0] * 5.0)).log_softmax(-1, None);
                logs.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1).neg().to_kind(input[0].kind())
            };
            let ours = |input: &[Tensor]| cross_entropy(&(&input[0] * 5.0), &labels).unwrap().to_kind(input[0].kind());
            // Of one class the loss is 0, of which there is no relative error.
            if classes > 1 {
                same("cross_entropy", &[draw(&[rows, classes])], ours, usual);
            } else {
                assert_eq!(f64::try_from(ours(&[draw(&[rows, classes])])).unwrap(), 0.0);
            }
        }
        let labels = |label: i64| Tensor::from_slice(&[label]);
        for label in [-1, 3] {
            let error = cross_entropy(&draw(&[1, 3]), &labels(label)).unwrap_err().to_string();
            assert!(error.contains(&format!("the label {label} is none of the 3 tokens")), "{error}");
        }
        assert!(cross_entropy(&draw(&[2, 3]), &labels(1)).unwrap_err().to_string().contains("do not go with"));
        // Numbers that are none are told of, and great ones are borne.
        let of = |values: [f64; 3]| {
            f64::try_from(cross_entropy(&Tensor::from_slice(&values).view([1, 3]).to_kind(Kind::Float), &labels(1)).unwrap()).unwrap()
        };
        assert!(of([f64::NAN, 1.0, 2.0]).is_nan() && of([1.0, f64::INFINITY, 2.0]).is_nan());
        assert_eq!(of([3e38, -3e38, 0.0]), f64::INFINITY);
        assert_eq!(of([0.0, 3e38, -3e38]), 0.0);
    }

    #[test]
    fn low_rank_updates_are_libtorchs() {
        // Ranks for the loops, with and without a rest, and above them; some rows and many.
        for (rows, rank, scale, dropping) in
            [(1, 1, 1.0, false), (5, 8, 0.5, true), (130, 9, 2.0, false), (6, 40, 1.0, true), (6, 33, 0.5, false)]
        {
            let (inputs, outputs) = (34, 50);
            let (weight, bias) = (draw(&[outputs, inputs]), draw(&[outputs]));
            let of = |values: &Tensor, kind: Kind| values.to_kind(kind);
            // The input, what dropout left of it, A and B; the last two are held in the wide kind.
            let parts = [draw(&[rows, 2, inputs]), draw(&[rows, 2, inputs]), draw(&[rank, inputs]), draw(&[outputs, rank])];
            let ours = |input: &[Tensor]| {
                let kind = input[0].kind();
                let dropped = dropping.then_some(&input[1]);
                let (a, b) = (widened(&input[2]), widened(&input[3]));
                let output = low_rank((&input[0], dropped), (&of(&weight, kind), Some(&of(&bias, kind))), (&a, &b), scale, false).unwrap();
                if dropping { output } else { output + input[1].sum(None) }
            };
            let usual = |input: &[Tensor]| {
                let kind = input[0].kind();
                let seen = if dropping { &input[1] } else { &input[0] };
                let update = widened(seen).matmul(&widened(&input[2]).tr()).matmul(&widened(&input[3]).tr()) * scale;
                let output = (widened(&input[0].linear(&of(&weight, kind), Some(&of(&bias, kind)))) + update).to_kind(kind);
                if dropping { output } else { output + input[1].sum(None) }
            };
            same(&format!("low_rank {rank}"), &parts, ours, usual);
        }
        let wrong = low_rank((&draw(&[2, 3]), None), (&draw(&[2, 4]), None), (&draw(&[1, 3]), &draw(&[2, 1])), 1.0, false).unwrap_err();
        assert!(wrong.to_string().contains("shapes"), "{wrong}");
    }
}
