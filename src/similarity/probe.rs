//! Does a linear probe that reads one representation read the other as well?

use tch::{Kind, Tensor};

use super::representation::{Representation, paired};
use crate::display::{self, Bundle, Show};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::random::Random;

/// What a probe is to read from a representation, one per example.
#[derive(Clone, Copy, Debug)]
pub enum ProbeTargets<'a> {
    /// Classes from 0; scored by accuracy.
    Classes(&'a [usize]),
    /// Numbers; scored by R² = 1 - Σ (y - ŷ)² / Σ (y - ȳ)², at most 1, with ȳ the mean over all examples.
    Values(&'a [f64]),
}

/// How the probe is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Ridge penalty as a multiple of the mean squared norm of a centred training example, above 0. Being relative, it makes the result
    /// independent of the representations' common scale.
    pub ridge: f64,
    /// Parts the examples are cut into, at least 2; each is read by a probe trained on the others.
    pub folds: usize,
    /// Seed of the cut.
    pub seed: u64,
}

impl Default for Probe {
    /// Penalty 0.01, 5 folds, seed 0.
    fn default() -> Self {
        Self { ridge: 0.01, folds: 5, seed: 0 }
    }
}

/// What a probe trained on the first representation reads, always from examples it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeTransfer {
    /// Score on the first representation, which it was trained on.
    pub own: f64,
    /// Score on the second, with the very same weights.
    pub transferred: f64,
    /// Score of the best constant answer: the share of the most frequent class, or 0 for R².
    pub chance: f64,
}

impl Show for ProbeTransfer {
    fn bundle(&self) -> Bundle {
        display::facts("probe", &[("own", self.own), ("transferred", self.transferred), ("chance", self.chance)])
    }
}

/// Linear-probe transfer: a closed-form ridge probe is trained on `a` and reads `b` unchanged.
///
/// For each of `folds` seeded parts, with the rest as training examples (X, Y) of `a`: `W = (Xcᵀ Xc + λ 1)⁻¹ Xcᵀ Yc`, centred by the training
/// means x̄, ȳ, `λ = ridge · mean |xc|²`; classes are one-hot and read by the greatest output (the lower class of equals).
/// The examples of the part are read as `(x - x̄) W + ȳ` twice: from `a` (`own`) and from `b` (`transferred`), with x̄ and W of `a`. Nothing
/// of `b` is aligned, so both must live in the same coordinates, as one model's with and without an adapter do.
/// Unchanged by a rotation, translation or scaling that both share. Not symmetric.
///
/// # Errors
/// Different numbers of examples or widths, targets of another number, one class only or values that do not vary, a value that is not
/// finite, settings out of range, more folds than examples, examples all the same.
pub fn probe_transfer(a: &Representation, b: &Representation, targets: ProbeTargets<'_>, probe: Probe) -> Result<ProbeTransfer> {
    let n = a.examples();
    if !(probe.ridge > 0.0 && probe.ridge.is_finite()) || probe.folds < 2 || probe.folds > n {
        return Err(Error::input(format!(
            "the probe needs a ridge above 0, it is {}, and from 2 folds to the {n} examples, they are {}",
            probe.ridge, probe.folds
        )));
    }
    if a.hidden() != b.hidden() {
        return Err(Error::input(format!(
            "a probe of width {} cannot read vectors of width {}: both must be of one model's coordinates",
            a.hidden(),
            b.hidden()
        )));
    }
    let wanted = outputs(targets, n)?;
    paired("linear-probe transfer", a, b, 4, || {
        a.gram()?;
        let (x, other) = (a.values().to_kind(Kind::Double), b.values().to_kind(Kind::Double));
        let wanted = wanted.to_device(x.device());
        let order: Vec<i64> = Random::new(probe.seed, "probe folds", 0).order(n).into_iter().map(|row| row as i64).collect();
        let (own, transferred) = (wanted.zeros_like(), wanted.zeros_like());
        for fold in 0..probe.folds {
            interrupt::at(fold as u64, probe.folds as u64, "folds")?;
            let (from, to) = (fold * n / probe.folds, (fold + 1) * n / probe.folds);
            let index = |rows: &[i64]| Tensor::from_slice(rows).to_device(x.device());
            let (held, rest) = (index(&order[from..to]), index(&[&order[..from], &order[to..]].concat()));
            let read = Reader::train(&x.index_select(0, &rest), &wanted.index_select(0, &rest), probe.ridge);
            for (values, outputs) in [(&x, &own), (&other, &transferred)] {
                let _ = outputs.shallow_clone().index_copy_(0, &held, &read.outputs(&values.index_select(0, &held)));
            }
        }
        let (own, transferred) = (score(targets, &own, &wanted)?, score(targets, &transferred, &wanted)?);
        Ok(ProbeTransfer { own, transferred, chance: chance(targets) })
    })
}

