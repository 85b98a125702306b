//! Linear modules of one input, computed as one product.

use tch::Tensor;

use super::linear::Linear;
use super::pass::Pass;
use crate::error::{Error, Result};
use crate::libtorch::operations;

/// The weights of linear modules of one input in one stretch of memory, one behind the other: the modules' own weights are views of it.
///
/// One product over all is quicker than one for each, above all of few rows, and so is the gradient of the input, which would be a sum of several.
#[derive(Debug)]
pub(super) struct Joined {
    /// `[sum of out, in]`.
    weight: Tensor,
    /// `[sum of out]`; a copy.
    bias: Option<Tensor>,
}

impl Joined {
    /// Joins the modules' weights; those that lie in one memory in this order already, as a model's do that shares another's, stay where they are.
    /// `None` for modules that cannot be joined.
    pub(super) fn new<const N: usize>(mut linears: [&mut Linear; N]) -> Result<Option<Self>> {
        let (weights, biases): (Vec<Tensor>, Vec<Option<Tensor>>) = linears.iter().map(|linear| linear.weights()).unzip();
        let biases: Vec<Tensor> = biases.into_iter().flatten().collect();
        let (kind, device, inputs) = (weights[0].kind(), weights[0].device(), linears[0].widths().0);
        // A source that only asks which weights there are gives none.
        let fits = |(weight, linear): (&Tensor, &&mut Linear)| {
            (weight.kind(), weight.device()) == (kind, device) && weight.size() == [linear.widths().1, inputs] && !weight.requires_grad()
        };
        if !weights.iter().zip(&linears).all(fits) || ![0, N].contains(&biases.len()) {
            return Ok(None);
        }
        let bias = (!biases.is_empty()).then(|| Tensor::f_cat(&biases, 0)).transpose()?;
        let rows: i64 = linears.iter().map(|linear| linear.widths().1).sum();
        if let Some(weight) = in_one_memory(&weights, rows, inputs) {
            return Ok(Some(Self { weight, bias }));
        }
        let weight = Tensor::f_empty([rows, inputs], (kind, device))?;
        let mut start = 0;
        for (linear, own) in linears.iter_mut().zip(weights) {
            let mut place = weight.f_narrow(0, start, own.size()[0])?;
            place.f_copy_(&own)?;
            start += own.size()[0];
            linear.move_to(place);
        }
        Ok(Some(Self { weight, bias }))
    }

    /// The values of the modules from `first` on, with their low-rank updates and without their hooks; `None` where an adapter wants otherwise.
    pub(super) fn values(&self, linears: &[&Linear], first: usize, input: &Tensor, pass: &Pass<'_, '_>) -> Result<Option<Vec<Tensor>>> {
        let (others, wanted) =
            linears.split_at_checked(first).ok_or_else(|| Error::internal(format!("module {first} of {} joined ones", linears.len())))?;
        let mut modules = Vec::with_capacity(wanted.len());
        for linear in wanted {
            let adapter = pass.adapter.filter(|adapter| adapter.applies_at(linear.path()));
            let update = match adapter.map(|adapter| adapter.low_rank(linear.path())) {
                None => None,
                // Each module's own dropout is another input.
                Some(Some(update)) if update.dropout == 0.0 || pass.draws.is_none() => Some((update.a, update.b, update.scale)),
                Some(_) => return Ok(None),
            };
            modules.push((linear.widths().1, update));
        }
        let before: i64 = others.iter().map(|linear| linear.widths().1).sum();
        let own = |whole: &Tensor| whole.f_narrow(0, before, whole.size()[0] - before);
        let (weight, bias) = match first {
            0 => (self.weight.shallow_clone(), self.bias.as_ref().map(Tensor::shallow_clone)),
            _ => (own(&self.weight)?, self.bias.as_ref().map(own).transpose()?),
        };
        operations::joined((input, None), (&weight, bias.as_ref()), &modules, linears[0].rounded()).map(Some)
    }

    /// The hook at a module of these, which sees its value by itself.
    pub(super) fn hook(linear: &Linear, value: Tensor, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        match pass.wants(linear.path()) {
            true => pass.hook(linear.path(), value.f_contiguous()?),
            false => Ok(value),
        }
    }
}

