//! From located files to a task: every record made an example, left out with a reason, or refused.

use std::path::{Path, PathBuf};

use super::Benchmark;
use super::entry::{Layout, Made, Subset};
use crate::dataset::Task;
use crate::dataset::count::{Count, DuplicateFilter, Outcome};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::prompt::{AnswerForm, Example, Examples, check};
use crate::random::Random;

impl Benchmark {
    pub(super) fn task(&self, layout: &Layout, learn: &[(Subset, Vec<PathBuf>)], test: &[(Subset, Vec<PathBuf>)]) -> Result<Task> {
        let form = self.form()?;
        let mut reading = Reading { benchmark: self, layout, form: &form, filter: DuplicateFilter::default(), counts: Vec::new() };
        let what = format!("reading the benchmark {}", self.name());
        let (learned, tested) = interrupt::during(&what, || Ok((reading.rows(learn, "learn")?, reading.rows(test, "test")?)))?;
        let (counts, disputes) = (reading.counts, reading.filter.disputes);
        for (rows, parts, what) in [(&learned, learn, "learn from"), (&tested, test, "test on")] {
            if rows.is_empty() && !parts.is_empty() {
                let files =
                    parts.iter().flat_map(|(_, files)| files).map(|file| format!("`{}`", file.display())).take(3).collect::<Vec<_>>();
                return Err(Error::file(format!("{} has no row to {what} in {}", self.name(), files.join(", "))));
            }
        }
        let learned = Examples::new(self.name(), form.clone(), learned)?;
        let tested = Examples::new(self.name(), form, tested)?;
        Ok(Task::counted(learned, tested, self.card(), counts, disputes))
    }
}

/// One reading of all files.
struct Reading<'a> {
    benchmark: &'a Benchmark,
    layout: &'a Layout,
    form: &'a AnswerForm,
    /// Of rows that ask the same the first is kept, over all parts.
    filter: DuplicateFilter,
    counts: Vec<Count>,
}

impl Reading<'_> {
    fn rows(&mut self, parts: &[(Subset, Vec<PathBuf>)], used: &'static str) -> Result<Vec<Example>> {
        let mut rows = Vec::new();
        for (part, files) in parts {
            let mut number = 0;
            // A folder of many small files is counted as one.
            let shown = match files.as_slice() {
                [file] => file.clone(),
                files => files.first().and_then(|file| file.parent()).unwrap_or(Path::new("")).to_owned(),
            };
            let mut count = Count::of(shown, part.name(), used);
            for (place, file) in files.iter().enumerate() {
                interrupt::at(place as u64, files.len() as u64, "files")?;
                self.layout.format.read(file, &mut |record| {
                    number += 1;
                    let mut random = Random::new(self.benchmark.choices, "choices", (*part as u64) << 32 | number);
                    let (question, choices, gold) = match (self.layout.row)(&record, &mut random)? {
                        Made::Kept { question, choices, gold } => (question, choices, gold),
                        Made::Dropped(reason) => {
                            count.add(Outcome::Dropped(reason));
                            return Ok(());
                        }
                    };
                    let query = self.benchmark.entry.query(self.benchmark.kept(&question), &choices, self.benchmark.printed);
                    let example = Example { query, gold: format!("{}{gold}", self.benchmark.gap()) };
                    if question.trim().is_empty() {
                        return Err("the text is empty".into());
                    }
                    check(&example, self.form).map_err(|error| error.to_string())?;
                    let outcome = self.filter.outcome(&example, self.form);
                    count.add(outcome);
                    if outcome == Outcome::Kept {
                        rows.push(example);
                    }
                    Ok(())
                })?;
            }
            self.counts.push(count);
        }
        Ok(rows)
    }
}
