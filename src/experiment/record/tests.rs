//! Records as they are written, opened and refused.

use super::*;

fn run(n: usize) -> Run {
    let identity = Identity { config: "c".into(), weights: "w".into(), tokenizer: None };
    let model = ModelId { kind: "Float".into(), identity };
    Run { format: FORMAT, model, task: "t".into(), rows: "r".into(), n, run: 0, method: Method::Icl, training: None }
}

#[test]
fn keys_and_records_stay_as_they_were_written() {
    // SHA-256 of the JSON by Python's hashlib: whatever is added to a run must be left out where it is not used.
    assert_eq!(run(2).key().unwrap(), "4c53335f8fb19c0efd40");
    // A run of a study on SmolLM2, as a file called so tells of it.
    let run_of_a_study: Run = serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run.json"))).unwrap();
    assert_eq!(run_of_a_study.key().unwrap(), "48e3d0ba694d12d1f9a5");
    let metrics = BTreeMap::from([("accuracy".to_string(), 0.5)]);
    let evaluated = Evaluated { task: "t".into(), examples: 4, metrics, ..Evaluated::default() };
    let record = Record { evaluated: BTreeMap::from([("d".into(), evaluated)]), ..Record::new("m".into(), &run(2), None) };
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut json = serde_json::to_value(&record).unwrap();
    assert_eq!(names(&json), ["evaluated", "failed", "model", "run", "trained"]);
    assert_eq!(names(&json["evaluated"]["d"]), ["asim", "examples", "failed", "metrics", "task"]);
    json["trained"] = serde_json::json!({"dev_loss": 1.0, "dev_cross_entropy": null, "steps": 1, "seconds": 1.0, "parameters": "p"});
    let old: Record = serde_json::from_value(json).unwrap();
    assert_eq!(old.trained.unwrap().cost, None);
    // What it lacks is missing only to those who ask.
    let columns = ["accuracy".to_string(), "drift".to_string()];
    let demand = |columns| Demand { retry: false, outcomes: false, columns };
    assert!(record.is_whole(["d"].into_iter(), None, demand(&[])) && record.is_whole(["d"].into_iter(), None, demand(&columns[..1])));
    assert!(!record.is_whole(["d"].into_iter(), None, demand(&columns)));
    assert!(!record.is_whole(["d"].into_iter(), Some("other"), demand(&[])));
}

#[test]
fn every_number_of_a_record_comes_back_with_its_bits() {
    let mut random = crate::random::Random::new(0, "numbers", 0);
    for _ in 0..100 {
        let mut number = || 20.0 * random.unit();
        let metrics = BTreeMap::from([("nll".to_string(), number()), ("drift".to_string(), number())]);
        let evaluated = Evaluated { metrics, asim: vec![(None, number()), (Some(3), number())], ..Evaluated::default() };
        let cost = Cost { seconds: number(), ..Cost::default() };
        let (dev_loss, dev_cross_entropy, seconds) = (Some(number()), Some(number()), number());
        let trained = TrainedRecord { dev_loss, dev_cross_entropy, steps: 1, seconds, parameters: "p".into(), cost: Some(cost) };
        let found = Found { words: "w".into(), dev_loss, seconds: number(), vector: None, temperature: Some(number()), cost: None };
        let elsewhere = ForgettingRecord { drift: Some(number()), before: Some(number()), after: None, ..ForgettingRecord::default() };
        let record = Record {
            trained: Some(trained),
            found: Some(found),
            evaluated: BTreeMap::from([("d".into(), evaluated)]),
            elsewhere: BTreeMap::from([("e".into(), elsewhere)]),
            ..Record::new("m".into(), &run(2), None)
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
    }
}

#[test]
fn what_no_run_can_come_to_is_refused() {
    let good = Cost { parameters: 1, tokens: 1, target_tokens: 1, seconds: 1.0 };
    let with = |cost: Cost, drift: f64, after: f64| {
        let metrics = BTreeMap::from([("drift".to_string(), drift)]);
        let evaluated = BTreeMap::from([("d".to_string(), Evaluated { metrics, ..Evaluated::default() })]);
        let elsewhere = BTreeMap::from([("e".to_string(), ForgettingRecord { after: Some(after), ..ForgettingRecord::default() })]);
        let training = TrainingId {
            self_distillation: None,
            adapter: crate::adapter::Lora::rank(2).into(),
            learning_rate: 1.0,
            beta: None,
            epochs: 1,
            patience: 1,
            compat: Compat::Corrected,
            distributions: None,
        };
        let trained =
            TrainedRecord { dev_loss: None, dev_cross_entropy: None, steps: 1, seconds: 1.0, parameters: "p".into(), cost: Some(cost) };
        let run = Run { method: Method::Sft, training: Some(training), ..run(2) };
        Record { evaluated, elsewhere, trained: Some(trained), ..Record::new("m".into(), &run, None) }.check()
    };
    assert_eq!(with(good, 0.0, 1.0), Ok(()));
    for (record, words) in [
        (with(good, -0.1, 1.0), "-0.1 for `drift`"),
        (with(good, f64::INFINITY, 1.0), "inf for `drift`"),
        (with(good, 0.0, 1.5), "1.5 for `accuracy`"),
        (with(Cost { seconds: f64::NAN, ..good }, 0.0, 1.0), "NaN seconds"),
    ] {
        assert!(record.as_ref().is_err_and(|error| error.contains(words)), "{words}: {record:?}");
    }
}

#[test]
fn a_rate_comes_back_with_every_bit_and_a_disk_that_fails_is_no_missing_record() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = crate::adapter::Lora::rank(2).into();
    let mut random = crate::random::Random::new(0, "rates", 0);
    for _ in 0..200 {
        // serde_json's quick reader misses the last bit of one in some.
        let learning_rate = (random.below(1 << 52) as f64 + 0.5) / (1u64 << 60) as f64;
        let training = TrainingId {
            self_distillation: None,
            adapter: Clone::clone(&adapter),
            learning_rate,
            beta: Some(learning_rate * 3.0),
            epochs: 1,
            patience: 1,
            compat: Compat::Corrected,
            distributions: None,
        };
        let record = Record::new("m".into(), &Run { method: Method::Sft, training: Some(training), ..run(2) }, Some("NaN".into()));
        record.save(folder.path()).unwrap();
        assert_eq!(Record::open(folder.path(), &record.run).unwrap(), Some(record));
    }
    // Neither there nor not there.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Record::open(&file, &run(2)).unwrap_err();
    assert!(error.is_file() && error.to_string().contains("cannot read"), "{error}");
}

