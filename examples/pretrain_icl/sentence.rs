//! Sentences: which aspects speak, with which words, in which order.

use crate::lexicon::{ASPECTS, Aspect, groups, words};
use crate::rng::Rng;

/// The words a sentence is made of: at most one per aspect.
pub type Parts = Vec<(Aspect, String)>;

fn word(parts: &Parts, aspect: Aspect) -> Option<&str> {
    parts.iter().find(|(a, _)| *a == aspect).map(|(_, w)| w.as_str())
}

/// One simple English sentence that says all parts. `bare` gives a lone word (the very first lessons).
pub fn sentence(rng: &mut Rng, parts: &Parts, bare: bool) -> String {
    if bare && parts.len() == 1 {
        return format!(" {}", parts[0].1);
    }
    let verb = if rng.chance(0.5) { "is" } else { "was" };
    let mut clause = match (word(parts, Aspect::Topic), word(parts, Aspect::Opinion)) {
        (Some(t), Some(o)) if rng.chance(0.5) => format!("the {o} {t}"),
        (Some(t), Some(o)) => format!("the {t} {verb} {o}"),
        (Some(t), None) => format!("the {t}"),
        (None, Some(o)) => format!("it {verb} {o}"),
        (None, None) => String::new(),
    };
    if let Some(who) = word(parts, Aspect::Person) {
        clause = match (word(parts, Aspect::Topic), word(parts, Aspect::Opinion)) {
            (None, Some(o)) => format!("the {who} {verb} {o}"),
            (None, None) => format!("the {who}"),
            _ => format!("the {who} saw {clause}"),
        };
    }
    let place = word(parts, Aspect::Place).map(|p| format!("{} the {p}", if rng.chance(0.5) { "in" } else { "near" }));
    let time = word(parts, Aspect::Time).map(|t| format!("one {t}"));
    let clause = (!clause.is_empty()).then_some(clause);
    let order = if rng.chance(0.5) { [time, clause, place] } else { [clause, place, time] };
    order.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// What the aspects that do not tell the label may say within one episode: a few groups each, so that they may agree
/// with the label by accident in a handful of examples.
pub struct Distractors {
    pools: Vec<(Aspect, Vec<&'static str>)>,
    count: usize,
}

impl Distractors {
    /// `count` further aspects a sentence, drawn from all aspects but `rule`, with `limit` words a wording.
    pub fn new(rng: &mut Rng, rule: Aspect, count: usize, limit: usize) -> Self {
        let mut pools = Vec::new();
        for aspect in ASPECTS.into_iter().filter(|a| *a != rule) {
            let mut ids: Vec<usize> = (0..groups(aspect).len()).collect();
            rng.shuffle(&mut ids);
            let keep = rng.between(2, 3).min(ids.len());
            let mut pool = Vec::new();
            for &g in &ids[..keep] {
                let wording = rng.below(groups(aspect)[g].wordings.len());
                pool.extend(words(aspect, g, wording, limit));
            }
            pools.push((aspect, pool));
        }
        rng.shuffle(&mut pools);
        if rng.chance(0.5) {
            pools.truncate(count); // the same aspects in every sentence of the episode
        }
        Distractors { pools, count }
    }

    /// The same, but for what another aspect says already.
    pub fn without(mut self, aspect: Aspect) -> Self {
        self.pools.retain(|(own, _)| *own != aspect);
        self
    }

    /// Adds the distracting words to a sentence's parts.
    pub fn add(&self, rng: &mut Rng, parts: &mut Parts) {
        let mut order: Vec<usize> = (0..self.pools.len()).collect();
        rng.shuffle(&mut order);
        for &i in order.iter().take(self.count) {
            let (aspect, pool) = &self.pools[i];
            parts.push((*aspect, rng.pick(pool).to_string()));
        }
    }
}
