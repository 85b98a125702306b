//! Seeded draws that stay the same over machines and versions of this crate.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::RngCore;

/// A seeded source of draws (PCG XSL RR 128/64, O'Neill 2014).
///
/// Shuffling is written out here because `rand` does not promise the same order over its own versions, and a run's seed
/// must name the same split for as long as somebody may want to repeat it.
#[derive(Clone)]
pub(crate) struct Random(Pcg64);

impl Random {
    /// A source for one `purpose` (such as "split") and one `index` in it (such as an example's).
    ///
    /// Draws for different purposes, indices and seeds are unrelated, so what one of them consumes cannot shift another.
    pub(crate) fn new(seed: u64, purpose: &str, index: u64) -> Self {
        // PCG's streams of neighbouring numbers start alike: mix all three words first.
        let purpose = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut state = seed;
        let mut next = |word: u64| {
            state = split_mix(state ^ word);
            u128::from(state)
        };
        let start = next(0) << 64 | next(purpose);
        let stream = next(index) << 64 | next(0);
        Self(Pcg64::new(start, stream))
    }

    /// A uniform draw from `0..bound`; 0 when `bound` is 0 or 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        if bound < 2 {
            return 0;
        }
        // Lemire 2019: multiply and keep the high word; reject the few low words that would favour some results.
        let unfair = bound.wrapping_neg() % bound;
        loop {
            let wide = u128::from(self.0.next_u64()) * u128::from(bound);
            if wide as u64 >= unfair {
                return (wide >> 64) as usize;
            }
        }
    }

    /// A uniform draw from `[0, 1)`, with 53 random bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `count` different numbers of `0..from` in random order (all of them when `count >= from`).
    pub(crate) fn choose(&mut self, count: usize, from: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..from).collect();
        let count = count.min(from);
        for place in 0..count {
            order.swap(place, place + self.below(from - place));
        }
        order.truncate(count);
        order
    }

    /// `0..count` in random order.
    pub(crate) fn order(&mut self, count: usize) -> Vec<usize> {
        self.choose(count, count)
    }
}

/// One step of SplitMix64 (Steele, Lea and Flood 2014).
fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_and_repeats_with_its_seed() {
        let order = Random::new(3, "split", 0).order(50);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(order, Random::new(3, "split", 0).order(50));
        for other in [Random::new(4, "split", 0), Random::new(3, "dev", 0), Random::new(3, "split", 1)] {
            let mut other = other;
            assert_ne!(order, other.order(50));
        }
    }

    #[test]
    fn below_is_even_and_in_range() {
        let mut random = Random::new(0, "test", 0);
        let mut counts = [0_usize; 6];
        for _ in 0..60_000 {
            counts[random.below(6)] += 1;
        }
        // Five standard deviations of a binomial count of 10,000.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 457), "{counts:?}");
        assert_eq!((random.below(0), random.below(1)), (0, 0));
    }

    #[test]
    fn every_first_choice_occurs_over_seeds() {
        // Neighbouring seeds must not start alike.
        let mut counts = [0_usize; 10];
        for seed in 0..10_000 {
            counts[Random::new(seed, "split", 0).choose(1, 10)[0]] += 1;
        }
        assert!(counts.iter().all(|&count| count.abs_diff(1_000) < 150), "{counts:?}");
    }

    #[test]
    fn choose_gives_different_numbers() {
        let chosen = Random::new(1, "test", 0).choose(5, 8);
        let distinct: std::collections::HashSet<_> = chosen.iter().collect();
        assert_eq!((chosen.len(), distinct.len()), (5, 5));
        assert_eq!(Random::new(1, "test", 0).choose(9, 3).len(), 3);
    }
}
