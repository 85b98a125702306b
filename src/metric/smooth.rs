//! Calibration without bins: smooth ECE and the smooth reliability curve.

use polars::prelude::*;

use super::calibration::scored;
use crate::display::{Bundle, Show, headed, number};
use crate::error::Result;

/// The least bandwidth, as in the authors' package `relplot`.
const LEAST: f64 = 1e-3;
/// Halvings of the bandwidth's interval.
const HALVINGS: usize = 20;
/// Points of the curve, from 0 to 1.
const POINTS: usize = 201;

/// Smooth ECE with its bandwidth and its curve.
#[derive(Clone, Debug, PartialEq)]
pub struct SmoothCalibration {
    /// The smooth expected calibration error, in [0, 1].
    pub error: f64,
    /// The bandwidth that the rule of the paper takes.
    pub bandwidth: f64,
    curve: DataFrame,
}

impl SmoothCalibration {
    /// The smooth reliability curve: `confidence` (201 points from 0 to 1), `accuracy` (there, smoothed; null where no row is near), `density` (of the
    /// confidences, its integral 1: how much the curve is worth there).
    pub fn curve(&self) -> &DataFrame {
        &self.curve
    }
}

impl Show for SmoothCalibration {
    fn bundle(&self) -> Bundle {
        let heading = format!("smooth ECE {} at a bandwidth of {}; its curve:", number(self.error), number(self.bandwidth));
        headed(&heading, Ok(self.curve.clone()))
    }
}

/// Smooth expected calibration error (Błasiok and Nakkiran 2023, [arXiv:2309.12236](https://arxiv.org/abs/2309.12236)), in [0, 1]; lower is better.
///
/// `smECE_σ = ∫₀¹ |1/n Σ_i K_σ(t, f_i) (y_i - f_i)| dt` with confidence f and correctness y of each row, and the Gaussian kernel K of width σ reflected at 0 and 1,
/// so that it integrates to 1. It falls with σ, and is taken where `smECE_σ = σ` (at 0.001 if it is less than that there): no bins to choose, and a small change of
/// the confidences changes it by little. With few rows it is biased upwards, as every plug-in error is: compare it between the same number of rows.
///
/// # Errors
/// An input error when `correct` (boolean) or `confidence` (floating point) is missing, of another type, has nulls or values outside [0, 1], or there are no
/// rows; a numeric error on NaN.
pub fn smooth_ece(frame: &DataFrame) -> Result<f64> {
    Ok(smooth_error(&scored(frame)?).0)
}

/// [`smooth_ece`] with its bandwidth and the smooth reliability curve, `ŷ(t) = Σ_i K_σ(t, f_i) y_i / Σ_i K_σ(t, f_i)`.
///
/// # Errors
/// As [`smooth_ece`].
pub fn smooth_calibration(frame: &DataFrame) -> Result<SmoothCalibration> {
    let rows = scored(frame)?;
    let (error, bandwidth) = smooth_error(&rows);
    let smoother = Smoother::new(bandwidth);
    let right = smoother.smooth(rows.iter().map(|row| (row.0, f64::from(u8::from(row.1)))));
    let all = smoother.smooth(rows.iter().map(|row| (row.0, 1.0)));
    let at = |values: &[f64], point: usize| {
        let place = point as f64 / (POINTS - 1) as f64 * (values.len() - 1) as f64;
        let (low, part) = ((place as usize).min(values.len() - 2), place.fract());
        let part = if place as usize > low { 1.0 } else { part };
        values[low] * (1.0 - part) + values[low + 1] * part
    };
    let points = 0..POINTS;
    let density: Vec<f64> = points.clone().map(|point| at(&all, point) / rows.len() as f64).collect();
    let accuracy = points.clone().map(|point| (density[point] > 1e-9).then(|| (at(&right, point) / at(&all, point)).clamp(0.0, 1.0)));
    let curve = df!(
        "confidence" => points.clone().map(|point| point as f64 / (POINTS - 1) as f64).collect::<Vec<_>>(),
        "accuracy" => accuracy.collect::<Vec<_>>(),
        "density" => density,
    )?;
    Ok(SmoothCalibration { error, bandwidth, curve })
}

