//! Grids that are killed, and folders that are not what they were.

use super::*;

#[test]
fn what_is_not_what_was_recorded_is_refused_or_done_again() -> Result<()> {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let grid = || small(&model).methods(&[Method::Sft, Method::Ia2ThenSft]).learning_rates(&[1e-3]).runs(1).folder(folder.path());
    let expected = grid().run()?.frame()?;
    let keys = texts(&expected, "key");
    // Without its adapter a training is not done.
    std::fs::remove_dir_all(folder.path().join(&keys[0])).unwrap();
    assert_eq!(grid().so_far()?.frame()?.height(), expected.height() - 1);
    assert_eq!(grid().plan()?.missing(), 1);
    assert!(timeless(&grid().run()?.frame()?).equals_missing(&timeless(&expected)));
    assert!(folder.path().join(&keys[0]).join("adapter_config.json").exists());
    // A record of another run, or with another number; an adapter of another.
    let record = |place: usize| folder.path().join(format!("{}.json", keys[place]));
    let text = std::fs::read_to_string(record(0)).unwrap();
    std::fs::copy(record(1), record(0)).unwrap();
    common::refused(grid().run(), &[&keys[0], "another run", "remove it"]);
    let accuracy = &text[text.find("\"accuracy\": ").unwrap()..];
    let accuracy = &accuracy[..accuracy.find(',').unwrap()];
    std::fs::write(record(0), text.replacen(accuracy, "\"accuracy\": 17.5", 1)).unwrap();
    common::refused(grid().run(), &[&keys[0], "changed or damaged", "remove it"]);
    std::fs::write(record(0), &text).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors", "ia2_manifest.json"] {
        std::fs::copy(folder.path().join(&keys[2]).join(name), folder.path().join(&keys[1]).join(name)).unwrap();
    }
    common::refused(grid().tested_on("sentiment", &["sentiment_film"]).run(), &[&keys[1], "not the one that the record", "remove both"]);
    Ok(())
}

#[test]
fn a_grid_whose_folder_goes_while_it_runs_says_so() {
    let model = model();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("grid");
    let running = small(&model).methods(&[Method::Icl, Method::Sft]).sizes(&[2, 4]).runs(2).folder(&place);
    let remover = std::thread::spawn({
        let place = place.clone();
        move || {
            let records = || std::fs::read_dir(&place).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_file()));
            while !records() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::fs::remove_dir_all(&place).unwrap_or_default();
        }
    });
    let error = running.run().unwrap_err();
    remover.join().unwrap();
    assert!(error.is_file(), "{error}");
    // It is done again as if nothing had been.
    assert_eq!(running.run().unwrap().frame().unwrap().height(), 2 * 2 * 2);
}

/// Set in a child: the folder it works in. Without it the child's test does nothing.
const FOLDER: &str = "IA2_TEST_EXPERIMENT_IN";

fn long() -> Result<DataFrame> {
    let Some(folder) = std::env::var_os(FOLDER) else { return Ok(DataFrame::empty()) };
    grid_in(Path::new(&folder)).run()?.frame()
}

fn grid_in(folder: &Path) -> Experiment {
    let methods = [Method::Icl, Method::Sft, Method::Ia2ThenSft];
    small(&model()).methods(&methods).sizes(&[2, 4]).runs(2).tested_on("sentiment", &["sentiment_film"]).folder(folder)
}

#[test]
#[ignore = "the child of `an_experiment_that_is_killed_goes_on`"]
fn child() -> Result<()> {
    long().map(|_| ())
}

#[test]
fn an_experiment_that_is_killed_goes_on() -> Result<()> {
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = grid_in(whole.path()).run()?.frame()?;
    let records = || {
        let entries = std::fs::read_dir(broken.path()).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "json")).count()
    };
    let began = Instant::now();
    for kill in 0..3 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "interrupted::child", "--ignored"]).env(FOLDER, broken.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let before = records();
        while records() <= before + kill {
            assert!(began.elapsed() < Duration::from_secs(240) && child.try_wait().unwrap().is_none(), "kill {kill} found nothing to kill");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Then a moment that no clock of ours decides.
        let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
        std::thread::sleep(Duration::from_micros(u64::from(nanoseconds / 7 % 100_000)));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "the experiment ended before kill {kill}: make it longer");
    }
    let there = records();
    assert!((3..16).contains(&there), "{there} of 16 runs");
    assert_eq!(grid_in(broken.path()).so_far()?.frame()?.height(), 2 * there);
    let resumed = grid_in(broken.path()).run()?.frame()?;
    assert!(timeless(&resumed).equals_missing(&timeless(&expected)));
    Ok(())
}
