//! In-context-learning activation alignment.

use sha2::{Digest, Sha256};
use tch::Tensor;

use super::registry::{ObjectiveEntry, PLAIN};
use super::{LossTerm, Objective, Outputs, Samples, Targets, responses};
use crate::activations::{Activations, Positions};
use crate::compat::Compat;
use crate::dataset::Split;
use crate::error::{Error, Result};
use crate::kind::widened;
use crate::model::Model;
use crate::nn::layer_of;

pub(crate) const ENTRY: ObjectiveEntry = ObjectiveEntry {
    name: "ia2",
    formula: "sum over layers of the mean over tokens and hidden of (activation - ICL activation)^2",
    make: |given| Ok(Box::new(given.targets()?.ia2()?.compat(given.compat))),
    ..PLAIN
};

impl Targets {
    /// IA2 toward the activations.
    ///
    /// # Errors
    /// As [`Targets::activations`].
    pub fn ia2(&self) -> Result<Ia2> {
        Ok(Ia2::toward(self.activations()?))
    }
}

/// IA2: the adapted model without demonstrations is to show, at the response positions, the activations of the base model with them.
///
/// With `A_l` and `T_l`, `[token, hidden]`, the model's and the target's activations of one example at hook point *l* (one per layer: the
/// self-attention outputs, unless others were collected), `d` their [`Distance`], and `w_l` = 1 unless set, the loss of an example is
/// `sum_l w_l d(A_l, T_l)`.
///
/// With the squared distance it is the paper's IA2 loss; the authors' mean over layers, tokens and hidden, times the number of layers, is
/// the same number.
#[derive(Clone, Debug)]
pub struct Ia2 {
    target: Activations,
    /// The chosen places along the target's axis *layer*, their hook points and their weights.
    places: Vec<i64>,
    points: Vec<String>,
    weights: Vec<f64>,
    distance: Distance,
    compat: Compat,
}

/// How far the activations `A` of one example at one hook point are from their target `T`, both `[token, hidden]`. Each is 0 where the two agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distance {
    /// `mean_{t,h} (A - T)^2`, in [0, inf): the paper's.
    #[default]
    Squared,
    /// `mean_t (1 - cos(A_t, T_t))`, in [0, 2]: directions alone count. A token whose activations are all 0 has the cosine 0.
    Cosine,
    /// `mean_{t,h} (A - T)^2 / mean_{t,h} T^2`, in [0, inf): the share of the target that is missed, so that layers of large activations do
    /// not outweigh the others. Both means are over the tokens of the example; where the target is all 0 the divisor is 1.
    Normalised,
}

impl Ia2 {
    /// Toward the activations captured on the responses to [`Split::target_prompts`], train and dev, at the response positions.
    pub fn toward(target: &Activations) -> Self {
        let points = target.hook_points().to_vec();
        let (places, weights) = ((0..points.len() as i64).collect(), vec![1.0; points.len()]);
        Self { target: target.clone(), places, points, weights, distance: Distance::Squared, compat: Compat::Corrected }
    }

    /// Only the hook points in these layers (0-based), in the target's order. Weights go back to 1.
    ///
    /// # Errors
    /// No layer is given, or the target holds none of a layer.
    pub fn layers(mut self, layers: impl IntoIterator<Item = usize>) -> Result<Self> {
        let layers: Vec<usize> = layers.into_iter().collect();
        let there: Vec<Option<usize>> = self.target.hook_points().iter().map(|path| layer_of(path)).collect();
        if layers.is_empty() {
            return Err(Error::input("IA2 was given no layers: choose at least one"));
        }
        if let Some(layer) = layers.iter().find(|layer| !there.contains(&Some(**layer))) {
            let mut known: Vec<usize> = there.into_iter().flatten().collect();
            known.dedup();
            return Err(Error::input(format!("the IA2 targets hold no hook point in layer {layer}: there are layers {known:?}")));
        }
        let chosen = |place: &usize| there[*place].is_some_and(|layer| layers.contains(&layer));
        let places: Vec<usize> = (0..there.len()).filter(chosen).collect();
        self.points = places.iter().map(|&place| self.target.hook_points()[place].clone()).collect();
        self.weights = vec![1.0; places.len()];
        self.places = places.into_iter().map(|place| place as i64).collect();
        Ok(self)
    }