/// One tensor over the weights, if they lie in one memory one behind the other.
fn in_one_memory(weights: &[Tensor], rows: i64, inputs: i64) -> Option<Tensor> {
    let end = |weight: &Tensor| weight.data_ptr() as usize + weight.numel() * weight.kind().elt_size_in_bytes();
    let adjacent = weights.windows(2).all(|pair| end(&pair[0]) == pair[1].data_ptr() as usize);
    if !adjacent || weights.iter().any(|weight| !weight.is_contiguous()) {
        return None;
    }
    // libtorch refuses where the first one's memory ends before: then they lie side by side by chance.
    weights[0].f_as_strided([rows, inputs], [inputs, 1], None).ok()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::nn::rope::Rope;
    use crate::nn::{Activation, Adapt, DropoutDraws, Frozen, Hooks, LowRankUpdate, Mlp, MlpShape, Paths};

    /// A low-rank update at one site, and a factor at another.
    #[derive(Debug)]
    struct Own {
        low: (&'static str, Tensor, Tensor),
        dropout: f64,
        factor: &'static str,
    }

    impl Adapt for Own {
        fn applies_at(&self, site: &str) -> bool {
            [self.low.0, self.factor].contains(&site)
        }

        fn low_rank(&self, site: &str) -> Option<LowRankUpdate<'_>> {
            (site == self.low.0).then_some(LowRankUpdate { a: &self.low.1, b: &self.low.2, scale: 0.5, dropout: self.dropout })
        }

        fn linear(&self, module: &Frozen<'_>, input: &Tensor, _draws: Option<DropoutDraws>) -> Result<Tensor> {
            Ok(module.forward(input)? * if module.path() == self.factor { 3.0 } else { 1.0 })
        }
    }

    fn draw(size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Double, Device::Cpu))
    }

    #[test]
    fn weights_are_joined_once_and_shared_where_they_lie_together() -> Result<()> {
        let [mut q, mut k, mut v] = [6, 2, 2].map(|rows| Linear::new("a".into(), 8, rows, true, &mut |_, size| Ok(draw(size))).unwrap());
        let own = [&q, &k, &v].map(|linear| linear.weight().copy());
        let joined = Joined::new([&mut q, &mut k, &mut v])?.unwrap();
        assert_eq!(joined.weight, Tensor::cat(&own, 0));
        assert_eq!([&q, &k, &v].map(|linear| linear.weight().shallow_clone()), own);
        let again = Joined::new([&mut q, &mut k, &mut v])?.unwrap();
        assert_eq!((again.weight.data_ptr(), q.weight().data_ptr()), (joined.weight.data_ptr(), joined.weight.data_ptr()));
        // In another order they lie apart.
        let other = Joined::new([&mut k, &mut q, &mut v])?.unwrap();
        assert_eq!(other.weight, Tensor::cat(&[&own[1], &own[0], &own[2]], 0));
        let mut half = Linear::new("a".into(), 8, 2, true, &mut |_, size| Ok(draw(size).to_kind(Kind::Half)))?;
        let mut bare = Linear::new("a".into(), 8, 2, false, &mut |_, size| Ok(draw(size)))?;
        assert!(Joined::new([&mut q, &mut half])?.is_none() && Joined::new([&mut q, &mut bare])?.is_none());
        Ok(())
    }

    #[test]
    fn a_block_with_hooks_and_adapters_is_the_one_by_hand() -> Result<()> {
        for (bias, rank, seen, dropout, factor) in [
            (true, 0, "", 0.0, ""),
            (false, 2, "", 0.0, ""),
            (true, 2, "up_proj", 0.0, ""),
            (true, 2, "gate_proj", 0.0, ""),
            (true, 2, "", 0.5, ""),
            (true, 2, "", 0.0, "m.gate_proj"),
        ] {
            let mut weights = std::collections::HashMap::new();
            let mut source = |name: &str, size: &[i64]| {
                weights.insert(name.to_string(), draw(size));
                Ok(weights[name].shallow_clone())
            };
            let (activation, gated) = (Activation::Silu, true);
            let shape = MlpShape { hidden: 8, intermediate: 12, bias, activation, gated, fused: None };
            let mlp = Mlp::new("m".into(), shape, &mut source)?;
            let site = if rank > 0 { "m.up_proj" } else { "" };
            let (a, b) = (draw(&[2, 8]).set_requires_grad(true), draw(&[12, 2]).set_requires_grad(true));
            let own = Own { low: (site, a.shallow_clone(), b.shallow_clone()), dropout, factor };
            let mut hooks = Hooks::new();
            if !seen.is_empty() {
                hooks.edit("m.*", |_, value| {
                    assert!(value.is_contiguous());
                    Ok(Some(value * 2.0))
                });
            }
            hooks.bind(&Paths::new(vec![if seen.is_empty() { "none".into() } else { format!("m.{seen}") }], |_| Vec::new()))?;
            let mut pass = Pass::new(Tensor::zeros([1, 3], (Kind::Int64, Device::Cpu)), 0, &Rope::new(1e4), 2, Kind::Double, &[]);
            pass.adapter = Some(&own);
            pass.hooks = Some(&mut hooks);
            let draws = DropoutDraws::new(3);
            pass.draws = Some(draws);
            let input = draw(&[2, 3, 8]).set_requires_grad(true);
            let ours = mlp.forward(&input, &mut pass)?;

            let of =
                |name: &str, value: &Tensor| value.linear(&weights[&format!("m.{name}.weight")], weights.get(&format!("m.{name}.bias")));
            let (mut gate, mut up) = (of("gate_proj", &input), of("up_proj", &input));
            if rank > 0 {
                let left = if dropout > 0.0 {
                    draws.dropout(site, &input.reshape([-1, 8]), dropout)?.view_as(&input)
                } else {
                    input.shallow_clone()
                };
                up += left.matmul(&a.tr()).matmul(&b.tr()) * 0.5;
            }
            gate = gate * if factor.is_empty() { 1.0 } else { 3.0 } * if seen == "gate_proj" { 2.0 } else { 1.0 };
            up *= if seen == "up_proj" { 2.0 } else { 1.0 };
            let hand = of("down_proj", &(gate.silu() * up));
            let leaves: Vec<&Tensor> = if rank > 0 { vec![&input, &a, &b] } else { vec![&input] };
            let gradients = |output: &Tensor| Tensor::run_backward(&[output.square().sum(None)], &leaves, true, false);
            for (ours, hand) in gradients(&ours).iter().zip(&gradients(&hand)).chain([(&ours, &hand)]) {
                let apart = (ours - hand).abs().max().double_value(&[]) / hand.abs().max().double_value(&[]);
                assert!(apart < 1e-12, "bias {bias}, rank {rank}, hook `{seen}`, dropout {dropout}, factor `{factor}`: {apart:.1e}");
            }
        }
        Ok(())
    }
}
