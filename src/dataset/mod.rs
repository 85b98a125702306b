//! Tasks: examples with a card that says what they are, and the few-shot splits drawn from them.
//!
//! ```no_run
//! use ia2::dataset::Task;
//!
//! let task = Task::open("sentiment")?;
//! let split = task.few_shot(8, 0)?; // 8 training examples, 4 for development, up to 500 for testing
//! println!("{:?}\n{}", split, split.train.frame()?);
//! # Ok::<(), ia2::Error>(())
//! ```
//!
//! A name is looked up in `SOURCES`, in `mod.rs`: a path to a file, a task of the data folder, a [benchmark](Benchmark) of the paper. A new
//! benchmark is one file in `benchmark/` and one line in its `ALL`.

mod benchmark;
mod card;
mod changed;
mod columns;
mod count;
mod local;
mod near;
mod read;
mod split;

use std::fmt;
use std::path::Path;

use polars::prelude::*;

pub use benchmark::{Benchmark, Subset};
pub use card::Card;
pub use columns::Columns;
pub(crate) use split::SHOWN_AT_MOST;
pub use split::Split;

use count::{Count, Dispute, DuplicateFilter, Outcome};

use crate::compat::Compat;
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
#[cfg(test)]
use crate::prompt::Example;
use crate::prompt::{AnswerForm, Examples};

crate::display::show_as_text!(Subset);

/// A place tasks come from.
struct Source {
    /// What it is, in messages.
    what: fn() -> String,
    /// The names it knows.
    names: fn() -> Result<Vec<String>>,
    /// The task of a name, or `None` when the name is not its own.
    open: fn(&str, Compat) -> Result<Option<Task>>,
}

/// Every source, asked in this order.
const SOURCES: &[Source] = &[local::PATHS, local::FOLDER, benchmark::INSTALLED];

/// The test set's size unless [`Task::test_at_most`] says otherwise, as in the paper.
const TEST_AT_MOST: usize = 500;

/// A task: all its examples, the form of its answers, and its card.
///
/// Most tasks are one set of rows, of which a run's train, dev and test sets are drawn. A benchmark whose makers keep rows to test on has
/// these as [`held_out`](Self::held_out) rows: then all test sets are drawn from them, and nothing else is.
#[derive(Clone)]
pub struct Task {
    examples: Examples,
    held_out: Examples,
    card: Card,
    counts: Vec<Count>,
    disputes: Vec<Dispute>,
    test_at_most: usize,
    dev: Option<usize>,
}

impl Task {
    /// Opens a task by name, or the `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file at a path.
    ///
    /// Names are `.jsonl` files in the folder that the environment variable `IA2_DATA` names, or else in the library's own `data/tasks`;
    /// and the [benchmarks](Benchmark) of the paper, whose files lie in folders there: `$IA2_DATA/sst2/train.tsv`.
    /// A `.jsonl` file holds one object a line, `{"query": "Text:...\nLabel:", "gold": "1"}`; a `.json` file the same or an array of objects; `.csv`
    /// and `.tsv` files name their columns in their first line (in a `.tsv` nothing is quoted). Golds may be whole numbers or booleans. Columns
    /// with other names than `query` and `gold`: [`open_with`](Self::open_with). The card is the file's entry in the `tasks.json` next to it. Without
    /// one the answers are free text; see [`labelled`](Self::labelled).
    ///
    /// # Errors
    /// An input error that lists the known tasks for an unknown name; a file error naming file, line and reason for a row
    /// that is malformed, lacks `query` or `gold`, has an empty one, or a gold that is not among the card's labels; a file error that
    /// says what is looked for and where to get it for a benchmark whose files are not there.
    pub fn open(name: impl AsRef<str>) -> Result<Self> {
        Self::open_as(name.as_ref(), Compat::Corrected)
    }

