//! Do intervals hold the truth, and do tests reject as often as they say? Of simulated studies whose truth is known.
//!
//! `cargo run --release --example coverage -- [--studies 2000] [--part effects|calibration|power]`: minutes on one thread. It prints one line per design. Aim: intervals of
//! 95 % hold the truth in 93 to 97 %, tests at 5 % reject a true null in 4 to 6 %.
//!
//! **Effects.** Outcomes are right or wrong, `P(right) = logistic(0.8 + row + run (+ N within the run) ± method/2)`, the method's effect being a draw for each run, one
//! for each N within the run, and one for each row, around 0: methods are equal on average, but not in each run or on each row. Rows are drawn from a pool by each run: from
//! a small one, runs share rows. Shares of studies whose interval holds 0 (for tests: one less the share that reject).
//!
//! **Calibration.** Confidences are uniform on [0.5, 1]; right with that chance, or less by a known gap.
//!
//! **Power.** Chances that the formula predicts from one study, against shares of studies that find the effect.

use ia2::metric::{Binning, brier_parts, debiased_ce_interval, smooth_ece};
use ia2::polars::prelude::*;
use ia2::statistics::{crossed_bootstrap, crossed_mean, mixed_model, paired_t};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let studies: u64 = option("--studies").map_or(Ok(2000), |text| text.parse())?;
    let part = option("--part");
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wanted("effects") {
        effects(studies)?;
    }
    if wanted("calibration") {
        calibration(studies)?;
    }
    if wanted("power") {
        power(studies)?;
    }
    Ok(())
}

fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
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

fn effects(studies: u64) -> Result<(), Failure> {
    println!(
        "tasks runs rows pool N by_run by_row | t: holds width | draws: holds width | mixed, differences | mixed, outcomes | t of pooled N | one interval over rows"
    );
    let designs =
        [(1, 3, 100, 2000, 1), (1, 5, 100, 150, 1), (1, 5, 100, 100, 2), (3, 5, 60, 100, 2), (4, 3, 60, 90, 2), (1, 10, 100, 100, 1)];
    for (tasks, runs, rows, pool, sizes) in designs {
        for (by_run, by_row) in [(0.0, 0.0), (0.0, 1.0), (0.5, 0.0), (0.5, 1.0), (1.0, 1.0)] {
            let design = Design { tasks, runs, rows, pool, sizes, by_run, by_row, effect: 0.0 };
            let (mut t, mut drawn, mut mixed, mut textbook, mut nested, mut naive) = (0, 0, 0, 0, 0, 0);
            let (mut width, mut drawn_width) = (0.0, 0.0);
            let (run, row) = (["task", "run"], ["task", "row"]);
            for seed in 0..studies {
                let found = study(design, &mut Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d)))?;
                let mean = crossed_mean(&found.differences, "value", &["task", "size"], &run, &row, 0.95)?;
                t += u32::from(mean.lower <= 0.0 && mean.upper >= 0.0);
                width += mean.upper - mean.lower;
                let (lower, upper) = crossed_bootstrap(&found.differences, "value", &["task", "size"], &run, &row, 0.95, 499, seed)?;
                drawn += u32::from(lower <= 0.0 && upper >= 0.0);
                drawn_width += upper - lower;
                let first = |frame: &DataFrame, fixed: &[&str], term: usize| -> Result<bool, Failure> {
                    let model = mixed_model(frame, "value", fixed, &run, &row, 0.95)?;
                    let end = |name: &str| Ok::<f64, Failure>(model.frame().column(name)?.f64()?.get(term).unwrap_or(f64::NAN));
                    Ok(end("lower")? <= 0.0 && end("upper")? >= 0.0)
                };
                // With one task the intercept is the effect; with more, the first task's is tested here, and the library's evidence averages them.
                if tasks == 1 {
                    mixed += u32::from(first(&found.differences, &[], 0)?);
                }
                textbook += u32::from(first(&found.outcomes, &["method"], 1)?);
                // Differences that are all the same have no spread: what they are is certain to the test.
                let same = found.pooled.iter().all(|difference| *difference == found.pooled[0]);
                let holds = match same {
                    true => found.pooled[0] == 0.0,
                    false => paired_t(&vec![0.0; found.pooled.len()], &found.pooled, 0.95)?.p >= 0.05,
                };
                nested += u32::from(holds);
                let values: Vec<f64> = found.differences.column("value")?.f64()?.no_null_iter().collect();
                let over = ia2::statistics::mean_interval(&values, 0.95)?;
                naive += u32::from(over.lower <= 0.0 && over.upper >= 0.0);
            }
            let share = |count: u32| f64::from(count) / studies as f64;
            let alone = if tasks == 1 { format!("{:.3}", share(mixed)) } else { "–".into() };
            println!(
                "{tasks} {runs} {rows} {pool} {sizes} {by_run} {by_row} | {:.3} {:.4} | {:.3} {:.4} | {alone} | {:.3} | {:.3} | {:.3}",
                share(t),
                width / studies as f64,
                share(drawn),
                drawn_width / studies as f64,
                share(textbook),
                share(nested),
                share(naive),
            );
        }
    }
    Ok(())
}

