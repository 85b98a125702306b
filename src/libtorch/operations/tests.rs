//! Values and gradients against libtorch's own.

use super::*;
use crate::kind::widened;
use crate::libtorch::guarded;

fn draw(size: &[i64]) -> Tensor {
    Tensor::randn(size, (Kind::Double, Device::Cpu))
}

/// Values and gradients of ours against libtorch's composition, in each kind with its tolerance. There are no loops for f16: what is
/// composed in their place is tested by it.
fn same(name: &str, inputs: &[Tensor], ours: impl Fn(&[Tensor]) -> Tensor, usual: impl Fn(&[Tensor]) -> Tensor) {
    for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5), (Kind::BFloat16, 3e-2), (Kind::Half, 4e-3)] {
        let leaves = || inputs.iter().map(|input| input.to_kind(kind).set_requires_grad(true)).collect::<Vec<_>>();
        let (a, b) = (leaves(), leaves());
        let (left, right) = (ours(&a), usual(&b));
        assert_eq!((left.size(), left.kind(), left.requires_grad()), (right.size(), kind, true), "{name}");
        let weights = Tensor::randn(left.size(), (Kind::Double, Device::Cpu)).to_kind(kind);
        let gradients = |output: &Tensor, leaves: &[Tensor]| Tensor::run_backward(&[(output * &weights).sum(None)], leaves, false, false);
        let (of_left, of_right) = (gradients(&left, &a), gradients(&right, &b));
        for (left, right) in std::iter::once((&left, &right)).chain(of_left.iter().zip(&of_right)) {
            let (left, right) = (left.to_kind(Kind::Double), right.to_kind(Kind::Double));
            let apart = (&left - &right).abs().max().double_value(&[]) / right.abs().max().double_value(&[]);
            assert!(apart < tolerance, "{name} in {kind:?}: {apart:.1e}");
        }
        // What would be wrong in silence is refused.
        let input = leaves();
        let again = guarded("deriving", || Ok(Tensor::run_backward(&[ours(&input).sum(None)], &input, true, true)));
        assert!(again.unwrap_err().to_string().contains("second derivatives"), "{name}");
        let _inference = tch::no_grad_guard();
        assert!(!ours(&a).requires_grad());
    }
}

#[test]
fn products_are_libtorchs() -> Result<()> {
    for (rows, with_bias) in [(1, true), (5, false), (64, true)] {
        let (weight, bias) = (draw(&[17, 33]), draw(&[17]));
        let of = |kind: Kind| (weight.to_kind(kind), with_bias.then(|| bias.to_kind(kind)));
        let ours = |input: &[Tensor]| linear(&input[0], &of(input[0].kind()).0, of(input[0].kind()).1.as_ref(), false).unwrap();
        let usual = |input: &[Tensor]| input[0].linear(&of(input[0].kind()).0, of(input[0].kind()).1.as_ref());
        same("linear", &[draw(&[rows, 2, 33])], ours, usual);
        let turned = |input: &[Tensor]| linear(&input[0].transpose(0, 1), &of(input[0].kind()).0, None, false).unwrap();
        same("linear, turned", &[draw(&[rows, 2, 33])], turned, |input| {
            input[0].transpose(0, 1).linear::<Tensor>(&of(input[0].kind()).0, None)
        });
    }
    let wrong = linear(&draw(&[2, 3]), &draw(&[2, 4]), None, false).unwrap_err();
    assert!(wrong.to_string().contains("shapes") && wrong.to_string().lines().count() == 1, "{wrong}");
    // Nor do libtorch's own errors, which a cell may print as they are, hold forty frames of C++.
    let own = draw(&[2, 3]).f_matmul(&draw(&[2, 3])).unwrap_err().to_string();
    assert!(own.contains("mat1 and mat2") && !own.contains("frame #"), "{own}");
    Ok(())
}