    /// [`open`](Self::open), a benchmark with [`Benchmark::compat`].
    pub(crate) fn open_as(name: &str, compat: Compat) -> Result<Self> {
        let open = || {
            for source in SOURCES {
                if let Some(task) = (source.open)(name, compat)? {
                    return Ok(Some(task));
                }
            }
            Ok(None)
        };
        if let Some(task) = interrupt::during(&format!("opening the task `{name}`"), open)? {
            return Ok(task);
        }
        let mut known = Vec::new();
        for source in SOURCES {
            let names = (source.names)()?;
            if !names.is_empty() {
                known.push(format!("{}: {}", (source.what)(), names.join(", ")));
            }
        }
        let known = if known.is_empty() { "no task is installed".into() } else { known.join("; ") };
        let benchmarks = Benchmark::all().iter().map(Benchmark::name).collect::<Vec<_>>().join(", ");
        Err(Error::input(format!(
            "there is no task `{name}`; {known}. A path to a file that ends in {} works too, and with their files {benchmarks}",
            read::ENDINGS
        )))
    }

    /// Whether a task of this name is there, all of it or a part.
    pub(crate) fn is_there(name: &str) -> Result<bool> {
        let benchmark = || Benchmark::named(name).is_ok_and(|benchmark| benchmark.subsets_present().is_installed());
        Ok(Path::new(name).is_file() || local::names_in(&local::folder())?.iter().any(|own| own == name) || benchmark())
    }

