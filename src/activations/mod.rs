//! Activations: what flows through a model, owned, with named axes.

mod capture;
mod collect;
#[cfg(test)]
mod collect_tests;
mod compare;
mod distributions;
mod divergence;
mod file;
mod geometry;
mod memory;
mod rows;
mod shards;
mod store;
mod stored;

use polars::prelude::*;
use tch::{Kind, Tensor};

pub use capture::{Capture, CapturePlan, Positions, capture};
pub(crate) use collect::{Collected, Collection};
pub use collect::{CollectionPlan, StorageLocation};
pub use compare::{Tokens, compare_methods};
pub use distributions::{Distributions, Keep};
pub use divergence::divergence;
pub(crate) use divergence::{HEAD_READS, divergences};

use crate::axes;
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::model::Responses;
use crate::similarity;
use rows::Rows;

crate::display::show_as_text!(Capture, Keep, StorageLocation, Positions, Tokens);

/// Values at some hook points at some tokens of some examples.
///
/// `values` has the axes `[example, layer, token, hidden]`: *layer* runs over [`Activations::hook_points`], *token* over the chosen
/// positions; from an example's length on, values are zero. They lie in memory, or in files of which memory holds what is read
/// ([`Activations::on_disk`]).
#[derive(Debug)]
pub struct Activations {
    rows: Rows,
    hook_points: Vec<String>,
    lengths: Vec<usize>,
    positions: Positions,
    responses: Responses,
}

impl Activations {
    /// Activations from elsewhere, at the response positions of `responses`: `values [example, layer, token, hidden]`, one layer per hook point.
    ///
    /// # Errors
    /// The axes do not agree with the responses and hook points, or a value is not finite.
    pub fn new(values: Tensor, hook_points: Vec<String>, responses: Responses) -> Result<Self> {
        let lengths: Vec<usize> = responses.rows().iter().map(|row| row.tokens.response.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0) as i64;
        let expected = [Some(lengths.len() as i64), Some(hook_points.len() as i64), Some(longest), None];
        axes::expect(&values, "activations", &["example", "layer", "token", "hidden"], &expected)?;
        axes::finite(&values, "activations")?;
        Ok(Self { rows: Rows::whole(values, TOKEN), hook_points, lengths, positions: Positions::Response, responses })
    }

    /// `[example, layer, token, hidden]`: shared where they lie in memory, a copy of all of them where they lie in files
    /// ([`Activations::example`] reads one).
    ///
    /// # Errors
    /// There is no memory for the copy.
    pub fn values(&self) -> Result<Tensor> {
        self.rows.gather()
    }

    /// The kind of the values.
    pub fn kind(&self) -> Kind {
        self.rows.kind()
    }

    /// Size of the axis *hidden*.
    pub(crate) fn hidden(&self) -> i64 {
        self.rows.size()[3]
    }

    /// True if the values lie in files, of which memory holds what is read.
    pub fn on_disk(&self) -> bool {
        self.rows.on_disk()
    }

    /// The module paths along the axis *layer*.
    pub fn hook_points(&self) -> &[String] {
        &self.hook_points
    }

    /// How many tokens each example has.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Which tokens were captured.
    pub fn positions(&self) -> Positions {
        self.positions
    }

    /// The prompts and responses these are activations of.
    pub fn responses(&self) -> &Responses {
        &self.responses
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.lengths.len()
    }

    /// Bytes the values occupy.
    pub fn bytes(&self) -> u64 {
        self.rows.bytes()
    }

    /// The values of one example, `[layer, token, hidden]` with its own number of tokens.
    ///
    /// # Errors
    /// There is no such example.
    pub fn example(&self, index: usize) -> Result<Tensor> {
        let length = *self
            .lengths
            .get(index)
            .ok_or_else(|| Error::input(format!("example {index} does not exist: there are {}", self.examples())))?;
        self.rows.get(index, length)
    }

    /// The same values as those at other responses whose forward reads the same tokens, so that they differ in what is predicted alone.
    pub(crate) fn said_otherwise(&self, responses: Responses) -> Result<Self> {
        let lengths = |of: &Responses| of.rows().iter().map(|row| row.tokens.response.len()).collect::<Vec<_>>();
        match lengths(&responses) == lengths(&self.responses) {
            true => Ok(Self { responses, ..self.clone() }),
            false => Err(Error::internal("responses of other lengths than those that activations were captured at")),
        }
    }

    /// A digest of the values, or of the collection on disk that they come from.
    pub(crate) fn digest(&self) -> String {
        self.rows.digest()
    }

