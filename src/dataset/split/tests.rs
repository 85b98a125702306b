//! Splits: what they draw, and what they promise.

use super::super::counted;
use super::*;
use crate::prompt::{AnswerForm, Example};

fn queries(set: &Examples) -> HashSet<&str> {
    set.rows().iter().map(|row| row.query.as_str()).collect()
}

#[test]
fn sets_are_disjoint_of_the_authors_sizes_and_repeat_with_their_run() {
    let task = counted(800);
    for (n, dev) in [(1, 1), (2, 1), (4, 2), (8, 4), (31, 15), (96, 48), (128, 48)] {
        for split in [task.few_shot(n, 7).unwrap(), task.few_shot_balanced(n, 7).unwrap()] {
            assert_eq!((split.train.len(), split.dev.len(), split.test.len()), (n, dev, 500));
            let all: HashSet<_> = [&split.train, &split.dev, &split.test].into_iter().flat_map(queries).collect();
            assert_eq!(all.len(), n + dev + 500, "no query in two sets");
        }
        assert_eq!(task.few_shot(n, 7).unwrap(), task.few_shot(n, 7).unwrap());
        assert_ne!(queries(&task.few_shot(n, 7).unwrap().test), queries(&task.few_shot(n, 8).unwrap().test));
    }
}

#[test]
fn one_run_tests_every_n_on_the_same_and_grows_its_training_set() {
    let task = counted(800);
    let (few, many) = (task.few_shot(4, 3).unwrap(), task.few_shot(64, 3).unwrap());
    assert_eq!(few.test, many.test);
    assert_eq!(few.train, many.train.take(4));
    assert_eq!(task.test(500, 3).unwrap(), few.test);
    assert_eq!(task.few_shot_balanced(8, 3).unwrap().test, few.test);
    assert_eq!(task.test(9_999, 3).unwrap().len(), 800);
}

#[test]
fn balanced_sets_hold_as_many_of_each_label() {
    let task = counted(400);
    let mut uneven = false;
    for run in 0..10 {
        let ones = |set: &Examples| set.rows().iter().filter(|row| row.gold == "1").count();
        let split = task.few_shot_balanced(8, run).unwrap();
        assert_eq!((ones(&split.train), ones(&split.dev)), (4, 2));
        uneven |= ones(&task.few_shot(8, run).unwrap().train) != 4;
    }
    assert!(uneven, "plain draws are not balanced");
}

#[test]
fn targets_never_show_their_own_answer_and_dev_shares_with_train() {
    let split = counted(100).few_shot(8, 1).unwrap();
    let prompts = split.target_prompts(256).unwrap();
    assert_eq!(prompts.len(), 8 + 4);
    for (place, prompt) in prompts.iter().enumerate() {
        assert_eq!((prompt.index, prompt.demonstrations.len()), (place, 7));
        assert!(prompt.demonstrations.iter().all(|shown| shown.query != prompt.example.query));
    }
    for place in 0..4 {
        let (dev, train) = (prompts.get(8 + place).unwrap(), prompts.get(place).unwrap());
        assert_eq!(dev.demonstrations, train.demonstrations);
        assert_eq!(dev.example, split.dev.rows()[place]);
    }
}

#[test]
fn too_few_rows_says_how_many() {
    let task = counted(12);
    assert_eq!(task.few_shot(7, 0).unwrap().test.len(), 2);
    let error = task.few_shot(8, 0).unwrap_err();
    assert!(error.is_input() && error.to_string().contains("has 12 rows, too few for 8 training, 4 development"), "{error}");
    assert!(task.test(0, 0).unwrap_err().to_string().contains("nothing to test on"));
    assert!(task.clone().test_at_most(0).is_err());
    assert!(task.few_shot(0, 0).unwrap_err().to_string().contains("at least one"));
    assert!(task.few_shot(usize::MAX, 0).unwrap_err().to_string().contains("too few"));
    let free = counted(12).with_form(AnswerForm::free()).unwrap();
    assert!(free.few_shot_balanced(2, 0).unwrap_err().to_string().contains("no labels to balance"));
    let three = counted(12).labelled(["0", "1", "2"]).unwrap();
    assert!(three.few_shot_balanced(6, 0).unwrap_err().to_string().contains("label \"2\""));
}