fn calibration(studies: u64) -> Result<(), Failure> {
    println!(
        "rows gap | true error of the bins | debiased: mean square less the true one, interval holds, width | percentile bootstrap of ECE holds the true ECE | smooth ECE, mean | Brier's reliability, mean"
    );
    for rows in [200, 500] {
        for gap in [0.0, 0.03, 0.1, 0.3] {
            let (mut holds, mut width, mut square, mut truth_sum, mut smooth, mut reliability, mut boot) = (0, 0.0, 0.0, 0.0, 0.0, 0.0, 0);
            for seed in 0..studies {
                let mut draws = Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 7);
                let confidence: Vec<f64> = (0..rows).map(|_| 0.5 + 0.5 * draws.unit()).collect();
                let correct: Vec<bool> = confidence.iter().map(|confidence| draws.unit() < confidence - gap).collect();
                let frame = df!("confidence" => &confidence, "correct" => correct)?;
                // The gap is the same everywhere, and so is each bin's.
                let truth = gap;
                let found = debiased_ce_interval(&frame, Binning::EqualMass(15), 0.95)?;
                holds += u32::from(found.lower <= truth && found.upper >= truth);
                width += found.upper - found.lower;
                square += found.squared - truth * truth;
                truth_sum += truth;
                smooth += smooth_ece(&frame)?;
                reliability += brier_parts(&frame, Binning::EqualMass(15))?.reliability;
                if seed < 200 {
                    let metric = ia2::metric::Metric::named("ece_equal_width_15")?;
                    let drawn = metric.bootstrap(&frame, 200, 0.95, seed)?;
                    boot += u32::from(drawn.lower <= truth && drawn.upper >= truth);
                }
            }
            let all = studies as f64;
            println!(
                "{rows} {gap} | {:.3} | {:+.5} {:.3} {:.3} | {:.2} | {:.3} | {:.4}",
                truth_sum / all,
                square / all,
                f64::from(holds) / all,
                width / all,
                f64::from(boot) / studies.min(200) as f64,
                smooth / all,
                reliability / all
            );
        }
    }
    Ok(())
}

fn power(studies: u64) -> Result<(), Failure> {
    println!("runs rows by_run by_row effect | true difference | power predicted (mean) | share that reject");
    for (runs, rows, by_run, by_row, effect) in
        [(5, 100, 0.5, 1.0, 0.5), (5, 100, 0.5, 1.0, 1.0), (10, 100, 0.3, 0.5, 0.4), (10, 50, 0.0, 0.0, 0.5)]
    {
        let design = Design { tasks: 1, runs, rows, pool: 2000, sizes: 1, by_run, by_row, effect };
        let make = |seed: u64| study(design, &mut Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 11));
        let means = (0..studies).map(|seed| Ok(crossed_mean(&make(seed)?.differences, "value", &[], &["run"], &["row"], 0.95)?));
        let means = means.collect::<Result<Vec<_>, Failure>>()?;
        let truth = means.iter().map(|mean| mean.mean).sum::<f64>() / studies as f64;
        let predicted = means.iter().map(|mean| mean.power(truth, runs, rows)).collect::<ia2::Result<Vec<f64>>>()?;
        let rejected = means.iter().filter(|mean| mean.p < 0.05).count();
        println!(
            "{runs} {rows} {by_run} {by_row} {effect} | {truth:.4} | {:.3} | {:.3}",
            predicted.iter().sum::<f64>() / studies as f64,
            rejected as f64 / studies as f64
        );
    }
    Ok(())
}
