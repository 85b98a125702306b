//! From episodes to rows of ids with a loss code for each token.

use crate::rng::Rng;
use crate::vocabulary::{BOS, EOS, PAD, Vocabulary};
use crate::world::{Example, KINDS, Kind, Role, Stage, Task};

/// What predicting a token counts for.
pub mod code {
    pub const NONE: u8 = 0;
    /// Any text token, a sample of them.
    pub const TEXT: u8 = 1;
    /// A label that earlier examples tell.
    pub const LABEL: u8 = 2;
    /// A label of the first example, which nothing tells yet.
    pub const EARLY: u8 = 3;
    /// The rest of an answer and the blank line after it.
    pub const ANSWER: u8 = 4;
}

/// Loss weight of each code.
pub const WEIGHTS: [f64; 5] = [0.0, 0.1, 1.0, 0.1, 0.3];

/// A row of ids, the loss code of each, and where the last label stands.
#[derive(Clone, Debug)]
pub struct Row {
    pub ids: Vec<u16>,
    pub codes: Vec<u8>,
    pub label: usize,
    pub kind: Kind,
    pub examples: usize,
}

impl Row {
    fn new(kind: Kind) -> Self {
        Row { ids: vec![BOS], codes: vec![code::NONE], label: 0, kind, examples: 0 }
    }

    fn push(&mut self, ids: &[u16], mut code: impl FnMut() -> u8) {
        for &id in ids {
            self.ids.push(id);
            self.codes.push(code());
        }
    }

    /// Appends an example and the blank line after it.
    pub fn add(&mut self, rng: &mut Rng, vocab: &Vocabulary, example: &Example) {
        let early = self.examples < 1 && self.kind != Kind::Named;
        self.push(&vocab.encode(&example.query), || if rng.chance(0.3) { code::TEXT } else { code::NONE });
        for (text, role) in &example.answer {
            if *role == Role::Label {
                self.label = self.ids.len();
            }
            self.push(&vocab.encode(text), || match role {
                Role::Label if early => code::EARLY,
                Role::Label => code::LABEL,
                Role::Rest => code::ANSWER,
            });
        }
        let mut ends = self.examples > 0; // one of two is enough to learn the blank line
        self.push(&[vocab.id("\n\n")], || {
            ends = !ends;
            if ends { code::ANSWER } else { code::NONE }
        });
        self.examples += 1;
    }
}

/// Rows of about equal length, `tokens` in all, padded to the longest: `(ids, codes)`, each `[rows, width]`.
pub struct Batch {
    pub rows: Vec<Row>,
    pub width: usize,
}

impl Batch {
    /// The lessons of a stage; `repeats` of the rows are random tokens that come again, which teaches to look back.
    pub fn draw(rng: &mut Rng, vocab: &Vocabulary, stage: &Stage, lengths: &[usize], tokens: usize, repeats: f64) -> Batch {
        let length = *rng.pick(lengths);
        let mut rows = Vec::new();
        while rows.len() * length < tokens {
            rows.push(if rng.chance(repeats) { repeated(rng, vocab, length) } else { lesson(rng, vocab, stage, length) });
        }
        let width = rows.iter().map(|r| r.ids.len()).max().unwrap_or(0);
        for row in &mut rows {
            row.ids.resize(width, PAD);
            row.codes.resize(width, code::NONE);
        }
        Batch { rows, width }
    }
}

/// One episode that fills a row: at least three examples, at most 17.
pub fn lesson(rng: &mut Rng, vocab: &Vocabulary, stage: &Stage, length: usize) -> Row {
    let kind = KINDS[rng.weighted(&stage.mix)];
    let task = Task::draw(rng, kind, stage);
    let balanced = rng.chance(0.5);
    let mut row = Row::new(kind); // the tally keeps named lessons apart
    for example in task.examples(rng, 17, balanced) {
        let next = vocab.encode(&example.query).len() + if task.kind == Kind::Answer { 8 } else { 2 };
        if row.examples >= 3 && row.ids.len() + next > length {
            break;
        }
        row.add(rng, vocab, &example);
    }
    row.push(&[EOS], || code::NONE);
    row
}

/// Random tokens of the lexicon, repeated with a random period.
fn repeated(rng: &mut Rng, vocab: &Vocabulary, length: usize) -> Row {
    let mut row = Row::new(Kind::Named);
    let period = rng.between(3, (length / 2).clamp(4, 24));
    let first: Vec<u16> = (0..period).map(|_| rng.between(259, vocab.tokens.len() - 1) as u16).collect();
    for i in 1..length {
        row.push(&[first[(i - 1) % period]], || if i > period { code::ANSWER } else { code::NONE });
    }
    row
}

/// A query after `n` demonstrations, and the row up to and with its label, which stands at `label`.
#[cfg(test)]
pub fn exam(rng: &mut Rng, vocab: &Vocabulary, task: &Task, partner: Option<&Task>, n: usize) -> (Row, Example) {
    let mut row = Row::new(task.kind);
    let mut examples = task.examples(rng, n + 1, false);
    let mut query = examples.pop().expect("n + 1 examples");
    for example in &examples {
        row.add(rng, vocab, example);
    }
    if let Some(other) = partner {
        query = other.examples(rng, 1, false).remove(0);
    }
    row.add(rng, vocab, &query);
    row.ids.truncate(row.label + 1);
    row.codes = vec![code::NONE; row.label + 1];
    row.codes[row.label] = code::LABEL;
    (row, query)
}
