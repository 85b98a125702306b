//! All that a reader needs to do a grid again.

use std::collections::HashSet;
use std::path::Path;

use polars::prelude::*;

use super::{Experiment, cluster, protocol};
use crate::dataset::Task;
use crate::display::listed;
use crate::error::Result;
use crate::libtorch;

impl Experiment {
    /// What decides the grid, in words, for whoever is to repeat it: `what` and `value`, one row for the library and its sources, each model (its
    /// file or folder, its kind, the SHA-256 of its weights), each task (its rows, labels and files), each setting, and each thing that is not done as by
    /// default.
    ///
    /// # Errors
    /// As [`run`](Self::run), for models and tasks.
    pub fn protocol(&self) -> Result<DataFrame> {
        let (opened, said) = self.opened()?;
        let settings = &self.settings;
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut row = |what: &str, value: String| rows.push((what.into(), value));
        row("library", format!("ia2 {}, sources {}", env!("CARGO_PKG_VERSION"), cluster::CODE));
        let libtorch = libtorch::version().map_or("unknown".into(), |(major, minor, patch)| format!("{major}.{minor}.{patch}"));
        row("libtorch", format!("{libtorch}, {} threads", libtorch::threads()));
        for held in &self.models {
            let id = held.id()?;
            row("model", format!("{}, {}, weights sha256 {}", held.place().display(), id.kind, id.identity.weights));
        }
        let mut told = HashSet::new();
        for opened in &opened {
            let others = opened.others.iter().map(|other| (other, "tested on"));
            for (task, role) in std::iter::once((&*opened.task, "learned")).chain(others) {
                if told.insert((task.name().to_string(), role)) {
                    row(&format!("task {role}"), described(task)?);
                }
            }
        }
        row("training examples", listed(&settings.sizes));
        row("runs", format!("{} (seeds 0 to {})", settings.runs, settings.runs.saturating_sub(1)));
        row("methods", settings.methods.iter().map(|method| method.name()).collect::<Vec<_>>().join(", "));
        row("adapters", settings.adapters.iter().map(|adapter| adapter.name()).collect::<Vec<_>>().join(", "));
        row("learning rates", listed(&settings.learning_rates));
        if settings.methods.iter().any(|method| method.has_beta()) {
            row("betas", listed(&settings.betas));
        }
        row("epochs and patience", format!("at most {}, {} checks", settings.epochs, settings.patience));
        row("test queries", format!("at most {}, {} of them for asim", settings.test_at_most, settings.compared_at_most));
        for note in protocol::notes(self, &said) {
            row("note", note);
        }
        let (what, value): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        Ok(df!("what" => what, "value" => value)?)
    }
}

/// Name, rows, labels and files. A file is told without the folders above its own: these differ from machine to machine.
fn described(task: &Task) -> Result<String> {
    let (counts, mut files) = (task.counts()?, Vec::new());
    let texts = |name: &str| {
        Ok::<_, PolarsError>(counts.column(name)?.str()?.iter().map(|text| text.unwrap_or_default().to_string()).collect::<Vec<_>>())
    };
    for ((file, outcome), rows) in texts("file")?.iter().zip(texts("outcome")?).zip(counts.column("row")?.u32()?.iter()) {
        let own: Vec<_> = Path::new(file).iter().rev().take(2).collect();
        let short = own.iter().rev().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        if outcome == "kept" && !short.is_empty() {
            files.push(format!("{} rows of {short}", rows.unwrap_or_default()));
        }
    }
    let files = if files.is_empty() { String::new() } else { format!(": {}", files.join(", ")) };
    let held_out = match task.held_out().len() {
        0 => String::new(),
        rows => format!(" and {rows} held out"),
    };
    Ok(format!("{}, {} rows{held_out}{files}; {}", task.name(), task.len(), task.form()))
}
