//! `y = x W^T + b`, and what an adapter adds.

use std::cell::Cell;

use tch::Tensor;

use super::Source;
use super::frozen::{Frozen, LinearWeights};
use super::pass::{LowRankUpdate, Pass};
use crate::error::Result;
use crate::libtorch::operations;

/// A linear module: an adapter site and a hook point at its path.
#[derive(Debug)]
pub(crate) struct Linear {
    path: String,
    widths: (i64, i64),
    weight: Tensor,
    bias: Option<Tensor>,
    precision: Cell<Precision>,
}

/// How f32 weights are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As f32.
    #[default]
    Full,
    /// Both factors rounded to bf16, with sums in f32, on processors that multiply bf16 in matrices (Intel's AMX: 2.6-4.8 times the speed from 128
    /// rows on, measured); as f32 on others. Each product is then off by up to 5e-3 of its size (Frobenius norm). By libtorch's own switch
    /// (`float32_matmul_precision`), which is turned on for one product at a time: f32 products that other threads compute just then may be
    /// rounded, too.
    Rounded,
}

impl Linear {
    /// Takes `{path}.weight [out, in]` and, where there is one, `{path}.bias [out]`.
    pub(crate) fn new(path: String, inputs: i64, outputs: i64, bias: bool, source: &mut Source<'_>) -> Result<Self> {
        let weight = source(&format!("{path}.weight"), &[outputs, inputs])?;
        let bias = bias.then(|| source(&format!("{path}.bias"), &[outputs])).transpose()?;
        Ok(Self { path, widths: (inputs, outputs), weight, bias, precision: Cell::default() })
    }

    /// A head that shares another module's weight `[out, in]`.
    pub(crate) fn tied(path: &str, inputs: i64, outputs: i64, weight: &Tensor) -> Self {
        Self { path: path.to_string(), widths: (inputs, outputs), weight: weight.shallow_clone(), bias: None, precision: Cell::default() }
    }

    /// `[example, token, in]` to `[example, token, out]`.
    pub(crate) fn forward(&self, input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let output = self.adapted(input, pass)?;
        pass.hook(&self.path, output)
    }

    /// The same without hooks.
    pub(crate) fn adapted(&self, input: &Tensor, pass: &Pass<'_, '_>) -> Result<Tensor> {
        let Some(adapter) = pass.adapter else { return self.base(input) };
        let Some(LowRankUpdate { a, b, scale, dropout }) = adapter.low_rank(&self.path) else {
            let weights = || Ok(self.weights());
            return adapter.linear(&Frozen::new(&self.path, &|input| self.base(input), &weights), input, pass.draws);
        };
        let dropped = match pass.draws.filter(|_| dropout > 0.0) {
            Some(draws) => {
                // Rows, which is the shape that the numbers are drawn for.
                let rows = input.reshape([-1, self.widths.0]);
                Some(draws.dropout(&self.path, &rows, dropout)?)
            }
            None => None,
        };
        operations::low_rank((input, dropped.as_ref()), (&self.weight, self.bias.as_ref()), (a, b), scale, self.rounded())
    }

    /// Without hooks and adapter: a fresh tensor.
    pub(super) fn base(&self, input: &Tensor) -> Result<Tensor> {
        operations::linear(input, &self.weight, self.bias.as_ref(), self.rounded())
    }

    /// Multiplies with this precision from now on.
    pub(crate) fn set_precision(&self, precision: Precision) {
        self.precision.set(precision);
    }

    pub(super) fn rounded(&self) -> bool {
        self.precision.get() == Precision::Rounded
    }

    /// From now on the weight is this, which holds the same numbers.
    pub(super) fn move_to(&mut self, weight: Tensor) {
        self.weight = weight;
    }

    /// The weight `[out, in]`.
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The weight `[out, in]` and the bias `[out]`, if there is one.
    pub(super) fn weights(&self) -> LinearWeights {
        (self.weight.shallow_clone(), self.bias.as_ref().map(Tensor::shallow_clone))
    }

    /// The module's path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// `(in, out)` widths.
    pub(crate) fn widths(&self) -> (i64, i64) {
        self.widths
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn rounded_products_are_as_near_as_promised_and_round_nothing_else() -> Result<()> {
        let draw = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let linear = Linear::new("a".into(), 300, 200, false, &mut |_, size| Ok(draw(size)))?;
        let input = draw(&[150, 300]);
        let norm = |values: &Tensor| values.norm().double_value(&[]);
        let (full, elsewhere) = (linear.base(&input)?, input.matmul(&input.tr()));
        linear.set_precision(Precision::Rounded);
        let rounded = linear.base(&input)?;
        assert_eq!(rounded.kind(), Kind::Float);
        let apart = norm(&(&rounded - &full)) / norm(&full);
        assert!(apart < 5e-3, "{apart:.1e}");
        // The process's switch is back where it was.
        assert_eq!(input.matmul(&input.tr()), elsewhere);
        linear.set_precision(Precision::Full);
        assert_eq!(linear.base(&input)?, full);
        Ok(())
    }
}
