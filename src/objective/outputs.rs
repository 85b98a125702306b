//! What an objective sees of a forward.

use tch::Tensor;

use super::Objective;
use crate::compat::Compat;
use crate::error::{Error, Result};
use crate::model::{Depth, Model, Sample, TeacherForcing};
use crate::nn::{DropoutDraws, Hooks};

/// What a forward over a batch of samples shows at the response positions. The axis *token* runs over all response tokens of the batch,
/// one example after the other.
#[derive(Debug)]
pub struct Outputs {
    /// `[token, vocab]`, if the objective asked for logits.
    pub logits: Option<Tensor>,
    /// `[token, hidden]` at each hook point that the objective asked for, in its order.
    pub activations: Vec<Tensor>,
    /// Token ids to be predicted, `[token]`.
    pub labels: Tensor,
    /// Response tokens of each example.
    pub counts: Vec<usize>,
    /// `[token, vocab]` at the places that [`Compat::Paper`] reads, where they are not those of `logits` ([`Objective::compat`]).
    pub misplaced_logits: Option<Tensor>,
    /// `[token, vocab]`: what a teacher expects at the same tokens, if the objective has one ([`Objective::teach`]).
    pub teacher: Option<Tensor>,
    /// The example of each token, and one over that example's tokens.
    shares: (Tensor, Tensor),
}

impl Outputs {
    /// Outputs from elsewhere: the axis *token* of all tensors runs over the `counts` response tokens of one example after the other.
    ///
    /// # Errors
    /// A tensor has not as many tokens as `counts` say, or an example has none.
    pub fn new(logits: Option<Tensor>, activations: Vec<Tensor>, labels: Tensor, counts: Vec<usize>) -> Result<Self> {
        let tokens: i64 = counts.iter().map(|&count| count as i64).sum();
        let wrong = logits.iter().chain(&activations).chain([&labels]).find(|tensor| tensor.size().first() != Some(&tokens));
        if let Some(tensor) = wrong {
            return Err(Error::input(format!(
                "{:?} does not begin with the axis token of {tokens}, the sum of counts {counts:?}",
                tensor.size()
            )));
        }
        if counts.contains(&0) {
            return Err(Error::input(format!("an example has no response tokens: counts are {counts:?}")));
        }
        let owners: Vec<i64> = counts.iter().enumerate().flat_map(|(example, &count)| std::iter::repeat_n(example as i64, count)).collect();
        let shares: Vec<f64> = counts.iter().flat_map(|&count| std::iter::repeat_n(1.0 / count as f64, count)).collect();
        let shares = [Tensor::from_slice(&owners), Tensor::from_slice(&shares)].map(|tensor| tensor.to_device(labels.device()));
        let [owners, shares] = shares;
        Ok(Self { logits, activations, labels, counts, misplaced_logits: None, teacher: None, shares: (owners, shares) })
    }

    /// The mean over each example's tokens: `[token, ...]` to `[example, ...]`.
    pub fn per_example(&self, tokens: &Tensor) -> Tensor {
        let (owners, shares) = &self.shares;
        let mut size = tokens.size();
        let mut wide = vec![1; size.len()];
        (wide[0], size[0]) = (size[0], self.counts.len() as i64);
        let shares = shares.to_kind(tokens.kind()).view(wide.as_slice());
        Tensor::zeros(size, (tokens.kind(), tokens.device())).index_add(0, owners, &(tokens * shares))
    }

    /// A forward over samples, showing what the objective asked for; with `draws` dropout is on. The user's hooks must be bound. Samples may be
    /// `packed` where [`Model::packs`] allows.
    pub(crate) fn of(
        model: &Model,
        samples: &[&Sample],
        objective: &dyn Objective,
        (packed, draws): (bool, Option<DropoutDraws>),
        user: &mut Hooks<'_>,
    ) -> Result<Self> {
        let points = objective.hook_points();
        let mut wanted: Vec<&str> = points.iter().map(String::as_str).collect();
        let misplaced = match objective.compat() {
            Compat::Paper => Virtual::of(model, points, objective.needs_logits())?,
            Compat::Corrected => None,
        };
        if misplaced.is_some() && objective.needs_logits() {
            wanted.push(NORM);
        }
        let mut caught: Vec<Option<Tensor>> = wanted.iter().map(|_| None).collect();
        // A user's hooks see every token of every layer; without them the last layer may be narrowed.
        let narrow = user.is_empty() && misplaced.is_none();
        let depth = if objective.needs_logits() { Depth::Full } else { Depth::Hooks };
        let places = Places::of(samples, model, packed);
        let forced = {
            let mut hooks = Hooks::on_top_of(user);
            if !wanted.is_empty() {
                hooks.observe(&wanted.join(","), |point, value| {
                    if let Some(place) = wanted.iter().position(|path| *path == point.path) {
                        caught[place] = Some(match &misplaced {
                            None => places.pick(value, point.positions),
                            Some(before) => before.unshifted(place, value, samples)?,
                        });
                    }
                    Ok(())
                });
            }
            hooks.bind(model.points())?;
            model.teacher_forced(samples, TeacherForcing { depth, narrow, packed, draws }, Some(&mut hooks))?
        };
        let caught = caught.into_iter().collect::<Option<Vec<_>>>();
        let mut activations = caught.ok_or_else(|| Error::internal("a hook point of the objective never came"))?;
        let misplaced_logits = match activations.len() > points.len() {
            true => activations.pop().map(|hidden| model.logits(&hidden, None)).transpose()?,
            false => None,
        };
        let logits = match &forced.hidden {
            Some(hidden) if objective.needs_logits() => Some(model.logits(hidden, Some(user))?),
            _ => None,
        };
        Ok(Self { misplaced_logits, ..Self::new(logits, activations, forced.labels, forced.counts)? })
    }
}

