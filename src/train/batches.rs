//! Which examples make a step, and which go through the model together.

use crate::random::Random;

/// The examples of every step of a run, a pure function of the step: nothing has to be stored to go on with a run.
#[derive(Debug)]
pub(super) struct Steps {
    /// Tokens read of each train example.
    pub lengths: Vec<usize>,
    pub batch: usize,
    /// Batches per step.
    pub accumulate: usize,
    pub by_length: bool,
    pub seed: u64,
    /// As the authors' code takes them: see [`Compat::Paper`](crate::compat::Compat).
    pub paper: bool,
}

/// One step.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    pub examples: Vec<usize>,
    /// What the sum of their losses is divided by.
    pub divisor: f64,
    /// From 0.
    pub epoch: u64,
    /// Whether the epoch's last example is among them.
    pub ends_epoch: bool,
}

impl Steps {
    pub(super) fn per_epoch(&self) -> u64 {
        let (count, batch) = (self.lengths.len(), self.batch);
        match self.paper {
            true => (count / batch.min(count)) as u64,
            false => count.div_ceil(batch).div_ceil(self.accumulate) as u64,
        }
    }

    pub(super) fn step(&self, step: u64) -> Step {
        let (epoch, place) = (step / self.per_epoch(), (step % self.per_epoch()) as usize);
        if self.paper {
            return self.authors(epoch, place);
        }
        let batches = self.batches(epoch);
        let first = place * self.accumulate;
        let examples = batches[first..(first + self.accumulate).min(batches.len())].concat();
        Step { divisor: examples.len() as f64, examples, epoch, ends_epoch: place as u64 + 1 == self.per_epoch() }
    }

    /// An epoch's batches in their order.
    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut order = self.order(epoch);
        if !self.by_length {
            return order.chunks(self.batch).map(<[usize]>::to_vec).collect();
        }
        // Stable: examples of one length meet others in every epoch.
        order.sort_by_key(|&example| self.lengths[example]);
        let batches: Vec<Vec<usize>> = order.chunks(self.batch).map(<[usize]>::to_vec).collect();
        let turns = Random::new(self.seed, "batch order", epoch).order(batches.len());
        turns.into_iter().map(|turn| batches[turn].clone()).collect()
    }

    /// The authors step after every `min(batch, N)` examples of an epoch and divide by that number; what is left of the epoch has been added
    /// to the gradient and is not cleared, so that it counts in the next step. No step lies between, so it may as well be computed there.
    fn authors(&self, epoch: u64, place: usize) -> Step {
        let count = self.lengths.len();
        let batch = self.batch.min(count);
        let left = count % batch;
        let mut examples = Vec::new();
        if place == 0 && epoch > 0 {
            examples.extend(self.order(epoch - 1)[count - left..].iter());
        }
        examples.extend(self.order(epoch)[place * batch..][..batch].iter());
        Step { examples, divisor: batch as f64, epoch, ends_epoch: left == 0 && (place + 1) * batch == count }
    }

    fn order(&self, epoch: u64) -> Vec<usize> {
        Random::new(self.seed, "training order", epoch).order(self.lengths.len())
    }
}

