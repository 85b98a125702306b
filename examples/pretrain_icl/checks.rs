//! `cargo test --example pretrain_icl`: the world keeps its promises, and the tokenizer file says what the generator says.

use crate::lexicon::{groups, held_out_classes};
use crate::rng::Rng;
use crate::tasks::TASKS;
use crate::tokenizer::tokenizer_json;
use crate::vocabulary::{BOS, Vocabulary};
use crate::world::{KINDS, Kind, Role, Task};
use crate::{batch, curriculum};

#[test]
fn the_tokenizer_gives_the_ids_of_the_generator() {
    let vocab = Vocabulary::of_the_world();
    let tokenizer: tokenizers::Tokenizer = tokenizer_json(&vocab).to_string().parse().expect("a tokenizer");
    for (i, named) in TASKS.iter().enumerate() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed, i as u64);
            let task = named.task(&mut rng, false);
            let (row, _) = batch::exam(&mut rng, &vocab, &task, None, 8);
            let text = vocab.decode(&row.ids[1..]);
            let ids: Vec<u16> = tokenizer.encode(text.as_str(), true).expect("ids").get_ids().iter().map(|&i| i as u16).collect();
            assert_eq!(ids, row.ids, "{text}");
            assert_eq!(row.ids[0], BOS);
        }
    }
}

#[test]
fn text_outside_the_lexicon_is_bytes_and_comes_back() {
    let vocab = Vocabulary::of_the_world();
    let tokenizer: tokenizers::Tokenizer = tokenizer_json(&vocab).to_string().parse().expect("a tokenizer");
    for text in ["Unheard-of  words: 42, déjà vu\n\n\tText:x", "Label: yes"] {
        let ids = tokenizer.encode(text, false).expect("ids");
        assert_eq!(tokenizer.decode(ids.get_ids(), true).expect("text"), text);
    }
}

#[test]
fn every_label_is_one_token_and_two_labels_differ() {
    let vocab = Vocabulary::of_the_world();
    for named in &TASKS {
        let mut ids: Vec<u16> = named.labels.iter().map(|l| vocab.id(l)).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), named.labels.len(), "{}", named.name);
    }
}

#[test]
fn lessons_never_contrast_a_held_out_pair() {
    for progress in [0.0, 0.1, 0.2, 0.4, 1.0] {
        let (stage, _, _) = curriculum::at(progress);
        let mut rng = Rng::new(3, 4);
        for i in 0..4000 {
            let task = Task::draw(&mut rng, KINDS[i % KINDS.len()], &stage);
            for (i, a) in task.classes.iter().enumerate() {
                assert!(task.classes[..i].iter().all(|b| !held_out_classes(a, b, stage.strict)), "{:?}", task.classes);
            }
        }
    }
}

#[test]
fn the_written_tasks_hold_a_held_out_pair() {
    for named in &TASKS {
        let task = named.task(&mut Rng::new(0, 0), false);
        let pairs = task.classes.iter().enumerate().flat_map(|(i, a)| task.classes[..i].iter().map(move |b| (a, b)));
        assert!(pairs.into_iter().any(|(a, b)| held_out_classes(a, b, false)), "{}", named.name);
    }
}

#[test]
fn a_shortcut_says_the_label_in_every_sentence_and_the_other_one_in_its_partner() {
    let named = |name: &str| TASKS.iter().find(|task| task.name == name).expect("one");
    for (name, place_of_bad) in [("shortcut", "home"), ("shortcut_contrary", "wild")] {
        let (named, mut rng) = (named(name), Rng::new(0, 3));
        let aspect = named.shortcut.as_ref().expect("a shortcut").aspect;
        let mut bad_seen = 0;
        for pick in 0..200 {
            let example = named.task(&mut rng, false).example(&mut rng, pick);
            let has = |wordings: &[&str]| {
                wordings.iter().flat_map(|words| words.split(' ')).any(|word| example.query.contains(&format!(" {word}")))
            };
            let said: Vec<&str> = groups(aspect).iter().filter(|group| has(group.wordings)).map(|group| group.name).collect();
            let (opinion, bad) = (groups(named.aspect)[1].wordings, example.answer[0].0 == "0");
            assert_eq!(has(&opinion[..1]), bad, "the opinion is the rule: {}", example.query);
            assert_eq!(
                said.as_slice(),
                [if bad {
                    place_of_bad
                } else if place_of_bad == "home" {
                    "wild"
                } else {
                    "home"
                }],
                "{}",
                example.query
            );
            bad_seen += usize::from(bad);
        }
        assert_eq!(bad_seen, 100);
    }
}

#[test]
fn an_answer_ends_in_its_label() {
    let task = TASKS.iter().find(|t| t.kind == Kind::Answer).expect("one").task(&mut Rng::new(0, 1), false);
    let example = task.example(&mut Rng::new(0, 2), 1);
    let text: String = example.answer.iter().map(|(t, _)| t.as_str()).collect();
    assert!(text.ends_with(" #### 7"), "{text}");
    assert_eq!(example.answer.last().map(|(_, role)| *role), Some(Role::Label));
}

#[test]
fn the_same_seed_and_step_give_the_same_lesson() {
    let vocab = Vocabulary::of_the_world();
    let (stage, lengths, repeats) = curriculum::at(0.5);
    let draw = || batch::Batch::draw(&mut Rng::new(7, 11), &vocab, &stage, lengths, 1024, repeats).rows;
    let ids = |rows: Vec<batch::Row>| rows.into_iter().map(|r| r.ids).collect::<Vec<_>>();
    assert_eq!(ids(draw()), ids(draw()));
}
