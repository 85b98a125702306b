//! Compare and align what in-context learning and supervised fine-tuning do inside a language model, in a Rust notebook.
//!
//! A model can be taught a task by demonstrations in its prompt (in-context learning, ICL) or by training on them (supervised fine-tuning,
//! SFT). Both may give the same answers, and yet the activations on the way differ. This crate measures how much, and implements
//! IA2 ([arXiv:2509.22621](https://arxiv.org/abs/2509.22621)): training an adapter to show, without demonstrations, the activations that
//! the model has with them, before or instead of SFT.
//!
//! ```
//! use ia2::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let model = Model::open("tiny-icl")?;                                   // the model that comes with the library
//! let split = Task::open("sentiment")?.test_at_most(40)?.few_shot(8, 0)?; // 8 examples to learn from, 4 for development
//! let targets = Targets::of(&model, &split).collect()?;                   // each query after the other seven: answers, and activations
//! let primed = Training::new(Lora::rank(8), targets.ia2()?).learning_rate(3e-3).epochs(5).run(&model, &split)?;
//! let tuned = Training::resume(&primed, Sft::gold())?.run(&model, &split)?;
//! let frame = evaluate(tuned.model(), &split.test.zero_shot()?)?;         // one row per example, a polars DataFrame
//! println!("{:.2} correct, ECE {:.2}", accuracy(&frame)?, ece(&frame, Binning::EqualWidth(15))?);
//! # assert_eq!(frame.height(), 40);
//! # Ok(())
//! # }
//! ```
//!
//! Every value on this way is owned and shows itself as the last expression of a notebook cell ([`display::Show`]).
//!
//! # The main types
//! | | |
//! |---|---|
//! | [`Model`](model::Model) | a decoder with its tokenizer: `open`, `respond`, `generate`, `chat`, `score`, `forward`, `hook_points`, `with(&adapter)` |
//! | [`Tokenizer`](tokenizer::Tokenizer), [`Chat`](tokenizer::Chat) | text to ids and back, an answer as it follows its query; messages as an instruct model's template writes them |
//! | [`Task`](dataset::Task), [`Split`](dataset::Split) | a data set with its card; a seeded few-shot draw of train, dev and test [`Examples`](prompt::Examples) |
//! | [`Benchmark`](dataset::Benchmark) | one of the paper's twelve, read from its public files into a `Task` |
//! | [`Prompts`](prompt::Prompts), [`Responses`](model::Responses) | demonstrations and query; what the model answered, with all tokens |
//! | [`Scores`](model::Scores) | how likely given continuations of prompts are, per answer and per token |
//! | [`Activations`](activations::Activations), [`Capture`](activations::Capture) | `[example, layer, token, hidden]` at chosen hook points and positions; `asim` with others; [`divergence`](activations::divergence) between what two models expect |
//! | [`Hooks`](nn::Hooks) | observers and editors of any module's value, for one call |
//! | [`logit_lens`](lens::logit_lens), [`attention_patterns`](lens::attention_patterns), [`patch`](lens::patch), [`ablate`](lens::ablate) | what each layer would say, where heads look, what carries an answer, what is needed for it: a frame each |
//! | [`Vector`](vector::Vector); [`TaskVector`](vector::TaskVector), [`FunctionVector`](vector::FunctionVector), [`Steering`](vector::Steering) | what carries a task in the residual stream, found by forwards alone and chosen on dev; `model.with(&vector)` |
//! | [`contextual`](calibrate::contextual), [`batch_calibrated`](metric::batch_calibrated), [`fit_temperature`](metric::fit_temperature) | label probabilities divided by what the labels have beforehand; one temperature |
//! | [`Adapter`](adapter::Adapter); [`Lora`](adapter::Lora), [`Dora`](adapter::Dora), [`Ia3`](adapter::Ia3), [`PromptTuning`](adapter::PromptTuning), [`PrefixTuning`](adapter::PrefixTuning), [`Cartridge`](adapter::Cartridge) | trained parameters on a frozen model, in PEFT's files: scaled, merged; their settings |
//! | [`Training`](train::Training), [`Trained`](train::Trained) | builder of a run; the best adapter on dev, the model with it, the history |
//! | [`Targets`](objective::Targets) | responses, activations and distributions of the base model under ICL, collected in one pass, in memory or on disk |
//! | [`Sft`](objective::Sft), [`SoftSft`](objective::SoftSft), [`SelfDistillation`](objective::SelfDistillation), [`Ia2`](objective::Ia2), [`Ia2Sft`](objective::Ia2Sft) | what a run minimises |
//! | `DataFrame` | what [`evaluate`](evaluate::evaluate), `frame()` and `history()` give: long, one row per example, layer or check |
//! | [`Experiment`](experiment::Experiment), [`Study`](experiment::Study) | a grid of runs that goes on where it was; its results as frames |
//! | [`Evidence`](experiment::Evidence) | what a study shows: effects over runs and test rows, power, calibration without bins, in words and tables |
//! | [`Slurm`](experiment::Slurm), [`Job`](experiment::Job), [`Worker`](experiment::Worker) | the same grid on a cluster: what SLURM is asked for, what is handed over, what does the runs |
//! | [`Figure`](figure::Figure) | a picture of a frame, as SVG and PNG, with its description in words; [`figure::paper`] has the paper's |
//! | [`Table`](table::Table) | runs or tests as a paper prints them, in HTML, Markdown, LaTeX, CSV |
//!
//! The [cookbook] has short ways to common ends, the [guide] longer pages: which models open and from where, every method with its call and the way
//! from a run to the evidence, a grid on a cluster, what the numbers mean, how far they are from those of
//! other programs, a comparison with Python, and limits.
//!
//! # Rooms
//! A room imports only rooms above it; a test holds them to that.
//!
//! | room | holds |
//! |---|---|
//! | [`error`], [`compat`], [`axes`], [`interrupt`], [`display`], [`progress`], [`libtorch`], [`mod@doctor`] | one error type; where the authors' code differs; checks of named axes; stopping long calls; how values show, and change while a cell runs; progress as one such value; devices and libtorch itself; what this process has and what is wrong with it |
//! | [`nn`] | layers, cache and hook points, and the pass that travels with a forward |
//! | [`similarity`] | pure functions of two tensors |
//! | [`tokenizer`], [`prompt`], [`dataset`] | text to ids; examples to prompts; files to tasks |
//! | [`model`] | configuration, weights, one shared decoder, families, generation |
//! | [`activations`] | capture and distributions, and their files |
//! | [`adapter`] | LoRA, DoRA, (IA)³, prompt and prefix tuning; PEFT's files; merging |
//! | [`objective`], [`train`], [`evaluate`] | losses; the one training loop; predictions |
//! | [`lens`], [`vector`] | a model's inside as frames: logit lens, attention patterns, patching, ablation; task vectors, function vectors, steering |
//! | [`statistics`], [`metric`] | frames in; tests over runs and numbers out |
//! | [`calibrate`], [`Method`](experiment::Method) | ICL calibrated by what the labels have before anything is asked; the table of methods |
//! | [`table`], [`figure`] | frames in, tables and pictures out |
//! | [`experiment`] | grids of runs to frames |
//!
//! # In a notebook
//! - The last expression of a cell shows itself; several figures in one cell are one value ([`Figures`](figure::Figures)). A variable that this expression
//!   *moves* is gone afterwards, as in any Rust: take a reference, or `.clone()` it, where it is wanted again. (The kernel of `cargo xtask setup` shows such an
//!   expression like any other; an unchanged evcxr falls back to Rust's `{:?}`.)
//! - A variable owns what it holds: a closure or a reference stays inside a block `{ .. }`.
//! - `?` ends the cell with the error's text and the line it happened on. "Run all" and `jupyter nbconvert --execute` stop there, as at a panic and at an
//!   error of the compiler. (An unchanged evcxr tells Jupyter of the last alone, and the other two are text on standard error.) A last expression that is
//!   an `Err`, without a `?`, shows its text and fails nothing.
//! - What a cell makes is kept when the cell ends. So a last line that fails takes all of the cell's new variables with it (it says which): long work
//!   deserves a cell of its own, and what is shown of it the next one. A failing `let x = ..?` leaves the old `x`, unless the cell has moved it. (In an
//!   unchanged evcxr it is gone.) A cell that does not compile has not run, and nothing is lost.
//! - A panic is survived, as a failing `?` is. An interrupt stops the library's call that is running, and every variable stays: a training gives the best
//!   so far, a grid the results there are, other calls an error that says how far they were ([`interrupt`]). A second one while the first is not
//!   answered, and a crash, end the process and every variable, as the first does in an unchanged evcxr. Long work has a place on disk from which the
//!   same cell goes on: [`checkpoint`](train::Training::checkpoint), [`folder`](experiment::Experiment::folder), [`shards`](objective::Collect::shards).
//! - polars is built without its lazy engine: where the compiler finds no `lazy`, `col`, `lit` or `len`, a frame's own methods do the same; the
//!   last recipe of the [cookbook] sets them side by side.
//! - polars, tch, tokenizers and plotters are used through the re-exports below; other crates come with `:dep`. One that wants more of a crate that
//!   polars has in its tree (tokio with `full`, chrono with its defaults) makes cargo compile everything down to polars again, for minutes, once.
//! - [`doctor()`] says what this process has and what is wrong with it.
//!
//! # What is kept on disk
//! What opens is what was saved, or an error says so. Every file is written next to its place, brought to the disk, and renamed: whoever looks, and
//! whenever a process is killed, finds the old one or the new one. The files of one thing are replaced while no other process of this library
//! reads or writes there, the one that every reader asks for first removed first and coming last: nobody finds halves of two (a program that compares
//! nothing and opens one file before and the other after such a moment excepted). A checksum is SHA-256 over all bytes of its file.
//!
//! | what | files | checksum | also refused |
//! |---|---|---|---|
//! | [`Adapter::save`](adapter::Adapter::save) | PEFT's two | over the weights, which hold a digest of the settings | NaN, other kinds or shapes, another family |
//! | [`Trained::save`](train::Trained::save) | the same, `ia2_manifest.json`, `ia2_history.csv` | the same, and the manifest's own | parameters that are not the manifest's, another base model than the manifest's ([`open_as_it_is`](adapter::Adapter::open_as_it_is) allows it) |
//! | [`Model::save`](model::Model::save) | `config.json`, `model.safetensors`, the tokenizer's | over the weights, which hold digests of the others | ([`OpenOptions::as_it_is`](model::OpenOptions::as_it_is) allows what was edited) |
//! | [`Training::checkpoint`](train::Training::checkpoint) | one | yes | another run, NaN, other kinds or shapes, a state that no run comes to |
//! | [`Manifest::save`](train::Manifest::save) | one, with its format | yes | another format |
//! | [`Activations::save`](activations::Activations::save) | one | yes | lengths, hook points, kinds that do not agree |
//! | [`Collect::shards`](objective::Collect::shards) | one for each part | of the header, and of each example, compared when it is first read | another collection or model, parts that do not hold the same |
//! | [`Experiment::folder`](experiment::Experiment::folder) | one record for each run, with its format; its adapter as above | yes | another run's record, numbers out of their range, another adapter; without its adapter a run is done again |
//! | [`Experiment::prepare`](experiment::Experiment::prepare) | a plan, with its format and code; the rows of each task, called by their digest; what each worker tells of itself | yes | another format; to work on it, other code, another model |
//! | figures, tables | one | no | |
//!
//! Files of Hugging Face and PEFT have no such checksum and open as they are. Of a model all bytes count, in manifests, checkpoints, shards and records:
//! its files are read once more for that, at the speed of SHA-256 (measured: 0.5 s for 1 GB), when a training or an experiment first asks, and what came out is
//! remembered by path, inode, size and times of change (files from 64 MiB on in `ia2/digests` of the user's cache folder). Nothing that others may
//! write is mapped into memory: a file that is cut short while it is read is an error.
//!
//! # Adding to it
//! A family, an adapter, an objective, a method, a measure, a metric, a benchmark or a figure is one file and one line of a table: `CONTRIBUTING.md` has a recipe
//! with code for each, and `DESIGN.md` says how the parts fit together. [`Training`](train::Training) takes any [`Objective`](objective::Objective), also a
//! notebook's own. A task is a `.jsonl` file and its entry in `tasks.json` ([`Task::open`](dataset::Task::open)). A value shows itself by [`display::Show`].
#![warn(missing_docs)]
// What is internal is `pub(crate)`. Not in tests: recipes stand there as they would stand in their rooms.
#![cfg_attr(not(test), warn(unreachable_pub))]

