//! Do intervals hold the truth, and do tests reject as often as they say? Of simulated studies whose truth is known.
//!
//! `cargo run --release --example coverage -- [--studies 2000] [--part effects,tasks,calibration,power] [--designs 6-10] [--lines coverage.txt]`
//!
//! One line per design: its part, the number of studies, the design, what was found. Aim: intervals of 95 % hold the truth in 93 to 97 %, tests at 5 % reject a true null in
//! 4 to 6 %; of 2,000 studies a share of 95 % is known to ± 1 % (twice its standard error of `√(.95 · .05 / 2000)`). A design of `effects` takes about a minute
//! on one thread in a debug build. `--part` and `--designs` (of each part, from 1) choose. With `--lines` the lines that the file has already are shown as they are, and new ones are added to it
//! as they come: what was killed goes on where it was. A study is drawn from the seed of its number alone, so lines are the same in whatever order and pieces they come.
//!
//! **effects.** Outcomes are right or wrong, `P(right) = logistic(0.8 + row + run (+ N within the run) ± method/2)`, the method's effect being a draw for each run, one
//! for each N within the run, and one for each row, around 0: methods are equal on average, but not in each run or on each row. Rows are drawn from a pool by each run: from
//! a small one, runs share rows. Shares of studies whose interval holds 0 (for tests: one less the share that reject).
//!
//! **tasks.** The mixed model's mean over several tasks, of the same studies.
//!
//! **calibration.** Confidences are uniform on [0.5, 1]; right with that chance, or less by a known gap.
//!
//! **power.** Chances that the formula predicts from one study, against shares of studies that find the effect.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::RangeInclusive;

use ia2::metric::{Binning, brier_parts, debiased_ce_interval, smooth_ece};
use ia2::polars::prelude::*;
use ia2::statistics::{crossed_bootstrap, crossed_mean, mixed_mean, mixed_model, paired_t};

type Failure = Box<dyn std::error::Error>;
/// What a line of a design says, from the number of studies.
type Line<'a> = Box<dyn Fn(u64) -> Result<String, Failure> + 'a>;

/// A kind of simulation: its name, what its columns are, its designs.
struct Part {
    name: &'static str,
    columns: &'static str,
    designs: Vec<(String, Line<'static>)>,
}

fn main() -> Result<(), Failure> {
    let asked = Asked::read()?;
    let mut known = asked.known()?;
    let all = [effects(), tasks(), calibration(), power()];
    if let Some(name) = asked.parts.iter().find(|name| all.iter().all(|part| part.name != **name)) {
        return Err(format!("--part: there is no part {name:?}; there are {}", all.map(|part| part.name).join(", ")).into());
    }
    for part in all.iter().filter(|part| asked.parts.is_empty() || asked.parts.iter().any(|name| name == part.name)) {
        println!("# {} studies {}", part.name, part.columns);
        for (_, (design, line)) in part.designs.iter().enumerate().filter(|(at, _)| asked.designs.contains(&(at + 1))) {
            let name = format!("{} {} {design} |", part.name, asked.studies);
            match known.iter().find(|line| line.starts_with(&name)) {
                Some(line) => println!("{line}"),
                None => {
                    let line = format!("{name} {}", line(asked.studies)?);
                    println!("{line}");
                    asked.add(&line)?;
                    known.push(line);
                }
            }
        }
    }
    Ok(())
}

struct Asked {
    studies: u64,
    /// None are all.
    parts: Vec<String>,
    designs: RangeInclusive<usize>,
    lines: Option<String>,
}

impl Asked {
    fn read() -> Result<Self, Failure> {
        let mut asked = Self { studies: 2000, parts: Vec::new(), designs: 1..=usize::MAX, lines: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            match name.as_str() {
                "--studies" => asked.studies = value.parse().map_err(|error| format!("--studies {value:?}: {error}"))?,
                "--part" => asked.parts = value.split(',').map(String::from).collect(),
                "--designs" => {
                    let (first, last) = value.split_once('-').unwrap_or((&value, &value));
                    let number =
                        |text: &str| text.parse::<usize>().map_err(|error| format!("--designs {value:?}: {error}; write 6 or 6-10"));
                    asked.designs = number(first)?..=number(last)?;
                }
                "--lines" if !value.is_empty() => asked.lines = Some(value),
                _ => {
                    return Err(format!(
                        "there is no option {name} {value}; there are --studies, --part, --designs and --lines, each with a value"
                    )
                    .into());
                }
            }
        }
        match asked.studies > 1 {
            true => Ok(asked),
            false => Err("--studies: at least 2 are needed".into()),
        }
    }