    /// One weight for each hook point, in the order of [`Objective::hook_points`] (layers from the first on).
    ///
    /// # Errors
    /// Not as many as hook points, one that is negative or not finite, or all 0.
    pub fn weights(mut self, weights: impl IntoIterator<Item = f64>) -> Result<Self> {
        let weights: Vec<f64> = weights.into_iter().collect();
        if weights.len() != self.points.len() {
            return Err(Error::input(format!(
                "IA2 was given {} weights for {} hook points: one for each",
                weights.len(),
                self.points.len()
            )));
        }
        if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) || weights.iter().all(|weight| *weight == 0.0) {
            return Err(Error::input(format!("IA2 weights {weights:?}: use finite numbers of at least 0, not all 0")));
        }
        self.weights = weights;
        Ok(self)
    }

    /// How activations are compared; squared unless set.
    pub fn distance(mut self, distance: Distance) -> Self {
        self.distance = distance;
        self
    }

    /// Under [`Compat::Paper`] activations on prompt tuning are read as the authors' code does: response positions are counted from the first
    /// *virtual* token, of which there are V, so everything is compared V tokens too early. The default reads the response positions.
    pub fn compat(mut self, compat: Compat) -> Self {
        self.compat = compat;
        self
    }

    /// `[token]`: the distance of each token at one hook point, and what it is divided by if that is not 1.
    fn tokens(&self, ours: &Tensor, target: &Tensor) -> (Tensor, Option<Tensor>) {
        let hidden = [-1i64].as_slice();
        match self.distance {
            Distance::Squared => ((ours - target).square().mean_dim(hidden, false, None), None),
            Distance::Cosine => (1.0 - Tensor::cosine_similarity(ours, target, -1, 1e-8), None),
            Distance::Normalised => {
                ((ours - target).square().mean_dim(hidden, false, None), Some(target.square().mean_dim(hidden, false, None)))
            }
        }
    }
}

impl Objective for Ia2 {
    fn name(&self) -> String {
        match self.distance {
            Distance::Squared => "IA2".into(),
            Distance::Cosine => "IA2 (cosine)".into(),
            Distance::Normalised => "IA2 (normalised)".into(),
        }
    }

    fn parts(&self) -> Vec<LossTerm> {
        vec![LossTerm { name: "IA2".into(), weight: 1.0 }]
    }

    fn samples(&self, model: &Model, split: &Split) -> Result<Samples> {
        if self.target.positions() != Positions::Response {
            return Err(Error::input(format!("IA2 targets lie at the response positions, these at {:?}", self.target.positions())));
        }
        for path in &self.points {
            let (there, here) = (self.target.hidden(), model.width_at(path)?);
            if there != here {
                return Err(Error::input(format!(
                    "the IA2 targets at `{path}` are {there} wide, this model's {here}: collect them from this model"
                )));
            }
        }
        responses::as_samples(self.target.responses(), model, split)
    }

    fn hook_points(&self) -> &[String] {
        &self.points
    }

    fn needs_logits(&self) -> bool {
        false
    }

    fn compat(&self) -> Compat {
        self.compat
    }

    fn losses(&self, examples: &[usize], outputs: &Outputs) -> Result<Vec<Tensor>> {
        let targets = examples.iter().map(|&example| self.target.example(example)).collect::<Result<Vec<_>>>()?;
        let (mut distances, mut scales) = (Vec::new(), Vec::new());
        for (place, &layer) in self.places.iter().enumerate() {
            let ours = outputs.activations.get(place).ok_or_else(|| Error::internal("IA2 was given no activations"))?;
            // One layer at a time: a copy of all targets of the batch never exists.
            let target = Tensor::cat(&targets.iter().map(|target| target.get(layer)).collect::<Vec<_>>(), 0).to_device(ours.device());
            if target.size() != ours.size() {
                let (ours, target) = (ours.size(), target.size());
                return Err(Error::internal(format!(
                    "activations at {} are {ours:?}, targets {target:?} [token, hidden]",
                    self.points[place]
                )));
            }
            let (distance, scale) = self.tokens(&widened(ours), &widened(&target).to_kind(widened(ours).kind()));
            distances.push(distance);
            scales.extend(scale);
        }
        let distances = outputs.per_example(&Tensor::stack(&distances, 1));
        let distances = match scales.is_empty() {
            true => distances,
            false => {
                let scales = outputs.per_example(&Tensor::stack(&scales, 1));
                distances / scales.where_self(&scales.gt(0.0), &scales.ones_like())
            }
        };
        let weights = Tensor::from_slice(&self.weights).to_kind(distances.kind()).to_device(distances.device());
        Ok(vec![distances.matmul(&weights)])
    }

    fn identity(&self) -> Vec<u8> {
        let mut digest = Sha256::new();
        digest.update(format!("{:?} {:?} {:?} {:?} ", self.points, self.weights, self.distance, self.compat));
        digest.update(self.target.digest());
        digest.finalize().to_vec()
    }
}
