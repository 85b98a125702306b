//! The learning curve in context: accuracy over the number of demonstrations, measured with the library's own model.

use std::fs;
use std::path::Path;

use ia2::model::{Generation, Model};
use serde_json::Value;

use crate::curriculum;
use crate::rng::Rng;
use crate::tasks::{Named, TASKS};
use crate::vocabulary::{BOS, Vocabulary};
use crate::world::{Example, KINDS, Kind, Task};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

pub const DEMONSTRATIONS: [usize; 6] = [0, 1, 2, 4, 8, 16];

/// A query with its demonstrations, ready to be asked.
struct Question {
    prompt: Vec<u32>,
    gold: String,
    /// Ids of all labels, and of the right one (unused for longer answers).
    labels: Vec<u32>,
    label: u32,
}

/// One line of a file in `data/tasks`.
struct Line {
    query: String,
    gold: String,
}

fn read(folder: &Path, name: &str) -> Outcome<Vec<Line>> {
    let path = folder.join(format!("{name}.jsonl"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}; run `pretrain_icl tasks` first", path.display()))?;
    let field = |v: &Value, key: &str| v[key].as_str().map(str::to_string).ok_or(format!("{name}: a line without {key}"));
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line)?;
            Ok(Line { query: field(&value, "query")?, gold: field(&value, "gold")? })
        })
        .collect()
}

fn text_of(example: &Example) -> Line {
    Line { query: example.query.clone(), gold: example.answer.iter().map(|(text, _)| text.as_str()).collect() }
}

/// `"\n\n".join(demonstrations) + "\n\n" + query`, after the BOS token.
fn question(vocab: &Vocabulary, demonstrations: &[&Line], query: &Line, labels: &[String]) -> Question {
    let mut text: String = demonstrations.iter().map(|d| format!("{}{}\n\n", d.query, d.gold)).collect();
    text.push_str(&query.query);
    let mut prompt = vec![BOS as u32];
    prompt.extend(vocab.encode(&text).into_iter().map(u32::from));
    let labels: Vec<u32> = labels.iter().map(|l| vocab.id(l) as u32).collect();
    let label = vocab.encode(&query.gold)[0] as u32;
    Question { prompt, gold: query.gold.clone(), labels, label }
}

/// Right answers: by the first token (or the whole generated text where answers are longer), and among the labels alone.
fn score(model: &Model, kind: Kind, questions: &[Question]) -> Outcome<(f64, f64)> {
    let (mut top, mut among) = (0.0, 0.0);
    for part in questions.chunks(32) {
        let prompts: Vec<Vec<u32>> = part.iter().map(|q| q.prompt.clone()).collect();
        if kind == Kind::Answer {
            let said = model.generate(&prompts, &Generation::greedy(12).stop("\n\n"))?;
            top += part.iter().zip(&said).filter(|(q, s)| s.text.trim_end() == q.gold).count() as f64;
            let last = |text: &str| text.trim_end().rsplit(' ').next().map(str::to_string);
            among += part.iter().zip(&said).filter(|(q, s)| last(&s.text) == last(&q.gold)).count() as f64;
            continue;
        }
        let logits = model.forward(&prompts)?;
        for (i, q) in part.iter().enumerate() {
            let at = logits.values.get(i as i64).get(q.prompt.len() as i64 - 1);
            top += f64::from(at.argmax(-1, false).int64_value(&[]) == q.label as i64);
            let value = |id: u32| at.double_value(&[id as i64]);
            among += f64::from(q.labels.iter().all(|&l| value(l) <= value(q.label)));
        }
    }
    let n = questions.len() as f64;
    Ok((top / n, among / n))
}

fn row(name: &str, cells: &[(f64, f64)]) -> String {
    let cells: Vec<String> = cells.iter().map(|(top, among)| format!("{top:.2} / {among:.2}")).collect();
    format!("| {name} | {} |", cells.join(" | "))
}

/// Demonstrations and queries from the files of `data/tasks`, each query with demonstrations of its own.
fn from_files(vocab: &Vocabulary, count: usize, n: usize, source: &[Line], target: &[Line], labels: &[String]) -> Vec<Question> {
    let mut rng = Rng::new(11, n as u64);
    (0..count)
        .map(|_| {
            let mut order: Vec<usize> = (0..source.len()).collect();
            rng.shuffle(&mut order);
            let demonstrations: Vec<&Line> = order[1..=n].iter().map(|&i| &source[i]).collect();
            let query = if std::ptr::eq(source, target) { &source[order[0]] } else { rng.pick(target) };
            question(vocab, &demonstrations, query, labels)
        })
        .collect()
}

/// Any task of a kind as in the training, with labels of its own.
fn from_lessons(vocab: &Vocabulary, count: usize, n: usize, kind: Kind) -> Vec<Question> {
    let (stage, _, _) = curriculum::at(1.0);
    let mut rng = Rng::new(12, n as u64);
    (0..count)
        .map(|_| {
            let task = Task::draw(&mut rng, kind, &stage);
            let lines: Vec<Line> = task.examples(&mut rng, n + 1, false).iter().map(text_of).collect();
            question(vocab, &lines[1..].iter().collect::<Vec<_>>(), &lines[0], &task.labels)
        })
        .collect()
}

/// The whole table in Markdown, `count` queries a cell.
pub fn table(model: &Model, vocab: &Vocabulary, tasks: &Path, count: usize) -> Outcome<String> {
    let mut lines = vec!["| task | N = 0 | 1 | 2 | 4 | 8 | 16 |".to_string(), "|---|---|---|---|---|---|---|".to_string()];
    let pairs = TASKS.iter().map(|t| (t, t.name));
    let pairs: Vec<(&Named, &str)> = pairs.chain(TASKS.iter().flat_map(|a| a.partners.iter().map(move |&b| (a, b)))).collect();
    for (from, to) in pairs {
        let source = read(tasks, from.name)?;
        let target = if from.name == to { None } else { Some(read(tasks, to)?) };
        let name = if target.is_some() { format!("{} → {to}", from.name) } else { to.to_string() };
        let labels: Vec<String> = from.labels.iter().map(|s| s.to_string()).collect();
        let cell = |&n: &usize| {
            let target = target.as_deref().unwrap_or(&source);
            score(model, from.kind, &from_files(vocab, count, n, &source, target, &labels))
        };
        lines.push(row(&name, &DEMONSTRATIONS.iter().map(cell).collect::<Outcome<Vec<_>>>()?));
    }
    for kind in KINDS {
        let cell = |&n: &usize| score(model, kind, &from_lessons(vocab, count, n, kind));
        lines.push(row(&format!("any {kind:?} as in training"), &DEMONSTRATIONS.iter().map(cell).collect::<Outcome<Vec<_>>>()?));
    }
    Ok(lines.join("\n"))
}