#[test]
fn dropout_is_libtorchs_from_a_generator_of_its_own() -> Result<()> {
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        let input = draw(&[40, 50]).to_kind(kind).set_requires_grad(true);
        // The process's generator goes on as if nothing had been drawn.
        let ours = dropout(&input, 0.3, 7)?;
        assert_eq!(ours, dropout(&input, 0.3, 7)?);
        assert_ne!(ours, dropout(&input, 0.3, 8)?);
        let kept = ours.ne(0.0).to_kind(Kind::Double).mean(None).double_value(&[]);
        assert!((kept - 0.7).abs() < 0.06, "{kept}");
        let scale = ours.to_kind(Kind::Double).abs().sum(None) / (ours.ne(0.0) * &input).to_kind(Kind::Double).abs().sum(None);
        assert!((scale.double_value(&[]) - 1.0 / 0.7).abs() < 0.01);
        let gradient = Tensor::run_backward(&[ours.sum(None)], &[&input], false, false).remove(0);
        assert_eq!(gradient.ne(0.0), ours.ne(0.0));
    }
    Ok(())
}

fn usual_norm(input: &Tensor, weight: &Tensor) -> Tensor {
    let values = widened(input);
    let scale = (values.square().mean_dim([-1i64].as_slice(), true, None) + 1e-6).rsqrt();
    match weight.kind() == input.kind() {
        true => (values * scale).to_kind(input.kind()) * weight,
        false => (values * scale * weight).to_kind(input.kind()),
    }
}

#[test]
fn norms_and_gates_are_libtorchs() {
    // Widths with and without a rest behind the last whole vector; the last is more than one thread's.
    for size in [vec![3, 5, 24], vec![2, 64], vec![700, 40], vec![1, 1, 3]] {
        let weight = draw(&size[size.len() - 1..]);
        // A weight of the wider kind meets what is not rounded yet.
        for kind_of in [(|kind| kind) as fn(Kind) -> Kind, |kind| if kind == Kind::Double { kind } else { Kind::Float }] {
            let weight = |input: &[Tensor]| weight.to_kind(kind_of(input[0].kind()));
            let ours = |input: &[Tensor]| rms_norm(&input[0], &weight(input), 1e-6).unwrap();
            same("rms_norm", &[draw(&size)], ours, |input| usual_norm(&input[0], &weight(input)));
            // Both outputs, with a part of the gradient each, and with the norm's alone.
            for both in [true, false] {
                let joined = |(sum, normed): (Tensor, Tensor)| if both { sum + normed } else { normed };
                let ours = |input: &[Tensor]| joined(add_rms_norm(&input[0], &input[1], &weight(input), 1e-6).unwrap());
                same("add_rms_norm", &[draw(&size), draw(&size)], ours, |input| {
                    let sum = &input[0] + &input[1];
                    let normed = usual_norm(&sum, &weight(input));
                    joined((sum, normed))
                });
            }
        }
        let two = [draw(&size), draw(&size)];
        same("swiglu", &two, |input| swiglu(&input[0], &input[1]).unwrap(), |input| input[0].silu() * &input[1]);
        same("geglu", &two, |input| geglu(&input[0], &input[1]).unwrap(), |input| input[0].gelu("tanh") * &input[1]);
    }
}

#[test]
fn rotations_are_libtorchs() {
    // Whole heads and parts of them; one example's angles for all, and each its own.
    for (width, turning, examples) in [(8, 8, 1), (24, 10, 3), (64, 64, 3), (64, 16, 1)] {
        let angle = draw(&[examples, 1, 5, turning / 2]);
        let angles = |kind: Kind| {
            let both = Tensor::cat(&[&angle, &angle], -1);
            (both.cos().to_kind(kind), both.sin().to_kind(kind))
        };
        let usual = |values: &Tensor| {
            let (cos, sin) = angles(values.kind());
            let inner = values.narrow(-1, 0, turning);
            let halves = inner.chunk(2, -1);
            let turned = &inner * cos + Tensor::cat(&[&halves[1].neg(), &halves[0]], -1) * sin;
            Tensor::cat(&[turned, values.narrow(-1, turning, width - turning)], -1)
        };
        let input = [draw(&[3, 5, 2, width])];
        let of = |input: &[Tensor]| input[0].transpose(1, 2);
        same("rotate", &input, |input| rotate(&of(input), &angles(input[0].kind())).unwrap(), |input| usual(&of(input)));
        // In another memory than a projection's.
        let contiguous = |input: &[Tensor]| of(input).contiguous();
        same("rotate", &input, |input| rotate(&contiguous(input), &angles(input[0].kind())).unwrap(), |input| usual(&of(input)));
        let weight = draw(&[width]);
        let weight = |input: &[Tensor]| weight.to_kind(input[0].kind());
        let ours = |input: &[Tensor]| norm_rotate(&of(input), &weight(input), 1e-6, &angles(input[0].kind())).unwrap();
        same("norm_rotate", &input, ours, |input| usual(&usual_norm(&of(input), &weight(input))));
    }
    let angles = (draw(&[1, 1, 5, 8]), draw(&[1, 1, 5, 8]));
    assert!(rotate(&draw(&[1, 1, 5, 4]), &angles).unwrap_err().to_string().contains("cannot be turned"));
}

