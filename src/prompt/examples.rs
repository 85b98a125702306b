//! A set of solved examples and the ways to make prompts of it.

use std::fmt;

use polars::prelude::*;
use serde::{Deserialize, Serialize};

use super::orders::{Halved, last};
use super::{AnswerForm, Example, Orders, Prompt, Prompts};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::random::Random;

/// Solved examples of one task, in order.
///
/// ```
/// use ia2::prompt::{AnswerForm, Example, Examples};
///
/// let form = AnswerForm::labels(["0", "1"])?;
/// let train = Examples::new("mood", form.clone(), vec![Example::new("Text:fine\nLabel:", "1"), Example::new("Text:bad\nLabel:", "0")])?;
/// let test = Examples::new("mood", form, vec![Example::new("Text:good\nLabel:", "1")])?;
/// assert_eq!(test.zero_shot()?.texts(), ["Text:good\nLabel:"]);
/// assert!(test.with_demonstrations(&train, 0)?.texts()[0].ends_with("\n\nText:good\nLabel:"));
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examples {
    name: String,
    form: AnswerForm,
    rows: Vec<Example>,
}

impl Examples {
    /// A set of `rows`, whose golds have the given form.
    ///
    /// # Errors
    /// An input error naming the row (0-based) when a query or gold is empty, or a gold is not among the form's labels.
    pub fn new(name: impl Into<String>, form: AnswerForm, rows: Vec<Example>) -> Result<Self> {
        let name = name.into();
        for (row, example) in rows.iter().enumerate() {
            check(example, &form).map_err(|error| error.context(format_args!("row {row} of `{name}`")))?;
        }
        Ok(Self { name, form, rows })
    }

    /// What the set is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The form of the answers.
    pub fn form(&self) -> &AnswerForm {
        &self.form
    }

    /// The labels, in the task's order; empty for free answers.
    pub fn labels(&self) -> &[String] {
        self.form.label_set()
    }

    /// The string at which generation stops, if any.
    pub fn stop(&self) -> Option<&str> {
        self.form.stop()
    }

    /// The most tokens a response may have.
    pub fn max_new_tokens(&self) -> usize {
        self.form.max_new_tokens()
    }

    /// The examples.
    pub fn rows(&self) -> &[Example] {
        &self.rows
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The first `count` examples, or all when there are fewer.
    pub fn take(&self, count: usize) -> Self {
        self.pick(0..count.min(self.len()))
    }

    /// The examples at `places`, in that order. Places beyond the end are a bug of the caller and are left out.
    pub(crate) fn pick(&self, places: impl IntoIterator<Item = usize>) -> Self {
        let rows = places.into_iter().filter_map(|place| self.rows.get(place).cloned()).collect();
        Self { name: self.name.clone(), form: self.form.clone(), rows }
    }

    /// One row per example: `query`, `gold`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let column = |text: fn(&Example) -> &str| self.rows.iter().map(text).collect::<Vec<_>>();
        Ok(df!("query" => column(|example| &example.query), "gold" => column(|example| &example.gold))?)
    }

    /// Each query alone.
    ///
    /// # Errors
    /// An input error when the set is empty.
    pub fn zero_shot(&self) -> Result<Prompts> {
        self.prompts(|_| Ok(Vec::new()))
    }

    /// Each query after demonstrations made of the *other* examples, `min(at_most, N - 1)` of them, in an order of its own.
    ///
    /// The authors draw at most 256 and shuffle what is drawn. Example *i*'s draw depends on `seed`, *i* and N only. These are
    /// [`Orders::Independent`]; see [`leave_one_out_in`](Self::leave_one_out_in) for orders that are read in less time.
    ///
    /// # Errors
    /// An input error when the set has fewer than two examples, `at_most` is 0, or another example has the same query
    /// (its answer would then stand in the prompt).
    pub fn leave_one_out(&self, seed: u64, at_most: usize) -> Result<Prompts> {
        self.leave_one_out_in(Orders::Independent, seed, at_most)
    }

    /// [`leave_one_out`](Self::leave_one_out) in the orders asked for. Those of [`Orders::Tree`] depend on `seed` and N only; where `at_most` is below
    /// N - 1, each query is shown the last of its order.
    ///
    /// # Errors
    /// As [`leave_one_out`](Self::leave_one_out).
    pub fn leave_one_out_in(&self, orders: Orders, seed: u64, at_most: usize) -> Result<Prompts> {
        if self.len() < 2 {
            return Err(Error::input(format!("leaving one out needs at least two examples, `{}` has {}", self.name, self.len())));
        }
        if at_most == 0 {
            return Err(Error::input("at most 0 demonstrations leaves none: use `zero_shot` for queries alone"));
        }
        let halved = Halved::new(self.len(), &mut Random::new(seed, "leave one out tree", 0));
        let places = halved.places();
        self.prompts(|own| {
            let others = match orders {
                Orders::Tree => {
                    let mut shown = halved.shown(places[own]);
                    shown.pop();
                    last(shown, at_most)
                }
                Orders::Independent => {
                    let others = Random::new(seed, "leave one out", own as u64).choose(at_most, self.len() - 1);
                    others.into_iter().map(|other| other + usize::from(other >= own)).collect()
                }
            };
            Ok(self.pick(others).rows)
        })
    }