/// Hours of work lie under such names.
#[test]
fn a_run_keeps_its_key_and_a_record_without_what_later_ones_have_opens() {
    assert_eq!(run(2).key().unwrap(), "4c53335f8fb19c0efd40");
    let record = Record::new("m".into(), &run(2), None);
    let json = serde_json::to_string(&record).unwrap();
    assert!(json.contains(r#""trained":null,"failed":null"#) && !json.contains("found"), "{json}");
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
}

#[test]
fn what_was_found_is_told_and_nothing_that_no_search_finds() {
    let folder = tempfile::tempdir().unwrap();
    let found =
        Found { words: "layer 1".into(), dev_loss: Some(0.1 + 0.2), seconds: 1.0, vector: Some("d".into()), temperature: None, cost: None };
    let of = |method, found| Record { found, ..Record::new("m".into(), &Run { method, ..run(2) }, None) };
    let record = of(Method::TaskVector, Some(found.clone()));
    record.save(folder.path()).unwrap();
    assert_eq!(Record::open(folder.path(), &record.run).unwrap(), None, "its vector is not there");
    std::fs::write(vector(folder.path(), &record.run.key().unwrap()), "").unwrap();
    assert_eq!(Record::open(folder.path(), &record.run).unwrap(), Some(record));
    for record in [
        of(Method::TaskVector, None),
        of(Method::Icl, Some(found.clone())),
        of(Method::TaskVector, Some(Found { vector: None, ..found.clone() })),
        of(Method::TaskVector, Some(Found { seconds: -1.0, ..found.clone() })),
        of(Method::TaskVector, Some(Found { temperature: Some(0.0), ..found })),
    ] {
        record.save(folder.path()).unwrap();
        let error = Record::open(folder.path(), &record.run).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("remove it"), "{error}");
    }
}

#[test]
fn a_record_is_that_of_the_run_that_asks_and_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let evaluated = |accuracy: f64, asim: f64| {
        let metrics = BTreeMap::from([("accuracy".to_string(), accuracy)]);
        let evaluated = Evaluated { task: "t".into(), examples: 4, metrics, asim: vec![(Some(0), asim)], ..Evaluated::default() };
        BTreeMap::from([("d".to_string(), evaluated)])
    };
    let record = |n: usize| Record { evaluated: evaluated(0.5, 0.25), ..Record::new("m".into(), &run(n), None) };
    let [one, other] = [record(2), record(4)];
    one.save(folder.path()).unwrap();
    other.save(folder.path()).unwrap();
    assert_eq!(Record::open(folder.path(), &one.run).unwrap(), Some(one.clone()));
    assert_eq!(Record::open(folder.path(), &run(8)).unwrap(), None);
    let place = |record: &Record| path(folder.path(), &record.run.key().unwrap());
    let refused = |words: &str| {
        let error = Record::open(folder.path(), &one.run).unwrap_err();
        assert!(error.is_file() && error.to_string().contains(words) && error.to_string().contains("remove it"), "{words}: {error}");
    };
    let text = std::fs::read_to_string(place(&one)).unwrap();
    for (from, to) in [("0.5", "17.5"), ("0.5", "0.6"), ("0.25", "null"), ("\"n\": 2", "\"n\": 3"), ("ia2_checksum", "ia2_checksun")] {
        assert!(text.contains(from));
        std::fs::write(place(&one), text.replacen(from, to, 1)).unwrap();
        refused("");
    }
    std::fs::copy(place(&other), place(&one)).unwrap();
    refused("another run");
    // With a checksum that is right, too.
    for (evaluated, words) in [
        (evaluated(17.5, 0.0), "17.5 for `accuracy`"),
        (evaluated(-0.1, 0.0), "-0.1 for `accuracy`"),
        (evaluated(0.5, 1.5), "an asim of 1.5"),
    ] {
        Record { evaluated, ..one.clone() }.save(folder.path()).unwrap();
        refused(words);
    }
    let trained =
        Some(TrainedRecord { dev_loss: None, dev_cross_entropy: None, steps: 1, seconds: 1.0, parameters: "p".into(), cost: None });
    Record { trained, ..one.clone() }.save(folder.path()).unwrap();
    refused("a training that the run has not");
}