#[test]
fn cross_entropy_is_libtorchs() {
    for (rows, classes) in [(1, 1), (7, 50), (40, 1000), (3, 16)] {
        let labels = Tensor::randint(classes, [rows], (Kind::Int64, Device::Cpu));
        let usual = |input: &[Tensor]| {
            let logs = widened(&(&input[0] * 5.0)).log_softmax(-1, None);
            logs.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1).neg().to_kind(input[0].kind())
        };
        let ours = |input: &[Tensor]| cross_entropy(&(&input[0] * 5.0), &labels).unwrap().to_kind(input[0].kind());
        // Of one class the loss is 0, of which there is no relative error.
        if classes > 1 {
            same("cross_entropy", &[draw(&[rows, classes])], ours, usual);
        } else {
            assert_eq!(f64::try_from(ours(&[draw(&[rows, classes])])).unwrap(), 0.0);
        }
    }
    let labels = |label: i64| Tensor::from_slice(&[label]);
    for label in [-1, 3] {
        let error = cross_entropy(&draw(&[1, 3]), &labels(label)).unwrap_err().to_string();
        assert!(error.contains(&format!("the label {label} is none of the 3 tokens")), "{error}");
    }
    assert!(cross_entropy(&draw(&[2, 3]), &labels(1)).unwrap_err().to_string().contains("do not go with"));
    // NaN is reported, and large numbers are accepted.
    let of = |values: [f64; 3]| {
        f64::try_from(cross_entropy(&Tensor::from_slice(&values).view([1, 3]).to_kind(Kind::Float), &labels(1)).unwrap()).unwrap()
    };
    assert!(of([f64::NAN, 1.0, 2.0]).is_nan() && of([1.0, f64::INFINITY, 2.0]).is_nan());
    assert_eq!(of([3e38, -3e38, 0.0]), f64::INFINITY);
    assert_eq!(of([0.0, 3e38, -3e38]), 0.0);
}

#[test]
fn low_rank_updates_are_libtorchs() {
    // Ranks for the loops, with and without a rest, and above them; some rows and many.
    for (rows, rank, scale, dropping) in
        [(1, 1, 1.0, false), (5, 8, 0.5, true), (130, 9, 2.0, false), (6, 40, 1.0, true), (6, 33, 0.5, false)]
    {
        let (inputs, outputs) = (34, 50);
        let (weight, bias) = (draw(&[outputs, inputs]), draw(&[outputs]));
        let of = |values: &Tensor, kind: Kind| values.to_kind(kind);
        // The input, what dropout left of it, A and B; the last two are held in the wide kind.
        let parts = [draw(&[rows, 2, inputs]), draw(&[rows, 2, inputs]), draw(&[rank, inputs]), draw(&[outputs, rank])];
        let ours = |input: &[Tensor]| {
            let kind = input[0].kind();
            let dropped = dropping.then_some(&input[1]);
            let (a, b) = (widened(&input[2]), widened(&input[3]));
            let output = low_rank((&input[0], dropped), (&of(&weight, kind), Some(&of(&bias, kind))), (&a, &b), scale, false).unwrap();
            if dropping { output } else { output + input[1].sum(None) }
        };
        let usual = |input: &[Tensor]| {
            let kind = input[0].kind();
            let seen = if dropping { &input[1] } else { &input[0] };
            let update = widened(seen).matmul(&widened(&input[2]).tr()).matmul(&widened(&input[3]).tr()) * scale;
            let output = (widened(&input[0].linear(&of(&weight, kind), Some(&of(&bias, kind)))) + update).to_kind(kind);
            if dropping { output } else { output + input[1].sum(None) }
        };
        same(&format!("low_rank {rank}"), &parts, ours, usual);
    }
    let wrong = low_rank((&draw(&[2, 3]), None), (&draw(&[2, 4]), None), (&draw(&[1, 3]), &draw(&[2, 1])), 1.0, false).unwrap_err();
    assert!(wrong.to_string().contains("shapes"), "{wrong}");
}

