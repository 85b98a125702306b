//! The order in which a tree is read.

use std::cmp::Reverse;

use super::tree::Tree;

/// A shared prefix to be read, or a row to go on with: its number, how many tokens were read before it, and what they left.
#[derive(Clone, Debug)]
pub(super) struct Waiting<B> {
    pub number: usize,
    pub start: usize,
    pub behind: B,
}

impl<B: Clone> Waiting<B> {
    fn all(numbers: &[usize], start: usize, behind: &B) -> impl Iterator<Item = Self> {
        numbers.iter().map(move |&number| Self { number, start, behind: behind.clone() })
    }
}

/// What comes next.
pub(super) enum Step<B> {
    /// These prefixes are read together, and given back to [`Walk::go_on`] with what they left.
    Read(Vec<Waiting<B>>),
    /// These rows are a batch.
    Batch(Vec<Waiting<B>>),
}

/// A walk in depth, in which as many branches are read at once as have a batch of rows between them.
///
/// So what is read together has as many rows as can be, and of what was left there is little at a time: caches of at most as many rows as three
/// batches, besides those of the batch under way, and one for each time that the number of rows can be halved.
pub(super) struct Walk<'t, B> {
    tree: &'t Tree,
    /// Rows of a batch.
    size: usize,
    length: &'t dyn Fn(usize) -> usize,
    /// Prefixes to be read, the next one last.
    open: Vec<Waiting<B>>,
    /// Rows whose prefixes have been read.
    ready: Vec<Waiting<B>>,
    /// Rows that share nothing, which come when all others are done.
    alone: Vec<Waiting<B>>,
}

impl<'t, B: Clone> Walk<'t, B> {
    /// Of the whole tree behind `root`, in batches of rows of similar `length`: little padding.
    pub(super) fn new(tree: &'t Tree, size: usize, root: &B, length: &'t dyn Fn(usize) -> usize) -> Self {
        let mut alone: Vec<_> = Waiting::all(&tree.root().leaves, 0, root).collect();
        alone.sort_by_key(|waiting| (length(waiting.number), waiting.number));
        let mut walk = Self { tree, size: size.max(1), length, open: Vec::new(), ready: Vec::new(), alone };
        walk.open(Waiting::all(&tree.root().children, 0, root).collect());
        walk
    }

    /// Goes on behind prefixes that have been read, each with what it left and its end as the `start` of what follows.
    pub(super) fn go_on(&mut self, read: Vec<Waiting<B>>) {
        let (mut rows, mut longer) = (Vec::new(), Vec::new());
        for Waiting { number, start, behind } in read {
            let node = self.tree.node(number);
            rows.extend(Waiting::all(&node.leaves, start, &behind));
            longer.extend(Waiting::all(&node.children, start, &behind));
        }
        rows.sort_by_key(|waiting| ((self.length)(waiting.number), waiting.number));
        self.ready.extend(rows);
        self.open(longer);
    }

    fn open(&mut self, mut nodes: Vec<Waiting<B>>) {
        // The largest is read last, when nothing else waits any more.
        nodes.sort_by_key(|waiting| Reverse(self.rows(waiting)));
        self.open.extend(nodes);
    }

    fn rows(&self, waiting: &Waiting<B>) -> usize {
        self.tree.rows(waiting.number).len()
    }
}

