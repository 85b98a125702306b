//! A plan of very many runs.

use super::*;

/// Set in a child: measure.
const LARGE: &str = "IA2_TEST_LARGE_IN";
const THIRTEEN_THOUSAND: usize = 13_000;

/// 13,000 runs in 500 cells, of the paper's methods.
fn large(model: &Model) -> Experiment {
    let tasks = ["sentiment", "sentiment_film", "topic", "choice", "truefalse"];
    let grid = tasks.iter().fold(Experiment::new(model).tasks(&tasks), |grid, task| grid.tested_on(task, &["sentiment"]));
    let methods = [Method::ZeroShot, Method::Icl, Method::Sft, Method::Soft, Method::Ia2, Method::Ia2ThenSft, Method::Ia2PlusSft];
    grid.methods(&methods).sizes(&[2, 4, 8, 16, 32]).runs(20).betas(&[0.1, 0.5, 0.7, 0.9])
}

/// Memory that this process holds, and the most it has held, in MB.
fn memory(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

#[test]
#[ignore = "the child of `a_plan_of_thirteen_thousand_runs_is_small`"]
fn child_large() -> Result<()> {
    let Some(folder) = std::env::var_os(LARGE).map(PathBuf::from) else { return Ok(()) };
    let model = Model::open("tiny-icl")?;
    let before = memory("VmRSS");
    let began = Instant::now();
    let job = prepared(&large(&model), &folder, WORKER)?;
    let written = began.elapsed().as_secs_f64();
    assert!(job.bundle().plain.contains("13000 runs in 500 cells"), "{}", job.bundle().plain);
    let began = Instant::now();
    let study = Experiment::open(&folder)?;
    let opened = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let shown = study.bundle().plain;
    assert_eq!((study.missing(), study.cells()?.height(), study.frame()?.height()), (THIRTEEN_THOUSAND, 500, 0), "{shown}");
    let listed = began.elapsed().as_secs_f64();
    let grown = memory("VmHWM") - before;
    let disk: u64 = ["plan.json", "tasks"].iter().map(|name| size(&folder.join("cluster").join(name))).sum();
    println!(
        "MEASURED written {written:.1} s, opened {opened:.1} s, listed {listed:.1} s, memory {grown:.0} MB, disk {:.1} MB",
        disk as f64 / 1e6
    );
    assert!(grown < 100.0, "{grown} MB");
    Ok(())
}

fn size(path: &Path) -> u64 {
    match path.is_dir() {
        true => std::fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum(),
        false => path.metadata().unwrap().len(),
    }
}

#[test]
fn a_plan_of_thirteen_thousand_runs_is_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", "large::child_large", "--ignored", "--nocapture"]).env(LARGE, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // How long it took is for whoever reads the log: a busy machine is no fault.
    println!("{}", said.lines().find(|line| line.contains("MEASURED")).unwrap_or_default());
}
