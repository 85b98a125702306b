//! f32 products by oneDNN, the other matrix library inside libtorch.
//!
//! libtorch's usual one, MKL, does not use the widest vectors of processors that Intel did not make: on an AMD EPYC with AVX-512 it was
//! measured at 97 Gflop/s per core where oneDNN reaches 215, and at 64 against 105 for eight rows.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

/// From this many rows on oneDNN's preparations are worth it.
const ROWS: usize = 4;
/// The same where gradients flow and values have to be copied into a layout of oneDNN's and back.
const ROWS_WITH_GRADIENT: usize = 48;

/// libtorch's C function for a linear module (`torch/csrc/inductor/aoti_torch/c/shim_cpu.h`): input, weight, address of a bias or null, name
/// of an activation function with its numbers, their count and its variant, result. Not 0 if it failed.
type LinearPointwise = unsafe extern "C" fn(
    *const c_void,
    *const c_void,
    *mut *const c_void,
    *const c_char,
    *mut *const f64,
    i64,
    *mut *const c_char,
    *mut *mut c_void,
) -> i32;

/// `input weight^T + bias` where oneDNN is the faster way; `None` where libtorch's own product is to be taken.
pub(crate) fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Option<Tensor> {
    let direct = function()?;
    if [input.device(), weight.device()] != [Device::Cpu; 2] || [input.kind(), weight.kind()] != [Kind::Float; 2] {
        return None;
    }
    let rows = input.numel() / weight.size()[1].max(1) as usize;
    if input.requires_grad() || weight.requires_grad() || bias.is_some_and(Tensor::requires_grad) {
        return (rows >= ROWS_WITH_GRADIENT)
            .then(|| input.g_to_mkldnn(Kind::Float).mkldnn_linear(weight, bias).to_dense(Kind::Float, false));
    }
    if rows < ROWS {
        return None;
    }
    let mut bias = bias.map(|bias| bias.as_ptr().cast::<c_void>());
    let bias = bias.as_mut().map_or(null_mut(), std::ptr::from_mut);
    let mut output: *mut c_void = null_mut();
    // SAFETY: the type is the header's, and a handle there is what it is in tch: the address of an `at::Tensor`, all of which outlive the
    // call. The result is a new `at::Tensor` that nobody else owns. On failure, of whatever kind, `linear` is asked again, which says why.
    unsafe {
        let (input, weight) = (input.as_ptr().cast(), weight.as_ptr().cast());
        let failed = direct(input, weight, bias, c"none".as_ptr(), null_mut(), 0, null_mut(), &raw mut output);
        (failed == 0 && !output.is_null()).then(|| Tensor::from_ptr(output.cast()))
    }
}

/// The C function, where it is there and the processor calls for it.
fn function() -> Option<LinearPointwise> {
    static FUNCTION: OnceLock<Option<LinearPointwise>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        let processor = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        if !(processor.contains("AuthenticAMD") && processor.contains("avx512f") && tch::utils::has_mkldnn()) {
            return None;
        }
        // SAFETY: the type is the header's. The library stays loaded to the end of the process.
        unsafe { super::loaded()?.get::<LinearPointwise>(b"aoti_torch_cpu__linear_pointwise\0").ok().map(|function| *function) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_usual_product() {
        let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        for (rows, gradient) in [(1, false), (5, false), (64, false), (64, true)] {
            let (input, weight, bias) = (draw(&[rows, 2, 33]).set_requires_grad(gradient), draw(&[17, 33]), draw(&[17]));
            let turned = input.transpose(0, 1);
            for (input, bias) in [(&input, None), (&input, Some(&bias)), (&turned, Some(&bias))] {
                let Some(ours) = linear(input, &weight, bias) else { continue };
                let usual = input.linear(&weight, bias);
                assert_eq!((ours.size(), ours.requires_grad()), (usual.size(), gradient));
                assert!((&ours - &usual).abs().max().double_value(&[]) < 1e-5);
                if gradient {
                    let of = |output: &Tensor| Tensor::run_backward(&[output.square().sum(None)], &[input], false, false).remove(0);
                    assert!((of(&ours) - of(&usual)).abs().max().double_value(&[]) < 1e-3);
                }
            }
        }
        let double = draw(&[64, 33]).to_kind(Kind::Double);
        assert!(linear(&double, &draw(&[17, 33]), None).is_none());
    }
}
