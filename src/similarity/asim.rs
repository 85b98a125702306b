//! Activation similarity: the token-wise cosine.

use tch::{Kind, Tensor};

use crate::axes;
use crate::error::{Error, Result};
use crate::kind::wide;

/// Activation similarity: `asim = <a, b> / (|a| |b|)` over the last axis.
///
/// `a` and `b` have one shape, for captured activations `[example, layer, token, hidden]`; the result lacks the last axis
/// (`[example, layer, token]`), so that means over any of the others are taken by the caller, and last.
/// Its values lie in [-1, 1]: 1 for the same direction, 0 for orthogonal ones, -1 for opposite ones.
/// In d dimensions independent directions give 0 with a standard deviation of about `1 / sqrt(d)`.
///
/// Computed in f32 whatever the inputs' kind (f64 for f64 inputs), and returned in that kind, detached from any graph.
///
/// # Errors
/// The shapes differ, there is no axis to reduce, a value is NaN or infinite, or a vector has norm zero and thus no direction
/// (padding, for instance: select the tokens that exist first).
pub fn asim(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    axes::same(a, "a", b, "b", &[])?;
    let shape = a.size();
    let (Some(&width), Some(leading)) = (shape.last(), shape.len().checked_sub(1).map(|last| &shape[..last])) else {
        return Err(Error::input("asim: the tensors have no axis, so there is no vector to compare"));
    };
    if a.numel() == 0 {
        return Err(Error::input(format!("asim: the tensors are empty (shape {shape:?})")));
    }
    let (a, b) = tch::no_grad(|| -> Result<_> { Ok((directions(a, "a", leading, width)?, directions(b, "b", leading, width)?)) })?;
    // Kinds may differ (bf16 activations against f32 ones): compare in the wider.
    let kind = if a.kind() == Kind::Double { Kind::Double } else { wide(b.kind()) };
    let (a, b) = (a.f_to_kind(kind)?, b.f_to_kind(kind)?);
    // A batch of row x column products: no [.., hidden] temporary as `(a * b).sum(-1)` would make.
    let cosine = a.f_unsqueeze(1)?.f_bmm(&b.f_unsqueeze(2)?)?;
    // Rounding can leave 1 + 1e-7, which is out of the declared range.
    Ok(cosine.f_clamp(-1.0, 1.0)?.f_reshape(leading)?)
}

/// The rows of `[vectors, width]`, each of norm one.
fn directions(tensor: &Tensor, name: &str, leading: &[i64], width: i64) -> Result<Tensor> {
    axes::finite(tensor, name)?;
    let rows = tensor.f_detach()?.f_to_kind(wide(tensor.kind()))?.f_reshape([-1, width])?;
    // Scaling by the largest element first keeps the squares of tiny and huge activations inside the kind's range.
    let largest = rows.f_abs()?.f_amax(-1, true)?;
    let zero = largest.f_eq(0.0)?;
    let count = zero.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    if count > 0 {
        let first = zero.f_flatten(0, -1)?.f_to_kind(Kind::Uint8)?.f_argmax(None, false)?.f_int64_value(&[])?;
        let at = axes::position(first, leading);
        return Err(Error::numeric(format!(
            "asim: {count} vectors of {name} have norm zero and thus no direction, the first at {at:?} (are padded tokens among them?)"
        )));
    }
    let scaled = rows.f_div(&largest)?;
    let norm = scaled.f_norm_scalaropt_dim(2.0, [-1], true)?;
    Ok(scaled.f_div(&norm)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device::Cpu;

    #[test]
    fn hand_value() {
        // <(3,4), (4,3)> / 25 = 0.96; (1,0) and (0,2) are orthogonal; (1,1) and (-2,-2) are opposite.
        let a = Tensor::from_slice(&[3f32, 4., 1., 0., 1., 1.]).reshape([3, 2]);
        let b = Tensor::from_slice(&[4f32, 3., 0., 2., -2., -2.]).reshape([3, 2]);
        let value = Vec::<f32>::try_from(asim(&a, &b).unwrap()).unwrap();
        for (value, expected) in value.iter().zip([0.96, 0.0, -1.0]) {
            assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
        }
    }

    #[test]
    fn the_last_axis_goes_and_the_kind_is_f32() {
        let a = Tensor::randn([8, 4, 3, 16], (Kind::Float, Cpu));
        let half = a.to_kind(Kind::BFloat16);
        let value = asim(&a, &half).unwrap();
        assert_eq!((value.size(), value.kind()), (vec![8, 4, 3], Kind::Float));
        assert!(value.min().double_value(&[]) > 0.9999);
        assert_eq!(asim(&a.get(0).get(0).get(0), &a.get(0).get(0).get(0)).unwrap().size(), Vec::<i64>::new());
        assert_eq!(asim(&a.to_kind(Kind::Double), &half).unwrap().kind(), Kind::Double);
    }

    #[test]
    fn tiny_and_huge_activations_have_directions() {
        let a = Tensor::from_slice(&[1e-30f32, 1e-30, 3e30, 3e30]).reshape([2, 2]);
        let value = asim(&a, &a).unwrap();
        assert!((value - 1.0).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn gradients_are_not_kept() {
        let a = Tensor::ones([2, 2], (Kind::Float, Cpu)).set_requires_grad(true);
        assert!(!asim(&a, &a).unwrap().requires_grad());
    }

    #[test]
    fn what_is_undefined_is_an_error() {
        let a = Tensor::ones([2, 3, 4], (Kind::Float, Cpu));
        let shapes = asim(&a, &Tensor::ones([2, 3, 5], (Kind::Float, Cpu))).unwrap_err();
        assert!(shapes.is_input() && shapes.to_string().contains("axis 2 has 4 in a but 5 in b"), "{shapes}");
        let zero = a.copy();
        let _ = zero.get(1).get(2).fill_(0.0);
        let error = asim(&a, &zero).unwrap_err();
        assert!(
            error.is_numeric() && error.to_string().contains("1 vectors of b have norm zero") && error.to_string().contains("[1, 2]"),
            "{error}"
        );
        let nan = a.copy();
        let _ = nan.get(0).get(1).get(3).fill_(f64::NAN);
        let error = asim(&nan, &a).unwrap_err();
        assert!(error.is_numeric() && error.to_string().contains("a: 1 of 24") && error.to_string().contains("[0, 1, 3]"), "{error}");
        assert!(asim(&Tensor::from(1f32), &Tensor::from(1f32)).unwrap_err().is_input());
        assert!(asim(&Tensor::zeros([0, 4], (Kind::Float, Cpu)), &Tensor::zeros([0, 4], (Kind::Float, Cpu))).unwrap_err().is_input());
        assert!(asim(&Tensor::from_slice(&[1i64, 2]), &Tensor::from_slice(&[1i64, 2])).is_ok(), "integers are numbers too");
    }
}