    /// Opens a file of one's own whose queries and golds stand in columns of any name, or are made of several:
    /// `Task::open_with("reviews.parquet", &Columns::named("sentence", "label"))`.
    ///
    /// # Errors
    /// A path that ends in none of the known endings, a template that cannot be read; file errors as [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, columns: &Columns) -> Result<Self> {
        let path = path.as_ref();
        interrupt::during(&format!("opening {}", path.display()), || local::open_with(path, columns))
    }

    /// Opens the task `name` in a folder of `.jsonl` files with their `tasks.json`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in(folder: impl AsRef<Path>, name: &str) -> Result<Self> {
        let folder = folder.as_ref();
        let opened = interrupt::during(&format!("opening the task `{name}`"), || local::open_in(folder, name))?;
        opened.ok_or_else(|| match local::names_in(folder) {
            Ok(names) if names.is_empty() => {
                Error::file(format!("there is no task `{name}`: `{}` holds no `.jsonl` file", folder.display()))
            }
            Ok(names) => Error::input(format!("there is no task `{name}` in `{}`; there are {}", folder.display(), names.join(", "))),
            Err(error) => error,
        })
    }

    /// A task of one's own examples. Of rows that ask the same query the first is kept, and [`repeated`](Self::repeated) counts
    /// the others: no query may stand in both train and test.
    pub fn of(examples: Examples, card: Card) -> Self {
        Self::of_file(examples, card, Path::new(""))
    }

    /// [`of`](Self::of) a file.
    fn of_file(examples: Examples, card: Card, file: &Path) -> Self {
        let (mut filter, mut count) = (DuplicateFilter::default(), Count::of(file, "", "learn"));
        let mut fresh = Vec::with_capacity(examples.len());
        for (place, row) in examples.rows().iter().enumerate() {
            let outcome = filter.outcome(row, examples.form());
            count.add(outcome);
            if outcome == Outcome::Kept {
                fresh.push(place);
            }
        }
        let examples = if fresh.len() < examples.len() { examples.pick(fresh) } else { examples };
        let none = examples.take(0);
        Self::counted(examples, none, card, vec![count], filter.disputes)
    }

    /// A task that was stored as these rows, sifted already.
    pub(crate) fn stored(examples: Examples, held_out: Examples) -> Self {
        Self::counted(examples, held_out, Card::default(), Vec::new(), Vec::new())
    }

    /// A task whose rows are sifted and counted already.
    fn counted(examples: Examples, held_out: Examples, card: Card, counts: Vec<Count>, disputes: Vec<Dispute>) -> Self {
        Self { examples, held_out, card, counts, disputes, test_at_most: TEST_AT_MOST, dev: None }
    }

    /// A task of the columns `query` (text) and `gold` (text, whole numbers or booleans) of a frame, with free answers; see
    /// [`labelled`](Self::labelled). For columns of other names, [`from_frame_with`](Self::from_frame_with).
    ///
    /// # Errors
    /// An input error naming a column that is missing or of another kind, or the row (from 0) where one is null or empty.
    pub fn from_frame(name: impl Into<String>, frame: &DataFrame) -> Result<Self> {
        Self::from_frame_with(name, frame, &Columns::default())
    }

    /// [`from_frame`](Self::from_frame) of columns with any names, or of several in a template.
    ///
    /// # Errors
    /// As [`from_frame`](Self::from_frame); a template that cannot be read.
    pub fn from_frame_with(name: impl Into<String>, frame: &DataFrame, columns: &Columns) -> Result<Self> {
        Ok(Self::of(Examples::new(name, AnswerForm::free(), columns.examples(frame)?)?, Card::default()))
    }

    /// The tasks that are there, one row each: `task`, `title`, `label` (the labels, empty for free answers), `row` (number of rows),
    /// `ood` (tasks to test on out of distribution), `license`. The benchmarks that could be there are in [`Benchmark::table`].
    ///
    /// # Errors
    /// As [`open`](Self::open), for any of them.
    pub fn table() -> Result<DataFrame> {
        let mut tasks = Vec::new();
        for source in SOURCES {
            for name in (source.names)()? {
                tasks.extend((source.open)(&name, Compat::Corrected)?);
            }
        }
        table(&tasks)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.examples.name()
    }

    /// The form of its answers.
    pub fn form(&self) -> &AnswerForm {
        self.examples.form()
    }

    /// The labels; empty for free answers.
    pub fn labels(&self) -> &[String] {
        self.examples.labels()
    }

    /// What it is, where it comes from, and under which license.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Names of tasks that test the same skill out of distribution.
    pub fn ood(&self) -> &[String] {
        &self.card.ood
    }

    /// All its examples, but those [held out](Self::held_out).
    pub fn examples(&self) -> &Examples {
        &self.examples
    }

    /// The examples that its makers keep to test on; none for most tasks. Where there are some, all test sets are drawn from them.
    pub fn held_out(&self) -> &Examples {
        &self.held_out
    }

    /// Number of examples, but those [held out](Self::held_out).
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// How many rows were left out because an earlier one asks the same query, with the same gold or [another](Self::disputed).
    pub fn repeated(&self) -> usize {
        self.counts.iter().map(Count::repeated).sum()
    }

    /// The rows that were left out because an earlier one answers the same query otherwise: `query`, `gold` (the earlier row's, which is kept),
    /// `other` (the gold that was left out). Where there are some, the labels of the data are in doubt.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn disputed(&self) -> Result<DataFrame> {
        count::disputed(&self.disputes)
    }

    /// How many rows of each file were kept or left out, and why: `file` (a folder for files of one row each), `part` (as published),
    /// `use` (`learn`, or `test` for held out rows), `outcome` (`kept` or `dropped`), `reason`, `row` (their number).
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn counts(&self) -> Result<DataFrame> {
        count::frame(&self.counts)
    }

    /// All its examples, but those [held out](Self::held_out): `query`, `gold`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        self.examples.frame()
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task(`{}`, {} rows", self.name(), self.len())?;
        if !self.held_out.is_empty() {
            write!(f, " and {} held out to test on", self.held_out.len())?;
        }
        write!(f, ", {}", self.form())?;
        if self.repeated() > 0 {
            write!(f, ", {} repeated queries left out", self.repeated())?;
        }
        if !self.disputes.is_empty() {
            write!(f, ", {} of them with another gold (see `.disputed()`)", self.disputes.len())?;
        }
        if !self.ood().is_empty() {
            write!(f, ", out of distribution: {}", self.ood().join(", "))?;
        }
        f.write_str(")")
    }
}