    /// For each of `count` queries `min(at_most, N)` of these examples, in the orders asked for. Of a tree's orders there are N: the queries take turns.
    pub(crate) fn demonstrations(&self, orders: Orders, seed: u64, count: usize, at_most: usize) -> Vec<Vec<Example>> {
        let halved = Halved::new(self.len(), &mut Random::new(seed, "unlabelled tree", 0));
        let shown = |query: usize| match orders {
            Orders::Tree if self.is_empty() => Vec::new(),
            Orders::Tree => last(halved.shown(query % self.len()), at_most),
            Orders::Independent => Random::new(seed, "unlabelled", query as u64).choose(at_most, self.len()),
        };
        (0..count).map(|query| self.pick(shown(query)).rows).collect()
    }

    /// Each query after the same demonstrations: all of `from`, in one random order, so that all prompts share their prefix.
    ///
    /// # Errors
    /// An input error when either set is empty, or a query of this set is also in `from`.
    pub fn with_demonstrations(&self, from: &Examples, seed: u64) -> Result<Prompts> {
        if from.is_empty() {
            return Err(Error::input(format!("`{}` has no examples to demonstrate with", from.name)));
        }
        let shown = from.pick(Random::new(seed, "demonstrations", 0).order(from.len())).rows;
        self.prompts(|_| Ok(shown.clone()))
    }

    /// Each query after demonstrations of its own: `min(at_most, from.len())` examples of `from`, drawn again for every query.
    ///
    /// As the authors evaluate, who draw from the rows of the train part that no run learned from. No two prompts share their prefix
    /// then, so nothing can be computed once for all: [`with_demonstrations`](Self::with_demonstrations) is several times faster. Query *i*'s
    /// draw depends on `seed`, *i* and the size of `from` only.
    ///
    /// # Errors
    /// An input error when either set is empty, `at_most` is 0, or a query of this set is among its demonstrations.
    pub fn with_demonstrations_per_query(&self, from: &Examples, at_most: usize, seed: u64) -> Result<Prompts> {
        if from.is_empty() || at_most == 0 {
            let remedy = "use `zero_shot` for queries alone";
            return Err(Error::input(format!("`{}` has {} examples, at most {at_most} to show: {remedy}", from.name, from.len())));
        }
        self.prompts(|place| Ok(from.pick(Random::new(seed, "demonstrations per query", place as u64).choose(at_most, from.len())).rows))
    }

    /// Each query *j* after the demonstrations of `prompts[j]`, beginning again when this set is the longer one.
    ///
    /// This is how a dev set gets its demonstrations: those of the training example with its number.
    ///
    /// # Errors
    /// An input error when either is empty, or a query of this set is among its demonstrations.
    pub fn paired_with(&self, prompts: &Prompts) -> Result<Prompts> {
        if prompts.is_empty() {
            return Err(Error::input("there are no prompts to take demonstrations from"));
        }
        self.prompts(|place| Ok(prompts.get(place % prompts.len()).map(|prompt| prompt.demonstrations.clone()).unwrap_or_default()))
    }

    /// One prompt per example; the check that no prompt with its own answer in it passes.
    fn prompts(&self, demonstrations: impl Fn(usize) -> Result<Vec<Example>>) -> Result<Prompts> {
        if self.is_empty() {
            return Err(Error::input(format!("`{}` has no examples to make prompts of", self.name)));
        }
        interrupt::during("making prompts", || self.asked(demonstrations))
    }

    fn asked(&self, demonstrations: impl Fn(usize) -> Result<Vec<Example>>) -> Result<Prompts> {
        let mut rows = Vec::with_capacity(self.len());
        for (index, example) in self.rows.iter().enumerate() {
            interrupt::at(index as u64, self.len() as u64, "prompts")?;
            let demonstrations = demonstrations(index)?;
            if demonstrations.iter().any(|shown| shown.query == example.query) {
                let remedy = "remove repeated queries, or use `leave_one_out` within one set";
                return Err(Error::input(format!(
                    "the query of example {index} of `{}` is among its own demonstrations: {remedy}",
                    self.name
                )));
            }
            rows.push(Prompt { demonstrations, example: example.clone(), index });
        }
        Ok(Prompts::new(rows).with_form(self.form.clone()))
    }
}