#[doc = include_str!("cookbook.md")]
pub mod cookbook {}

/// What is longer than the README should be.
pub mod guide {
    #[doc = include_str!("guide/models.md")]
    pub mod models {}
    #[doc = include_str!("guide/cluster.md")]
    pub mod cluster {}
    #[doc = include_str!("guide/methods.md")]
    pub mod methods {}
    #[doc = include_str!("guide/numbers.md")]
    pub mod numbers {}
    #[doc = include_str!("guide/agreement.md")]
    pub mod agreement {}
    #[doc = include_str!("guide/compared.md")]
    pub mod compared {}
    #[doc = include_str!("guide/limits.md")]
    pub mod limits {}
}

pub mod activations;
pub mod adapter;
pub mod axes;
pub mod calibrate;
pub mod compat;
pub mod dataset;
pub mod display;
pub mod doctor;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod figure;
mod file;
mod frame;
mod hub;
pub mod interrupt;
mod kind;
pub mod lens;
pub mod libtorch;
mod memory;
mod method;
pub mod metric;
pub mod model;
pub mod nn;
pub mod objective;
mod plot;
pub mod progress;
pub mod prompt;
mod random;
mod sample;
pub mod similarity;
pub mod statistics;
pub mod table;
pub mod tokenizer;
pub mod train;
pub mod vector;