impl<B: Clone> Iterator for Walk<'_, B> {
    type Item = Step<B>;

    fn next(&mut self) -> Option<Step<B>> {
        if self.ready.len() >= self.size {
            return Some(Step::Batch(self.ready.drain(..self.size).collect()));
        }
        if let Some(first) = self.open.pop() {
            let mut rows = self.rows(&first);
            let mut taken = vec![first];
            while let Some(next) = self.open.pop_if(|next| rows + self.tree.rows(next.number).len() <= self.size) {
                rows += self.rows(&next);
                taken.push(next);
            }
            return Some(Step::Read(taken));
        }
        let missing = (self.size - self.ready.len()).min(self.alone.len());
        let batch: Vec<_> = self.ready.drain(..).chain(self.alone.drain(..missing)).collect();
        (!batch.is_empty()).then_some(Step::Batch(batch))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::random::Random;

    /// A cache of that number of rows, which counts for as long as somebody holds it.
    struct Cache {
        rows: usize,
        alive: Rc<Cell<usize>>,
    }

    impl Drop for Cache {
        fn drop(&mut self) {
            self.alive.set(self.alive.get() - self.rows);
        }
    }

    /// Walks the tree of `rows`; gives the most rows of caches at a time, how many times something was read, and the batches.
    fn walked(rows: &[Vec<u32>], size: usize) -> (usize, usize, Vec<usize>) {
        let tree = Tree::of(rows, |_| usize::MAX);
        let alive = Rc::new(Cell::new(0));
        let (mut most, mut reads, mut batches, mut seen) = (0, 0, Vec::new(), vec![0; rows.len()]);
        let length = |row: usize| rows[row].len();
        let mut walk = Walk::new(&tree, size, &None, &length);
        while let Some(step) = walk.next() {
            match step {
                Step::Read(taken) => {
                    alive.set(alive.get() + taken.len());
                    let cache = Rc::new(Cache { rows: taken.len(), alive: alive.clone() });
                    let grown = |waiting: Waiting<Option<Rc<Cache>>>| {
                        let node = tree.node(waiting.number);
                        assert_eq!((waiting.start, waiting.behind.is_some()), (node.start, node.start > 0));
                        Waiting { start: node.end, behind: Some(cache.clone()), ..waiting }
                    };
                    let grown = taken.into_iter().map(grown).collect();
                    most = most.max(alive.get());
                    reads += 1;
                    drop(cache);
                    walk.go_on(grown);
                }
                Step::Batch(batch) => {
                    batch.iter().for_each(|waiting| seen[waiting.number] += 1);
                    batches.push(batch.len());
                }
            }
        }
        assert!(seen.iter().all(|&times| times == 1));
        assert_eq!(alive.get(), 0);
        (most, reads, batches)
    }

    fn bound(rows: usize, size: usize) -> usize {
        3 * size + rows.next_power_of_two().ilog2() as usize
    }

    #[test]
    fn batches_are_full_and_little_is_held_at_a_time() {
        let mut random = Random::new(0, "rows", 0);
        for _ in 0..100 {
            let mut rows: Vec<Vec<u32>> = Vec::new();
            for _ in 0..1 + random.below(300) {
                let mut row = if rows.is_empty() || random.below(8) == 0 { Vec::new() } else { rows[random.below(rows.len())].clone() };
                row.truncate(random.below(row.len() + 1));
                row.extend((0..20 + random.below(40)).map(|_| random.below(50) as u32));
                rows.push(row);
            }
            for size in [1, 3, 16, 64, 1000] {
                let (most, _, batches) = walked(&rows, size);
                assert!(most <= bound(rows.len(), size), "{most} rows held of {} in batches of {size}", rows.len());
                assert!(batches[..batches.len() - 1].iter().all(|&rows| rows == size), "{batches:?}");
            }
        }
    }

    #[test]
    fn each_prompt_the_beginning_of_the_next_is_walked_step_by_step() {
        let rows: Vec<Vec<u32>> = (1..500).map(|turns| (0..turns * 40).map(|token| token as u32).chain([7; 9]).collect()).collect();
        for size in [1, 8, 32] {
            let (most, _, _) = walked(&rows, size);
            assert!(most <= bound(rows.len(), size), "{most} rows held in batches of {size}");
        }
    }

    #[test]
    fn what_lies_at_one_depth_is_read_together() {
        // 32 ends of four halvings: one forward for each depth.
        let rows: Vec<Vec<u32>> =
            (0..32).map(|row| (0..5).flat_map(|depth| vec![row >> (4 - depth); 40]).chain([row; 9]).collect()).collect();
        assert_eq!((walked(&rows, 32).1, walked(&rows, 64).1), (4, 4));
        // A batch for each quarter: halves and quarters one by one, then the two depths of each.
        assert_eq!(walked(&rows, 8).1, 2 + 4 + 4 * 2);
    }
}
