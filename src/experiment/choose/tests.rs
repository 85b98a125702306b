use std::collections::BTreeMap;

use super::*;
use crate::adapter::Lora;
use crate::compat::Compat;
use crate::experiment::Method;
use crate::experiment::lazy_model::LazyModel;
use crate::experiment::record::{Evaluated, ModelId, Record, TrainedRecord};
use crate::model::{Identity, Model};

/// A run of SFT at a rate with its metrics on the one test, or one that failed.
fn entry(model: &Model, run: u64, learning_rate: f64, dev_loss: f64, metrics: Option<&[(&str, f64)]>) -> Entry {
    let (beta, distributions) = (None, None);
    let training = TrainingId {
        adapter: Lora::rank(8).into(),
        learning_rate,
        beta,
        epochs: 1,
        patience: 1,
        compat: Compat::Corrected,
        self_distillation: None,
        distributions,
    };
    let run = Run {
        format: 0,
        model: ModelId { kind: String::new(), identity: Identity { config: String::new(), weights: String::new(), tokenizer: None } },
        task: "t".into(),
        rows: format!("those of run {run}"),
        n: 4,
        run,
        method: Method::Sft,
        training: Some(training),
    };
    let mut record = Record::new("m".into(), &run, metrics.is_none().then(|| "NaN".into()));
    if let Some(metrics) = metrics {
        record.trained = Some(TrainedRecord {
            dev_loss: Some(dev_loss),
            dev_cross_entropy: None,
            steps: 1,
            seconds: 1.0,
            parameters: String::new(),
            cost: None,
        });
        let metrics: BTreeMap<String, f64> = metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        record.evaluated.insert("test".into(), Evaluated { task: "t".into(), examples: 9, metrics, ..Evaluated::default() });
    }
    Entry { key: String::new(), record, tests: vec![("t".into(), "test".into())], elsewhere: None, model: LazyModel::open(model) }
}

fn chosen(entries: &[Entry], choice: Choice) -> Vec<bool> {
    choose(entries, choice).unwrap().iter().map(|tests| tests[0].is).collect()
}

#[test]
fn the_authors_choose_one_rate_for_all_runs_by_the_mean_top_1_accuracy() {
    let model = Model::open("tiny-icl").unwrap();
    let both = |top_1: f64, among_labels: f64| [("top_1_accuracy", top_1), ("accuracy", among_labels)];
    // Means of top-1: 0.7, 0.65. Among the labels the second rate is better in both runs, by dev loss in the second.
    let entries = [
        entry(&model, 0, 1e-3, 0.1, Some(&both(0.9, 0.5))),
        entry(&model, 0, 1e-2, 0.2, Some(&both(0.6, 0.8))),
        entry(&model, 1, 1e-3, 0.2, Some(&both(0.5, 0.5))),
        entry(&model, 1, 1e-2, 0.1, Some(&both(0.7, 0.8))),
    ];
    assert_eq!(chosen(&entries, Choice::TestAccuracy), [true, false, true, false]);
    assert_eq!(chosen(&entries, Choice::DevLoss), [true, false, false, true]);
    let by = |choice| choose(&entries, choice).unwrap()[0][0].by;
    assert_eq!([by(Choice::TestAccuracy), by(Choice::DevLoss)], ["mean top-1 accuracy on test", "dev loss"]);

    // Free answers have no likeliest label.
    let free = |accuracy: f64| [("accuracy", accuracy)];
    let entries = [
        entry(&model, 0, 1e-3, 0.1, Some(&free(0.1))),
        entry(&model, 0, 1e-2, 0.2, Some(&free(0.2))),
        entry(&model, 1, 1e-3, 0.1, Some(&free(0.2))),
    ];
    assert_eq!(chosen(&entries, Choice::TestAccuracy), [true, false, true], "a rate that not all runs have is passed over");
    assert_eq!(choose(&entries, Choice::TestAccuracy).unwrap()[0][0].by, "mean accuracy on test");

    // A failed run is never chosen, nor does it count.
    let entries = [
        entry(&model, 0, 1e-3, 0.1, Some(&free(0.9))),
        entry(&model, 0, 1e-2, 0.2, Some(&free(0.2))),
        entry(&model, 1, 1e-3, 0.1, None),
        entry(&model, 1, 1e-2, 0.1, Some(&free(0.2))),
    ];
    assert_eq!(chosen(&entries, Choice::TestAccuracy), [false, true, false, true]);
}
