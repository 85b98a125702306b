//! Small symmetric matrices.

#[derive(Clone, Debug)]
pub(super) struct Matrix {
    size: usize,
    values: Vec<f64>,
}

impl Matrix {
    pub(super) fn zeros(size: usize) -> Self {
        Self { size, values: vec![0.0; size * size] }
    }

    pub(super) fn at(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.values[row * self.size + column]
    }

    pub(super) fn get(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.size + column]
    }

    pub(super) fn add(&mut self, other: &Self, times: f64) {
        self.values.iter_mut().zip(&other.values).for_each(|(value, other)| *value += times * other);
    }

    /// `c' M c`.
    pub(super) fn form(&self, c: &[f64]) -> f64 {
        (0..self.size).map(|i| (0..self.size).map(|j| c[i] * self.get(i, j) * c[j]).sum::<f64>()).sum()
    }
}

/// The lower factor of a positive definite matrix.
pub(super) struct Cholesky(Matrix);

impl Cholesky {
    pub(super) fn of(matrix: &Matrix) -> Option<Self> {
        let mut lower = Matrix::zeros(matrix.size);
        for column in 0..matrix.size {
            for row in column..matrix.size {
                let known: f64 = (0..column).map(|k| lower.get(row, k) * lower.get(column, k)).sum();
                let left = matrix.get(row, column) - known;
                if row > column {
                    *lower.at(row, column) = left / lower.get(column, column);
                } else if left > 1e-12 * matrix.get(row, row).abs() {
                    *lower.at(row, row) = left.sqrt();
                } else {
                    return None;
                }
            }
        }
        Some(Self(lower))
    }

    pub(super) fn log_determinant(&self) -> f64 {
        (0..self.0.size).map(|i| 2.0 * self.0.get(i, i).ln()).sum()
    }

    /// `L⁻¹ b`.
    pub(super) fn half(&self, mut b: Vec<f64>) -> Vec<f64> {
        for row in 0..self.0.size {
            let known: f64 = (0..row).map(|k| self.0.get(row, k) * b[k]).sum();
            b[row] = (b[row] - known) / self.0.get(row, row);
        }
        b
    }

    pub(super) fn solve(&self, b: Vec<f64>) -> Vec<f64> {
        let mut b = self.half(b);
        for row in (0..self.0.size).rev() {
            let known: f64 = (row + 1..self.0.size).map(|k| self.0.get(k, row) * b[k]).sum();
            b[row] = (b[row] - known) / self.0.get(row, row);
        }
        b
    }

    pub(super) fn inverse(&self) -> Matrix {
        let size = self.0.size;
        let mut inverse = Matrix::zeros(size);
        for column in 0..size {
            let unit = (0..size).map(|row| f64::from(u8::from(row == column))).collect();
            for (row, value) in self.solve(unit).into_iter().enumerate() {
                *inverse.at(row, column) = value;
            }
        }
        inverse
    }
}