#[test]
fn gradients_of_attention_are_libtorchs_of_full_precision() -> Result<()> {
    for (kind, most) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5), (Kind::BFloat16, 3e-2), (Kind::Half, 4e-3)] {
        // As many queries as keys, and those of the last tokens alone.
        for (masked, scale, asked, tokens) in [(false, None, 7, 7), (true, Some(0.4), 7, 7), (false, None, 70, 70), (true, None, 3, 70)] {
            let leaf = |heads: i64, tokens: i64| draw(&[2, tokens, heads, 16]).to_kind(kind).set_requires_grad(true);
            let ours = [leaf(4, asked), leaf(2, tokens), leaf(2, tokens)];
            let theirs = ours.each_ref().map(|own| own.detach().to_kind(Kind::Double).set_requires_grad(true));
            let mask = masked.then(|| Tensor::ones([2, 1, asked, tokens], (Kind::Bool, Device::Cpu)).tril(tokens - asked + 1));
            // Every number's share; or each the same, as a gradient that is one number in memory.
            for weights in [draw(&[2, 4, asked, 16]), Tensor::from(1.0)] {
                let gradients = |values: Tensor, leaves: &[Tensor; 3]| {
                    let mut all = Tensor::run_backward(&[(&values * weights.to_kind(values.kind())).sum(None)], leaves, false, false);
                    all.push(values.detach());
                    all
                };
                let by_head = |leaves: &[Tensor; 3]| leaves.each_ref().map(|leaf| leaf.transpose(1, 2));
                let by_ours = attention(by_head(&ours).each_ref(), mask.as_ref(), scale)?;
                let [q, k, v] = by_head(&theirs);
                let by_theirs = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, !masked, scale, true)?;
                for (ours, theirs) in gradients(by_ours, &ours).iter().zip(gradients(by_theirs, &theirs)) {
                    assert_eq!(ours.kind(), kind);
                    let apart = (ours.to_kind(Kind::Double) - &theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[]);
                    assert!(apart < most, "{kind:?}, {asked} of {tokens}, masked {masked}: {apart:.1e}");
                }
            }
            let [q, k, v] = ours.each_ref().map(|leaf| leaf.transpose(1, 2));
            let values = attention([&q, &k, &v], mask.as_ref(), scale)?.sum(None);
            let again = guarded("deriving", || Ok(Tensor::run_backward(&[&values], &ours, true, true)));
            assert!(again.unwrap_err().to_string().contains("second derivatives"));
        }
    }
    Ok(())
}

