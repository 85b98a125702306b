//! Restricted maximum likelihood of a linear model with two crossed random intercepts.
//!
//! `y = X β + Z_run b_run + Z_row b_row + ε` with `b_k ~ N(0, σ² λ_k)` and `ε ~ N(0, σ²)`. The many rows are eliminated in closed form
//! (what is left depends on a row only by how many values it has), the few runs by a small Cholesky factor.

use std::collections::BTreeMap;

use super::dense::{Cholesky, Matrix};
use crate::error::{Error, Result};
use crate::interrupt;

/// The most that a variance may be of the residual one: rows that come up twice with equal values would have it at infinity.
const MOST: f64 = 1e6;

/// Sums of products of the columns `[X, y, Z_run]`, over all values and over rows.
pub(super) struct Problem {
    fixed: usize,
    runs: usize,
    values: usize,
    /// `W'W`.
    all: Matrix,
    /// By the number of values of a row: such rows, and the sum of `s s'` over them, `s` being the row's sum of `W`.
    by_count: BTreeMap<usize, (usize, Matrix)>,
}

/// What the criterion is made of at some variances.
pub(super) struct Solved {
    pub coefficients: Vec<f64>,
    /// `(X' V⁻¹ X)⁻¹`, in units of the residual variance.
    pub inverse: Matrix,
    /// `r' V⁻¹ r`, in the same units.
    pub residual: f64,
    pub log_determinants: f64,
}

/// Variances of runs, rows and of what is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variances {
    pub run: f64,
    pub row: f64,
    pub rest: f64,
}

impl Problem {
    /// `x` holds the non-zero entries of each value's fixed columns.
    pub(super) fn new(y: &[f64], x: &[Vec<(usize, f64)>], fixed: usize, runs: &[usize], rows: &[usize]) -> Self {
        let (run_count, row_count) = (runs.iter().max().map_or(0, |most| most + 1), rows.iter().max().map_or(0, |most| most + 1));
        let size = fixed + 1 + run_count;
        let mut all = Matrix::zeros(size);
        let mut sums: Vec<BTreeMap<usize, f64>> = vec![BTreeMap::new(); row_count];
        let mut counts = vec![0usize; row_count];
        for at in 0..y.len() {
            let entries: Vec<(usize, f64)> = x[at].iter().copied().chain([(fixed, y[at]), (fixed + 1 + runs[at], 1.0)]).collect();
            for &(i, a) in &entries {
                for &(j, b) in &entries {
                    *all.at(i, j) += a * b;
                }
                *sums[rows[at]].entry(i).or_default() += a;
            }
            counts[rows[at]] += 1;
        }
        let mut by_count: BTreeMap<usize, (usize, Matrix)> = BTreeMap::new();
        for (sum, count) in sums.iter().zip(counts).filter(|(_, count)| *count > 0) {
            let (rows, matrix) = by_count.entry(count).or_insert_with(|| (0, Matrix::zeros(size)));
            *rows += 1;
            for (&i, a) in sum {
                for (&j, b) in sum {
                    *matrix.at(i, j) += a * b;
                }
            }
        }
        Self { fixed, runs: run_count, values: y.len(), all, by_count }
    }

    /// Whether some row has more than one value: without that a row's effect cannot be told from what is left.
    pub(super) fn rows_repeat(&self) -> bool {
        self.by_count.keys().any(|count| *count > 1)
    }

    pub(super) fn free(&self) -> f64 {
        self.values as f64 - self.fixed as f64
    }

    /// At variances relative to the residual one.
    pub(super) fn solve(&self, run: f64, row: f64) -> Result<Solved> {
        let mut gram = self.all.clone();
        let mut log_determinants = 0.0;
        for (&count, (rows, sums)) in &self.by_count {
            let below = 1.0 + row * count as f64;
            log_determinants += *rows as f64 * below.ln();
            gram.add(sums, -row / below);
        }
        let (start, q) = (self.fixed + 1, self.runs);
        let mut inner = Matrix::zeros(q);
        for i in 0..q {
            for j in 0..q {
                *inner.at(i, j) = run * gram.get(start + i, start + j) + f64::from(u8::from(i == j));
            }
        }
        let inner = Cholesky::of(&inner).ok_or_else(|| {
            Error::numeric(format!(
                "the covariance of a mixed model is not positive definite where runs have {run} and rows {row} of the residual variance"
            ))
        })?;
        log_determinants += inner.log_determinant();
        // Columns of X and y, runs eliminated.
        let solved: Vec<Vec<f64>> = (0..start).map(|column| inner.half((0..q).map(|i| gram.get(start + i, column)).collect())).collect();
        let product = |a: usize, b: usize| gram.get(a, b) - run * solved[a].iter().zip(&solved[b]).map(|(a, b)| a * b).sum::<f64>();
        let mut normal = Matrix::zeros(self.fixed);
        for i in 0..self.fixed {
            for j in 0..self.fixed {
                *normal.at(i, j) = product(i, j);
            }
        }
        let factor = Cholesky::of(&normal).ok_or_else(|| {
            Error::input("the fixed columns of a mixed model hang together: one is a sum of others, or is zero everywhere; leave one out")
        })?;
        log_determinants += factor.log_determinant();
        let right: Vec<f64> = (0..self.fixed).map(|i| product(i, self.fixed)).collect();
        let half = factor.half(right.clone());
        let coefficients = factor.solve(right);
        let residual = product(self.fixed, self.fixed) - half.iter().map(|value| value * value).sum::<f64>();
        Ok(Solved { coefficients, inverse: factor.inverse(), residual, log_determinants })
    }

