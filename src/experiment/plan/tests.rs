//! The plan's arithmetic: by hand, and against a real grid whose work is counted, not timed.

use std::fs;
use std::path::Path;

use super::*;
use crate::adapter::Lora;
use crate::method::Method;

/// Of an example a forward takes one second, and a query 100.
const TIMED: Timed = Timed { example: 3.0, query: 100.0 };
const SIZES: [usize; 2] = [4, 8];
const EPOCHS: u64 = 3;
const ASKED: usize = 10;
const COMPARED: usize = 6;

/// Five runs of each N: zero-shot, ICL, SFT, IA2, IA2 → SFT. No training stops early.
fn grid(model: &Model, folder: &Path) -> Experiment {
    let methods = [Method::ZeroShot, Method::Icl, Method::Sft, Method::Ia2ThenSft];
    let grid = Experiment::new(model).tasks(&["sentiment"]).tested_on("sentiment", &[]).sizes(&SIZES).runs(1).methods(&methods);
    grid.learning_rates(&[1e-3]).epochs(EPOCHS).patience(100).test_at_most(ASKED).compared_at_most(COMPARED).folder(folder)
}

/// The line of each N at the pace of [`TIMED`].
fn lines(grid: &Experiment) -> Result<Vec<Line>> {
    let plan = grid.plan()?;
    let drawn = grid.grid()?;
    let line = |(mut line, sketch): (Line, &CellOutline)| {
        grid.fill(&mut line, sketch, &drawn.runs(sketch)?, Some(&Ok(TIMED)));
        Ok(line)
    };
    // What was timed here is replaced; bytes were counted once.
    plan.rows.iter().map(|row| Line { bytes: 0, ..row.clone() }).zip(&drawn.cells).map(line).collect()
}

#[test]
fn hours_are_those_of_the_work_by_hand() -> Result<()> {
    let (model, folder) = (Model::open("tiny-icl")?, tempfile::tempdir().unwrap());
    let lines = lines(&grid(&model, folder.path()))?;
    let numbers = |line: &Line| (line.n, line.cells, line.runs, line.done, line.trainings);
    assert_eq!(lines.iter().map(numbers).collect::<Vec<_>>(), [(4, 1, 5, 0, 3), (8, 1, 5, 0, 3)]);
    // A dev set of N / 2 is looked at every second step: half a look, forwards alone, for each step of four examples.
    let training = [3.0 * 3.0 * (4.0 * 3.0 + 2.0 / 2.0), 3.0 * 6.0 * (4.0 * 3.0 + 4.0 / 2.0)];
    // Each run answers 10 queries, and 6 are read once for asim and once for drift. ICL reads the demonstrations once. For targets, each level of
    // the tree reads N demonstrations, and all train and dev queries are answered.
    let asked = 5.0 * (10.0 * 100.0 + 6.0 * 2.0);
    let other = [asked + 4.0 + 4.0 * 3.0 + 6.0 * 100.0, asked + 8.0 + 8.0 * 4.0 + 12.0 * 100.0];
    for (place, line) in lines.iter().enumerate() {
        assert!((line.training_seconds - training[place]).abs() < 1e-9, "{line:?}");
        assert!((line.other_seconds - other[place]).abs() < 1e-9, "{line:?}");
        assert!((line.longest - training[place] - other[place]).abs() < 1e-9, "{line:?}");
        assert!((line.core_hours(2) - (training[place] + other[place]) / 1800.0).abs() < 1e-9, "{line:?}");
    }
    Ok(())
}

#[test]
fn counts_and_disk_are_those_of_the_grid_that_is_run() -> Result<()> {
    let (model, folder) = (Model::open("tiny-icl")?, tempfile::tempdir().unwrap());
    let grid = grid(&model, folder.path());
    let (plan, lines) = (grid.plan()?, lines(&grid)?);
    let frame = grid.run()?.frame()?;
    assert_eq!(plan.missing(), frame.height());
    let (n, steps, examples) = (frame.column("n")?.u32()?.clone(), frame.column("steps")?.clone(), frame.column("examples")?.clone());
    let (steps, examples) = (steps.cast(&DataType::Float64)?, examples.cast(&DataType::Float64)?);
    assert!(examples.f64()?.iter().all(|asked| asked == Some(ASKED as f64)));
    let keys = frame.column("key")?.str()?.clone();
    for line in &lines {
        let rows: Vec<usize> = (0..frame.height()).filter(|&row| n.get(row) == Some(line.n as u32)).collect();
        let trained: Vec<usize> = rows.iter().copied().filter(|&row| steps.f64().is_ok_and(|steps| steps.get(row).is_some())).collect();
        assert_eq!((rows.len(), trained.len()), (line.runs, line.trainings));
        let mut seconds = 0.0;
        for row in trained {
            let steps = steps.f64()?.get(row).unwrap_or_default();
            // The last phase's checks, each of the whole dev set.
            let history = fs::read_to_string(folder.path().join(keys.get(row).unwrap_or_default()).join("ia2_history.csv")).unwrap();
            let last = history.lines().last().and_then(|line| line.split(',').next()).unwrap_or_default().to_owned();
            let checks = history.lines().skip(1).filter(|line| line.split(',').next() == Some(last.as_str())).count();
            seconds += steps * line.n.min(BATCH) as f64 * TIMED.example + (checks * Split::dev_of(line.n)) as f64 * TIMED.example * FORWARD;
        }
        let apart = line.training_seconds / seconds;
        assert!((0.85..1.15).contains(&apart), "N = {}: {:.0} s predicted, {seconds:.0} s by what was done", line.n, line.training_seconds);
    }
    let mut folders = vec![folder.path().to_path_buf()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()) {
            if entry.path().is_dir() { folders.push(entry.path()) } else { bytes += entry.metadata().unwrap().len() }
        }
    }
    let weights = AdapterConfig::from(Lora::rank(8)).count(&model)? as u64 * 4;
    assert!(
        plan.bytes() > 6 * weights && (0.8..1.5).contains(&(plan.bytes() as f64 / bytes as f64)),
        "{} predicted, {bytes}",
        plan.bytes()
    );
    // What is done is in no sum.
    let done = grid.plan()?;
    assert_eq!((done.missing(), done.bytes(), done.hours(), done.longest_cell()), (0, 0, 0.0, 0.0));
    Ok(())
}