#[test]
fn attention_without_a_gradient_is_libtorchs() -> Result<()> {
    let _inference = tch::no_grad_guard();
    let seen = |size: [i64; 4]| Tensor::ones(size, (Kind::Bool, Device::Cpu));
    // One query and several of a group, as many rows as lanes and more; widths and keys with and without a rest behind the last whole vector, and more keys
    // than are read at once; groups of heads and heads by themselves.
    for (heads, groups, tokens, keys, width, scale) in [
        (4, 2, 1, 37, 64, None),
        (3, 3, 1, 16, 80, Some(0.3)),
        (8, 1, 1, 1, 10, None),
        (6, 3, 1, 200, 128, None),
        (4, 2, 7, 140, 64, None),
        (9, 3, 40, 70, 33, Some(0.2)),
        (2, 2, 51, 51, 16, None),
        (4, 1, 130, 301, 24, None),
    ] {
        let draw = |heads: i64, tokens: i64| draw(&[3, tokens, heads, width]).transpose(1, 2);
        // Keys in a room that is not full, as a cache has them.
        let room = || draw(groups, keys + 9).contiguous().narrow(2, 0, keys);
        let inputs = [draw(heads, tokens), room(), room()];
        let behind = seen([1, 1, tokens, keys]).tril(keys - tokens);
        let some = Tensor::rand([3, 1, tokens, keys], (Kind::Float, Device::Cpu)).gt(0.4);
        let _ = some.narrow(3, keys - 1, 1).fill_(1);
        let masks = [seen([1, 1, 1, keys]).expand([1, 1, tokens, keys], false), behind, some];
        for mask in masks.iter().map(Some).chain((tokens == keys).then_some(None)) {
            for (kind, most) in [(Kind::Double, 1e-12), (Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
                let inputs = inputs.each_ref().map(|values| values.to_kind(kind));
                let ours = attention(inputs.each_ref(), mask, scale)?;
                let [query, key, value] = inputs.each_ref().map(|values| values.to_kind(Kind::Double));
                let theirs =
                    Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, 0.0, mask.is_none(), scale, heads != groups)?;
                assert_eq!((ours.kind(), ours.size()), (kind, theirs.size()));
                // As what comes next reads it.
                assert!(ours.transpose(1, 2).is_contiguous());
                let apart = (ours.to_kind(Kind::Double) - &theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[]);
                assert!(apart < most, "{tokens} of {keys} keys of {width} in {kind:?}: {apart:.1e}");
            }
        }
    }
    // Large scores are no overflow.
    let large = draw(&[1, 1, 9, 16]) * 40.0;
    let ours = attention([&large, &large, &large], None, None)?;
    assert!(
        (ours - Tensor::scaled_dot_product_attention::<Tensor>(&large, &large, &large, None, 0.0, true, None, false))
            .abs()
            .max()
            .double_value(&[])
            < 1e-10
    );
    // What is no number stays none, what nobody sees has no say, and of nothing comes nothing.
    for (kind, queries) in [(Kind::BFloat16, 1), (Kind::BFloat16, 5), (Kind::Float, 1), (Kind::Float, 20)] {
        let values = |spoilt: i64| {
            let values = draw(&[1, 1, 3, 16]).to_kind(kind);
            let _ = values.narrow(2, spoilt, 1).fill_(f64::NAN);
            values
        };
        let query = draw(&[1, 1, queries, 16]).to_kind(kind);
        let mask = Tensor::from_slice(&[true, true, false]).view([1, 1, 1, 3]).repeat([1, 1, queries, 1]);
        let of = |spoilt: i64, mask: &Tensor| attention([&query, &values(spoilt), &values(spoilt)], Some(mask), None);
        assert!(bool::try_from(of(2, &mask)?.isfinite().all()).unwrap());
        assert!(bool::try_from(of(1, &mask)?.isnan().all()).unwrap());
        let _ = mask.narrow(2, queries - 1, 1).fill_(0);
        assert_eq!(f64::try_from(of(2, &mask)?.narrow(2, queries - 1, 1).abs().max()).unwrap(), 0.0);
    }
    // What does not go together is told.
    for (key, mask, word) in [
        ([1, 2, 3, 8], [1, 1, 4, 3], "do not go with keys [1, 2, 3, 8]"),
        ([1, 3, 3, 7], [1, 1, 4, 3], "do not go with keys [1, 3, 3, 7]"),
        ([1, 3, 3, 8], [1, 1, 3, 3], "a mask [1, 1, 3, 3] does not go with"),
    ] {
        let key = draw(&key);
        let error = attention([&draw(&[1, 3, 4, 8]), &key, &key], Some(&seen(mask)), None).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    Ok(())
}

/// Every test of this file, with the loops for other processors than this one.
#[test]
fn loops_for_other_processors_give_the_same() {
    const THIS: &str = "loops_for_other_processors_give_the_same";
    for capability in ["default", "avx2"] {
        // libtorch's own variable, by which the loops go as well.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.env("ATEN_CPU_CAPABILITY", capability).args(["libtorch::operations::tests", "--skip", THIS]);
        let output = child.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.contains(" 0 passed"), "{capability}: {text}");
    }
}

