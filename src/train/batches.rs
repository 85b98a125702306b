//! Which examples go through the model together.

/// Cuts a step's examples into forwards: sorted by length, each of at most `rows` examples and `tokens` padded tokens (its examples times
/// its longest), but of one example at least.
///
/// Activations for the backward pass take memory per token of a forward, and padding takes time: short forwards over examples of similar
/// length take less of both, as long as each is large enough to keep the processor busy.
pub(super) fn forwards(examples: &[usize], length: impl Fn(usize) -> usize, rows: usize, tokens: Option<usize>) -> Vec<Vec<usize>> {
    let mut sorted = examples.to_vec();
    sorted.sort_by_key(|&example| length(example));
    let mut forwards: Vec<Vec<usize>> = Vec::new();
    for example in sorted {
        // In this order the newest is the longest.
        let fits = |forward: &Vec<usize>| forward.len() < rows && tokens.is_none_or(|most| (forward.len() + 1) * length(example) <= most);
        match forwards.last_mut().filter(|forward| fits(forward)) {
            Some(forward) => forward.push(example),
            None => forwards.push(vec![example]),
        }
    }
    forwards
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 6] = [30, 10, 12, 40, 9, 11];

    #[test]
    fn forwards_hold_every_example_once_within_the_budget() {
        for tokens in 1..200 {
            let cut = forwards(&[0, 1, 2, 3, 4, 5], |example| LENGTHS[example], 4, Some(tokens));
            let mut all: Vec<usize> = cut.concat();
            assert!(all.windows(2).all(|pair| LENGTHS[pair[0]] <= LENGTHS[pair[1]]));
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5]);
            for forward in cut {
                let longest = forward.iter().map(|&example| LENGTHS[example]).max().unwrap();
                assert!(forward.len() == 1 || (forward.len() * longest <= tokens && forward.len() <= 4));
            }
        }
        assert_eq!(forwards(&[0, 1, 2, 3, 4, 5], |example| LENGTHS[example], 9, Some(48)), [vec![4, 1, 5, 2], vec![0], vec![3]]);
        assert_eq!(forwards(&[3, 1], |example| LENGTHS[example], 9, None), [[1, 3]]);
    }
}