/// Cuts a step's examples into forwards: sorted by length, each of at most `rows` examples and `tokens` tokens, but of one example at least. Where a
/// forward is not `packed`, the tokens of padding count as well.
///
/// Activations for the backward pass take memory per token of a forward, and padding takes time: short forwards over examples of similar
/// length take less of both, as long as each is large enough to keep the processor busy.
pub(super) fn forwards(
    examples: &[usize],
    length: impl Fn(usize) -> usize,
    rows: usize,
    tokens: Option<usize>,
    packed: bool,
) -> Vec<Vec<usize>> {
    let mut sorted = examples.to_vec();
    // Ties by number: what a step comes to must not depend on how its examples were shuffled.
    sorted.sort_by_key(|&example| (length(example), example));
    let fits = |forward: &[usize], next: &[usize]| {
        let lengths = || forward.iter().chain(next).map(|&example| length(example));
        let taken = if packed { lengths().sum() } else { lengths().count() * lengths().max().unwrap_or(0) };
        tokens.is_none_or(|most| taken <= most)
    };
    let mut forwards: Vec<Vec<usize>> = Vec::new();
    for example in sorted {
        match forwards.last_mut() {
            Some(forward) if forward.len() < rows && fits(forward, &[example]) => forward.push(example),
            _ => forwards.push(vec![example]),
        }
    }
    // As even as may be: a last forward of one example would pay a forward's fixed cost for little.
    let even = examples.len().div_ceil(forwards.len().max(1)).max(1);
    let evened: Vec<Vec<usize>> = forwards.concat().chunks(even).map(<[usize]>::to_vec).collect();
    let all_fit = evened.iter().all(|forward| forward.len() == 1 || fits(forward, &[]));
    if evened.len() == forwards.len() && all_fit { evened } else { forwards }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(count: usize, batch: usize) -> Steps {
        Steps {
            lengths: (0..count).map(|example| 5 + example * 7 % 11).collect(),
            batch,
            accumulate: 1,
            by_length: false,
            seed: 3,
            paper: false,
        }
    }

    fn taken(steps: &Steps, epochs: u64) -> Vec<Vec<usize>> {
        (0..steps.per_epoch() * epochs).map(|step| steps.step(step).examples).collect()
    }

    #[test]
    fn an_epoch_takes_every_example_once_in_an_order_of_its_own() {
        for (accumulate, by_length, sizes) in
            [(1, false, vec![4, 4, 2]), (2, false, vec![8, 2]), (1, true, vec![4, 4, 2]), (3, true, vec![10]), (9, false, vec![10])]
        {
            let steps = Steps { accumulate, by_length, ..steps(10, 4) };
            assert_eq!(steps.per_epoch(), sizes.len() as u64);
            let mut orders = Vec::new();
            for epoch in 0..3 {
                let of_epoch: Vec<Step> = (0..steps.per_epoch()).map(|place| steps.step(epoch * steps.per_epoch() + place)).collect();
                let mut found: Vec<usize> = of_epoch.iter().map(|step| step.examples.len()).collect();
                found.sort_unstable_by_key(|&size| std::cmp::Reverse(size));
                assert_eq!(found, sizes);
                assert!(of_epoch.iter().all(|step| step.epoch == epoch && step.divisor == step.examples.len() as f64));
                assert_eq!(of_epoch.iter().map(|step| step.ends_epoch).rposition(|ends| !ends).map_or(0, |last| last + 1), sizes.len() - 1);
                let order: Vec<usize> = of_epoch.into_iter().flat_map(|step| step.examples).collect();
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..10).collect::<Vec<_>>());
                orders.push(order);
            }
            assert!(by_length || (orders[0] != orders[1] && orders[1] != orders[2]));
        }
    }

    #[test]
    fn batches_by_length_hold_neighbours_in_length() {
        let steps = Steps { by_length: true, ..steps(11, 3) };
        let mut batches: Vec<Vec<usize>> =
            taken(&steps, 1).into_iter().map(|batch| batch.iter().map(|&e| steps.lengths[e]).collect()).collect();
        assert!(!batches.is_sorted_by_key(|batch| batch[0]), "batches come in random order");
        batches.sort();
        assert!(batches.concat().is_sorted());
    }

    #[test]
    fn the_authors_steps_carry_what_is_left_of_an_epoch() {
        let steps = Steps { paper: true, ..steps(6, 4) };
        let orders: Vec<Vec<usize>> = (0..3).map(|epoch| steps.order(epoch)).collect();
        assert_eq!(steps.per_epoch(), 1);
        assert_eq!(
            taken(&steps, 3),
            [orders[0][..4].to_vec(), [&orders[0][4..], &orders[1][..4]].concat(), [&orders[1][4..], &orders[2][..4]].concat(),]
        );
        assert!((0..3).all(|step| steps.step(step).divisor == 4.0 && !steps.step(step).ends_epoch));
        // Fewer than a batch: a step per epoch over all of them. A multiple of it: nothing is left.
        let few = Steps { paper: true, ..self::steps(3, 4) };
        assert_eq!((few.per_epoch(), few.step(1).examples.len(), few.step(1).divisor, few.step(1).ends_epoch), (1, 3, 3.0, true));
        let whole = Steps { paper: true, ..self::steps(8, 4) };
        assert_eq!(taken(&whole, 2), taken(&self::steps(8, 4), 2));
        assert_eq!((0..4).map(|step| whole.step(step).ends_epoch).collect::<Vec<_>>(), [false, true, false, true]);
    }

    const LENGTHS: [usize; 6] = [30, 10, 12, 40, 9, 11];

    #[test]
    fn forwards_hold_every_example_once_within_the_budget() {
        let cut = |examples: &[usize], rows, tokens, packed| forwards(examples, |example| LENGTHS[example], rows, tokens, packed);
        for (tokens, packed) in (1..200).flat_map(|tokens| [(tokens, false), (tokens, true)]) {
            let cut = cut(&[0, 1, 2, 3, 4, 5], 4, Some(tokens), packed);
            let mut all: Vec<usize> = cut.concat();
            assert!(all.windows(2).all(|pair| LENGTHS[pair[0]] <= LENGTHS[pair[1]]));
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5]);
            for forward in cut {
                let lengths = forward.iter().map(|&example| LENGTHS[example]);
                let taken = if packed { lengths.sum::<usize>() } else { forward.len() * lengths.max().unwrap() };
                assert!(forward.len() == 1 || (taken <= tokens && forward.len() <= 4));
            }
        }
        assert_eq!(cut(&[0, 1, 2, 3, 4, 5], 9, Some(48), false), [vec![4, 1, 5, 2], vec![0], vec![3]]);
        assert_eq!(cut(&[0, 1, 2, 3, 4, 5], 9, Some(72), true), [vec![4, 1, 5, 2, 0], vec![3]]);
        assert_eq!(cut(&[3, 1], 9, None, false), [[1, 3]]);
    }
}