#[test]
fn joined_products_are_libtorchs() {
    // With updates in the loops and beyond them, of some of the modules; one that nobody asks for; values side by side that go on as such.
    for (rows, ranks, of) in
        [(3, [2, 0, 3], 3), (70, [0, 0, 0], 3), (5, [40, 2, 0], 3), (5, [2, 3, 0], 1), (9, [0, 2, 0], 2), (40, [0, 0, 0], 2)]
    {
        let (inputs, widths) = (34, [24, 24, 16]);
        let (weight, bias) = (draw(&[64, inputs]), draw(&[64]));
        let own = |place: usize, all: &Tensor| all.narrow(0, widths[..place].iter().sum(), widths[place]);
        let mut parts = vec![draw(&[rows, 2, inputs])];
        for (rank, width) in ranks.iter().zip(widths).filter(|(rank, _)| **rank > 0) {
            parts.extend([draw(&[*rank, inputs]), draw(&[width, *rank])]);
        }
        let factors = |input: &[Tensor]| {
            let mut left = input[1..].iter().map(widened);
            ranks.map(|rank| (rank > 0).then(|| (left.next().unwrap(), left.next().unwrap())))
        };
        let shown = |values: Vec<Tensor>| match of {
            3 => Tensor::cat(&values, -1),
            2 => swiglu(&values[0], &values[1]).unwrap(),
            _ => values[1].shallow_clone(),
        };
        // Each leaf is there, so that there is a gradient of each.
        let all =
            |input: &[Tensor], output: Tensor| output + input[1..].iter().map(|part| part.sum(None)).fold(Tensor::from(0.0), |a, b| a + b);
        let ours = |input: &[Tensor]| {
            let kind = input[0].kind();
            let (factors, weight, bias) = (factors(input), weight.to_kind(kind), bias.to_kind(kind));
            let modules: Vec<_> = widths.iter().zip(&factors).map(|(width, f)| (*width, f.as_ref().map(|(a, b)| (a, b, 0.5)))).collect();
            all(input, shown(joined((&input[0], None), (&weight, Some(&bias)), &modules, false).unwrap())).to_kind(kind)
        };
        let usual = |input: &[Tensor]| {
            let kind = input[0].kind();
            let values = factors(input).into_iter().enumerate().map(|(place, factors)| {
                let base = widened(&input[0].linear(&own(place, &weight).to_kind(kind), Some(&own(place, &bias).to_kind(kind))));
                let update = |(a, b): &(Tensor, Tensor)| widened(&input[0]).matmul(&a.tr()).matmul(&b.tr()) * 0.5;
                factors.as_ref().map_or(base.shallow_clone(), |factors| base + update(factors)).to_kind(kind)
            });
            all(input, shown(values.collect())).to_kind(kind)
        };
        same(&format!("joined {ranks:?} {of}"), &parts, ours, usual);
    }
    let wrong = joined((&draw(&[2, 3]), None), (&draw(&[5, 3]), None), &[(2, None), (2, None)], false).unwrap_err();
    assert!(wrong.to_string().contains("4 columns"), "{wrong}");
}

#[test]
fn a_part_of_a_joined_product_is_turned_where_it_lies() {
    let angle = draw(&[1, 1, 5, 4]);
    let angles = |kind: Kind| {
        let both = Tensor::cat(&[&angle, &angle], -1);
        (both.cos().to_kind(kind), both.sin().to_kind(kind))
    };
    let weight = draw(&[8]);
    let of = |input: &[Tensor]| input[0].narrow(-1, 8, 16).unflatten(-1, [2, 8]).transpose(1, 2);
    for normed in [false, true] {
        let turn = |values: &Tensor| match normed {
            false => rotate(values, &angles(values.kind())).unwrap(),
            true => norm_rotate(values, &weight.to_kind(values.kind()), 1e-6, &angles(values.kind())).unwrap(),
        };
        same("a part turned", &[draw(&[3, 5, 40])], |input| turn(&of(input)), |input| turn(&of(input).contiguous()));
    }
}
