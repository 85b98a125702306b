//! A task with something changed: its labels, the form of its answers, the sizes of its sets.

use super::Task;
use crate::error::{Error, Result};
use crate::prompt::{AnswerForm, Examples};

impl Task {
    /// The same task with these labels; for data that came without a card. How a model's tokenizer cuts them after a query, and which of them merge
    /// with it over their border, is told by [`LabelTokens`](crate::prompt::LabelTokens) and by the column `merged_label` of
    /// [`evaluate`](crate::evaluate::evaluate).
    ///
    /// # Errors
    /// An input error when there are fewer than two labels, one is empty, two are the same but for spaces, or a gold is not among them.
    pub fn labelled<L: Into<String>>(self, labels: impl IntoIterator<Item = L>) -> Result<Self> {
        let form = AnswerForm::labels(labels)?;
        self.with_form(form)
    }

    /// The same task with another form of answer.
    ///
    /// # Errors
    /// An input error naming the row (from 0) whose gold is not among the form's labels.
    pub fn with_form(self, form: AnswerForm) -> Result<Self> {
        let examples = Examples::new(self.name(), form.clone(), self.examples.rows().to_vec())?;
        let held_out = Examples::new(self.name(), form, self.held_out.rows().to_vec())?;
        Ok(Self { examples, held_out, ..self })
    }

    /// The same task with other words for its labels, in the order of its own: `["0", "1"]` to `[" negative", " positive"]`. A model may know what
    /// a word means where a digit tells it nothing. A space before a word is part of it, as it is in a text.
    ///
    /// ```
    /// use ia2::dataset::Task;
    ///
    /// let task = Task::open("sentiment")?.relabelled([" negative", " positive"])?;
    /// assert_eq!(task.labels(), [" negative", " positive"]);
    /// # Ok::<(), ia2::Error>(())
    /// ```
    ///
    /// # Errors
    /// An input error for a task without labels, another number of words than labels, or words that are no [labels](AnswerForm::labels).
    pub fn relabelled<L: Into<String>>(self, words: impl IntoIterator<Item = L>) -> Result<Self> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        if words.len() != self.labels().len() {
            let labels = if self.labels().is_empty() { "free answers".into() } else { format!("the labels {}", self.labels().join(", ")) };
            return Err(Error::input(format!(
                "`{}` has {labels}, and {} words are given for them: give one for each label, in this order",
                self.name(),
                words.len()
            )));
        }
        let old = self.form();
        let form = old.relabelled(words)?;
        let of = |rows: &Examples| {
            let mut rows = rows.rows().to_vec();
            for row in &mut rows {
                if let Some(place) = old.label_of(&row.gold) {
                    row.gold = form.label_set()[place].clone();
                }
            }
            Examples::new(self.name(), form.clone(), rows)
        };
        Ok(Self { examples: of(&self.examples)?, held_out: of(&self.held_out)?, ..self })
    }

    /// The same task, whose dev sets have `count` examples whatever N; otherwise min(48, N / 2), at least one. A few rows choose badly between
    /// learning rates and when to stop.
    ///
    /// # Errors
    /// An input error when `count` is 0.
    pub fn dev_rows(self, count: usize) -> Result<Self> {
        if count == 0 {
            return Err(Error::input("a dev set needs at least one example, 0 asked for"));
        }
        Ok(Self { dev: Some(count), ..self })
    }

    /// The same task, whose test sets have at most `count` examples (500 unless said).
    ///
    /// # Errors
    /// An input error when `count` is 0.
    pub fn test_at_most(self, count: usize) -> Result<Self> {
        if count == 0 {
            return Err(Error::input("a test set needs at least one example, at most 0 asked for"));
        }
        Ok(Self { test_at_most: count, ..self })
    }
}
