//! How alike two representations are: pure functions of two tensors.
//!
//! Every measure has an entry in [`MEASURES`] that declares its range and what leaves it unchanged;
//! the registry test checks those declarations on random data. A new measure is one file and one entry.

mod asim;

pub use asim::asim;

use tch::Tensor;

use crate::error::Result;

/// A change of both inputs that leaves a measure's value as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invariance {
    /// Multiplying either input by its own positive number.
    PositiveScaling,
    /// Multiplying the last axis of both inputs by the same orthogonal matrix.
    SharedRotation,
    /// Exchanging the two inputs.
    Exchange,
}

/// One measure of similarity, as declared.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Measure {
    /// The name under which frames carry it.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The least and the greatest value; more means more alike.
    pub range: (f64, f64),
    /// What leaves it unchanged.
    pub invariances: &'static [Invariance],
    /// Where it is undefined, and therefore an error.
    pub undefined: &'static str,
    /// The measure itself.
    pub compute: fn(&Tensor, &Tensor) -> Result<Tensor>,
}

/// All measures.
pub static MEASURES: &[Measure] = &[Measure {
    name: "asim",
    about: "activation similarity: the cosine over the last axis, per example, layer and token",
    range: (-1.0, 1.0),
    invariances: &[Invariance::PositiveScaling, Invariance::SharedRotation, Invariance::Exchange],
    undefined: "for a vector of norm zero, NaN or infinity",
    compute: asim,
}];

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device::Cpu, Kind};

    fn random(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Double, Cpu))
    }

    fn assert_close(a: &Tensor, b: &Tensor, what: &str) {
        let gap = (a - b).abs().max().double_value(&[]);
        assert!(gap < 1e-6, "{what}: off by {gap}");
    }

    #[test]
    fn every_measure_keeps_its_range_and_declared_invariances() {
        tch::manual_seed(7);
        for measure in MEASURES {
            for width in [1, 2, 5, 64] {
                let shape = [4, 3, 2, width];
                let (a, b) = (random(&shape), random(&shape));
                let value = (measure.compute)(&a, &b).unwrap();
                let (least, greatest) = measure.range;
                assert!(
                    value.min().double_value(&[]) >= least && value.max().double_value(&[]) <= greatest,
                    "{}: out of range",
                    measure.name
                );
                for invariance in measure.invariances {
                    let changed = match invariance {
                        Invariance::PositiveScaling => (measure.compute)(&(&a * 37.5), &(&b * 1e-3)),
                        Invariance::SharedRotation => {
                            let (rotation, _) = Tensor::linalg_qr(&random(&[width, width]), "reduced");
                            (measure.compute)(&a.matmul(&rotation), &b.matmul(&rotation))
                        }
                        Invariance::Exchange => (measure.compute)(&b, &a),
                    };
                    assert_close(&value, &changed.unwrap(), &format!("{} under {invariance:?}, width {width}", measure.name));
                }
            }
        }
    }
}
