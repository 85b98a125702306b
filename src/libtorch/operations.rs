//! Operations of a decoder whose weights are frozen, which keep less for their gradients than libtorch's own compositions: `operations.cpp`.
//!
//! f32 products go by oneDNN, the other matrix library inside libtorch, where MKL, its usual one, does not use the widest vectors, which is on
//! processors that Intel did not make: on an AMD EPYC with AVX-512 it was measured at 97 Gflop/s per core where oneDNN reaches 215, and at 64
//! against 105 for eight rows. [`PRODUCTS`] chooses one of the two on any processor.

#[cfg(test)]
mod tests;

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
        factors: *const Handle,
        parts: *const Parts,
        how: i64,
        outputs: *mut *mut c_void,
        error: *mut c_char,
    ) -> bool;
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
    fn ia2_attention(query: Handle, key: Handle, value: Handle, mask: Handle, scale: f64, error: *mut c_char) -> *mut c_void;
    fn ia2_attend(query: Handle, key: Handle, value: Handle, mask: Handle, scale: f64, error: *mut c_char) -> *mut c_void;
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

/// How many modules of one input may be joined.
pub(crate) const PARTS: usize = 3;

/// As C++ has it.
#[repr(C)]
struct Parts {
    count: i64,
    widths: [i64; PARTS],
    scales: [f64; PARTS],
}

/// A low-rank update `scale (x a^T) b^T`: `a [rank, in]` and `b [out, rank]` are trained.
pub(crate) type LowRank<'t> = (&'t Tensor, &'t Tensor, f64);

/// `input weight^T + bias + scale (x a^T) b^T` with `x` the input or, with dropout, what it left of the input; weight and bias are constants.
pub(crate) fn low_rank(
    inputs: (&Tensor, Option<&Tensor>),
    base: (&Tensor, Option<&Tensor>),
    (a, b): (&Tensor, &Tensor),
    scale: f64,
    rounded: bool,
) -> Result<Tensor> {
    let width = base.0.size().first().copied().unwrap_or(0);
    let mut outputs = joined(inputs, base, &[(width, Some((a, b, scale)))], rounded)?;
    outputs.pop().ok_or_else(|| Error::internal("a product without a result"))
}

/// `input weight^T + bias` of at most [`PARTS`] modules of one input, whose rows stand in the weight one behind the other, as wide as is said, each with
/// its update if it has one. The outputs share one memory: each row of one is followed by those of the others.
pub(crate) fn joined(
    (input, dropped): (&Tensor, Option<&Tensor>),
    (weight, bias): (&Tensor, Option<&Tensor>),
    modules: &[(i64, Option<LowRank<'_>>)],
    rounded: bool,
) -> Result<Vec<Tensor>> {
    if modules.is_empty() || modules.len() > PARTS {
        return Err(Error::internal(format!("{} modules in one product", modules.len())));
    }
    let mut parts = Parts { count: modules.len() as i64, widths: [0; PARTS], scales: [1.0; PARTS] };
    let mut factors = [null(); 2 * PARTS];
    for (place, (width, update)) in modules.iter().enumerate() {
        parts.widths[place] = *width;
        if let Some((a, b, scale)) = update {
            (factors[2 * place], factors[2 * place + 1], parts.scales[place]) = (handle(a), handle(b), *scale);
        }
    }
    let (mut outputs, how) = ([null_mut(); PARTS], how(input, weight, rounded));
    let (dropped, bias) = (dropped.map_or(null(), handle), bias.map_or(null(), handle));
    let first = call(|error| {
        let (factors, outputs) = (factors.as_ptr(), outputs.as_mut_ptr());
        // SAFETY: see `call`; the arrays are as long as C++ takes them to be.
        match unsafe { ia2_low_rank(handle(input), dropped, handle(weight), bias, factors, &raw const parts, how, outputs, error) } {
            // SAFETY: the first is there where any is.
            true => unsafe { *outputs },
            false => null_mut(),
        }
    })?;
    // SAFETY: where the first is given, so are the others, in the same way.
    let others = outputs[1..modules.len()].iter().map(|&output| unsafe { Tensor::from_ptr(output.cast()) });
    Ok(std::iter::once(first).chain(others).collect())
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

/// `softmax(scale q k^T) v` of `q [example, head, query, width]`, `k` and `v [example, group of heads, key, width]`, without a mask each query seeing the
/// keys up to its own place; `1 / sqrt(width)` is the scale where none is given.
pub(crate) fn attention(values: [&Tensor; 3], mask: Option<&Tensor>, scale: Option<f64>) -> Result<Tensor> {
    let [query, key, value] = values;
    let recorded = gradients() && values.iter().any(|value| value.requires_grad());
    let ours = match query.kind() {
        Kind::Float | Kind::BFloat16 | Kind::Double => mask.is_none_or(of_all_heads),
        Kind::Half => recorded && mask.is_none_or(|mask| [2, 4].contains(&mask.dim())),
        _ => false,
    };
    if ours && query.device() == Device::Cpu {
        let width = query.size().last().copied().unwrap_or(1).max(1) as f64;
        let (mask, scale) = (mask.map_or(null(), handle), scale.unwrap_or_else(|| 1.0 / width.sqrt()));
        let attend = if recorded { ia2_attention } else { ia2_attend };
        // SAFETY: see `call`.
        return call(|error| unsafe { attend(handle(query), handle(key), handle(value), mask, scale, error) });
    }
    let grouped = query.size().get(1) != key.size().get(1);
    Ok(Tensor::f_scaled_dot_product_attention(query, key, value, mask, 0.0, mask.is_none(), scale, grouped)?)
}

/// Whether a mask says which keys are seen, the same for all heads.
fn of_all_heads(mask: &Tensor) -> bool {
    matches!(mask.size()[..], [_, 1, _, _]) && mask.kind() == Kind::Bool
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
// Never inlined, as the next one: a guarded call is generic and may be compiled in a notebook's cell, from where C symbols cannot be reached.
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
