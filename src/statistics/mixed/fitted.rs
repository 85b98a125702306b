//! A fitted model, its contrasts and their degrees of freedom.

use super::dense::{Cholesky, Matrix};
use super::fit::{Problem, Variances};
use crate::error::{Error, Result};

/// Step in the logarithm of a variance, for derivatives.
const STEP: f64 = 0.01;

/// A fitted model.
pub(crate) struct Fitted {
    problem: Problem,
    at: Variances,
    pub coefficients: Vec<f64>,
    pub deviance: f64,
}

/// An estimate with its standard error and the degrees of freedom of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub value: f64,
    pub error: f64,
    pub degrees: f64,
}

impl Fitted {
    /// `x` has the non-zero entries of each value's `fixed` columns.
    pub(crate) fn new(y: &[f64], x: &[Vec<(usize, f64)>], fixed: usize, runs: &[usize], rows: &[usize]) -> Result<Self> {
        if y.iter().all(|value| *value == y[0]) {
            return Err(Error::numeric("all values of a mixed model are the same, so that there is no variance to take apart"));
        }
        let problem = Problem::new(y, x, fixed, runs, rows);
        let at = problem.fit()?;
        if at.rest <= 0.0 {
            return Err(Error::numeric(
                "the fixed effects of a mixed model leave nothing over, so that there is no variance to take apart",
            ));
        }
        let solved = problem.solve(at.run / at.rest, at.row / at.rest)?;
        let deviance = problem.deviance(at)?;
        Ok(Self { problem, at, coefficients: solved.coefficients, deviance })
    }

    /// Of runs, of rows and of what is left.
    pub(crate) fn variances(&self) -> (f64, f64, f64) {
        (self.at.run, self.at.row, self.at.rest)
    }

    fn variance(&self, contrast: &[f64], at: Variances) -> Result<f64> {
        Ok(at.rest * self.problem.solve(at.run / at.rest, at.row / at.rest)?.inverse.form(contrast))
    }

    /// `c' β`, with Satterthwaite's degrees of freedom: those of a scaled chi-square that varies as much as the estimated variance does.
    pub(crate) fn estimate(&self, contrast: &[f64]) -> Result<Estimate> {
        let value = contrast.iter().zip(&self.coefficients).map(|(c, b)| c * b).sum();
        let variance = self.variance(contrast, self.at)?;
        Ok(Estimate { value, error: variance.max(0.0).sqrt(), degrees: self.degrees(contrast, variance)? })
    }

    fn degrees(&self, contrast: &[f64], variance: f64) -> Result<f64> {
        // In logarithms of the variances, of those that are above 0.
        let all = [self.at.run, self.at.row, self.at.rest];
        let free: Vec<usize> = (0..3).filter(|k| all[*k] > 1e-8 * self.at.rest).collect();
        let moved = |steps: &[(usize, f64)]| {
            let mut at = all;
            for &(k, step) in steps {
                at[free[k]] *= (step * STEP).exp();
            }
            Variances { run: at[0], row: at[1], rest: at[2] }
        };
        let centre = self.problem.deviance(self.at)?;
        let mut hessian = Matrix::zeros(free.len());
        let mut gradient = Vec::new();
        for i in 0..free.len() {
            let (up, down) = (moved(&[(i, 1.0)]), moved(&[(i, -1.0)]));
            gradient.push((self.variance(contrast, up)? - self.variance(contrast, down)?) / (2.0 * STEP));
            *hessian.at(i, i) = (self.problem.deviance(up)? + self.problem.deviance(down)? - 2.0 * centre) / (STEP * STEP);
            for j in 0..i {
                let corner = |a: f64, b: f64| self.problem.deviance(moved(&[(i, a), (j, b)]));
                let mixed = (corner(1.0, 1.0)? + corner(-1.0, -1.0)? - corner(1.0, -1.0)? - corner(-1.0, 1.0)?) / (4.0 * STEP * STEP);
                *hessian.at(i, j) = mixed;
                *hessian.at(j, i) = mixed;
            }
        }
        // The deviance is twice a likelihood: the variances' covariance is 2 H⁻¹.
        let spread = Cholesky::of(&hessian).map(|factor| 2.0 * factor.inverse().form(&gradient));
        Ok(match spread {
            Some(spread) if spread > 0.0 => (2.0 * variance * variance / spread).min(self.problem.free()).max(1.0),
            _ => self.problem.free(),
        })
    }
}
