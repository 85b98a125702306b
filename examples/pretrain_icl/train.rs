//! The training loop: AdamW, warm-up, a decaying tail, a checkpoint every now and then.

use std::path::Path;
use std::time::Instant;

use tch::{Kind as K, Tensor, nn, nn::OptimizerConfig};

use crate::batch::{Batch, WEIGHTS, code};
use crate::curriculum;
use crate::decoder::{Config, Decoder};
use crate::export;
use crate::rng::Rng;
use crate::vocabulary::Vocabulary;
use crate::world::KINDS;

/// All that decides what comes out.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub seed: u64,
    pub steps: usize,
    /// Tokens per step.
    pub tokens: usize,
    pub rate: f64,
    pub warmup: usize,
    pub weight_decay: f64,
    pub std: f64,
    /// Share of the steps at the end over which the rate falls to almost nothing.
    pub tail: f64,
    pub model: Config,
}

/// Steps of the model that is in the repository.
pub const STEPS: usize = 15_000;

impl Recipe {
    /// The recipe of the model that is in the repository.
    pub fn with(seed: u64, steps: usize, vocab: i64) -> Recipe {
        let model = Config { vocab, hidden: 128, layers: 6, heads: 4, kv_heads: 2, head_dim: 32, mlp: 256, positions: 512 };
        Recipe { seed, steps, tokens: 4096, rate: 2e-3, warmup: 100, weight_decay: 0.02, std: 0.05, tail: 0.3, model }
    }

    fn rate_at(&self, step: usize) -> f64 {
        let progress = step as f64 / self.steps as f64;
        let warm = ((step + 1) as f64 / self.warmup as f64).min(1.0);
        self.rate * warm * ((1.0 - progress) / self.tail).clamp(0.02, 1.0)
    }
}

fn ids(rows: impl Iterator<Item = i64>, count: usize, width: usize) -> Tensor {
    Tensor::from_slice(&rows.collect::<Vec<i64>>()).view([count as i64, width as i64])
}

/// Ids and loss codes of a batch, each `[rows, width]`.
fn tensors(batch: &Batch) -> (Tensor, Tensor) {
    let n = batch.rows.len();
    (
        ids(batch.rows.iter().flat_map(|r| r.ids.iter().map(|&i| i as i64)), n, batch.width),
        ids(batch.rows.iter().flat_map(|r| r.codes.iter().map(|&c| c as i64)), n, batch.width),
    )
}

/// Labels that were right and labels that were asked, for each kind of task.
#[derive(Default)]
struct Tally {
    loss: f64,
    steps: usize,
    right: [f64; 5],
    asked: [f64; 5],
}

impl Tally {
    fn line(&self) -> String {
        let mut line = format!("loss {:.3}", self.loss / self.steps.max(1) as f64);
        for (i, kind) in KINDS.iter().enumerate().filter(|(i, _)| self.asked[*i] > 0.0) {
            line.push_str(&format!("  {kind:?} {:.3}", self.right[i] / self.asked[i]));
        }
        line
    }
}

/// Trains from scratch and leaves the model in `folder`; returns the seconds it took.
pub fn train(recipe: &Recipe, vocab: &Vocabulary, folder: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    tch::manual_seed(recipe.seed as i64);
    let vs = nn::VarStore::new(tch::Device::Cpu);
    let decoder = Decoder::new(&vs, recipe.model.clone(), recipe.std);
    let parameters: i64 = vs.trainable_variables().iter().map(|v| v.numel() as i64).sum();
    println!("{parameters} parameters, {} tokens in the vocabulary, {recipe:?}", vocab.tokens.len());
    let adam = nn::AdamW { beta1: 0.9, beta2: 0.98, wd: recipe.weight_decay, eps: 1e-8, amsgrad: false };
    let mut optimiser = adam.build(&vs, recipe.rate)?;
    optimiser.set_weight_decay_group(1, 0.0);
    let weights = Tensor::from_slice(&WEIGHTS).to_kind(K::Float);
    let start = Instant::now();
    let mut tally = Tally::default();
    for step in 0..recipe.steps {
        let (stage, lengths, repeats) = curriculum::at(step as f64 / recipe.steps as f64);
        let mut rng = Rng::new(recipe.seed, step as u64);
        let batch = Batch::draw(&mut rng, vocab, &stage, lengths, recipe.tokens, repeats);
        let (ids, codes) = tensors(&batch);
        let width = batch.width as i64;
        let kinds = Tensor::from_slice(&batch.rows.iter().map(|r| r.kind as i64).collect::<Vec<_>>());
        let codes = codes.narrow(1, 1, width - 1);
        let asked = codes.gt(0);
        let gold = ids.narrow(1, 1, width - 1).masked_select(&asked);
        let hidden = decoder.hidden(&ids.narrow(1, 0, width - 1), K::BFloat16);
        let places = asked.flatten(0, -1).nonzero().squeeze_dim(1);
        let logits = decoder.logits(&hidden.flatten(0, 1).index_select(0, &places), K::BFloat16);
        let codes_asked = codes.masked_select(&asked);
        let weight = weights.index_select(0, &codes_asked);
        let losses = -logits.log_softmax(-1, K::Float).gather(1, &gold.unsqueeze(1), false).squeeze_dim(1);
        let loss = (losses * &weight).sum(K::Float) / weight.sum(K::Float);
        optimiser.set_lr(recipe.rate_at(step));
        optimiser.zero_grad();
        loss.backward();
        optimiser.clip_grad_norm(1.0);
        optimiser.step();

        tally.steps += 1;
        tally.loss += loss.double_value(&[]);
        let label = codes_asked.eq(code::LABEL as i64);
        let right = logits.argmax(-1, false).eq_tensor(&gold).logical_and(&label);
        let kind = kinds.unsqueeze(1).expand([-1, width - 1], false).masked_select(&asked);
        let count = |of: &Tensor| Vec::<i64>::try_from(kind.masked_select(of).bincount::<Tensor>(None, 5));
        for (i, (r, a)) in count(&right)?.into_iter().zip(count(&label)?).enumerate() {
            tally.right[i] += r as f64;
            tally.asked[i] += a as f64;
        }
        if (step + 1) % 100 == 0 || step + 1 == recipe.steps {
            let seconds = start.elapsed().as_secs_f64();
            println!("step {} of {}  {seconds:.0} s  rows {} x {width}  {}", step + 1, recipe.steps, batch.rows.len(), tally.line());
            if !tally.loss.is_finite() {
                return Err("the loss is no longer a number".into());
            }
            tally = Tally::default();
        }
        if (step + 1) % 1000 == 0 || step + 1 == recipe.steps {
            export::weights(&vs, folder)?;
        }
    }
    Ok(start.elapsed().as_secs_f64())
}
