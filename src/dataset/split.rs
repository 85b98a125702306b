//! Few-shot splits: a run's seed names a train, a dev and a test set.

use std::collections::{HashMap, HashSet};
use std::fmt;

use polars::prelude::*;

use super::Task;
use super::near::{Near, near};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::prompt::{Example, Examples, Orders, Prompt, Prompts};
use crate::random::Random;

/// The largest development set, as in the authors' code.
const DEV_AT_MOST: usize = 48;
/// The most demonstrations before a query, as in the authors' code.
pub(crate) const SHOWN_AT_MOST: usize = 256;

/// The most draws of demonstrations for each example.
const MOST_ORDERS: usize = 1_000;

/// The sets of one run: no query is in two of them.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Split {
    /// The N examples to learn from.
    pub train: Examples,
    /// min(48, N / 2) examples, at least one, to stop training by; they come on top of N. [`Task::dev_rows`] says otherwise.
    pub dev: Examples,
    /// Examples nobody learns from.
    pub test: Examples,
    /// The run: the seed of the draw.
    pub run: u64,
    /// The task's name.
    pub task: String,
}

impl Split {
    /// The prompts whose responses and activations are the targets of IA2: each training example after the others
    /// (`min(at_most, N - 1)` of them; the authors' 256 unless memory is short), then each dev example *j* after the
    /// demonstrations of training example *j*. The orders are those of [`Orders::Tree`], seeded by the run.
    ///
    /// # Errors
    /// An input error when the training set has fewer than two examples or `at_most` is 0.
    pub fn target_prompts(&self, at_most: usize) -> Result<Prompts> {
        self.target_prompts_in_orders(at_most, 1)
    }

    /// [`target_prompts`](Self::target_prompts) with each training example asked `orders` times, every time after a draw of demonstrations of
    /// its own: all training examples in their first draw (that of `target_prompts`), then all in their second, and so on; the dev examples
    /// once, last. With few examples a draw may come twice: n - 1 demonstrations have (n - 1)! orders.
    ///
    /// # Errors
    /// As [`target_prompts`](Self::target_prompts); and when `orders` is 0 or above 1,000.
    pub fn target_prompts_in_orders(&self, at_most: usize, orders: usize) -> Result<Prompts> {
        self.target_prompts_in(Orders::Tree, at_most, orders)
    }

    /// [`target_prompts_in_orders`](Self::target_prompts_in_orders) with the kind of orders asked for.
    ///
    /// # Errors
    /// As [`target_prompts_in_orders`](Self::target_prompts_in_orders).
    pub fn target_prompts_in(&self, kind: Orders, at_most: usize, orders: usize) -> Result<Prompts> {
        let first = self.run;
        let seed = |order: usize| if order == 0 { first } else { self.seed("demonstration order", order) };
        self.in_turn(orders, |order| self.train.leave_one_out_in(kind, seed(order), at_most))
    }

    /// Prompts for queries without labels: each of `unlabelled` after `min(at_most, N)` of the N training examples, `orders` times as in
    /// [`target_prompts_in_orders`](Self::target_prompts_in_orders), then each dev example *j* after the demonstrations of the *j*-th query.
    /// The golds of `unlabelled` are never shown. Seeded by the run; N queries in turn have the N orders of a tree ([`Orders::Tree`]).
    ///
    /// # Errors
    /// An input error when a set is empty, `at_most` or `orders` is 0 or `orders` above 1,000, or one of the queries is also a train, dev or test query.
    pub fn unlabelled_prompts(&self, unlabelled: &Examples, at_most: usize, orders: usize) -> Result<Prompts> {
        self.unlabelled_prompts_in(Orders::Tree, unlabelled, at_most, orders)
    }

