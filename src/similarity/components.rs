//! Principal components of one representation.

use tch::{Kind, Tensor};

use super::representation::Representation;
use crate::error::{Error, Result};
use crate::libtorch::guarded;

/// A representation in the directions in which it is widest.
#[derive(Debug)]
pub struct PrincipalComponents {
    /// `[example, component]`, f64: coordinates of the examples, their mean at 0, the widest component first.
    pub scores: Tensor,
    /// The share of the variance along each component, in [0, 1].
    pub shares: Vec<f64>,
}

/// Principal component analysis (Pearson 1901; Hotelling 1933): the first `count` components of `X [example, hidden]`.
///
/// With the mean example taken away, `X = U S Vᵀ`; scores are `U S`, shares `s_i² / Σ_j s_j²`. The sign of a component is free: here its score
/// of greatest size is positive. Unchanged by a translation and by any rotation of the last axis; scaling scales the scores.
///
/// # Errors
/// A count of 0 or above the number of directions in which the examples differ; all examples the same.
pub fn principal_components(of: &Representation, count: usize) -> Result<PrincipalComponents> {
    guarded("principal components", || {
        let _inference = tch::no_grad_guard();
        let basis = of.basis()?;
        let rank = basis.singular.size()[0];
        if !(1..=rank).contains(&(count as i64)) {
            return Err(Error::input(format!(
                "{count} principal components asked for: the examples differ in {rank} directions, ask for 1 to {rank}"
            )));
        }
        let count = count as i64;
        let scores = &basis.vectors.narrow(1, 0, count) * basis.singular.narrow(0, 0, count);
        let greatest = scores.gather(0, &scores.abs().argmax(0, true), false);
        let squares = basis.singular.square();
        let shares = Vec::try_from((&squares / squares.sum(Kind::Double)).narrow(0, 0, count))?;
        Ok(PrincipalComponents { scores: scores * greatest.sign(), shares })
    })
}
