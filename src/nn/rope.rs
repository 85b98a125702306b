//! The rotary embedding's frequencies: which angle each pair of head dimensions turns by per position.
//!
//! Plain `f64` arithmetic without tensors. Sources: RoFormer (<https://arxiv.org/abs/2104.09864>), linear position interpolation
//! (<https://arxiv.org/abs/2306.15595>), and Llama 3.1's scaling as in Hugging Face transformers 5.23, `modeling_rope_utils.py`.

use crate::error::{Error, Result};
use std::f64::consts::TAU;

/// A rotary position embedding: position `p` turns the pair of dimensions `(i, i + head_dim / 2)` by the angle `p * f_i`,
/// with `f_i` from [`Rope::inverse_frequencies`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the geometric series of wavelengths; above 1. Llama 2: 1e4, Llama 3: 5e5, Qwen: 1e6.
    pub theta: f64,
    /// How the frequencies are changed for contexts longer than the pre-training's.
    pub scaling: Scaling,
}

/// How a [`Rope`]'s frequencies are stretched. `f_i` is the frequency before, `f'_i` after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// `f'_i = f_i`.
    None,
    /// `f'_i = f_i / factor`: positions are interpolated.
    Linear {
        /// The stretch; at least 1.
        factor: f64,
    },
    /// Llama 3.1's: with the wavelength `w_i = 2 pi / f_i` and the pre-training context `L`,
    /// waves shorter than `L / high_freq_factor` stay, waves longer than `L / low_freq_factor` become `f_i / factor`, and between them
    /// `f'_i = (1 - s) f_i / factor + s f_i` with `s = (L / w_i - low_freq_factor) / (high_freq_factor - low_freq_factor)`.
    Llama3 {
        /// The stretch of the long waves; at least 1.
        factor: f64,
        /// `L / low_freq_factor` is the wavelength, in tokens, above which a wave is stretched fully; above 0.
        low_freq_factor: f64,
        /// `L / high_freq_factor` is the wavelength, in tokens, below which a wave stays; above `low_freq_factor`.
        high_freq_factor: f64,
        /// `L`: the context length of the pre-training, in tokens; above 0.
        original_max_positions: i64,
    },
}

impl Rope {
    /// The plain rotary embedding of RoFormer.
    pub fn new(theta: f64) -> Self {
        Self { theta, scaling: Scaling::None }
    }

    /// The angle in radians per position of each pair of dimensions: `head_dim / 2` values, falling from 1 at pair 0, where pair `i`
    /// has `f_i = theta^(-2 i / head_dim)` changed by [`Scaling`]. All are finite and positive when [`Rope::check`] is `Ok`.
    pub fn inverse_frequencies(&self, head_dim: i64) -> Vec<f64> {
        (0..head_dim / 2)
            .map(|pair| self.theta.powf(-((2 * pair) as f64) / head_dim as f64))
            .map(|frequency| self.scaling.apply(frequency))
            .collect()
    }

    /// An input error that names the number that is out of the range its field declares.
    pub fn check(&self) -> Result<()> {
        let need = |good: bool, what: &str, value: f64| match good && value.is_finite() {
            true => Ok(()),
            false => Err(Error::input(format!("the rotary embedding's {what}, but it is {value}"))),
        };
        need(self.theta > 1.0, "`rope_theta` must be above 1", self.theta)?;
        match self.scaling {
            Scaling::None => Ok(()),
            Scaling::Linear { factor } => need(factor >= 1.0, "`factor` must be at least 1", factor),
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                need(factor >= 1.0, "`factor` must be at least 1", factor)?;
                need(low_freq_factor > 0.0, "`low_freq_factor` must be above 0", low_freq_factor)?;
                need(high_freq_factor > low_freq_factor, "`high_freq_factor` must be above `low_freq_factor`", high_freq_factor)?;
                need(original_max_positions > 0, "`original_max_position_embeddings` must be above 0", original_max_positions as f64)
            }
        }
    }
}

impl Scaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Scaling::None => frequency,
            Scaling::Linear { factor } => frequency / factor,
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                let context = original_max_positions as f64;
                let wavelength = TAU / frequency;
                if wavelength < context / high_freq_factor {
                    frequency
                } else if wavelength > context / low_freq_factor {
                    frequency / factor
                } else {
                    let smooth = (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}