    /// A summary, one row per hook point: `hook_point`, `layer`, `examples`, `tokens`, `hidden`, `kind`, `mean`, `std`, `norm` (mean over tokens), `bytes`.
    ///
    /// # Errors
    /// When libtorch or polars refuse.
    pub fn frame(&self) -> Result<DataFrame> {
        guarded("summarising activations", || {
            let size = self.rows.size();
            let tokens: usize = self.lengths.iter().sum();
            let (mut mean, mut std, mut norm) = (Vec::new(), Vec::new(), Vec::new());
            for point in 0..size[1] {
                interrupt::at(point as u64, size[1] as u64, "hook points")?;
                let layer = self.rows.at(point)?;
                let real =
                    self.lengths.iter().enumerate().map(|(example, &length)| layer.get(example, length)).collect::<Result<Vec<_>>>()?;
                let real = Tensor::cat(&real, 0).to_kind(Kind::Float);
                mean.push(real.mean(None).double_value(&[]));
                std.push(real.std(false).double_value(&[]));
                norm.push(real.norm_scalaropt_dim(2, [-1i64], false).mean(None).double_value(&[]));
            }
            let rows = self.hook_points.len();
            Ok(df!(
                "hook_point" => self.hook_points.clone(),
                "layer" => self.layers(),
                "examples" => vec![self.examples() as u32; rows],
                "tokens" => vec![tokens as u32; rows],
                "hidden" => vec![size[3] as u32; rows],
                "kind" => vec![format!("{:?}", self.kind()); rows],
                "mean" => mean,
                "std" => std,
                "norm" => norm,
                "bytes" => vec![self.bytes() / rows.max(1) as u64; rows],
            )?)
        })
    }

    /// Layer numbers along the axis *layer*; null where a hook point lies in no layer.
    fn layers(&self) -> Vec<Option<u32>> {
        self.hook_points.iter().map(|path| crate::nn::layer_of(path).map(|layer| layer as u32)).collect()
    }

    /// asim with other activations of the same examples and tokens, one row per hook point: `hook_point`, `layer`, `asim`.
    ///
    /// Cosine similarity per example, layer and token over *hidden*, then the mean over the tokens of each example (the shorter length,
    /// where the two differ) and over examples, as in the paper. In `[-1, 1]`.
    ///
    /// # Errors
    /// The two do not hold the same examples, hook points or positions; an activation is zero or NaN.
    pub fn asim(&self, other: &Self) -> Result<DataFrame> {
        guarded("asim", || {
            compare::same_points(self, other)?;
            compare::same_examples(self, other, Tokens::Last)?;
            let mut total = vec![0f64; self.hook_points.len()];
            for index in 0..self.examples() {
                interrupt::at(index as u64, self.examples() as u64, "examples")?;
                let tokens = self.lengths[index].min(other.lengths[index]) as i64;
                let cut = |activations: &Self| Ok::<_, Error>(activations.example(index)?.narrow(1, 0, tokens));
                let cosine = similarity::asim(&cut(self)?, &cut(other)?)?.mean_dim([-1i64].as_slice(), false, Kind::Double);
                for (sum, value) in total.iter_mut().zip(Vec::<f64>::try_from(cosine)?) {
                    *sum += value / self.examples() as f64;
                }
            }
            Ok(df!("hook_point" => self.hook_points.clone(), "layer" => self.layers(), "asim" => total)?)
        })
    }
}

impl Clone for Activations {
    /// Shares the values.
    fn clone(&self) -> Self {
        Self {
            rows: self.rows.shared(),
            hook_points: self.hook_points.clone(),
            lengths: self.lengths.clone(),
            positions: self.positions,
            responses: self.responses.clone(),
        }
    }
}

/// Which axis of the values is *token*.
const TOKEN: i64 = 2;

fn bytes(size: &[i64], kind: Kind) -> u64 {
    size.iter().fold(kind.elt_size_in_bytes() as u64, |bytes, &axis| bytes.saturating_mul(axis.max(0) as u64))
}

impl Show for Activations {
    fn bundle(&self) -> Bundle {
        let axes = axes_text(&self.rows.size());
        let positions = format!("{:?}", self.positions).to_lowercase();
        headed(
            &format!(
                "Activations [{axes}] at {positions} positions, {:?}, {} bytes{}",
                self.kind(),
                self.bytes(),
                if self.on_disk() { " on disk" } else { "" }
            ),
            self.frame(),
        )
    }
}

/// `example 8, layer 6, token 1, hidden 128`.
fn axes_text(size: &[i64]) -> String {
    ["example", "layer", "token", "hidden"].iter().zip(size).map(|(axis, size)| format!("{axis} {size}")).collect::<Vec<_>>().join(", ")
}

impl Show for CapturePlan {
    fn bundle(&self) -> Bundle {
        let points = self.hook_points.join("\n  ");
        Bundle::text(format!("Plan [{}], {} bytes, at\n  {points}", axes_text(&self.shape), self.bytes))
    }
}
