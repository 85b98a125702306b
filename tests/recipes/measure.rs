//! The ratio of the sizes of two representations.

use super::representation::{Representation, paired};
use super::{Invariance, Measure};
use crate::error::Result;

pub(super) const ENTRY: Measure = Measure {
    name: "size_ratio",
    about: "the smaller total variance divided by the larger",
    range: (0.0, 1.0),
    debiased: false,
    invariances: &[Invariance::Translation, Invariance::SharedRotation, Invariance::Rotation, Invariance::Exchange, Invariance::Order],
    undefined: "fewer than 3 examples, or all the same",
    compute: size_ratio,
};

/// `min(s, t) / max(s, t)` in [0, 1], with `s` and `t` the variances of the two, summed over hidden.
///
/// # Errors
/// Another number of examples, fewer than 3, or all examples the same.
pub fn size_ratio(a: &Representation, b: &Representation) -> Result<f64> {
    paired("the ratio of sizes", a, b, 3, || {
        let size = |of: &Representation| Ok::<_, crate::Error>(of.gram()?.trace().double_value(&[]));
        let (a, b) = (size(a)?, size(b)?);
        Ok(a.min(b) / a.max(b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_long_vectors_vary_four_times_as_much() {
        let values = tch::Tensor::from_slice2(&[[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]]);
        let [a, b] = [values.shallow_clone(), values * 2.0].map(|values| Representation::new(&values).unwrap());
        assert!((ENTRY.compute(&a, &b).unwrap() - 0.25).abs() < 1e-12);
    }
}