    /// Minus twice the restricted log-likelihood, the residual variance at its best.
    fn profiled(&self, run: f64, row: f64) -> Result<f64> {
        interrupt::check()?;
        let solved = self.solve(run, row)?;
        let free = self.free();
        Ok(solved.log_determinants + free * (1.0 + (std::f64::consts::TAU * (solved.residual / free).max(f64::MIN_POSITIVE)).ln()))
    }

    /// Minus twice the restricted log-likelihood at these variances.
    pub(super) fn deviance(&self, at: Variances) -> Result<f64> {
        let solved = self.solve(at.run / at.rest, at.row / at.rest)?;
        Ok(solved.log_determinants + self.free() * (std::f64::consts::TAU * at.rest).ln() + solved.residual / at.rest)
    }

    /// The variances of the greatest restricted likelihood.
    pub(super) fn fit(&self) -> Result<Variances> {
        let rows = self.rows_repeat();
        // In standard deviations, whose sign is free: the criterion is smooth where one is 0.
        let ratio = |deviation: f64| (deviation * deviation).min(MOST);
        let criterion = |place: [f64; 2]| self.profiled(ratio(place[0]), if rows { ratio(place[1]) } else { 0.0 });
        let mut best = descend(&criterion, [0.3, 0.3], 0.3)?;
        // Once more from where it ended: a simplex may have shrunk too early.
        let other = descend(&criterion, best.0, 0.1)?;
        if other.1 < best.1 {
            best = other;
        }
        for place in [[0.0, best.0[1]], [best.0[0], 0.0], [0.0, 0.0]] {
            let value = criterion(place)?;
            if value <= best.1 + 1e-9 {
                best = (place, value.min(best.1));
            }
        }
        let (run, row) = (ratio(best.0[0]), if rows { ratio(best.0[1]) } else { 0.0 });
        let rest = self.solve(run, row)?.residual / self.free();
        Ok(Variances { run: run * rest, row: row * rest, rest })
    }
}

/// The least value that Nelder and Mead's simplex of 1965 finds, and where.
fn descend(f: &dyn Fn([f64; 2]) -> Result<f64>, start: [f64; 2], step: f64) -> Result<([f64; 2], f64)> {
    const STEPS: usize = 200;
    let mut simplex = Vec::with_capacity(3);
    for place in [start, [start[0] + step, start[1]], [start[0], start[1] + step]] {
        simplex.push((place, f(place)?));
    }
    for _ in 0..STEPS {
        simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (best, worst) = (simplex[0], simplex[2]);
        let wide = (0..2).map(|axis| simplex.iter().map(|(place, _)| (place[axis] - best.0[axis]).abs()).fold(0.0, f64::max));
        if worst.1 - best.1 <= 1e-10 && wide.fold(0.0, f64::max) <= 1e-6 {
            break;
        }
        let centre = [0, 1].map(|axis| (simplex[0].0[axis] + simplex[1].0[axis]) / 2.0);
        let along = |far: f64| [0, 1].map(|axis| centre[axis] + far * (worst.0[axis] - centre[axis]));
        let reflected = (along(-1.0), f(along(-1.0))?);
        let next = if reflected.1 < best.1 {
            let further = (along(-2.0), f(along(-2.0))?);
            if further.1 < reflected.1 { further } else { reflected }
        } else if reflected.1 < simplex[1].1 {
            reflected
        } else {
            let far = if reflected.1 < worst.1 { -0.5 } else { 0.5 };
            (along(far), f(along(far))?)
        };
        if next.1 < worst.1 {
            simplex[2] = next;
        } else {
            for other in &mut simplex[1..] {
                let place = [0, 1].map(|axis| (other.0[axis] + best.0[axis]) / 2.0);
                *other = (place, f(place)?);
            }
        }
    }
    simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
    Ok(simplex[0])
}
