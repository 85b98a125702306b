//! Capture: sites x layers x positions x kind x device, decided before anything is stored.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use super::collect::one_pass;
use super::store::Store;
use super::{Activations, bytes};
use crate::error::{Error, Result};
use crate::kind::is_float;
use crate::libtorch::guarded;
use crate::model::reading::Watch;
use crate::model::{Generation, Model, Responses, Sample, TokenRow};
use crate::nn::{Hooks, Selection};
use crate::prompt::Prompts;

/// Which tokens of an example are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Positions {
    /// The places that predict the response tokens: the last prompt token, then each response token but the last.
    Response,
    /// The prompt's tokens.
    Prompt,
    /// The last prompt token alone.
    Last,
    /// The prompt's tokens and the response tokens but the last.
    All,
}

impl Positions {
    /// First position and how many, given the lengths of prompt and response.
    pub(super) fn span(self, prompt: usize, response: usize) -> (usize, usize) {
        match self {
            Self::Response => (prompt - 1, response),
            Self::Prompt => (0, prompt),
            Self::Last => (prompt - 1, 1),
            Self::All => (0, prompt + response - 1),
        }
    }

    /// True if nothing before the decode position is wanted.
    pub(super) fn is_narrow(self) -> bool {
        matches!(self, Self::Response | Self::Last)
    }
}

/// What to capture. Defaults: response positions, the model's kind, on the CPU.
#[derive(Clone, Debug)]
pub struct Capture {
    pub(super) pattern: String,
    pub(super) positions: Positions,
    pub(super) kind: Option<Kind>,
    pub(super) device: Device,
    batch: usize,
}

/// What a capture will store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturePlan {
    /// `[example, layer, token, hidden]`.
    pub shape: [i64; 4],
    /// Bytes of the values.
    pub bytes: u64,
    /// The module paths along the axis *layer*.
    pub hook_points: Vec<String>,
}

/// Activations of a model on given responses at the response positions: `Capture::at(pattern).of(model, responses)`.
///
/// # Errors
/// As [`Capture::of`].
pub fn capture(model: &Model, responses: &Responses, pattern: &str) -> Result<Activations> {
    Capture::at(pattern).of(model, responses)
}

impl Capture {
    /// The hook points that `pattern` selects, e.g. `model.layers.*.self_attn`.
    pub fn at(pattern: &str) -> Self {
        Self { pattern: pattern.to_string(), positions: Positions::Response, kind: None, device: Device::Cpu, batch: 16 }
    }

    /// Which tokens.
    pub fn positions(mut self, positions: Positions) -> Self {
        self.positions = positions;
        self
    }

    /// The kind values are stored in.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Where values are stored.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Examples per forward.
    pub fn batch(mut self, examples: usize) -> Self {
        self.batch = examples.max(1);
        self
    }

    /// What [`Capture::of`] will store, before it runs.
    ///
    /// # Errors
    /// No responses, or one without tokens; the pattern selects nothing or hook points of different widths; a kind that holds no fractions.
    pub fn plan(&self, model: &Model, responses: &Responses) -> Result<CapturePlan> {
        if let Some(row) = responses.rows().iter().position(|row| row.tokens.prompt.is_empty() || row.tokens.response.is_empty()) {
            return Err(Error::input(format!("response {row} has no prompt or response tokens: there is nothing to capture")));
        }
        let spans: Vec<(usize, usize)> = responses.rows().iter().map(|row| self.span(&row.tokens)).collect();
        self.plan_for(model, spans.len(), spans.iter().map(|span| span.1).max().unwrap_or(0))
    }

    fn span(&self, sample: &Sample) -> (usize, usize) {
        self.positions.span(sample.prompt.len(), sample.response.len())
    }

    pub(super) fn plan_for(&self, model: &Model, examples: usize, tokens: usize) -> Result<CapturePlan> {
        if examples == 0 {
            return Err(Error::input("there are no responses to capture activations of"));
        }
        if let Some(kind) = self.kind.filter(|kind| !is_float(*kind)) {
            return Err(Error::input(format!("activations cannot be stored as {kind:?}: choose Float, Double, BFloat16 or Half")));
        }
        let hook_points = model.points().select(&Selection::new(&self.pattern)?)?;
        let widths = hook_points.iter().map(|path| model.width_at(path)).collect::<Result<Vec<_>>>()?;
        if widths.iter().any(|width| *width != widths[0]) {
            return Err(Error::input(format!(
                "`{}` selects hook points of different widths: capture them one kind at a time",
                self.pattern
            )));
        }
        let shape = [examples as i64, hook_points.len() as i64, tokens as i64, widths[0]];
        Ok(CapturePlan { shape, bytes: bytes(&shape, self.kind.unwrap_or(model.kind())), hook_points })
    }

    /// Activations of `model` on given responses, teacher-forced. A prefix that prompts share is read once.
    ///
    /// # Errors
    /// As [`Capture::plan`]; a prompt and response over the context.
    pub fn of(&self, model: &Model, responses: &Responses) -> Result<Activations> {
        guarded("capture", || {
            let _inference = tch::no_grad_guard();
            let samples: Vec<&Sample> = responses.rows().iter().map(|row| &row.tokens).collect();
            let plan = self.plan(model, responses)?;
            let spans: Vec<(usize, usize)> = samples.iter().map(|sample| self.span(sample)).collect();
            let rows: Vec<TokenRow> = samples.iter().map(|sample| TokenRow { tokens: sample.read(), query: sample.prompt.len() }).collect();
            let store = Store::new(self, model, plan, spans.clone(), rows.iter().map(|row| row.tokens.len()).collect())?;
            let watch = if self.positions.is_narrow() { Watch::End } else { Watch::Pieces };
            let mut hooks = Hooks::new();
            hooks.observe(&self.pattern, |point, value| store.put(point, point.examples, value));
            model.visit(&rows, self.batch, |row| spans[row], watch, &mut hooks)?;
            drop(hooks);
            store.finish(self.positions, responses.clone())
        })
    }

    /// Responses, and their activations caught while they are generated with the KV cache: nothing is computed twice.
    ///
    /// # Errors
    /// As [`Model::respond`] and [`Capture::plan`].
    pub fn while_responding(&self, model: &Model, prompts: &Prompts) -> Result<(Responses, Activations)> {
        self.while_generating(model, prompts, &Generation::for_prompts(prompts))
    }

    /// [`Capture::while_responding`] with settings of one's own.
    ///
    /// # Errors
    /// As [`Capture::while_responding`].
    pub fn while_generating(&self, model: &Model, prompts: &Prompts, settings: &Generation) -> Result<(Responses, Activations)> {
        guarded("capture while generating", || {
            let pass = one_pass(model, prompts, settings, Some(self), None)?;
            let activations = pass.activations.ok_or_else(|| Error::internal("a capture gave no activations"))?;
            Ok((pass.responses, activations))
        })
    }
}