fn table(tasks: &[Task]) -> Result<DataFrame> {
    let text = |text: fn(&Task) -> String| tasks.iter().map(text).collect::<Vec<_>>();
    Ok(df!(
        "task" => text(|task| task.name().into()),
        "title" => text(|task| task.card.title.clone()),
        "label" => text(|task| task.labels().join(", ")),
        "row" => tasks.iter().map(|task| (task.len() + task.held_out.len()) as u32).collect::<Vec<_>>(),
        "ood" => text(|task| task.ood().join(", ")),
        "license" => text(|task| task.card.license.clone()),
    )?)
}

/// A task of `count` rows with the labels in turn, for tests.
#[cfg(test)]
fn counted(count: usize) -> Task {
    let rows = (0..count).map(|row| Example::new(format!("Text:{row}\nLabel:"), (row % 2).to_string())).collect();
    Task::of(Examples::new("counted", AnswerForm::labels(["0", "1"]).unwrap(), rows).unwrap(), Card::default())
}

impl Show for Task {
    fn bundle(&self) -> Bundle {
        headed(format!("{self:?}\n{}", self.card).trim_end(), self.frame())
    }
}

impl Show for Card {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_queries_are_left_out_and_counted() {
        let rows = vec![Example::new("a", "0"), Example::new("b", "1"), Example::new("a", "1")];
        let task = Task::of(Examples::new("t", AnswerForm::free(), rows).unwrap(), Card::default());
        assert_eq!((task.len(), task.repeated()), (2, 1));
        assert_eq!(task.examples().rows()[0].gold, "0", "the first stays");
        assert!(format!("{task:?}").contains("1 repeated queries left out, 1 of them with another gold (see `.disputed()`)"), "{task:?}");
        let disputed = task.disputed().unwrap();
        let cell = |name: &str| disputed.column(name).unwrap().str().unwrap().get(0).unwrap().to_owned();
        assert_eq!(["query", "gold", "other"].map(cell), ["a", "0", "1"]);
        let counts = task.counts().unwrap();
        let reasons: Vec<_> = counts.column("reason").unwrap().str().unwrap().iter().flatten().collect();
        assert_eq!(reasons, ["", "the query of an earlier row, with another gold"]);
    }

    #[test]
    fn two_ways_to_one_result_are_no_dispute() {
        let rows =
            vec![Example::new("1+1?", "one more #### 2"), Example::new("1+1?", "by counting #### 2"), Example::new("1+1?", "#### 3")];
        let form = AnswerForm::free().after("####").unwrap();
        let task = Task::of(Examples::new("t", form, rows).unwrap(), Card::default());
        assert_eq!((task.repeated(), task.disputed().unwrap().height()), (2, 1));
    }

    #[test]
    fn labels_can_be_given_later() {
        let task = counted(4).with_form(AnswerForm::free()).unwrap();
        assert!(task.labels().is_empty());
        assert_eq!(task.clone().labelled(["1", "0"]).unwrap().labels(), ["1", "0"]);
        let error = task.labelled(["1", "2"]).unwrap_err().to_string();
        assert!(error.contains("row 0 of `counted`") && error.contains("not among the labels 1, 2"), "{error}");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Task::open("no such task").unwrap_err();
        assert!(error.to_string().contains("no task `no such task`"), "{error}");
    }

    #[test]
    fn the_table_has_a_row_for_each() {
        let frame = table(&[counted(3)]).unwrap();
        assert_eq!(frame.get_column_names(), ["task", "title", "label", "row", "ood", "license"]);
        assert_eq!(frame.column("label").unwrap().str().unwrap().get(0), Some("0, 1"));
    }
}