#[test]
fn tests_come_from_the_held_out_rows_where_there_are_some() {
    let rows = |from: usize, to: usize| (from..to).map(|row| Example::new(format!("Text:{row}\nLabel:"), "0")).collect();
    let set = |from, to| Examples::new("t", AnswerForm::labels(["0", "1"]).unwrap(), rows(from, to)).unwrap();
    let task = Task::counted(set(0, 12), set(100, 700), Default::default(), vec![], vec![]);
    let (few, all) = (task.few_shot(2, 3).unwrap(), task.few_shot(8, 3).unwrap());
    assert_eq!((all.train.len(), all.dev.len(), all.test.len()), (8, 4, 500), "no row is kept back for testing");
    assert_eq!((&few.test, few.train), (&all.test, all.train.take(2)));
    assert_eq!(task.test(500, 3).unwrap(), all.test);
    assert!(all.test.rows().iter().all(|row| task.held_out().rows().contains(row)));
    assert!(task.few_shot(9, 3).unwrap_err().to_string().contains("12 rows, too few for 9 training, 4 development examples"));
    assert_eq!(task.few_shot(8, 3).unwrap(), all);
    assert!(format!("{task:?}").contains("12 rows and 600 held out"));
}

#[test]
fn a_split_shows_itself() {
    let split = counted(20).test_at_most(5).unwrap().few_shot(4, 2).unwrap();
    assert_eq!(format!("{split:?}"), "Split(`counted`, run 2: 4 train, 2 dev, 5 test)");
    let frame = split.frame().unwrap();
    assert_eq!(frame.get_column_names(), ["split", "query", "gold"]);
    assert_eq!(frame.height(), 11);
}

#[test]
fn test_queries_that_nearly_repeat_a_learned_one_are_reported() {
    let form = || AnswerForm::labels(["0", "1"]).unwrap();
    let set = |rows: &[(&str, &str)]| {
        let rows = rows.iter().map(|(text, gold)| Example::new(format!("Text:{text}\nLabel:"), *gold)).collect();
        Examples::new("t", form(), rows).unwrap()
    };
    let (train, dev) = (set(&[("a fine film", "1"), ("a dull one", "0")]), set(&[("it works", "1")]));
    let test = set(&[("A fine film!", "0"), ("it works.", "1"), ("something else", "0"), ("a dull film", "0")]);
    let split = Split { train, dev, test, run: 0, task: "t".into() };
    let frame = split.near_duplicates().unwrap();
    let column = |name: &str| -> Vec<String> { frame.column(name).unwrap().str().unwrap().iter().flatten().map(str::to_owned).collect() };
    assert_eq!(column("test"), ["Text:A fine film!\nLabel:", "Text:it works.\nLabel:"]);
    assert_eq!(
        (column("split"), column("query")),
        (vec!["train".into(), "dev".into()], vec!["Text:a fine film\nLabel:".into(), "Text:it works\nLabel:".into()])
    );
    assert_eq!((column("test_gold"), column("gold")), (vec!["0".into(), "1".into()], vec!["1".to_string(), "1".into()]));
    let shown = split.bundle().plain;
    assert!(shown.contains("2 test queries nearly repeat one of train or dev: see `.near_duplicates()`"), "{shown}");
    assert!(!counted(40).few_shot(4, 0).unwrap().bundle().plain.contains("nearly"));
}

#[test]
fn a_run_names_the_same_split_for_good() {
    // A change here is a change of every published split.
    let split = counted(1_000).few_shot(4, 0).unwrap();
    let drawn: Vec<&str> = split.train.rows().iter().map(|row| row.query.as_str()).collect();
    assert_eq!(drawn, ["Text:913\nLabel:", "Text:372\nLabel:", "Text:929\nLabel:", "Text:629\nLabel:"]);
}