/// Smooth ECE and its bandwidth.
pub(crate) fn smooth_error(rows: &[(f64, bool)]) -> (f64, f64) {
    let (mut low, mut high) = (LEAST, 1.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if smooth_error_at(rows, middle) > middle { low = middle } else { high = middle }
    }
    // Never above the least one: there is less error than it resolves.
    let bandwidth = if low == LEAST { LEAST } else { high };
    (smooth_error_at(rows, bandwidth), bandwidth)
}

/// Smooth ECE at a bandwidth.
pub(crate) fn smooth_error_at(rows: &[(f64, bool)], bandwidth: f64) -> f64 {
    let residuals = rows.iter().map(|&(confidence, correct)| (confidence, f64::from(u8::from(correct)) - confidence));
    let smoothed = Smoother::new(bandwidth).smooth(residuals);
    let ends = (smoothed[0].abs() + smoothed[smoothed.len() - 1].abs()) / 2.0;
    let sum: f64 = smoothed.iter().map(|value| value.abs()).sum::<f64>() - ends;
    let mean = sum / ((smoothed.len() - 1) as f64 * rows.len() as f64);
    // What so long a sum is off by would take it out of its range.
    ((mean * 1e12).round() / 1e12).min(1.0)
}

/// A reflected Gaussian kernel on a grid that resolves it.
struct Smoother {
    pieces: usize,
    /// By distance in pieces: the kernel with all its images but the reflected one.
    kernel: Vec<f64>,
}

impl Smoother {
    fn new(bandwidth: f64) -> Self {
        let pieces = ((20.0 / bandwidth).ceil() as usize).max(200);
        let reach = ((8.0 * bandwidth * pieces as f64).ceil() as usize).min(2 * pieces);
        let images = (4.0 * bandwidth).ceil() as i64;
        let weight = |distance: f64| (-distance * distance / (2.0 * bandwidth * bandwidth)).exp();
        let scale = 1.0 / (bandwidth * std::f64::consts::TAU.sqrt());
        let at = |step: usize| {
            let distance = step as f64 / pieces as f64;
            scale * (-images..=images).map(|image| weight(distance + 2.0 * image as f64)).sum::<f64>()
        };
        Self { pieces, kernel: (0..=reach).map(at).collect() }
    }

    /// The sum of the values' kernels at each point of the grid; a value between two points is shared by them.
    fn smooth(&self, values: impl Iterator<Item = (f64, f64)>) -> Vec<f64> {
        let m = self.pieces;
        let mut grid = vec![0.0; m + 1];
        for (place, value) in values {
            let place = place * m as f64;
            let low = (place as usize).min(m - 1);
            let part = place - low as f64;
            grid[low] += value * (1.0 - part);
            grid[low + 1] += value * part;
        }
        let reach = self.kernel.len() - 1;
        let mut smoothed = vec![0.0; m + 1];
        for (from, value) in grid.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            let near = from.saturating_sub(reach);
            for (to, sum) in (near..).zip(&mut smoothed[near..=(from + reach).min(m)]) {
                *sum += value * self.kernel[from.abs_diff(to)];
            }
            // Reflected at 0 the distance is from + to, at 1 it is 2m - from - to; the kernel has a period of 2m, so that either stands for both.
            let (at_0, at_1) = ((reach + 1).saturating_sub(from).min(m + 1), (2 * m - from).saturating_sub(reach));
            for to in (0..at_0).chain(at_1.max(at_0)..m + 1) {
                smoothed[to] += value * self.kernel[(from + to).min(2 * m - from - to)];
            }
        }
        smoothed
    }
}