impl fmt::Debug for Examples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Examples(`{}`, {} rows, {})", self.name, self.len(), self.form)
    }
}

/// What every example must satisfy; the caller adds where it stands.
pub(crate) fn check(example: &Example, form: &AnswerForm) -> Result<()> {
    if example.query.trim().is_empty() {
        return Err(Error::input("the query is empty"));
    }
    if example.gold.trim().is_empty() {
        return Err(Error::input("the gold is empty"));
    }
    let labels = form.label_set();
    if !labels.is_empty() && !labels.contains(&example.gold) {
        return Err(Error::input(format!("the gold {:?} is not among the labels {}", example.gold, labels.join(", "))));
    }
    Ok(())
}

impl Show for Examples {
    fn bundle(&self) -> Bundle {
        headed(&format!("{self:?}"), self.frame())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(name: &str, count: usize) -> Examples {
        let rows = (0..count).map(|i| Example::new(format!("Text:{name}{i}\nLabel:"), (i % 2).to_string())).collect();
        Examples::new(name, AnswerForm::labels(["0", "1"]).unwrap(), rows).unwrap()
    }

    #[test]
    fn leave_one_out_shows_all_the_others_and_never_its_own() {
        let train = examples("a", 8);
        let prompts = train.leave_one_out(5, 256).unwrap();
        assert_eq!(prompts.len(), 8);
        for (place, prompt) in prompts.iter().enumerate() {
            assert_eq!((prompt.index, &prompt.example), (place, &train.rows()[place]));
            let mut shown: Vec<_> = prompt.demonstrations.iter().map(|shown| shown.query.as_str()).collect();
            shown.sort_unstable();
            let others: Vec<_> = train.rows().iter().filter(|row| **row != prompt.example).map(|row| row.query.as_str()).collect();
            assert_eq!(shown, others);
        }
        assert_eq!(prompts, train.leave_one_out(5, 256).unwrap());
        assert_ne!(prompts, train.leave_one_out(6, 256).unwrap());
        let orders = |prompts: &Prompts| prompts.iter().map(|p| p.demonstrations.first().cloned()).collect::<Vec<_>>();
        assert!(orders(&prompts).windows(2).any(|pair| pair[0] != pair[1]), "orders differ between examples");
        assert_eq!(prompts.form(), train.form());
    }

    #[test]
    fn at_most_bounds_the_demonstrations() {
        let prompts = examples("a", 8).leave_one_out(0, 3).unwrap();
        assert!(prompts.iter().all(|prompt| prompt.demonstrations.len() == 3));
        assert!(prompts.iter().all(|prompt| !prompt.demonstrations.contains(&prompt.example)));
    }

    #[test]
    fn queries_take_turns_in_a_tree_of_orders() {
        let shown = examples("a", 3).demonstrations(Orders::Tree, 1, 7, 2);
        assert!(shown.iter().all(|rows| rows.len() == 2) && shown[0] != shown[1]);
        assert!((0..4).all(|query| shown[query] == shown[query + 3]), "{shown:?}");
        assert_eq!((&examples("a", 3).zero_shot().unwrap()).into_iter().count(), 3);
    }

    #[test]
    fn fixed_demonstrations_share_their_prefix() {
        let (train, test) = (examples("a", 4), examples("b", 6));
        let prompts = test.with_demonstrations(&train, 1).unwrap();
        let prefix = prompts.get(0).unwrap().prefix();
        assert_eq!(prefix.matches("\n\n").count(), 4);
        assert!(prompts.iter().all(|prompt| prompt.prefix() == prefix));
        assert_eq!(prompts, test.with_demonstrations(&train, 1).unwrap());
        assert!((0..9).any(|seed| test.with_demonstrations(&train, seed).unwrap() != prompts));
    }

    #[test]
    fn demonstrations_of_each_query_are_drawn_anew() {
        let (pool, test) = (examples("a", 20), examples("b", 30));
        let prompts = test.with_demonstrations_per_query(&pool, 4, 1).unwrap();
        let mut shown = std::collections::HashSet::new();
        for (place, prompt) in prompts.iter().enumerate() {
            assert_eq!((prompt.index, &prompt.example, prompt.demonstrations.len()), (place, &test.rows()[place], 4));
            let different: std::collections::HashSet<_> = prompt.demonstrations.iter().map(|shown| shown.query.as_str()).collect();
            assert_eq!(different.len(), 4);
            shown.extend(prompt.demonstrations.iter().map(|shown| shown.query.clone()));
        }
        assert_eq!(shown.len(), 20, "over 30 queries every example comes up");
        assert!(prompts.iter().any(|prompt| prompt.demonstrations != prompts.get(0).unwrap().demonstrations));
        assert_eq!(prompts, test.with_demonstrations_per_query(&pool, 4, 1).unwrap());
        assert_ne!(prompts, test.with_demonstrations_per_query(&pool, 4, 2).unwrap());
        assert_eq!(test.with_demonstrations_per_query(&pool, 99, 1).unwrap().get(0).unwrap().demonstrations.len(), 20);
        assert!(test.with_demonstrations_per_query(&pool, 0, 1).unwrap_err().to_string().contains("zero_shot"));
        assert!(test.with_demonstrations_per_query(&test, 30, 1).unwrap_err().to_string().contains("among its own demonstrations"));
    }

    #[test]
    fn dev_examples_get_the_demonstrations_of_the_training_example_with_their_number() {
        let (train, dev) = (examples("a", 3), examples("b", 5));
        let taught = train.leave_one_out(0, 256).unwrap();
        let prompts = dev.paired_with(&taught).unwrap();
        for (place, prompt) in prompts.iter().enumerate() {
            assert_eq!(prompt.demonstrations, taught.get(place % 3).unwrap().demonstrations);
            assert_eq!(prompt.example, dev.rows()[place]);
        }
    }

    #[test]
    fn what_cannot_be_prompted_is_an_error() {
        let (none, one, two) = (examples("a", 0), examples("a", 1), examples("a", 2));
        let repeated = Examples::new("r", one.form().clone(), [one.rows(), one.rows()].concat()).unwrap();
        for (result, word) in [
            (none.zero_shot(), "no examples"),
            (one.leave_one_out(0, 9), "at least two"),
            (two.leave_one_out(0, 0), "zero_shot"),
            (two.with_demonstrations(&none, 0), "no examples to demonstrate"),
            (two.with_demonstrations(&two, 0), "leave_one_out"),
            (repeated.leave_one_out(0, 9), "among its own demonstrations"),
            (two.paired_with(&Prompts::new(vec![])), "no prompts"),
        ] {
            let error = result.unwrap_err();
            assert!(error.is_input() && error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn examples_say_what_they_were_made_of() {
        let form = AnswerForm::free().stopping_at(Some("\n\n")).unwrap().at_most(7).unwrap().after("so").unwrap();
        let free = Examples::new("mine", form, vec![Example::new("q", "so 1"), Example::new("r", "so 2")]).unwrap();
        assert_eq!((free.name(), free.stop(), free.max_new_tokens(), free.labels().len()), ("mine", Some("\n\n"), 7, 0));
        assert_eq!(free.form().answer_after(), Some("so"));
        let labels = AnswerForm::labels([" no", " yes"]).unwrap();
        assert_eq!(["yes", " yes", "no", "maybe"].map(|gold| labels.label_of(gold)), [Some(1), Some(1), Some(0), None]);
        let of_labels = Examples::new("l", labels, vec![Example::new("q", " no")]).unwrap();
        assert_eq!(of_labels.labels(), [" no", " yes"]);
    }

    #[test]
    fn unlabelled_queries_are_shown_drawn_demonstrations() {
        let rows: Vec<Example> = (0..6).map(|row| Example::new(format!("q{row}"), "1")).collect();
        let all = Examples::new("t", AnswerForm::free(), rows).unwrap();
        for orders in [Orders::Tree, Orders::Independent] {
            let shown = all.demonstrations(orders, 3, 8, 4);
            assert!(shown.len() == 8 && shown.iter().all(|own| own.len() == 4), "{orders:?}");
            for own in &shown {
                let mut queries: Vec<&str> = own.iter().map(|row| row.query.as_str()).collect();
                queries.sort_unstable();
                queries.dedup();
                assert_eq!(queries.len(), 4, "{orders:?}: none comes twice");
            }
            assert_eq!(shown, all.demonstrations(orders, 3, 8, 4));
            assert_ne!(shown, all.demonstrations(orders, 4, 8, 4));
            assert_eq!(all.take(0).demonstrations(orders, 3, 2, 4), [vec![], vec![]]);
        }
        // A tree has one place for each; the query after the last has the first one's.
        let tree = all.demonstrations(Orders::Tree, 3, 7, 6);
        assert_eq!(tree[0], tree[6]);
    }

    #[test]
    fn bad_rows_are_named() {
        let form = AnswerForm::labels(["0", "1"]).unwrap();
        for (row, word) in [
            (Example::new(" ", "0"), "query is empty"),
            (Example::new("q", ""), "gold is empty"),
            (Example::new("q", "2"), "not among the labels 0, 1"),
        ] {
            let error = Examples::new("set", form.clone(), vec![Example::new("ok", "1"), row]).unwrap_err();
            assert!(error.to_string().starts_with("row 1 of `set`") && error.to_string().contains(word), "{error}");
        }
        let frame = examples("a", 2).frame().unwrap();
        assert_eq!(frame.get_column_names(), ["query", "gold"]);
        assert_eq!(frame.height(), 2);
    }
}