pub use doctor::doctor;
pub use error::{Error, Result};

// What a notebook touches of these crates it reaches through here: a second copy in a cell would not know the first one's values.
pub use {plotters, polars, tch, tokenizers};

pub mod prelude {
    //! What a notebook types: `use ia2::prelude::*;`.
    pub use crate::activations::{Activations, Capture, Keep, Positions, Tokens, capture, compare_methods, divergence};
    pub use crate::adapter::{Adapter, Cartridge, Dora, Ia3, Lora, PrefixTuning, PromptTuning};
    pub use crate::axes::long;
    pub use crate::calibrate::contextual;
    pub use crate::compat::Compat;
    pub use crate::dataset::{Benchmark, Split, Subset, Task};
    pub use crate::display::Show;
    pub use crate::error::{Error, Result};
    pub use crate::evaluate::{evaluate, evaluate_with};
    pub use crate::experiment::{Choice, Demonstrations, Experiment, Method, Rollouts, Slurm, Study};
    pub use crate::figure::{AttentionHeads, Chart, CriticalDifference, Figure, Figures, Forest, HeatMap, Reliability, TokenText};
    pub use crate::figure::{attention, attention_head, attention_heads, patching, token_table, token_text};
    pub use crate::figure::{bars, components, forest, lines, matrix, reliability, scatter, violins};
    pub use crate::lens::{Ablation, ablate, attention_patterns, logit_lens, patch, patch_map};
    pub use crate::metric::{Binning, accuracy, batch_calibrated, ece, fit_temperature, with_temperature};
    pub use crate::model::{Generation, Model, OpenOptions, Responses};
    pub use crate::nn::Hooks;
    pub use crate::objective::{Distance, Divergence, Ia2, Ia2Sft, SelfDistillation, Sft, SoftSft, Targets, Teacher};
    pub use crate::prompt::{Example, Examples, Orders, Prompts};
    pub use crate::table::{Best, Summary, Table, results, significance, stack};
    pub use crate::tokenizer::Chat;
    pub use crate::train::{Optimizer, Schedule, Trained, Training};
    pub use crate::vector::{FunctionVector, Steering, TaskVector, Vector};
    pub use polars::prelude::*;
    pub use tch::{Device, Kind, Tensor};
}

/// Says how far at most a test found this library from a reference; `guide::agreement` lists these.
#[cfg(test)]
fn agrees(what: &str, distance: f64) {
    println!("agreement: {what}: {distance:.1e}");
}

/// Says that a test lacks what it needs; past the test runner's capture, so that it is seen and counted.
#[cfg(test)]
fn skipped(why: &str) {
    use std::io::Write;
    // The test runner calls a test's thread by its name.
    let thread = std::thread::current();
    let test = thread.name().and_then(|name| name.rsplit("::").next()).unwrap_or("a test");
    let _ = writeln!(std::io::stdout(), "\nSKIPPED: {test}: {why}");
}
