//! Targets: what the base model says, shows and expects after demonstrations, collected in one pass.

use std::path::Path;

use tch::{Device, Kind};

use super::responses;
use crate::activations::{Activations, Capture, Collected, Collection, CollectionPlan, Distributions, Keep};
use crate::compat::Compat;
use crate::dataset::{SHOWN_AT_MOST, Split};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::libtorch::guarded;
use crate::model::{Model, Responses};
use crate::prompt::{Examples, LabelTokens, Orders, Prompts};

/// What IA2, soft labels and SFT on ICL responses learn from: for the train set, then the dev set of a split, the base model's responses after
/// demonstrations, its activations while it gave them and, where asked for, its distributions over the next token.
///
/// ```
/// use ia2::prelude::*;
///
/// # fn main() -> Result<()> {
/// let model = Model::open("tiny-icl")?;
/// let split = Task::open("sentiment")?.test_at_most(20)?.few_shot(4, 0)?;
/// let targets = Targets::of(&model, &split).distributions(Keep::Top(8)).collect()?;
/// let primed = Training::new(Lora::rank(8), targets.ia2()?).epochs(2).run(&model, &split)?;
/// let tuned = Training::resume(&primed, targets.soft_sft()?)?.epochs(2).run(&model, &split)?;
/// # assert!(tuned.dev_loss().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Targets {
    pub(super) collected: Collected,
}

/// How targets are collected.
#[derive(Clone, Debug)]
pub struct Collect<'s> {
    model: Model,
    split: &'s Split,
    demonstrations: usize,
    orders: usize,
    kind_of_orders: Orders,
    unlabelled: Option<&'s Examples>,
    pattern: Option<String>,
    kind: Option<Kind>,
    keep: Option<Keep>,
    adapted: bool,
    max_new_tokens: Option<usize>,
    stop: bool,
    batch: Option<usize>,
    device: Option<Device>,
    folder: Option<std::path::PathBuf>,
    budget: Option<u64>,
    shard_bytes: Option<u64>,
}

impl Targets {
    /// Targets of a split. Defaults: self-attention outputs; up to 256 demonstrations in one random order for each query, by the
    /// split's run ([`Orders::Tree`]); greedy responses of
    /// the base model that end with the end-of-sequence token or at the length of the answer form, not at its stop string (as the authors
    /// train), and for labels of several tokens at the end of the label; in the memory of the model's device.
    pub fn of<'s>(model: &Model, split: &'s Split) -> Collect<'s> {
        Collect {
            model: model.clone(),
            split,
            demonstrations: SHOWN_AT_MOST,
            orders: 1,
            kind_of_orders: Orders::Tree,
            unlabelled: None,
            pattern: Some("model.layers.*.self_attn".into()),
            kind: None,
            keep: None,
            adapted: false,
            max_new_tokens: None,
            stop: false,
            batch: None,
            device: None,
            folder: None,
            budget: None,
            shard_bytes: None,
        }
    }

    /// The responses after demonstrations: train, then dev.
    pub fn responses(&self) -> &Responses {
        &self.collected.responses
    }

    /// The activations at the response positions.
    ///
    /// # Errors
    /// None were collected.
    pub fn activations(&self) -> Result<&Activations> {
        let none = || Error::input("these targets hold no activations: collect them without `.without_activations()`");
        self.collected.activations.as_ref().ok_or_else(none)
    }

    /// The distributions at the response positions.
    ///
    /// # Errors
    /// None were collected.
    pub fn distributions(&self) -> Result<&Distributions> {
        let none = || Error::input("these targets hold no distributions: collect them with `.distributions(Keep::All)` or `Keep::Top(k)`");
        self.collected.distributions.as_ref().ok_or_else(none)
    }
}

