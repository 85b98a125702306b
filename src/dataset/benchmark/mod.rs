//! The twelve benchmarks of the paper, read from their public files.
//!
//! None of the files is bundled. A benchmark's folder holds the original files or the parquet files of Hugging Face under their own
//! names; [`Benchmark::table`] says which and where to get them. [`Task::open`] looks in the data folder, `$IA2_DATA/sst2/train.tsv`
//! and so on; [`Task::benchmark`] in any folder, or at one file. What is left out, and why, is counted: [`Task::counts`].
//!
//! # Which rows
//! As in the authors' code, few-shot train and dev sets are drawn from the makers' train part, and tests from the part that they test
//! on; a set without parts is split by the run's seed. [`Benchmark::parts`] chooses otherwise:
//!
//! | | train and dev sets from | test sets from |
//! |---|---|---|
//! | SST2, SciQr, QASCr, SciQ | train | dev |
//! | AGN, GSM8K, HMathA | train | test |
//! | FinS, GSM8Ks | all (one part) | the rest of it |
//! | STF | train and dev together | the rest of them |
//! | PoemS (only tested on) | train: its positive and negative rows are the paper's 288 | the rest of it |
//! | BBCN (only tested on) | all; train with [`Compat::Paper`] | the rest of it; test with [`Compat::Paper`] |
//!
//! The authors first cut the pools to 2,000 rows to learn from and 500 to test on; here the whole parts are drawn from, 500 tests a run.
//!
//! # Which texts
//! The texts are the files', byte for byte: SST-2's space at the end, AG News' backslashes in place of line breaks, GSM8K's `<<48/2=24>>`.
//! News are title, space, description. Only the articles of BBC News, which have blank lines, become one line; with [`Compat::Paper`] they are
//! cut to 256 characters less the last word.

mod agn;
mod bbcn;
mod entry;
mod fins;
mod gsm8k;
mod gsm8ks;
mod hmatha;
mod locate;
mod poems;
mod qascr;
#[cfg(test)]
#[path = "../../../tests/recipes/benchmark.rs"]
mod recipe;
mod rows;
mod sciq;
mod sciqr;
mod sst2;
mod stf;

use std::fmt;
use std::path::{Path, PathBuf};

use polars::prelude::*;

pub use entry::Subset;

use super::local::folder;
use super::{Card, Source, Task};
use crate::compat::Compat;
use crate::error::{Error, Result};
use crate::prompt::AnswerForm;
use entry::{Answers, Entry};
use locate::{layout_of, locate, wanted};

/// Every benchmark: one file and one line each.
const ALL: &[&Entry] = &[
    &sst2::ENTRY,
    &fins::ENTRY,
    &poems::ENTRY,
    &stf::ENTRY,
    &agn::ENTRY,
    &bbcn::ENTRY,
    &sciqr::ENTRY,
    &qascr::ENTRY,
    &gsm8k::ENTRY,
    &gsm8ks::ENTRY,
    &hmatha::ENTRY,
    &sciq::ENTRY,
];

/// The benchmarks whose files are in the data folder.
pub(super) const INSTALLED: Source = Source {
    what: || "benchmarks".into(),
    names: || {
        Ok(Benchmark::all().iter().filter(|benchmark| benchmark.is_installed()).map(|benchmark| benchmark.name().to_owned()).collect())
    },
    open: |name, compat| Benchmark::named(name).ok().map(|benchmark| benchmark.compat(compat).open()).transpose(),
};

/// The words for choices, in order: one token each in the paper's tokenizers.
const WORDS: [&str; 8] = ["apple", "Friday", "banana", "Saturday", "Thursday", "Sunday", "Wednesday", "Monday"];

/// The parquet files of a data set on Hugging Face: in its own repository, as converted there, or put side by side.
macro_rules! parquet {
    ($config:literal, $row:expr) => {
        crate::dataset::benchmark::entry::Layout {
            what: "Hugging Face's parquet files",
            format: crate::dataset::read::Format::Parquet,
            files: &[
                (crate::dataset::Subset::Train, parquet!(@ $config, "train")),
                (crate::dataset::Subset::Dev, parquet!(@ $config, "validation")),
                (crate::dataset::Subset::Test, parquet!(@ $config, "test")),
            ],
            row: $row,
        }
    };
    (@ $config:literal, $part:literal) => {
        &[
            concat!("data/", $part, "-*.parquet"),
            concat!($config, "/", $part, "-*.parquet"),
            concat!($config, "/", $part, "/*.parquet"),
            concat!("default/", $part, "/*.parquet"),
            concat!($part, "-*.parquet"),
            concat!($part, ".parquet"),
        ]
    };
}
use parquet;

