//! The prefixes that rows of tokens share, as a tree.

use std::ops::Range;

/// What one forward more costs, in tokens of a forward that is under way.
///
/// Measured with one thread in f32 and bf16 on models of 1 and 40 million parameters, for prefixes of 8 to 64 tokens and ends of 24: to read
/// a prefix of two prompts by itself costs as much as 30 to 90 tokens; to read those of eight pairs together no more, up to 8 tokens each.
pub(super) const FORWARD: usize = 64;
/// What one more prefix costs in a forward: its keys and values are copied, and masked where others' are longer.
const BEGINNING: usize = 8;
/// The share of their tokens that rows must save to be worth it at all: behind a prefix a token takes longer, as attention is masked there and
/// keys and values are joined. (8 prompts of 318 tokens, two pairs of which share 40: 3 % fewer tokens read, 5 % more time.)
const SHARE: usize = 10;

/// A prefix that several rows share and that is read once for them.
#[derive(Debug)]
pub(in crate::model) struct Node {
    /// Tokens of the rows that lie before its own: what its parent ends with.
    pub start: usize,
    /// Tokens of the rows up to its end.
    pub end: usize,
    /// Where the rows that have it stand in the tree's order.
    places: Range<usize>,
    /// Longer prefixes that go on from it.
    pub children: Vec<usize>,
    /// Rows that go on from it alone.
    pub leaves: Vec<usize>,
}

/// Rows as a tree of shared prefixes. Prefixes that would cost more than they save are left out.
#[derive(Debug)]
pub(in crate::model) struct Tree {
    /// The root, which has no tokens of its own, is the first.
    nodes: Vec<Node>,
    /// The rows, in an order in which those with a common prefix are neighbours.
    order: Vec<usize>,
}

impl Tree {
    /// The tree of `rows`, of each of which `at_most` tokens may be read together with other rows'; the last one never is.
    pub(crate) fn of<R: AsRef<[u32]>>(rows: &[R], at_most: impl Fn(usize) -> usize) -> Self {
        let begin = |row: usize| {
            let tokens = rows[row].as_ref();
            &tokens[..at_most(row).min(tokens.len().saturating_sub(1))]
        };
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|&a, &b| begin(a).cmp(begin(b)).then(a.cmp(&b)));
        let common = |a: usize, b: usize| begin(a).iter().zip(begin(b)).take_while(|(a, b)| a == b).count();
        // What each row has in common with the one before it; the first none.
        let shared: Vec<usize> =
            (0..order.len()).map(|place| if place == 0 { 0 } else { common(order[place - 1], order[place]) }).collect();

