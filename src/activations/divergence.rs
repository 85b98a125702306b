//! How far two models' next-token distributions lie apart, from the states that their output heads read.

use polars::prelude::*;
use tch::{Kind, Tensor};

use super::{Activations, Capture};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::kind::wide;
use crate::libtorch::guarded;
use crate::model::{Model, NEVER, Responses};

/// The hook point whose value the output head reads.
pub(crate) const HEAD_READS: &str = "model.norm";
/// Rows of logits that are held at a time, of each side, in several copies.
const ROWS: i64 = 64;

/// `KL(p || q)` between the next-token distributions of two models, or of one with and without a context: one row per example with `index`, `tokens` (of
/// the response) and `divergence`, in `[0, inf)` nats.
///
/// `1/G sum_t KL(p(. | x, y_<t) || q(. | x', y_<t))` over the G tokens of each response `y`, with `KL(p || q) = sum_v p_v ln(p_v / q_v)` over the whole vocabulary. Both
/// sides are read at the same response tokens; their prompts `x` and `x'` may differ.
///
/// ```
/// use ia2::prelude::*;
///
/// # fn main() -> Result<()> {
/// let model = Model::open("tiny-icl")?;
/// let split = Task::open("sentiment")?.test_at_most(8)?.few_shot(4, 0)?;
/// let icl = model.respond(&split.test.with_demonstrations(&split.train, 0)?)?;
/// // How far the model without the demonstrations is from itself with them.
/// let frame = divergence((&model, &icl), (&model, &icl.without_demonstrations(&model)?))?;
/// assert!(frame.column("divergence")?.f64()?.min().unwrap() > 0.0);
/// # Ok(())
/// # }
/// ```
///
/// A model's **drift** is `divergence((&base, &said), (tuned, &said))` with `said = base.respond(&queries.zero_shot()?)?`; its distance to ICL is that of the example
/// above with the tuned model on the right. Only the states before the output heads are held, never whole distributions.
///
/// # Errors
/// No responses, or one without tokens; responses of different numbers or tokens; models of different vocabularies; a prompt and response over the context; logits that
/// are not finite.
pub fn divergence(p: (&Model, &Responses), q: (&Model, &Responses)) -> Result<DataFrame> {
    guarded("divergence of two models", || {
        let states = |(model, responses): (&Model, &Responses)| Capture::at(HEAD_READS).of(model, responses);
        let values = divergences((p.0, &states(p)?), (q.0, &states(q)?))?;
        let rows = p.1.rows();
        Ok(df!(
            "index" => rows.iter().map(|row| row.prompt.index as u32).collect::<Vec<_>>(),
            "tokens" => rows.iter().map(|row| row.tokens.response.len() as u32).collect::<Vec<_>>(),
            "divergence" => values,
        )?)
    })
}

/// The mean over the tokens of each example, from what [`HEAD_READS`] shows of both models; other hook points may be captured as well.
pub(crate) fn divergences(p: (&Model, &Activations), q: (&Model, &Activations)) -> Result<Vec<f64>> {
    let _inference = tch::no_grad_guard();
    let (here, there) = (p.0.config().vocab_size, q.0.config().vocab_size);
    if here != there {
        return Err(Error::input(format!("one model has {here} token ids and the other {there}: their distributions cannot be compared")));
    }
    let tokens = |of: &Activations| of.responses.rows().iter().map(|row| row.tokens.response.clone()).collect::<Vec<_>>();
    if tokens(p.1) != tokens(q.1) || p.1.positions != q.1.positions || p.1.lengths != q.1.lengths {
        return Err(Error::input(
            "the two sides hold different responses, so that there are no places to compare them at: give both the same response tokens, e.g. by \
             `without_demonstrations`",
        ));
    }
    let [left, right] = [states(p.1)?, states(q.1)?];
    let mut all = Vec::new();
    for start in (0..left.size()[0]).step_by(ROWS as usize) {
        interrupt::check()?;
        let count = ROWS.min(left.size()[0] - start);
        let logs = |model: &Model, states: &Tensor| {
            let logits = model.logits(&states.narrow(0, start, count).to_device(model.device()), None)?;
            Ok::<_, Error>(logits.log_softmax(-1, wide(logits.kind())))
        };
        let (one, other) = (logs(p.0, &left)?, logs(q.0, &right)?.to_device(p.0.device()));
        // What one side cannot say at all adds nothing; what the other alone cannot is as good as infinitely far.
        let apart = one.clamp_min(NEVER) - other.clamp_min(NEVER);
        let sums = (one.exp() * apart).sum_dim_intlist([-1i64].as_slice(), false, Kind::Double);
        all.extend(Vec::<f64>::try_from(sums)?);
    }
    if all.iter().any(|value| !value.is_finite()) {
        return Err(Error::numeric("logits are not finite: the weights or an adapter are broken"));
    }
    let mut all = all.into_iter();
    let mean = |&length: &usize| all.by_ref().take(length).sum::<f64>() / length.max(1) as f64;
    // Rounding may take a distance of nothing below 0.
    Ok(p.1.lengths.iter().map(mean).map(|value| value.max(0.0)).collect())
}

/// What the output head reads at all tokens, `[token, hidden]`, one example after the other.
fn states(of: &Activations) -> Result<Tensor> {
    let place = of.hook_points.iter().position(|path| path == HEAD_READS);
    let place = place.ok_or_else(|| Error::internal("a divergence without what the output head reads"))? as i64;
    let layer = of.rows.at(place)?;
    let rows = of.lengths.iter().enumerate().map(|(example, &length)| layer.get(example, length));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    if rows.is_empty() {
        return Err(Error::input("there are no responses to compare two models at"));
    }
    Ok(Tensor::cat(&rows, 0))
}
