//! Values that hang together in two ways at once: by their run and by their row.

use std::collections::{BTreeMap, HashMap};

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use crate::error::{Error, Result};
use crate::interrupt;
use crate::random::Random;
use crate::sample::ends;

/// Values, each with the numbers of its stratum, its run and its row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crossing {
    pub values: Vec<f64>,
    pub strata: Vec<usize>,
    pub runs: Vec<usize>,
    pub rows: Vec<usize>,
}

/// The influence of each cluster of one kind on the mean, and of which group it is: clusters of one group are alike, and their influences sum to 0.
#[derive(Clone, Debug)]
pub(crate) struct Clusters {
    pub influences: Vec<f64>,
    pub groups: Vec<usize>,
    /// Clusters of each group.
    pub sizes: Vec<usize>,
}

/// The mean of the strata's means, and what it varies by.
#[derive(Clone, Debug)]
pub(crate) struct Influences {
    pub mean: f64,
    pub runs: Clusters,
    pub rows: Clusters,
    /// Variances of the mean that clusters of runs, and of runs and rows at once, give.
    pub by_run: f64,
    pub by_both: f64,
    /// What rows add to the spread of runs, by coming up in several.
    pub by_shared_rows: f64,
    /// Satterthwaite's, of the whole and of what runs give.
    pub degrees: f64,
    pub run_degrees: f64,
}

impl Crossing {
    pub(crate) fn push(&mut self, value: f64, stratum: usize, run: usize, row: usize) {
        self.values.push(value);
        self.strata.push(stratum);
        self.runs.push(run);
        self.rows.push(row);
    }

    /// Influences of the values around the means of their strata.
    pub(crate) fn influences(&self) -> Result<Influences> {
        let strata = self.strata.iter().max().map_or(0, |most| most + 1);
        let (mut sums, mut counts) = (vec![0.0; strata], vec![0usize; strata]);
        for (value, &stratum) in self.values.iter().zip(&self.strata) {
            sums[stratum] += value;
            counts[stratum] += 1;
        }
        let there = counts.iter().filter(|count| **count > 0).count();
        if there == 0 {
            return Err(Error::input("a mean over runs and rows needs at least one value"));
        }
        let means: Vec<f64> = sums.iter().zip(&counts).map(|(sum, &count)| sum / count as f64).collect();
        let mean = (0..strata).filter(|&stratum| counts[stratum] > 0).map(|stratum| means[stratum]).sum::<f64>() / there as f64;
        let influence = |at: usize| {
            let stratum = self.strata[at];
            (self.values[at] - means[stratum]) / (there as f64 * counts[stratum] as f64)
        };
        let influences: Vec<f64> = (0..self.values.len()).map(influence).collect();
        let runs = Clusters::of(&self.runs, &self.strata, &influences);
        let rows = Clusters::of(&self.rows, &self.strata, &influences);
        if runs.sizes.iter().any(|size| *size < 2) {
            return Err(Error::input(
                "some strata have values of one run alone, which tells nothing of how much runs differ: at least 2 are needed, add runs",
            ));
        }
        // Ordered: sums round by their order.
        let mut both: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (at, influence) in influences.iter().enumerate() {
            *both.entry((self.runs[at], self.rows[at])).or_default() += influence;
        }
        let cells = both.len() as f64;
        let by_both = both.values().map(|sum| sum * sum).sum::<f64>() * cells / (cells - 1.0).max(1.0);
        let of_runs = runs.variances();
        let (by_run, by_row) = (of_runs.iter().sum::<f64>(), rows.variances().iter().sum::<f64>());
        // What runs have in common by their rows is lost where their sums are taken around the mean of those sums: it is added again.
        let mut within: BTreeMap<(usize, usize), (f64, f64)> = BTreeMap::new();
        for ((run, row), sum) in &both {
            let (sums, squares) = within.entry((runs.groups[*run], *row)).or_default();
            *sums += sum;
            *squares += sum * sum;
        }
        let shared: f64 = within.iter().map(|((group, _), (sum, squares))| (sum * sum - squares) / (runs.sizes[*group] as f64 - 1.0)).sum();
        let by_shared_rows = (by_row - by_both + shared).max(0.0);
        let variance = by_run + by_shared_rows;
        // Satterthwaite: what few clusters tell is uncertain.
        let free_rows = rows.sizes.iter().map(|size| size - 1).sum::<usize>().max(1);
        let of_run = of_runs.iter().zip(&runs.sizes).map(|(variance, &size)| variance * variance / (size - 1) as f64).sum::<f64>();
        let below = of_run + by_shared_rows * by_shared_rows / free_rows as f64;
        let degrees = if below > 0.0 { variance * variance / below } else { f64::INFINITY };
        let run_degrees = if of_run > 0.0 { by_run * by_run / of_run } else { f64::INFINITY };
        Ok(Influences { mean, runs, rows, by_run, by_both, by_shared_rows, degrees, run_degrees })
    }
}