    /// [`unlabelled_prompts`](Self::unlabelled_prompts) with the kind of orders asked for.
    ///
    /// # Errors
    /// As [`unlabelled_prompts`](Self::unlabelled_prompts).
    pub fn unlabelled_prompts_in(&self, kind: Orders, unlabelled: &Examples, at_most: usize, orders: usize) -> Result<Prompts> {
        few(orders)?;
        if at_most == 0 {
            return Err(Error::input("at most 0 demonstrations leave no targets: ask for at least 1"));
        }
        for (name, set) in [("train", &self.train), ("dev", &self.dev), ("test", &self.test)] {
            let known: HashSet<&str> = set.rows().iter().map(|row| row.query.as_str()).collect();
            if let Some(row) = unlabelled.rows().iter().find(|row| known.contains(row.query.as_str())) {
                let remedy = "draw unlabelled queries from rows that the split does not hold";
                return Err(Error::input(format!("the unlabelled query {:?} is a {name} query: {remedy}", row.query)));
            }
        }
        if unlabelled.is_empty() || self.train.is_empty() {
            return Err(Error::input("unlabelled targets need at least one query and one training example to show"));
        }
        self.in_turn(orders, |order| {
            let shown = self.train.demonstrations(kind, self.seed("unlabelled order", order), unlabelled.len(), at_most);
            let prompts = unlabelled.rows().iter().zip(shown).enumerate();
            let prompt =
                |(index, (example, demonstrations)): (usize, (&Example, _))| Prompt { demonstrations, example: example.clone(), index };
            Ok(Prompts::new(prompts.map(prompt).collect()).with_form(self.train.form().clone()))
        })
    }

    /// Prompts in `orders` draws of demonstrations, then the dev examples after those of the first.
    fn in_turn(&self, orders: usize, draw: impl Fn(usize) -> Result<Prompts>) -> Result<Prompts> {
        few(orders)?;
        let first = draw(0)?;
        let mut all = first.clone();
        for order in 1..orders {
            all = all.followed_by(&draw(order)?)?;
        }
        all.followed_by(&self.dev.paired_with(&first)?)
    }

    /// A seed of its own for each purpose and number, drawn by the run.
    fn seed(&self, purpose: &str, number: usize) -> u64 {
        Random::new(self.run, purpose, number as u64).below(usize::MAX) as u64
    }

    /// The test queries that nearly repeat a train or dev query, whose answers a model may have seen rather than learned: `test` (the query),
    /// `split` (train or dev), `query` (there), `test_gold`, `gold`, `likeness` in [0.9, 1] (the words that the two have in common as a share of
    /// all their words).
    ///
    /// Case, spacing, punctuation and the order of words do not count, and neither do the words with which all queries of the split begin or end.
    /// Each test query comes once, with the query most like it. Queries that are the very same are never in two sets.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn near_duplicates(&self) -> Result<DataFrame> {
        let learned: Vec<(&str, &Example)> = [("train", &self.train), ("dev", &self.dev)]
            .into_iter()
            .flat_map(|(split, set)| set.rows().iter().map(move |row| (split, row)))
            .collect();
        let found = interrupt::during("looking for near duplicates", || self.near())?;
        let of = |near: &Near| learned[near.learned];
        let test = |near: &Near| &self.test.rows()[near.tested];
        Ok(df!(
            "test" => found.iter().map(|near| test(near).query.as_str()).collect::<Vec<_>>(),
            "split" => found.iter().map(|near| of(near).0).collect::<Vec<_>>(),
            "query" => found.iter().map(|near| of(near).1.query.as_str()).collect::<Vec<_>>(),
            "test_gold" => found.iter().map(|near| test(near).gold.as_str()).collect::<Vec<_>>(),
            "gold" => found.iter().map(|near| of(near).1.gold.as_str()).collect::<Vec<_>>(),
            "likeness" => found.iter().map(|near| near.likeness).collect::<Vec<_>>(),
        )?)
    }

    /// The number of dev examples on top of `n` to learn from.
    pub(crate) fn dev_of(n: usize) -> usize {
        DEV_AT_MOST.min(n / 2).max(1)
    }

    fn near(&self) -> Result<Vec<Near>> {
        fn queries(set: &Examples) -> impl Iterator<Item = &str> {
            set.rows().iter().map(|row| row.query.as_str())
        }
        let learned: Vec<&str> = queries(&self.train).chain(queries(&self.dev)).collect();
        near(&learned, &queries(&self.test).collect::<Vec<_>>())
    }

    /// Every example: `split` (train, dev or test), `query`, `gold`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let sets = [("train", &self.train), ("dev", &self.dev), ("test", &self.test)];
        let rows = || sets.iter().flat_map(|(split, set)| set.rows().iter().map(move |row| (*split, row)));
        Ok(df!(
            "split" => rows().map(|(split, _)| split).collect::<Vec<_>>(),
            "query" => rows().map(|(_, row)| row.query.as_str()).collect::<Vec<_>>(),
            "gold" => rows().map(|(_, row)| row.gold.as_str()).collect::<Vec<_>>(),
        )?)
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { train, dev, test, run, task } = self;
        write!(f, "Split(`{task}`, run {run}: {} train, {} dev, {} test)", train.len(), dev.len(), test.len())
    }
}

