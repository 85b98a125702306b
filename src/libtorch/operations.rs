//! Operations of a decoder whose weights are frozen, which keep less for their gradients than libtorch's own compositions: `operations.cpp`.
//!
//! f32 products go by oneDNN, the other matrix library inside libtorch, where MKL, its usual one, does not use the widest vectors, which is on
//! processors that Intel did not make: on an AMD EPYC with AVX-512 it was measured at 97 Gflop/s per core where oneDNN reaches 215, and at 64
//! against 105 for eight rows.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

unsafe extern "C" {
    fn ia2_linear(input: *const c_void, weight: *const c_void, bias: *const c_void, onednn: bool, error: *mut c_char) -> *mut c_void;
    fn ia2_rms_norm(input: *const c_void, weight: *const c_void, epsilon: f64, error: *mut c_char) -> *mut c_void;
    fn ia2_swiglu(gate: *const c_void, up: *const c_void, error: *mut c_char) -> *mut c_void;
    fn ia2_rotate(input: *const c_void, cos: *const c_void, sin: *const c_void, error: *mut c_char) -> *mut c_void;
    safe fn ia2_gradients() -> bool;
    safe fn ia2_set_gradients(recorded: bool);
    fn ia2_dropout(input: *const c_void, probability: f64, seed: u64, error: *mut c_char) -> *mut c_void;
}

/// `input weight^T + bias`, whose backward pass keeps neither input nor output, weight and bias being constants.
pub(crate) fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if weight.requires_grad() || bias.is_some_and(Tensor::requires_grad) {
        return Ok(input.f_linear(weight, bias)?);
    }
    let onednn = has_onednn() && [input.device(), weight.device()] == [Device::Cpu; 2] && [input.kind(), weight.kind()] == [Kind::Float; 2];
    call(|error| {
        // SAFETY: see `call`.
        unsafe { ia2_linear(handle(input), handle(weight), bias.map_or(null(), handle), onednn, error) }
    })
}

/// `x / sqrt(mean(x^2) + epsilon) * weight` over the last axis, in f32 at least, restored to the kind of `x` before it meets the weight.
pub(crate) fn rms_norm(input: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_rms_norm(handle(input), handle(weight), epsilon, error) })
}

/// `silu(gate) * up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_swiglu(handle(gate), handle(up), error) })
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

/// `x cos + (-x2, x1) sin` over the halves `x1`, `x2` of the last axis; the angles are the same in both halves.
pub(crate) fn rotate(input: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    // SAFETY: see `call`.
    call(|error| unsafe { ia2_rotate(handle(input), handle(cos), handle(sin), error) })
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

/// Whether this processor calls for oneDNN's products.
fn has_onednn() -> bool {
    static CALLED_FOR: OnceLock<bool> = OnceLock::new();
    *CALLED_FOR.get_or_init(|| {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        processor.contains("AuthenticAMD") && processor.contains("avx512f") && tch::utils::has_mkldnn()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtorch::door;

    fn draw(size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Double, Device::Cpu))
    }

    /// Values and gradients of ours against libtorch's composition, in each kind with its tolerance.
    fn same(name: &str, inputs: &[Tensor], ours: impl Fn(&[Tensor]) -> Tensor, usual: impl Fn(&[Tensor]) -> Tensor) {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5), (Kind::BFloat16, 3e-2)] {
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
            let ours = |input: &[Tensor]| linear(&input[0], &of(input[0].kind()).0, of(input[0].kind()).1.as_ref()).unwrap();
            let usual = |input: &[Tensor]| input[0].linear(&of(input[0].kind()).0, of(input[0].kind()).1.as_ref());
            same("linear", &[draw(&[rows, 2, 33])], ours, usual);
            let turned = |input: &[Tensor]| linear(&input[0].transpose(0, 1), &of(input[0].kind()).0, None).unwrap();
            same("linear, turned", &[draw(&[rows, 2, 33])], turned, |input| {
                input[0].transpose(0, 1).linear::<Tensor>(&of(input[0].kind()).0, None)
            });
        }
        let wrong = linear(&draw(&[2, 3]), &draw(&[2, 4]), None).unwrap_err();
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

    #[test]
    fn norms_gates_and_rotations_are_libtorchs() {
        let weight = draw(&[24]);
        same(
            "rms_norm",
            &[draw(&[3, 5, 24])],
            |input| rms_norm(&input[0], &weight.to_kind(input[0].kind()), 1e-6).unwrap(),
            |input| {
                let kind = input[0].kind();
                let wide = if kind == Kind::Double { input[0].shallow_clone() } else { input[0].to_kind(Kind::Float) };
                let scale = (wide.square().mean_dim([-1i64].as_slice(), true, None) + 1e-6).rsqrt();
                (wide * scale).to_kind(kind) * weight.to_kind(kind)
            },
        );
        let of = |input: &[Tensor]| swiglu(&input[0], &input[1]).unwrap();
        same("swiglu", &[draw(&[3, 5, 24]), draw(&[3, 5, 24])], of, |input| input[0].silu() * &input[1]);
        let angle = draw(&[1, 1, 5, 4]);
        let angles = |kind: Kind| {
            let both = Tensor::cat(&[&angle, &angle], -1);
            (both.cos().to_kind(kind), both.sin().to_kind(kind))
        };
        same(
            "rotate",
            &[draw(&[3, 5, 2, 8])],
            |input| rotate(&input[0].transpose(1, 2), &angles(input[0].kind())).unwrap(),
            |input| {
                let values = input[0].transpose(1, 2);
                let halves = values.chunk(2, -1);
                let (cos, sin) = angles(input[0].kind());
                &values * cos + Tensor::cat(&[&halves[1].neg(), &halves[0]], -1) * sin
            },
        );
    }
}