/// A benchmark and how it is to be read.
///
/// ```no_run
/// use ia2::dataset::{Benchmark, Subset};
///
/// let task = Benchmark::named("SST2")?.read("../data/sst2")?;
/// let poems = Benchmark::named("PoemS")?.subsets(&[Subset::Train, Subset::Dev, Subset::Test], &[])?.open()?; // 359 rows, not the paper's 288
/// println!("{}", task.counts()?);
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone)]
pub struct Benchmark {
    entry: &'static Entry,
    learn: Vec<Subset>,
    test: Vec<Subset>,
    choices: u64,
    printed: bool,
    compat: Compat,
}

impl Benchmark {
    /// The benchmark of this name, in any case.
    ///
    /// # Errors
    /// An input error that lists the names.
    pub fn named(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        let entry = ALL.iter().copied().find(|entry| entry.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names = ALL.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
            Error::input(format!("there is no benchmark `{name}`; there are {names}"))
        })?;
        let (learn, test) = (entry.learn.to_vec(), entry.test.to_vec());
        Ok(Self { entry, learn, test, choices: 0, printed: false, compat: Compat::default() })
    }

    /// All benchmarks, in the paper's order.
    pub fn all() -> Vec<Self> {
        ALL.iter().filter_map(|entry| Self::named(entry.name).ok()).collect()
    }

    /// One row each: `benchmark`, `title`, `template`, `label` (empty for free answers), `ood`, `folder` (in the data folder), `file`
    /// (what is looked for there), `installed`, `license`, `source`, `paper`, `note`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn table() -> Result<DataFrame> {
        let column = |text: fn(&Entry) -> String| ALL.iter().map(|entry| text(entry)).collect::<Vec<_>>();
        let labels = |entry: &Entry| match entry.answers {
            Answers::Labels(labels) => labels.join(", "),
            _ => String::new(),
        };
        Ok(df!(
            "benchmark" => column(|entry| entry.name.into()),
            "title" => column(|entry| entry.title.into()),
            "template" => column(|entry| entry.template.code.into()),
            "label" => column(labels),
            "ood" => column(|entry| entry.ood.join(", ")),
            "folder" => column(|entry| entry.folders.join(" or ")),
            "file" => column(|entry| wanted(entry, &[Subset::Train, Subset::Dev, Subset::Test])),
            "installed" => Self::all().iter().map(Self::is_installed).collect::<Vec<_>>(),
            "license" => column(|entry| entry.license.into()),
            "source" => column(|entry| entry.source.into()),
            "paper" => column(|entry| entry.paper.into()),
            "note" => column(|entry| entry.card(false).note),
        )?)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    /// What it is, where to get it, under which license.
    pub fn card(&self) -> Card {
        self.entry.card(self.printed)
    }

    /// The form of its answers.
    ///
    /// # Errors
    /// None for the benchmarks there are.
    pub fn form(&self) -> Result<AnswerForm> {
        Ok(self.entry.answers.form(self.gap())?.compat(self.compat))
    }

    /// Draws train and dev sets from `learn` and tests from `test`, or from the rest of `learn` when `test` is empty.
    ///
    /// # Errors
    /// An input error when `learn` is empty or a part is named twice.
    pub fn subsets(self, learn: &[Subset], test: &[Subset]) -> Result<Self> {
        if learn.is_empty() {
            return Err(Error::input("no part to learn from: few-shot sets need one, such as `Subset::Train`"));
        }
        let all: Vec<Subset> = learn.iter().chain(test).copied().collect();
        if let Some(part) = (1..all.len()).find(|&place| all[..place].contains(&all[place])).map(|place| all[place]) {
            return Err(Error::input(format!("the part `{part}` is named twice: no row may be both learned from and tested on")));
        }
        Ok(Self { learn: learn.to_vec(), test: test.to_vec(), ..self })
    }

    /// Draws everything from the parts that lie in its folder in the data folder, where some that it would read are missing: tests from what train
    /// and dev leave. Unchanged where all are there, or none is.
    ///
    /// ```no_run
    /// use ia2::dataset::Benchmark;
    ///
    /// // From a folder `ag_news` that holds `test.csv` alone: learned from and tested on rows of it.
    /// let task = Benchmark::named("AGN")?.subsets_present().open()?;
    /// # Ok::<(), ia2::Error>(())
    /// ```
    pub fn subsets_present(self) -> Self {
        if self.is_installed() {
            return self;
        }
        match locate::there(self.entry, &self.own_folder(&folder()), &[self.learn.as_slice(), &self.test].concat()) {
            parts if parts.is_empty() => self,
            parts => Self { learn: parts, test: Vec::new(), ..self },
        }
    }

    /// Which parts are learned from, and which are tested on, in words.
    pub(crate) fn subsets_in_words(&self) -> String {
        let names = |parts: &[Subset]| parts.iter().map(|part| part.name()).collect::<Vec<_>>().join(" and ");
        match self.test.as_slice() {
            [] => format!("learned from and tested on {}", names(&self.learn)),
            test => format!("learned from {}, tested on {}", names(&self.learn), names(test)),
        }
    }

    /// Orders the choices of SciQr by this seed (0 unless said). Each row has a draw of its own.
    pub fn choices(self, seed: u64) -> Self {
        Self { choices: seed, ..self }
    }

    /// Uses the template as the paper prints it, with spaces after the colons and before the answers, in place of the authors' code's.
    /// Digits are then two tokens, a space and the digit, in the paper's tokenizers.
    pub fn printed(self) -> Self {
        Self { printed: true, ..self }
    }

    /// Reads answers as the authors' code does, or as they should be: see [`AnswerForm`]. Of BBCN, [`Compat::Paper`] also cuts the articles
    /// and tests on the test part, unless [`subsets`](Self::subsets) chose others before.
    pub fn compat(self, compat: Compat) -> Self {
        let parts = |compat| match (&self.entry.authors, compat) {
            (Some(authors), Compat::Paper) => (authors.learn.to_vec(), authors.test.to_vec()),
            _ => (self.entry.learn.to_vec(), self.entry.test.to_vec()),
        };
        let untouched = (self.learn.clone(), self.test.clone()) == parts(self.compat);
        let (learn, test) = if untouched { parts(compat) } else { (self.learn, self.test) };
        Self { compat, learn, test, ..self }
    }

    /// What is left of a text.
    fn kept<'t>(&self, text: &'t str) -> &'t str {
        match &self.entry.authors {
            Some(authors) if self.compat == Compat::Paper => (authors.text)(text),
            _ => text,
        }
    }

    /// Reads it from its folder in the data folder (`IA2_DATA`, or the library's own `data/tasks`); the folder's name is in
    /// [`table`](Self::table).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn open(&self) -> Result<Task> {
        self.read_folder(&self.own_folder(&folder()))
    }

    /// True if its files are in the data folder.
    pub fn is_installed(&self) -> bool {
        locate(self.entry, &self.own_folder(&folder()), &self.learn, &self.test).is_ok()
    }

    /// Reads it from a folder that holds its files, or holds its folder; or from one file, from which everything is then drawn.
    ///
    /// # Errors
    /// A file error: when files are missing, which are looked for and where to get them; when a row is malformed, its file, place and
    /// reason; when no row is left.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Task> {
        let path = path.as_ref();
        if path.is_file() {
            let layout = layout_of(self.entry, path)?;
            return self.task(layout, &[(Subset::Train, vec![path.to_owned()])], &[]);
        }
        let own = self.own_folder(path);
        let inside = own.is_dir() && locate(self.entry, path, &self.learn, &self.test).is_err();
        self.read_folder(if inside { &own } else { path })
    }

    /// Its folder in another: the first of its names that is there, or its usual name.
    fn own_folder(&self, folder: &Path) -> PathBuf {
        let mut names = self.entry.folders.iter().map(|name| folder.join(name));
        names.find(|own| own.is_dir()).unwrap_or_else(|| folder.join(self.entry.folders[0]))
    }

    fn gap(&self) -> &'static str {
        if self.printed { " " } else { "" }
    }

    fn read_folder(&self, folder: &Path) -> Result<Task> {
        let (layout, found) = locate(self.entry, folder, &self.learn, &self.test)?;
        let (learn, test): (Vec<_>, Vec<_>) = found.into_iter().partition(|(part, _)| self.learn.contains(part));
        self.task(layout, &learn, &test)
    }
}

impl fmt::Debug for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Benchmark({}, {})", self.name(), self.subsets_in_words())
    }
}

impl crate::display::Show for Benchmark {
    fn bundle(&self) -> crate::display::Bundle {
        crate::display::Bundle::text(format!("{self:?}\n{}", self.card()))
    }
}

impl Task {
    /// Reads a benchmark of the paper from a folder or a file: [`Benchmark::read`] with its settings as they are.
    ///
    /// # Errors
    /// An input error for an unknown name; file errors as [`Benchmark::read`].
    pub fn benchmark(name: impl AsRef<str>, path: impl AsRef<Path>) -> Result<Self> {
        Benchmark::named(name)?.read(path)
    }
}