    /// Whole lines of the file.
    fn known(&self) -> Result<Vec<String>, Failure> {
        let Some(file) = &self.lines else { return Ok(Vec::new()) };
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| format!("{file}: {error}"))?,
        };
        // One without its end was cut off.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        if whole.len() + 1 < text.len() {
            std::fs::write(file, format!("{whole}\n"))?;
        }
        Ok(whole.lines().map(String::from).collect())
    }

    fn add(&self, line: &str) -> Result<(), Failure> {
        let Some(file) = &self.lines else { return Ok(()) };
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
        Ok(file.write_all(format!("{line}\n").as_bytes())?)
    }
}

/// SplitMix64 with Box and Muller's normals: seeded, and the same everywhere.
struct Draws(u64);

impl Draws {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn choose(&mut self, count: usize, from: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..from).collect();
        for place in 0..count {
            let other = place + (self.unit() * (from - place) as f64) as usize;
            all.swap(place, other);
        }
        all.truncate(count);
        all
    }
}

#[derive(Clone, Copy)]
struct Design {
    tasks: usize,
    runs: usize,
    rows: usize,
    pool: usize,
    sizes: usize,
    /// Standard deviations of the method's effect, in logits.
    by_run: f64,
    by_row: f64,
    effect: f64,
}

/// Outcomes of two methods, and of their differences.
struct Study {
    differences: DataFrame,
    outcomes: DataFrame,
    /// Mean difference of each run and N.
    pooled: Vec<f64>,
}

fn study(design: Design, draws: &mut Draws) -> Result<Study, Failure> {
    let (mut tasks, mut sizes, mut runs, mut rows, mut first, mut second) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut pooled = Vec::new();
    for task in 0..design.tasks {
        let of_rows: Vec<(f64, f64)> = (0..design.pool).map(|_| (1.5 * draws.normal(), design.by_row * draws.normal())).collect();
        for run in 0..design.runs {
            let (level, effect) = (0.5 * draws.normal(), design.by_run * draws.normal());
            let chosen = draws.choose(design.rows, design.pool);
            for size in 0..design.sizes {
                let (level, effect) = (level + 0.3 * draws.normal(), effect + 0.5 * design.by_run * draws.normal());
                let mut sum = 0.0;
                for &row in &chosen {
                    let (hard, by_row) = of_rows[row];
                    let half = (design.effect + effect + by_row) / 2.0;
                    let mut right =
                        |sign: f64| f64::from(u8::from(draws.unit() < 1.0 / (1.0 + (-(0.8 + hard + level + sign * half)).exp())));
                    let (one, two) = (right(-1.0), right(1.0));
                    tasks.push(task as u32);
                    sizes.push(size as u32);
                    runs.push(run as u32);
                    rows.push(row as u32);
                    first.push(one);
                    second.push(two);
                    sum += two - one;
                }
                pooled.push(sum / design.rows as f64);
            }
        }
    }
    let difference: Vec<f64> = first.iter().zip(&second).map(|(first, second)| second - first).collect();
    let differences = df!("task" => &tasks, "size" => &sizes, "run" => &runs, "row" => &rows, "value" => difference)?;
    let twice = |list: &[u32]| list.repeat(2);
    let method: Vec<&str> = std::iter::repeat_n("one", tasks.len()).chain(std::iter::repeat_n("two", tasks.len())).collect();
    let outcomes = df!(
        "method" => method, "task" => twice(&tasks), "size" => twice(&sizes), "run" => twice(&runs), "row" => twice(&rows), "value" => [first, second].concat()
    )?;
    Ok(Study { differences, outcomes, pooled })
}

/// Tasks, runs, rows of a run, rows in the pool, N; spreads of the method's effect by run and by row.
fn designs() -> impl Iterator<Item = Design> {
    let sizes =
        [(1, 3, 100, 2000, 1), (1, 5, 100, 150, 1), (1, 5, 100, 100, 2), (3, 5, 60, 100, 2), (4, 3, 60, 90, 2), (1, 10, 100, 100, 1)];
    sizes.into_iter().flat_map(|(tasks, runs, rows, pool, sizes)| {
        let spreads = [(0.0, 0.0), (0.0, 1.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.0)];
        spreads.map(|(by_run, by_row)| Design { tasks, runs, rows, pool, sizes, by_run, by_row, effect: 0.0 })
    })
}