impl Task {
    /// Draws `n` training examples, min(48, n / 2) but at least one for development ([`dev_rows`](Self::dev_rows)), and up to 500 for testing
    /// ([`test_at_most`](Self::test_at_most)), all different, by the seed `run`.
    ///
    /// The rows are shuffled by `run`; train and dev come from the beginning, as the authors draw them, and test from the
    /// *end*, or from the [held out](Self::held_out) rows of a task that has some. So while the rows suffice, one run's test set is the same for every `n`, and its training set for 4 is the
    /// beginning of that for 8: curves over `n` compare like with like. Labels are not balanced; see
    /// [`few_shot_balanced`](Self::few_shot_balanced).
    ///
    /// # Errors
    /// An input error when `n` is 0 or there are too few rows for train, dev and one test example.
    pub fn few_shot(&self, n: usize, run: u64) -> Result<Split> {
        let (order, dev) = self.shuffled(n, run)?;
        Ok(self.split(&order[..n], &order[n..n + dev], &order[n + dev..], run))
    }

    /// As [`few_shot`](Self::few_shot), with as many of each label in train as in any other, give or take one, and so in dev.
    /// The authors do not balance.
    ///
    /// # Errors
    /// As [`few_shot`](Self::few_shot); and an input error for a task without labels, or naming a label with too few rows.
    pub fn few_shot_balanced(&self, n: usize, run: u64) -> Result<Split> {
        if self.labels().is_empty() {
            return Err(Error::input(format!("`{}` has free answers: there are no labels to balance", self.name())));
        }
        let (order, dev) = self.shuffled(n, run)?;
        let mut random = Random::new(run, "balance", n as u64);
        let mut of_label: HashMap<&str, Vec<usize>> = HashMap::new();
        // Reversed, so that taking from the end follows the shuffled order.
        for &row in order.iter().rev() {
            of_label.entry(&self.examples().rows()[row].gold).or_default().push(row);
        }
        let mut drawn = Vec::with_capacity(n + dev);
        for count in [n, dev] {
            let turns = random.order(self.labels().len());
            let mut set = Vec::with_capacity(count);
            for turn in 0..count {
                let label = self.labels()[turns[turn % turns.len()]].as_str();
                let Some(row) = of_label.get_mut(label).and_then(Vec::pop) else {
                    let remedy = "ask for fewer, or do not balance";
                    return Err(Error::input(format!(
                        "`{}` has too few rows of label {label:?} for {n} training and {dev} development examples: {remedy}",
                        self.name()
                    )));
                };
                set.push(row);
            }
            // Not label after label in turn, which a model could read off the demonstrations.
            drawn.extend(random.order(count).into_iter().map(|place| set[place]));
        }
        let rest: Vec<usize> = order.into_iter().filter(|row| !drawn.contains(row)).collect();
        Ok(self.split(&drawn[..n], &drawn[n..], &rest, run))
    }

