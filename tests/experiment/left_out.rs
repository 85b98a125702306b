//! What is not installed is left out, and said.

use super::*;

#[test]
fn what_a_card_names_and_is_not_installed_is_left_out_and_said() -> Result<()> {
    let model = model();
    let task = |ood: &[&str]| {
        let mut card = ia2::dataset::Card::default();
        card.ood = ood.iter().map(|name| name.to_string()).collect();
        Task::of(Task::open("sentiment").unwrap().examples().clone(), card)
    };
    let grid =
        |task: &Task| Experiment::new(&model).task(task).sizes(&[2]).runs(1).methods(&[Method::Icl]).test_at_most(8).compared_at_most(2);
    let partly = grid(&task(&["sentiment_film", "nowhere", "elsewhere"]));
    let said = "; sentiment not tested on nowhere, elsewhere: not installed";
    told(&partly.plan()?.bundle().plain, &["Plan: 1 of 1 runs", said]);
    let study = partly.run()?;
    assert_eq!(texts(&study.frame()?, "evaluated_on"), ["sentiment", "sentiment_film"]);
    told(&study.bundle().plain, &[said]);
    let whole = grid(&task(&["sentiment_film"])).run()?.bundle().plain;
    assert!(!whole.contains("not installed"), "{whole}");
    // On a cluster, too.
    let folder = tempfile::tempdir().unwrap();
    common::grid::prepared(&partly, folder.path(), env!("CARGO_BIN_EXE_ia2-worker"))?;
    told(&Experiment::open(folder.path())?.bundle().plain, &[said]);
    // What is asked for is not left out.
    common::refused(partly.tested_on("sentiment", &["nowhere"]).run(), &["tested on `nowhere`"]);
    Ok(())
}

/// The data folder of the child of the test below.
fn partial_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ag_news")).unwrap();
    let rows: String = (0..40).map(|row| format!("\"{}\",\"title {row}\",\"text\"\n", row % 4 + 1)).collect();
    std::fs::write(folder.path().join("ag_news/test.csv"), rows).unwrap();
    folder
}

#[test]
#[ignore = "the child of `of_a_benchmark_of_which_a_part_is_missing_the_rest_is_used`, with a data folder of its own"]
fn child_with_a_partial_benchmark() -> Result<()> {
    let model = model();
    let words = [" cold", " warm", " red", " blue"];
    let grid = Experiment::new(&model).tasks(&["AGN"]).words("AGN", &words).sizes(&[4]).runs(1).methods(&[Method::Icl]);
    let said = ["AGN learned from and tested on test: the rest of it is not installed", "AGN not tested on BBCN: not installed"];
    told(&grid.plan()?.bundle().plain, &said);
    let study = grid.run()?;
    told(&study.bundle().plain, &said);
    // 40 rows less 4 to learn from and 2 for dev.
    assert_eq!(numbers(&study.frame()?, "examples"), [Some(34.0)]);
    let protocol = texts(&grid.protocol()?, "value").join("\n");
    told(&protocol, &["AGN, 40 rows: 40 rows of ag_news/test.csv; labels  cold,  warm,  red,  blue", said[0], "weights sha256 ", "ICL"]);
    Ok(())
}

#[test]
fn of_a_benchmark_of_which_a_part_is_missing_the_rest_is_used() {
    let folder = partial_folder();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "left_out::child_with_a_partial_benchmark", "--ignored"]).env("IA2_DATA", folder.path());
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"), "the child's test is there");
}