impl Design {
    fn name(&self) -> String {
        let Self { tasks, runs, rows, pool, sizes, by_run, by_row, .. } = self;
        format!("{tasks} {runs} {rows} {pool} {sizes} {by_run} {by_row}")
    }
}

const RUN: [&str; 2] = ["task", "run"];
const ROW: [&str; 2] = ["task", "row"];
const STRATA: [&str; 2] = ["task", "size"];

fn effects() -> Part {
    Part {
        name: "effects",
        columns: "tasks runs rows pool N by_run by_row | t: holds width | draws: holds width | mixed, differences | mixed, outcomes | t of pooled N | one interval over rows",
        designs: designs().map(|design| (design.name(), Box::new(move |studies| effect(design, studies)) as Line<'_>)).collect(),
    }
}

fn effect(design: Design, studies: u64) -> Result<String, Failure> {
    let (mut t, mut drawn, mut mixed, mut textbook, mut nested, mut naive) = (0, 0, 0, 0, 0, 0);
    let (mut width, mut drawn_width) = (0.0, 0.0);
    for seed in 0..studies {
        let found = study(design, &mut Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))?;
        let mean = crossed_mean(&found.differences, "value", &STRATA, &RUN, &ROW, 0.95)?;
        t += u32::from(mean.lower <= 0.0 && mean.upper >= 0.0);
        width += mean.upper - mean.lower;
        let (lower, upper) = crossed_bootstrap(&found.differences, "value", &STRATA, &RUN, &ROW, 0.95, 499, seed)?;
        drawn += u32::from(lower <= 0.0 && upper >= 0.0);
        drawn_width += upper - lower;
        // With one task the intercept is the effect; with more, see the part `tasks`.
        if design.tasks == 1 {
            mixed += u32::from(holds(mixed_model(&found.differences, "value", &[], &RUN, &ROW, 0.95)?.frame(), 0)?);
        }
        textbook += u32::from(holds(mixed_model(&found.outcomes, "value", &["method"], &RUN, &ROW, 0.95)?.frame(), 1)?);
        // Differences that are all the same have no spread: what they are is certain to the test.
        let same = found.pooled.iter().all(|difference| *difference == found.pooled[0]);
        nested += u32::from(match same {
            true => found.pooled[0] == 0.0,
            false => paired_t(&vec![0.0; found.pooled.len()], &found.pooled, 0.95)?.p >= 0.05,
        });
        let values: Vec<f64> = found.differences.column("value")?.f64()?.no_null_iter().collect();
        let over = ia2::statistics::mean_interval(&values, 0.95)?;
        naive += u32::from(over.lower <= 0.0 && over.upper >= 0.0);
    }
    let (share, all) = (|count: u32| f64::from(count) / studies as f64, studies as f64);
    let mut line = format!("{:.3} {:.4} | {:.3} {:.4} | ", share(t), width / all, share(drawn), drawn_width / all);
    match design.tasks {
        1 => write!(line, "{:.3}", share(mixed))?,
        _ => line.push('–'),
    }
    write!(line, " | {:.3} | {:.3} | {:.3}", share(textbook), share(nested), share(naive))?;
    Ok(line)
}

/// Whether the interval of a term holds 0.
fn holds(terms: &DataFrame, term: usize) -> Result<bool, Failure> {
    let end = |name: &str| Ok::<f64, Failure>(terms.column(name)?.f64()?.get(term).unwrap_or(f64::NAN));
    Ok(end("lower")? <= 0.0 && end("upper")? >= 0.0)
}

fn tasks() -> Part {
    let several = designs().filter(|design| design.tasks > 1).chain(designs().filter(|design| design.tasks > 1 && design.sizes > 1).map(
        // As many as the study of a real model has.
        |design| Design { sizes: 1, ..design },
    ));
    Part {
        name: "tasks",
        columns: "tasks runs rows pool N by_run by_row | mixed, mean over tasks: holds width",
        designs: several.map(|design| (design.name(), Box::new(move |studies| mean_over_tasks(design, studies)) as Line<'_>)).collect(),
    }
}

fn mean_over_tasks(design: Design, studies: u64) -> Result<String, Failure> {
    let (mut count, mut width) = (0, 0.0);
    for seed in 0..studies {
        let found = study(design, &mut Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))?;
        let terms = mixed_mean(&found.differences, "value", &STRATA, &RUN, &ROW, 0.95)?.frame().clone();
        count += u32::from(holds(&terms, 0)?);
        let end = |name: &str| terms.column(name).and_then(|column| column.f64().map(|ends| ends.sum().unwrap_or(f64::NAN)));
        width += end("upper")? - end("lower")?;
    }
    Ok(format!("{:.3} {:.4}", f64::from(count) / studies as f64, width / studies as f64))
}

fn calibration() -> Part {
    let designs = [200, 500, 1000].into_iter().flat_map(|rows| [0.0, 0.03, 0.1, 0.3].map(|gap| (rows, gap)));
    Part {
        name: "calibration",
        columns: "rows gap | debiased: mean square less the true one, interval holds, width | percentile bootstrap of ECE holds the true ECE (200 studies) | smooth ECE, mean | Brier's reliability, mean",
        designs: designs
            .map(|(rows, gap)| (format!("{rows} {gap}"), Box::new(move |studies| calibrated(rows, gap, studies)) as Line<'_>))
            .collect(),
    }
}

fn calibrated(rows: usize, gap: f64, studies: u64) -> Result<String, Failure> {
    let (mut holds, mut width, mut square, mut smooth, mut reliability, mut boot) = (0, 0.0, 0.0, 0.0, 0.0, 0);
    for seed in 0..studies {
        let mut draws = Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 7);
        let confidence: Vec<f64> = (0..rows).map(|_| 0.5 + 0.5 * draws.unit()).collect();
        let correct: Vec<bool> = confidence.iter().map(|confidence| draws.unit() < confidence - gap).collect();
        let frame = df!("confidence" => &confidence, "correct" => correct)?;
        // The gap is the same everywhere, and so is each bin's.
        let found = debiased_ce_interval(&frame, Binning::EqualMass(15), 0.95)?;
        holds += u32::from(found.lower <= gap && found.upper >= gap);
        width += found.upper - found.lower;
        square += found.squared - gap * gap;
        smooth += smooth_ece(&frame)?;
        reliability += brier_parts(&frame, Binning::EqualMass(15))?.reliability;
        if seed < 200 {
            let metric = ia2::metric::Metric::named("ece_equal_width_15")?;
            let drawn = metric.bootstrap(&frame, 200, 0.95, seed)?;
            boot += u32::from(drawn.lower <= gap && drawn.upper >= gap);
        }
    }
    let all = studies as f64;
    Ok(format!(
        "{:+.5} {:.3} {:.3} | {:.2} | {:.3} | {:.4}",
        square / all,
        f64::from(holds) / all,
        width / all,
        f64::from(boot) / studies.min(200) as f64,
        smooth / all,
        reliability / all
    ))
}

fn power() -> Part {
    let designs = [(5, 100, 0.5, 1.0, 0.5), (5, 100, 0.5, 1.0, 1.0), (10, 100, 0.3, 0.5, 0.4), (10, 50, 0.0, 0.0, 0.5)];
    let design = |(runs, rows, by_run, by_row, effect)| Design { tasks: 1, runs, rows, pool: 2000, sizes: 1, by_run, by_row, effect };
    let name = |of: &Design| format!("{} {} {} {} {}", of.runs, of.rows, of.by_run, of.by_row, of.effect);
    Part {
        name: "power",
        columns: "runs rows by_run by_row effect | true difference | power predicted (mean) | share that reject",
        designs: designs
            .map(design)
            .map(|design| (name(&design), Box::new(move |studies| found(design, studies)) as Line<'_>))
            .into_iter()
            .collect(),
    }
}

fn found(design: Design, studies: u64) -> Result<String, Failure> {
    let make = |seed: u64| study(design, &mut Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 11));
    let means = (0..studies).map(|seed| Ok(crossed_mean(&make(seed)?.differences, "value", &[], &["run"], &["row"], 0.95)?));
    let means = means.collect::<Result<Vec<_>, Failure>>()?;
    let truth = means.iter().map(|mean| mean.mean).sum::<f64>() / studies as f64;
    let predicted = means.iter().map(|mean| mean.power(truth, design.runs, design.rows)).collect::<ia2::Result<Vec<f64>>>()?;
    let rejected = means.iter().filter(|mean| mean.p < 0.05).count();
    Ok(format!("{truth:.4} | {:.3} | {:.3}", predicted.iter().sum::<f64>() / studies as f64, rejected as f64 / studies as f64))
}