impl Collect<'_> {
    /// Activations at the hook points that `pattern` selects, of one width.
    pub fn at(mut self, pattern: &str) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// No activations: for SFT on ICL responses or soft labels alone.
    pub fn without_activations(mut self) -> Self {
        self.pattern = None;
        self
    }

    /// Distributions as well, from the logits of the same pass.
    pub fn distributions(mut self, keep: Keep) -> Self {
        self.keep = Some(keep);
        self
    }

    /// Maximum number of demonstrations before a query.
    pub fn demonstrations(mut self, at_most: usize) -> Self {
        self.demonstrations = at_most;
        self
    }

    /// The number of draws of demonstrations for each training example ([`Split::target_prompts_in_orders`]); each is an example to learn from.
    pub fn orders(mut self, orders: usize) -> Self {
        self.orders = orders;
        self
    }

    /// How the orders of different queries hang together: [`Orders::Tree`] unless set, which is collected several times faster.
    pub fn in_orders(mut self, kind: Orders) -> Self {
        self.kind_of_orders = kind;
        self
    }

    /// [`Compat::Paper`] orders demonstrations as the authors' code does: [`Orders::Independent`].
    pub fn compat(self, compat: Compat) -> Self {
        self.in_orders(match compat {
            Compat::Paper => Orders::Independent,
            Compat::Corrected => Orders::Tree,
        })
    }

    /// The targets of the adapted model, if the model given is one; those of the base model unless set.
    pub fn of_adapted(mut self) -> Self {
        self.adapted = true;
        self
    }

    /// The kind activations are stored in; the model's unless set.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Maximum number of response tokens; the limit of the answer form unless set, and for labels of several tokens those of the label. Fewer tokens
    /// than tell the labels apart are refused when targets are collected.
    pub fn max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = Some(tokens);
        self
    }

    /// Ends responses where [`Prompts::stop`] says, too, as evaluation does.
    pub fn stopping(mut self) -> Self {
        self.stop = true;
        self
    }

    /// Prompts per forward.
    pub fn batch(mut self, prompts: usize) -> Self {
        self.batch = Some(prompts);
        self
    }

    /// The device whose memory holds the targets; the model's unless set.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// A folder for targets that take more than half of the free memory. They lie there in files of which memory holds what is read; a collection
    /// that was interrupted goes on there with what is missing. One folder for each collection.
    pub fn shards(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_path_buf());
        self
    }

    /// Takes this number of bytes as free, instead of asking the device.
    pub fn free_bytes(mut self, bytes: u64) -> Self {
        self.budget = Some(bytes);
        self
    }

    /// Bytes of one file at most (one example at least); 512 MiB unless set.
    pub fn shard_bytes(mut self, bytes: u64) -> Self {
        self.shard_bytes = Some(bytes);
        self
    }

    /// The prompts whose answers are the targets: train, then dev.
    ///
    /// # Errors
    /// As [`Split::target_prompts_in`] and [`Split::unlabelled_prompts_in`].
    pub fn prompts(&self) -> Result<Prompts> {
        match self.unlabelled {
            None => self.split.target_prompts_in(self.kind_of_orders, self.demonstrations, self.orders),
            Some(unlabelled) => self.split.unlabelled_prompts_in(self.kind_of_orders, unlabelled, self.demonstrations, self.orders),
        }
    }

    /// What the targets will take and where they will lie, before anything is computed.
    ///
    /// # Errors
    /// As [`Collect::prompts`]; hook points or counts that do not fit the model; targets that do not fit into memory when no folder is given.
    pub fn plan(&self) -> Result<CollectionPlan> {
        self.collection()?.plan()
    }

    /// Generates the responses and keeps what was asked for.
    ///
    /// # Errors
    /// As [`Collect::plan`] and [`Model::respond`]; a file in the folder that is damaged or of another collection, or that cannot be written.
    pub fn collect(&self) -> Result<Targets> {
        guarded("collecting targets", || Ok(Targets { collected: self.collection()?.collect()? }))
    }

    fn collection(&self) -> Result<Collection> {
        let prompts = self.prompts()?;
        if let Some(tokens) = self.max_new_tokens {
            reaches_labels(&self.model, &prompts, tokens)?;
        }
        let mut settings = responses::settings(&prompts, self.max_new_tokens, prompts.stop().filter(|_| self.stop));
        if let Some(batch) = self.batch {
            settings = settings.batch(batch);
        }
        let capture = self.pattern.as_ref().map(|pattern| {
            let capture = Capture::at(pattern);
            self.kind.into_iter().fold(capture, Capture::kind)
        });
        Ok(Collection {
            model: if self.adapted { self.model.clone() } else { self.model.base() },
            prompts,
            settings,
            capture,
            keep: self.keep,
            device: self.device,
            folder: self.folder.clone(),
            budget: self.budget,
            shard_bytes: self.shard_bytes,
        })
    }
}

impl<'s> Collect<'s> {
    /// Few labelled demonstrations, many unlabelled queries: learn from the model's answers to these queries after the training examples
    /// ([`Split::unlabelled_prompts`]).
    pub fn unlabelled(mut self, queries: &'s Examples) -> Self {
        self.unlabelled = Some(queries);
        self
    }
}

/// Refuses responses that end before the labels differ: what is learned from them would be the same whatever the answer.
fn reaches_labels(model: &Model, prompts: &Prompts, tokens: usize) -> Result<()> {
    if prompts.form().label_set().is_empty() {
        return Ok(());
    }
    let needed = LabelTokens::of(model.tokenizer()?, prompts)?.iter().map(|labels| labels.prefix().len() + 1).max().unwrap_or(0);
    if tokens < needed {
        return Err(Error::input(format!(
            "responses of at most {tokens} tokens end before the labels {} differ: give them at least {needed}, or leave out `max_new_tokens`",
            prompts.form().label_set().join(", ")
        )));
    }
    Ok(())
}

impl Show for Targets {
    fn bundle(&self) -> Bundle {
        let Collected { responses, activations, distributions } = &self.collected;
        let mut parts = vec![format!("{responses:?}")];
        parts.extend(
            activations
                .as_ref()
                .map(|values| format!("activations at {} hook points, {} bytes", values.hook_points().len(), values.bytes())),
        );
        parts.extend(distributions.as_ref().map(|values| format!("distributions ({:?}), {} bytes", values.keep(), values.bytes())));
        headed(&format!("Targets: {}", parts.join("; ")), responses.frame())
    }
}
