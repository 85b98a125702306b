//! `data/tasks`: one file of queries and answers for each named task, and the list of tasks.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::export;
use crate::lexicon::groups;
use crate::rng::Rng;
use crate::tasks::{Named, TASKS};
use crate::world::Kind;

const EXAMPLES: usize = 800;

fn template(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Named => "Text:<X>\nLabel:",
        Kind::TrueFalse | Kind::Answer => "Question:<X>\nAnswer:",
        Kind::Choice => "Question:<X>\nChoices:\n<choices>\nAnswer:",
    }
}

fn title(task: &Named) -> &'static str {
    match task.kind {
        Kind::Text if task.shortcut.is_some() => "Classify a sentence by its opinion, with which its place goes",
        Kind::Text | Kind::Named => "Classify a sentence",
        Kind::TrueFalse => "Is it so? Two labels",
        Kind::Choice => "Choose one of four words by what the question is about",
        Kind::Answer => "Say what kind of thing the question is about, and its number",
    }
}

/// The classes and the words that tell them, for the reader of a card.
fn note(task: &Named) -> String {
    let all = groups(task.aspect);
    let class = |&(group, wordings): &(usize, &[usize])| {
        let words: Vec<&str> = wordings.iter().flat_map(|&w| all[group].wordings[w].split(' ')).collect();
        format!("{} ({})", all[group].name, words.join(" "))
    };
    let classes: Vec<String> = task.classes.iter().map(class).collect();
    let classes = format!("classes, which pretraining never contrasts (`held_out` in lexicon.rs): {}", classes.join("; "));
    let Some(shortcut) = &task.shortcut else { return classes };
    let places: Vec<&str> = shortcut.groups.iter().map(|&group| groups(shortcut.aspect)[group].name).collect();
    let pairs = task.classes.iter().zip(&places).map(|((group, _), place)| format!("{} with {place}", all[*group].name));
    format!(
        "{classes}. The place goes with the label in every sentence: {}. The opinion is the rule; examples in which both go together cannot tell, only the \
         model's experience can: in its training a rule was about opinion more than three times as often as about place",
        pairs.collect::<Vec<_>>().join(", ")
    )
}

/// Writes `<task>.jsonl` for every task, and `tasks.json`.
pub fn write(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    fs::create_dir_all(folder)?;
    let mut cards = serde_json::Map::new();
    for (i, named) in TASKS.iter().enumerate() {
        let mut rng = Rng::new(2026, i as u64);
        let (mut lines, mut seen) = (String::new(), std::collections::HashSet::new());
        let mut examples = 0;
        for _ in 0..EXAMPLES * 40 {
            // a task of its own for each example: distracting words come from the whole lexicon
            let task = named.task(&mut rng, false);
            let example = task.examples(&mut rng, 1, false).remove(0);
            let gold: String = example.answer.iter().map(|(text, _)| text.as_str()).collect();
            if examples < EXAMPLES && seen.insert(example.query.clone()) {
                lines.push_str(&format!("{}\n", json!({"query": example.query, "gold": gold})));
                examples += 1;
            }
        }
        export::write(&folder.join(format!("{}.jsonl", named.name)), lines.as_bytes())?;
        let mut card = json!({
            "title": title(named), "type": if named.kind == Kind::Answer { "answer" } else { "label" },
            "template": template(named.kind), "stop": "\n\n", "max_new_tokens": if named.kind == Kind::Answer { 16 } else { 1 },
            "ood": named.partners, "license": "MIT OR Apache-2.0",
            "source": "made by `cargo run --release --example pretrain_icl -- tasks`, seed 2026", "note": note(named),
        });
        if named.kind == Kind::Answer {
            card["answer_after"] = "####".into();
        } else {
            card["labels"] = named.labels.into();
        }
        cards.insert(named.name.to_string(), card);
        println!("{}: {examples} examples", named.name);
    }
    export::write(&folder.join("tasks.json"), format!("{}\n", serde_json::to_string_pretty(&cards)?).as_bytes())
}
