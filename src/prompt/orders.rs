//! Orders of demonstrations.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How the orders hang together in which different queries are shown their demonstrations.
///
/// Each query's own order is drawn uniformly from all orders either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orders {
    /// Prompts share their prefixes, which a model reads once: the examples are halved at random, each half is shown to the queries of the other,
    /// and so on within each half. All N prompts of the N - 1 others take N log2 N demonstrations to read, and not N (N - 1).
    #[default]
    Tree,
    /// Each query's order has nothing to do with another's, as in the authors' code.
    Independent,
}

/// `0..count`, at random in a line, and what the one at each place of it is shown: the halves, quarters, ... of the line that it is not in, the
/// largest first and each in the line's order. For each it is a uniformly random order of the others, because the line is one.
pub(super) struct Halved {
    line: Vec<usize>,
}

impl Halved {
    pub(super) fn new(count: usize, random: &mut Random) -> Self {
        Self { line: random.order(count) }
    }

    /// Where each of `0..count` stands.
    pub(super) fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.line.len()];
        self.line.iter().enumerate().for_each(|(place, &own)| places[own] = place);
        places
    }

    /// The others in the order in which the one at `place` is shown them, and at the end itself.
    pub(super) fn shown(&self, place: usize) -> Vec<usize> {
        let (mut first, mut end) = (0, self.line.len());
        let mut shown = Vec::with_capacity(end);
        while end - first > 1 {
            let middle = first + (end - first) / 2;
            if place < middle {
                shown.extend(&self.line[middle..end]);
                end = middle;
            } else {
                shown.extend(&self.line[first..middle]);
                first = middle;
            }
        }
        shown.extend(&self.line[first..end]);
        shown
    }
}

/// The last `at_most`: as random as the first, and of those that the nearest queries share.
pub(super) fn last(mut order: Vec<usize>, at_most: usize) -> Vec<usize> {
    order.split_off(order.len() - at_most.min(order.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pearson's statistic of counts that are expected to be even.
    fn statistic(counts: &[usize]) -> f64 {
        let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum()
    }

    /// Above the quantile of chi-square that one in a million even draws exceeds (Wilson and Hilferty 1931).
    fn uneven(counts: &[usize]) -> bool {
        let freedom = (counts.len() - 1) as f64;
        let share = 2.0 / (9.0 * freedom);
        statistic(counts) > freedom * (1.0 - share + 4.753 * share.sqrt()).powi(3)
    }

    #[test]
    fn the_last_are_kept_in_their_order() {
        assert_eq!(last(vec![4, 2, 7, 1], 2), [7, 1]);
        assert_eq!((last(vec![4, 2], 2), last(vec![4, 2], 9), last(vec![4, 2], 0)), (vec![4, 2], vec![4, 2], vec![]));
    }

    #[test]
    fn everyone_is_shown_all_others_once() {
        for count in 0..40 {
            let halved = Halved::new(count, &mut Random::new(1, "test", count as u64));
            for (own, place) in halved.places().into_iter().enumerate() {
                let mut shown = halved.shown(place);
                assert_eq!(shown.last(), Some(&own));
                shown.sort_unstable();
                assert_eq!(shown, (0..count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_probe_for_uneven_counts_works() {
        assert!(!uneven(&[1000, 1030, 970, 1010]) && uneven(&[1000, 1200, 800, 1000]));
    }

    #[test]
    fn each_order_is_as_likely_as_any_other() {
        const SEEDS: u64 = 20_000;
        // Whole orders of the three or four others; for more, where each other one stands and which of two comes first.
        for count in [3, 4, 5, 6, 7, 11] {
            for own in [0, count / 2, count - 1] {
                let mut orders = std::collections::HashMap::<Vec<usize>, usize>::new();
                let mut stands = vec![vec![0; count - 1]; count];
                let mut pairs = vec![vec![0; count]; count];
                for seed in 0..SEEDS {
                    let halved = Halved::new(count, &mut Random::new(seed, "leave one out tree", 0));
                    let mut shown = halved.shown(halved.places()[own]);
                    shown.pop();
                    for (place, &other) in shown.iter().enumerate() {
                        stands[other][place] += 1;
                        shown[place + 1..].iter().for_each(|&later| pairs[other][later] += 1);
                    }
                    *orders.entry(shown).or_default() += 1;
                }
                if count < 7 {
                    let counts: Vec<usize> = orders.into_values().collect();
                    assert_eq!(counts.len(), (1..count).product::<usize>(), "some order of {count} never comes");
                    assert!(!uneven(&counts), "orders of {count}");
                }
                for other in (0..count).filter(|&other| other != own) {
                    assert!(!uneven(&stands[other]), "where {other} of {count} stands before {own}: {:?}", stands[other]);
                    for later in (0..other).filter(|&later| later != own) {
                        assert!(!uneven(&[pairs[other][later], pairs[later][other]]), "{other} and {later} of {count} before {own}");
                    }
                }
            }
        }
    }

    #[test]
    fn all_together_take_count_log_count_to_read() {
        for (count, at_most) in [(1, 0), (2, 2), (3, 5), (8, 24), (13, 50), (32, 160), (128, 896)] {
            let halved = Halved::new(count, &mut Random::new(0, "test", 0));
            let mut beginnings = std::collections::HashSet::new();
            for place in 0..count {
                let shown = halved.shown(place);
                beginnings.extend((1..count).map(|end| shown[..end].to_vec()));
            }
            assert!(beginnings.len() <= at_most, "{} of {count}", beginnings.len());
        }
    }
}