/// The hook point whose value the output head reads.
const NORM: &str = "model.norm";

/// Where the response positions of a batch lie in values `[example, token, hidden]`, or `[1, token, hidden]` of samples in one row, as indices of
/// its flattened rows.
struct Places {
    /// Tokens that the longest example reads, or all in one row.
    read: i64,
    /// Among all tokens.
    whole: Tensor,
    /// Among the kept tokens of a narrowed layer.
    narrow: Tensor,
}

impl Places {
    fn of(samples: &[&Sample], model: &Model, packed: bool) -> Self {
        let sizes = |size: fn(&Sample) -> usize| {
            let sizes: Vec<usize> = samples.iter().map(|sample| size(sample)).collect();
            let longest = sizes.iter().copied().max().unwrap_or(0);
            if packed { sizes } else { vec![longest; samples.len()] }
        };
        let (read, kept) = (sizes(|sample| sample.prompt.len() + sample.response.len() - 1), sizes(|sample| sample.response.len()));
        let (mut whole, mut narrow) = (Vec::new(), Vec::new());
        let (mut first, mut first_kept) = (0, 0);
        for (row, sample) in samples.iter().enumerate() {
            for token in 0..sample.response.len() {
                whole.push((first + sample.prompt.len() - 1 + token) as i64);
                narrow.push((first_kept + token) as i64);
            }
            (first, first_kept) = (first + read[row], first_kept + kept[row]);
        }
        let read = if packed { first } else { read.first().copied().unwrap_or(0) };
        let tensor = |indices: &[i64]| Tensor::from_slice(indices).to_device(model.device());
        Self { read: read as i64, whole: tensor(&whole), narrow: tensor(&narrow) }
    }

    /// The response positions, packed to `[token, hidden]`.
    ///
    /// One `index_select`: its gradient is one tensor of the value's size, where that of a slice per example would be one for each. Which
    /// tokens a value holds is told by its shape (all examples agree in their positions unless the layer is narrowed), not by asking the
    /// device for the positions, which would wait for it at every layer.
    fn pick(&self, value: &Tensor, positions: &Tensor) -> Tensor {
        let size = value.size();
        let narrowed = if size[0] > 1 { positions.size()[0] > 1 } else { size[1] < self.read };
        value.reshape([-1, size[2]]).index_select(0, if narrowed { &self.narrow } else { &self.whole })
    }
}

/// What the hook points show at virtual tokens, `[1, virtual, hidden]` each, in front of the first real token.
struct Virtual(Vec<Tensor>);

impl Virtual {
    /// Only embeddings go through the layers (prompt tuning); keys and values (prefix tuning) show nothing, and nothing is misplaced.
    fn of(model: &Model, points: &[String], logits: bool) -> Result<Option<Self>> {
        let wanted: Vec<&str> = points.iter().map(String::as_str).chain(logits.then_some(NORM)).collect();
        let mut caught: Vec<Option<Tensor>> = wanted.iter().map(|_| None).collect();
        let mut hooks = Hooks::new();
        hooks.observe(&wanted.join(","), |point, value| {
            if let Some(place) = wanted.iter().position(|path| *path == point.path) {
                caught[place] = Some(value.shallow_clone());
            }
            Ok(())
        });
        hooks.bind(model.points())?;
        model.prefix(Some(&mut hooks))?;
        drop(hooks);
        Ok(caught.into_iter().collect::<Option<Vec<_>>>().map(Self))
    }

    /// What lies at the response positions counted from the first *virtual* token, as the authors read it: `[token, hidden]`.
    fn unshifted(&self, place: usize, value: &Tensor, samples: &[&Sample]) -> Result<Tensor> {
        let before = self.0.get(place).ok_or_else(|| Error::internal("a hook point that virtual tokens did not show"))?;
        let size = value.size();
        let whole = Tensor::cat(&[before.expand([size[0], -1, -1], false), value.shallow_clone()], 1);
        let rows = samples
            .iter()
            .enumerate()
            .map(|(row, sample)| whole.get(row as i64).narrow(0, sample.prompt.len() as i64 - 1, sample.response.len() as i64));
        Ok(Tensor::cat(&rows.collect::<Vec<_>>(), 0))
    }
}