/// A trained probe in its dual form, `W = Xcᵀ (Xc Xcᵀ + λ 1)⁻¹ Yc`: the same weights, without a matrix `[hidden, hidden]`.
pub(super) struct Reader {
    mean: Tensor,
    weights: Tensor,
    offset: Tensor,
}

impl Reader {
    pub(super) fn train(x: &Tensor, y: &Tensor, ridge: f64) -> Self {
        let mean = |values: &Tensor| values.mean_dim([0i64].as_slice(), true, Kind::Double);
        let (centre, offset) = (mean(x), mean(y));
        let centred = x - &centre;
        let gram = centred.matmul(&centred.tr());
        let penalty = gram.diagonal(0, 0, 1).mean(Kind::Double) * ridge;
        let eye = Tensor::eye(x.size().first().copied().unwrap_or(0), (Kind::Double, x.device()));
        let (dual, _) = Tensor::linalg_solve_ex(&(gram + eye * penalty), &(y - &offset), true, false);
        Self { mean: centre, weights: centred.tr().matmul(&dual), offset }
    }

    pub(super) fn outputs(&self, x: &Tensor) -> Tensor {
        (x - &self.mean).matmul(&self.weights) + &self.offset
    }
}

/// `[example, output]`: one-hot classes or one column of values.
fn outputs(targets: ProbeTargets<'_>, n: usize) -> Result<Tensor> {
    let count = match targets {
        ProbeTargets::Classes(classes) => classes.len(),
        ProbeTargets::Values(values) => values.len(),
    };
    if count != n {
        return Err(Error::input(format!("{count} targets for {n} examples: give one for each")));
    }
    match targets {
        ProbeTargets::Classes(classes) => {
            let last = classes.iter().max().copied().unwrap_or(0);
            if classes.iter().all(|class| *class == last) {
                return Err(Error::input("all examples are of one class, so that there is nothing to read: give examples of at least two"));
            }
            if last >= n {
                return Err(Error::input(format!("class {last} among {n} examples: number the classes from 0 on, without gaps")));
            }
            let ids: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
            Ok(Tensor::from_slice(&ids).one_hot(last as i64 + 1).to_kind(Kind::Double))
        }
        ProbeTargets::Values(values) => {
            if let Some(row) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::numeric(format!("target {row} is {}: remove the example or give a number", values[row])));
            }
            if values.iter().all(|value| *value == values[0]) {
                return Err(Error::input("all targets are the same, so that there is nothing to read: give values that vary"));
            }
            Ok(Tensor::from_slice(values).unsqueeze(1))
        }
    }
}

fn score(targets: ProbeTargets<'_>, outputs: &Tensor, wanted: &Tensor) -> Result<f64> {
    let value = match targets {
        ProbeTargets::Classes(_) => {
            let classes = |values: &Tensor| values.argmax(1, false);
            classes(outputs).eq_tensor(&classes(wanted)).to_kind(Kind::Double).mean(Kind::Double)
        }
        ProbeTargets::Values(_) => {
            let square = |values: Tensor| values.square().sum(Kind::Double);
            1.0 - square(wanted - outputs) / square(wanted - wanted.mean(Kind::Double))
        }
    };
    Ok(value.double_value(&[]))
}

fn chance(targets: ProbeTargets<'_>) -> f64 {
    match targets {
        ProbeTargets::Values(_) => 0.0,
        ProbeTargets::Classes(classes) => {
            let mut counts = vec![0usize; classes.iter().max().map_or(0, |last| last + 1)];
            classes.iter().for_each(|&class| counts[class] += 1);
            counts.into_iter().max().unwrap_or(0) as f64 / classes.len() as f64
        }
    }
}