    /// Up to `count` examples (all, when there are fewer) to test on, drawn by `run`: the set [`few_shot`](Self::few_shot) tests on when it may be as large.
    /// For a task that is only tested on, out of distribution.
    ///
    /// # Errors
    /// An input error when the task has no rows or `count` is 0.
    pub fn test(&self, count: usize, run: u64) -> Result<Examples> {
        let tested = if self.held_out().is_empty() { self.examples() } else { self.held_out() };
        if tested.is_empty() || count == 0 {
            return Err(Error::input(format!("`{}` has {} rows, {count} asked for: nothing to test on", self.name(), tested.len())));
        }
        let order = Random::new(run, "split", 0).order(tested.len());
        Ok(tested.pick(end(&order, count)))
    }

    /// The rows to learn from that a split of this task neither learns from nor tests on.
    pub(crate) fn others(&self, split: &Split) -> Examples {
        let sets = [&split.train, &split.dev, &split.test];
        let used: HashSet<&str> = sets.into_iter().flat_map(|set| set.rows()).map(|row| row.query.as_str()).collect();
        self.examples().pick((0..self.len()).filter(|&row| !used.contains(self.examples().rows()[row].query.as_str())))
    }

    /// All rows in the run's order, and the size of the dev set.
    fn shuffled(&self, n: usize, run: u64) -> Result<(Vec<usize>, usize)> {
        if n == 0 {
            return Err(Error::input("a few-shot split needs at least one training example, 0 asked for"));
        }
        let dev = self.dev.unwrap_or_else(|| Split::dev_of(n));
        let (test, rest) = if self.held_out().is_empty() { (1, " and at least one test") } else { (0, "") };
        if self.len() < n.saturating_add(dev).saturating_add(test) {
            return Err(Error::input(format!(
                "`{}` has {} rows, too few for {n} training, {dev} development{rest} examples",
                self.name(),
                self.len()
            )));
        }
        Ok((Random::new(run, "split", 0).order(self.len()), dev))
    }

    /// The three sets; `rest` is what is left to test on where nothing is held out.
    fn split(&self, train: &[usize], dev: &[usize], rest: &[usize], run: u64) -> Split {
        let pick = |rows: &[usize]| self.examples().pick(rows.iter().copied());
        let test = if self.held_out().is_empty() {
            self.examples().pick(end(rest, self.test_at_most))
        } else {
            let order = Random::new(run, "split", 0).order(self.held_out().len());
            self.held_out().pick(end(&order, self.test_at_most))
        };
        Split { train: pick(train), dev: pick(dev), test, run, task: self.name().into() }
    }
}

/// Refuses numbers of orders that leave nothing, or that no memory holds.
fn few(orders: usize) -> Result<()> {
    match orders {
        0 => Err(Error::input("0 demonstration orders leave no targets: ask for at least one")),
        1..=MOST_ORDERS => Ok(()),
        _ => Err(Error::input(format!("{orders} demonstration orders: ask for {MOST_ORDERS} at most"))),
    }
}

/// The last `count` rows, or all when there are fewer.
fn end(order: &[usize], count: usize) -> impl Iterator<Item = usize> {
    order[order.len() - count.min(order.len())..].iter().copied()
}

impl Show for Split {
    fn bundle(&self) -> Bundle {
        // A value is shown, whatever else is to stop.
        let near = interrupt::undisturbed(|| self.near()).map_or(0, |near| near.len());
        let said = match near {
            0 => String::new(),
            1 => "\n1 test query nearly repeats one of train or dev: see `.near_duplicates()`".into(),
            near => format!("\n{near} test queries nearly repeat one of train or dev: see `.near_duplicates()`"),
        };
        headed(&format!("{self:?}{said}"), self.frame())
    }
}

#[cfg(test)]
mod tests;
