//! Modules that a family's files hold as one matrix.

use tch::Tensor;

use super::frozen::{Frozen, LinearWeights};
use super::linear::Linear;
use super::pass::{Adapt, LowRankUpdate, Pass};
use crate::error::{Error, Result};

/// In which order the rows of one matrix hold those of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FusedLayout {
    /// All of the first part, then all of the second, ...
    Stacked,
    /// Head by head: the first head's rows of each part, then the second head's, ...
    ByHead {
        /// The heads, of which all parts have the same number.
        heads: i64,
    },
}

/// Linear modules of one input that a family's files hold as one matrix: the whole of them is an adapter site and a hook point, too, whose rows
/// and values stand in the files' order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fused {
    path: String,
    parts: Vec<String>,
    inputs: i64,
    /// Of each part.
    outputs: Vec<i64>,
    order: FusedLayout,
}

impl Fused {
    /// The whole at `path` of these parts.
    pub(crate) fn new(path: String, parts: &[&Linear], order: FusedLayout) -> Self {
        let inputs = parts.first().map_or(0, |part| part.widths().0);
        let outputs = parts.iter().map(|part| part.widths().1).collect();
        Self { path, parts: parts.iter().map(|part| part.path().to_string()).collect(), inputs, outputs, order }
    }

    /// The whole's path.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The parts' paths, in their order.
    pub(crate) fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The parts' widths, in their order.
    pub(crate) fn outputs(&self) -> &[i64] {
        &self.outputs
    }

    /// `(in, out)` widths of the whole.
    pub(crate) fn widths(&self) -> (i64, i64) {
        (self.inputs, self.outputs.iter().fold(0, |sum, &width| sum.saturating_add(width)))
    }

    /// One tensor of the parts' values, along `axis`.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub(crate) fn join(&self, parts: &[Tensor], axis: i64) -> Result<Tensor> {
        join(self.order, parts, axis)
    }

    /// The parts of one tensor, along `axis`: each contiguous.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub(crate) fn split(&self, whole: &Tensor, axis: i64) -> Result<Vec<Tensor>> {
        split(self.order, &self.outputs, whole, axis)
    }

    /// Weight and bias of the whole.
    fn weights(&self, linears: &[&Linear]) -> Result<LinearWeights> {
        let (weights, biases): (Vec<Tensor>, Vec<Option<Tensor>>) = linears.iter().map(|linear| linear.weights()).unzip();
        let biases: Vec<Tensor> = biases.into_iter().flatten().collect();
        let bias = (!biases.is_empty()).then(|| self.join(&biases, 0)).transpose()?;
        Ok((self.join(&weights, 0)?, bias))
    }

    /// The parts' values with adapter and the whole's hooks, but not yet the parts'; `None` where nobody asks for the whole.
    pub(super) fn values(&self, linears: &[&Linear], input: &Tensor, pass: &mut Pass<'_, '_>) -> Result<Option<Vec<Tensor>>> {
        let adapter = pass.adapter.filter(|adapter| adapter.applies_at(&self.path));
        if adapter.is_none() && !pass.wants(&self.path) {
            return Ok(None);
        }
        let whole = match adapter {
            Some(adapter) => self.adapted(adapter, linears, input, pass)?,
            None => self.join(&linears.iter().map(|linear| linear.adapted(input, pass)).collect::<Result<Vec<_>>>()?, -1)?,
        };
        let whole = pass.hook(&self.path, whole)?;
        self.split(&whole, -1).map(Some)
    }

    /// The whole's values with an adapter that may sit on it, on its parts, or on both: it is asked for each.
    fn adapted(&self, adapter: &dyn Adapt, linears: &[&Linear], input: &Tensor, pass: &Pass<'_, '_>) -> Result<Tensor> {
        let base = |input: &Tensor| self.join(&linears.iter().map(|linear| linear.adapted(input, pass)).collect::<Result<Vec<_>>>()?, -1);
        let Some(LowRankUpdate { a, b, scale, dropout }) = adapter.low_rank(&self.path) else {
            let weights = || self.weights(linears);
            return adapter.linear(&Frozen::new(&self.path, &base, &weights), input, pass.draws);
        };
        let output = base(input)?;
        let kind = output.kind();
        let seen = match pass.draws.filter(|_| dropout > 0.0) {
            Some(draws) => draws.dropout(&self.path, &input.reshape([-1, self.inputs]), dropout)?.f_view_as(input)?,
            None => input.shallow_clone(),
        };
        let thin = seen.f_linear::<Tensor>(&a.to_kind(kind), None)? * scale;
        Ok(output + thin.f_linear::<Tensor>(&b.to_kind(kind), None)?)
    }
}