        let node = |start: usize, end: usize, places: Range<usize>| Node { start, end, places, children: Vec::new(), leaves: Vec::new() };
        let mut nodes = vec![node(0, 0, 0..order.len())];
        let mut parents = vec![0];
        let mut open = vec![0];
        while let Some(parent) = open.pop() {
            let (end, places) = (nodes[parent].end, nodes[parent].places.clone());
            let mut first = places.start;
            for next in places.start + 1..=places.end {
                if next < places.end && shared[next] > end {
                    continue;
                }
                let part = first..next;
                first = next;
                // Of one row the rest is its own.
                match part.clone().skip(1).map(|place| shared[place]).min() {
                    None => nodes[parent].leaves.extend(part.map(|place| order[place])),
                    Some(longer) => {
                        let child = nodes.len();
                        nodes.push(node(end, longer, part));
                        parents.push(parent);
                        nodes[parent].children.push(child);
                        open.push(child);
                    }
                }
            }
        }
        let mut tree = Self { nodes, order };
        tree.prune(parents, |row| rows[row].as_ref().len());
        tree
    }

    pub(crate) fn root(&self) -> &Node {
        &self.nodes[0]
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The rows that have a prefix.
    pub(crate) fn rows(&self, node: usize) -> &[usize] {
        &self.order[self.nodes[node].places.clone()]
    }

    /// How many tokens of each row are read for it: those of a prefix count for the first row that has it.
    pub(crate) fn read<R: AsRef<[u32]>>(&self, rows: &[R]) -> Vec<usize> {
        let mut read = vec![0; rows.len()];
        for (place, Node { start, end, leaves, .. }) in self.nodes.iter().enumerate() {
            if let Some(&first) = self.rows(place).iter().min() {
                read[first] += end - start;
            }
            leaves.iter().for_each(|&row| read[row] += rows[row].as_ref().len() - end);
        }
        read
    }

    /// Leaves out the prefixes that save less than they cost: each less than its own share; all of one depth, which are read together, less
    /// than a forward; all of the same rows less than a tenth of these. Parents stand before their children.
    fn prune(&mut self, mut parents: Vec<usize>, length: impl Fn(usize) -> usize) {
        let count = self.nodes.len();
        let mut kept = vec![true; count];
        // Where the nearest kept one before each ends, while of each the most is hoped: that none of its branches is kept.
        let (mut before, mut depth) = (vec![0; count], vec![0; count]);
        let mut of_depth: Vec<Vec<usize>> = Vec::new();
        for place in 1..count {
            let parent = parents[place];
            before[place] = if kept[parent] { self.nodes[parent].end } else { before[parent] };
            let Node { places, end, .. } = &self.nodes[place];
            kept[place] = (places.len() - 1) * (end - before[place]) >= BEGINNING;
            depth[place] = depth[parent] + usize::from(kept[parent] && parent > 0);
            of_depth.resize_with(of_depth.len().max(depth[place] + 1), Vec::new);
            of_depth[depth[place]].push(place);
        }
        // How many go on from each, now that its branches are known.
        let mut branches: Vec<usize> = self.nodes.iter().map(|node| node.leaves.len()).collect();
        for together in of_depth.iter().rev() {
            let saves = |place: &usize| (branches[*place] - 1) * (self.nodes[*place].end - before[*place]);
            let worth: Vec<usize> = together.iter().copied().filter(|&place| kept[place] && saves(&place) >= BEGINNING).collect();
            let pays = worth.iter().map(saves).sum::<usize>() >= FORWARD;
            together.iter().for_each(|&place| kept[place] = false);
            worth.into_iter().filter(|_| pays).for_each(|place| kept[place] = true);
            // One left out may stand at the depth of its children, before them.
            for &place in together.iter().rev() {
                branches[parents[place]] += if kept[place] { 1 } else { branches[place] };
            }
        }
        // The nearest kept one before each, the first of these, and what the first saves with all behind it, next to rows that are each read whole.
        let (mut nearest, mut first, mut saved) = (vec![0; count], vec![0; count], vec![0; count]);
        for place in 1..count {
            let parent = parents[place];
            nearest[place] = if kept[parent] { parent } else { nearest[parent] };
            if kept[place] {
                first[place] = if nearest[place] == 0 { place } else { first[nearest[place]] };
                saved[first[place]] += (self.rows(place).len() - 1) * (self.nodes[place].end - self.nodes[nearest[place]].end);
            }
        }
        let tokens = |place: usize| self.rows(place).iter().map(|&row| length(row)).sum::<usize>();
        let little: Vec<bool> =
            (0..count).map(|place| kept[place] && first[place] == place && saved[place] * SHARE < tokens(place)).collect();
        (1..count).for_each(|place| kept[place] &= !little[first[place]]);
        // What hangs on one left out hangs on the one before it.
        for place in 1..count {
            let parent = parents[place];
            if kept[place] {
                self.nodes[place].start = self.nodes[parent].end;
                continue;
            }
            let Node { children, leaves, places, start, end } = &mut self.nodes[place];
            let (children, leaves) = (std::mem::take(children), std::mem::take(leaves));
            (*start, *end, *places) = (0, 0, 0..0);
            children.iter().for_each(|&child| parents[child] = parent);
            let own = &mut self.nodes[parent];
            own.children.extend(children);
            own.leaves.extend(leaves);
        }
        self.nodes.iter_mut().for_each(|node| node.children.retain(|&child| kept[child]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Every row is a leaf once, behind a chain of prefixes that are its own tokens; gives the tokens read.
    fn checked(rows: &[Vec<u32>], at_most: usize) -> usize {
        let tree = Tree::of(rows, |_| at_most);
        let (mut seen, mut read) = (vec![0; rows.len()], 0);
        let mut open = vec![(0, Vec::new())];
        while let Some((place, tokens)) = open.pop() {
            let node = tree.node(place);
            assert_eq!(node.start, tokens.len());
            let whole = tree.rows(place).first().map_or(Vec::new(), |&first| rows[first][..node.end].to_vec());
            assert!(whole.starts_with(&tokens) && tree.rows(place).iter().all(|&row| rows[row].starts_with(&whole)));
            assert!(place == 0 || node.children.len() + node.leaves.len() > 1, "nobody shares it");
            read += node.end - node.start;
            for &row in &node.leaves {
                assert!(node.end < rows[row].len() && node.end <= at_most && tree.rows(place).contains(&row));
                (seen[row], read) = (seen[row] + 1, read + rows[row].len() - node.end);
            }
            open.extend(node.children.iter().map(|&child| (child, whole.clone())));
        }
        assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
        assert_eq!(tree.read(rows).iter().sum::<usize>(), read);
        read
    }

    #[test]
    fn every_row_goes_on_from_its_own_beginnings() {
        let mut random = Random::new(0, "rows", 0);
        for case in 0..300 {
            // Few words make many common prefixes, of all lengths; some rows come twice, some begin another.
            let mut rows: Vec<Vec<u32>> = Vec::new();
            for _ in 0..1 + random.below(40) {
                let mut row = if rows.is_empty() || random.below(3) == 0 { Vec::new() } else { rows[random.below(rows.len())].clone() };
                row.truncate(random.below(row.len() + 1));
                row.extend((0..1 + random.below(30)).map(|_| random.below(2) as u32));
                rows.push(row);
            }
            let whole: usize = rows.iter().map(Vec::len).sum();
            for at_most in [0, 3, random.below(60), usize::MAX] {
                assert!(checked(&rows, at_most) <= whole, "case {case}");
            }
            assert_eq!(checked(&rows, 0), whole);
        }
        assert_eq!(checked(&[], 9), 0);
    }

    /// Rows as a tree of orders makes them: each half of the examples stands before the other half's rows, and so on.
    fn halves(examples: &[u32], before: &[u32], rows: &mut Vec<Vec<u32>>) {
        if let [own] = examples {
            return rows.push([before, &[*own; 20]].concat());
        }
        let (left, right) = examples.split_at(examples.len() / 2);
        for (own, other) in [(left, right), (right, left)] {
            let other: Vec<u32> = other.iter().flat_map(|&example| [example; 45]).collect();
            halves(own, &[before, &other].concat(), rows);
        }
    }

    /// Where each prefix has two branches, each of them saves little, and all together most.
    #[test]
    fn a_deep_tree_is_read_as_one() {
        for depth in 1..8_usize {
            let (count, mut rows) = (1 << depth, Vec::new());
            halves(&(0..count as u32).collect::<Vec<_>>(), &[], &mut rows);
            assert_eq!(rows.len(), count);
            let each_level_once = count * depth * 45 + count * 20;
            // Of the last level each prefix has one row, which reads it with its own tokens.
            assert_eq!(checked(&rows, usize::MAX), each_level_once, "{count} examples");
        }
    }

    #[test]
    fn a_tree_reads_each_beginning_once() {
        let long = |first: u32| (first..first + 100).collect::<Vec<u32>>();
        let rows: Vec<Vec<u32>> = [[0, 200, 1], [0, 200, 2], [0, 300, 1], [0, 300, 2], [900, 200, 1]]
            .map(|parts| parts.into_iter().flat_map(|first| long(first * 10)).collect())
            .into();
        // 100 shared by four, twice 100 shared by two, four ends of 100 and one row alone. The ends have their first tokens apart.
        assert_eq!(checked(&rows, usize::MAX), 100 + 2 * 100 + 4 * 100 + 300);
        assert_eq!(Tree::of(&rows, |_| usize::MAX).read(&rows), [300, 100, 200, 100, 300]);
        // No more than is allowed is shared.
        assert_eq!(checked(&rows, 60), 60 + 4 * 240 + 300);
    }

    #[test]
    fn what_saves_less_than_a_forward_costs_is_not_shared() {
        let pair = |shared: usize| -> Vec<Vec<u32>> { (0..2).map(|own| [vec![7; shared], vec![own; 9]].concat()).collect() };
        assert_eq!(checked(&pair(FORWARD - 1), usize::MAX), 2 * (FORWARD - 1 + 9));
        assert_eq!(checked(&pair(FORWARD), usize::MAX), FORWARD + 2 * 9);
        // A tenth of the tokens.
        let long = |own: usize| -> Vec<Vec<u32>> { (0..2).map(|row| [vec![7; 100], vec![row; own]].concat()).collect() };
        assert_eq!((checked(&long(400), usize::MAX), checked(&long(401), usize::MAX)), (100 + 2 * 400, 2 * 501));
        // Many short ones in a row count together: each alone is too short for two rows, for all rows it is not.
        let bits = |number: u32| (0..6).rev().flat_map(|bit| [number >> bit & 1; 4]).chain([9; 3]).collect::<Vec<u32>>();
        let rows: Vec<Vec<u32>> = (0..64).map(bits).collect();
        let read = checked(&rows, usize::MAX);
        assert!(read < 64 * 27 * 2 / 3, "{read}");
    }
}