impl Clusters {
    fn of(clusters: &[usize], strata: &[usize], influences: &[f64]) -> Self {
        let count = clusters.iter().max().map_or(0, |most| most + 1);
        let mut sums = vec![0.0; count];
        let mut there = vec![false; count];
        // Clusters that share a stratum are of one group: find and join.
        let mut parents: Vec<usize> = (0..count).collect();
        let mut first: HashMap<usize, usize> = HashMap::new();
        for ((&cluster, stratum), influence) in clusters.iter().zip(strata).zip(influences) {
            sums[cluster] += influence;
            there[cluster] = true;
            let other = *first.entry(*stratum).or_insert(cluster);
            let (a, b) = (root(&mut parents, cluster), root(&mut parents, other));
            parents[a.max(b)] = a.min(b);
        }
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        let (mut groups, mut sizes) = (vec![usize::MAX; count], Vec::new());
        for cluster in (0..count).filter(|cluster| there[*cluster]) {
            let top = root(&mut parents, cluster);
            let next = numbers.len();
            let group = *numbers.entry(top).or_insert(next);
            if group == sizes.len() {
                sizes.push(0);
            }
            groups[cluster] = group;
            sizes[group] += 1;
        }
        Self { influences: sums, groups, sizes }
    }

    /// Of each group: the sum of squares, by as many as are free.
    fn variances(&self) -> Vec<f64> {
        let mut squares = vec![0.0; self.sizes.len()];
        for (influence, &group) in self.influences.iter().zip(&self.groups) {
            if let Some(square) = squares.get_mut(group) {
                *square += influence * influence;
            }
        }
        squares.iter().zip(&self.sizes).map(|(square, &size)| square * size as f64 / (size as f64 - 1.0).max(1.0)).collect()
    }
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

/// How often each cluster comes up, less once, in draws of as many of each group as there are.
fn draw(members: &[Vec<usize>], random: &mut Random, excess: &mut [f64]) {
    excess.iter_mut().for_each(|count| *count = -1.0);
    for group in members {
        for _ in 0..group.len() {
            excess[group[random.below(group.len())]] += 1.0;
        }
    }
}

/// The clusters of each group.
fn members(clusters: &Clusters) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); clusters.sizes.len()];
    for (cluster, &group) in clusters.groups.iter().enumerate() {
        if let Some(group) = members.get_mut(group) {
            group.push(cluster);
        }
    }
    members
}

impl Influences {
    pub(crate) fn variance(&self) -> f64 {
        self.by_run + self.by_shared_rows
    }

    /// Deviations of drawn means, runs and rows drawn together, scaled to the variance.
    pub(crate) fn deviations(&self, draws: usize, random: &mut Random) -> Result<Vec<f64>> {
        let (runs, rows) = (members(&self.runs), members(&self.rows));
        let (mut of_runs, mut of_rows) = (vec![0.0; self.runs.influences.len()], vec![0.0; self.rows.influences.len()]);
        let plain: f64 = self.runs.influences.iter().chain(&self.rows.influences).map(|influence| influence * influence).sum();
        let scale = if plain > 0.0 { (self.variance() / plain).sqrt() } else { 0.0 };
        let sum = |excess: &[f64], clusters: &Clusters| -> f64 {
            excess.iter().zip(&clusters.influences).map(|(excess, influence)| excess * influence).sum()
        };
        let mut deviations = Vec::with_capacity(draws);
        for place in 0..draws {
            interrupt::at(place as u64, draws as u64, "draws")?;
            draw(&runs, random, &mut of_runs);
            draw(&rows, random, &mut of_rows);
            deviations.push(scale * (sum(&of_runs, &self.runs) + sum(&of_rows, &self.rows)));
        }
        Ok(deviations)
    }

    /// The interval that deviations give, as much wider than a normal one as t says.
    pub(crate) fn drawn_interval(&self, mut deviations: Vec<f64>, level: f64) -> Result<(f64, f64)> {
        deviations.sort_by(f64::total_cmp);
        let wider = critical(level, self.degrees)? / normal(level)?;
        let [lower, upper] = ends(&deviations, level).map(|end| self.mean + wider * end);
        Ok((lower, upper))
    }
}

/// Student's t that a share `level` lies within.
pub(crate) fn critical(level: f64, degrees: f64) -> Result<f64> {
    if degrees > 1e6 {
        return normal(level);
    }
    Ok(student(degrees)?.inverse_cdf((1.0 + level) / 2.0))
}

fn normal(level: f64) -> Result<f64> {
    let normal = Normal::new(0.0, 1.0).map_err(|error| Error::internal("the normal distribution").because(error))?;
    Ok(normal.inverse_cdf((1.0 + level) / 2.0))
}

/// Two-sided p of a t.
pub(crate) fn two_sided(t: f64, degrees: f64) -> Result<f64> {
    Ok((2.0 * student(degrees.min(1e6))?.sf(t.abs())).min(1.0))
}

fn student(degrees: f64) -> Result<StudentsT> {
    StudentsT::new(0.0, 1.0, degrees).map_err(|error| Error::internal("Student's t distribution").because(error))
}