/// One tensor of the parts' values.
pub(crate) fn join(order: FusedLayout, parts: &[Tensor], axis: i64) -> Result<Tensor> {
    let FusedLayout::ByHead { heads } = order else { return Ok(Tensor::f_cat(parts, axis)?) };
    let by_head = parts.iter().map(|part| Ok(part.f_unflatten(axis, [heads, -1])?)).collect::<Result<Vec<_>>>()?;
    // The axis of a head's rows comes behind that of the heads.
    let inner = if axis < 0 { axis } else { axis + 1 };
    let whole = Tensor::f_cat(&by_head, inner)?;
    let last = whole.dim() as i64;
    let outer = if axis < 0 { last + axis - 1 } else { axis };
    Ok(whole.f_flatten(outer, outer + 1)?)
}

/// The parts, `widths` wide, of one tensor.
pub(crate) fn split(order: FusedLayout, widths: &[i64], whole: &Tensor, axis: i64) -> Result<Vec<Tensor>> {
    let pieces = match order {
        FusedLayout::Stacked => whole.f_split_with_sizes(widths, axis)?,
        FusedLayout::ByHead { heads } => {
            if heads < 1 || widths.iter().any(|width| width % heads != 0) {
                return Err(Error::internal(format!("parts of {widths:?} rows by {heads} heads")));
            }
            let inner: Vec<i64> = widths.iter().map(|width| width / heads).collect();
            let by_head = whole.f_unflatten(axis, [heads, -1])?;
            let place = if axis < 0 { axis } else { axis + 1 };
            let outer = if axis < 0 { by_head.dim() as i64 + axis - 1 } else { axis };
            let pieces = by_head.f_split_with_sizes(&inner, place)?;
            pieces.iter().map(|piece| Ok(piece.f_flatten(outer, outer + 1)?)).collect::<Result<Vec<_>>>()?
        }
    };
    pieces.iter().map(|piece| Ok(piece.f_contiguous()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::DropoutDraws;
    use crate::nn::rope::Rope;
    use tch::{Device, Kind};

    #[test]
    fn what_is_joined_comes_apart_again_in_the_files_order() -> Result<()> {
        let draw = |rows: i64| Tensor::randn([rows, 5], (Kind::Double, Device::Cpu));
        let parts = [draw(6), draw(6), draw(6)];
        // Two heads of three rows, each head's rows of all parts together.
        let whole = join(FusedLayout::ByHead { heads: 2 }, &parts, 0)?;
        let expected: Vec<Tensor> = (0..2).flat_map(|head| parts.iter().map(move |part| part.narrow(0, 3 * head, 3))).collect();
        assert_eq!(whole, Tensor::cat(&expected, 0));
        assert_eq!(split(FusedLayout::ByHead { heads: 2 }, &[6, 6, 6], &whole, 0)?, parts);
        let values: Vec<Tensor> = parts.iter().map(Tensor::tr).collect();
        let columns = join(FusedLayout::ByHead { heads: 2 }, &values, -1)?;
        assert_eq!(columns, whole.tr());
        assert_eq!(split(FusedLayout::ByHead { heads: 2 }, &[6, 6, 6], &columns, -1)?[1], values[1]);
        let uneven = [draw(6), draw(2), draw(2)];
        let whole = join(FusedLayout::Stacked, &uneven, 0)?;
        assert_eq!(whole, Tensor::cat(&uneven, 0));
        assert_eq!(split(FusedLayout::Stacked, &[6, 2, 2], &whole, 0)?, uneven);
        assert!(split(FusedLayout::ByHead { heads: 4 }, &[6, 6], &whole, 0).unwrap_err().to_string().contains("by 4 heads"));
        Ok(())
    }

    /// An update of the whole at `qkv_proj`.
    #[derive(Debug)]
    struct Low {
        a: Tensor,
        b: Tensor,
        dropout: f64,
    }

    impl Adapt for Low {
        fn low_rank(&self, site: &str) -> Option<LowRankUpdate<'_>> {
            (site == "qkv_proj").then_some(LowRankUpdate { a: &self.a, b: &self.b, scale: 0.5, dropout: self.dropout })
        }
    }

    #[test]
    fn a_low_rank_update_of_the_whole_is_the_one_by_hand_with_its_gradients() -> Result<()> {
        for (kind, most) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5), (Kind::BFloat16, 0.03)] {
            let wide = crate::kind::wide(kind);
            tch::manual_seed(4);
            let draw = |size: &[i64]| Tensor::randn(size, (wide, Device::Cpu));
            let linear = |name: &str, rows: i64| Linear::new(name.into(), 8, rows, true, &mut |_, size| Ok(draw(size).to_kind(kind)));
            for (order, rows) in [(FusedLayout::Stacked, [6, 2, 2]), (FusedLayout::ByHead { heads: 2 }, [6, 6, 6])] {
                let linears = [linear("q_proj", rows[0])?, linear("k_proj", rows[1])?, linear("v_proj", rows[2])?];
                let linears: Vec<&Linear> = linears.iter().collect();
                let fused = Fused::new("qkv_proj".into(), &linears, order);
                let input = draw(&[2, 3, 8]).to_kind(kind).set_requires_grad(true);
                for dropout in [0.0, 0.4] {
                    let (a, b) = (draw(&[3, 8]).set_requires_grad(true), draw(&[fused.widths().1, 3]).set_requires_grad(true));
                    let low = Low { a: a.shallow_clone(), b: b.shallow_clone(), dropout };
                    let draws = DropoutDraws::new(9);
                    let mut pass = Pass::new(Tensor::zeros([1, 3], (Kind::Int64, Device::Cpu)), 0, &Rope::new(1e4), 2, kind, &[]);
                    pass.adapter = Some(&low);
                    pass.draws = Some(draws);
                    let ours = fused.values(&linears, &input, &mut pass)?.unwrap();
                    let seen = match dropout > 0.0 {
                        true => draws.dropout("qkv_proj", &input.reshape([-1, 8]), dropout)?.view_as(&input),
                        false => input.shallow_clone(),
                    };
                    let (weight, bias) = fused.weights(&linears)?;
                    let [seen, weight, bias, own] = [seen, weight, bias.unwrap(), input.shallow_clone()].map(|value| value.to_kind(wide));
                    let hand = own.linear(&weight, Some(&bias)) + seen.matmul(&a.tr()).matmul(&b.tr()) * 0.5;
                    let hand = fused.split(&hand, -1)?;
                    // Another weight for each value, so that no gradient is lost in a sum.
                    let sum = |parts: &[Tensor]| {
                        let all = Tensor::cat(parts, -1).to_kind(wide);
                        (&all * (Tensor::arange(all.numel() as i64, (wide, Device::Cpu)) * 0.7).sin().view_as(&all)).sum(None)
                    };
                    let gradients = |parts: &[Tensor]| Tensor::run_backward(&[sum(parts)], &[&a, &b, &input], true, false);
                    let pairs = gradients(&ours).into_iter().zip(gradients(&hand)).chain(ours.into_iter().zip(hand));
                    for (place, (ours, hand)) in pairs.enumerate() {
                        let apart = (ours.to_kind(wide) - &hand.to_kind(wide)).abs().max().double_value(&[]);
                        let size = hand.abs().max().double_value(&[]);
                        assert!(apart < most * size, "{kind:?} {order:?} dropout {dropout}, {place}: {apart:.1e} of {size:.1e}");
                    }
                }
            }
        }
        Ok(())
    }
}
