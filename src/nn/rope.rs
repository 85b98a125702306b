//! The rotary embedding's frequencies: which angle each pair of head dimensions turns by per position.
//!
//! Computed step by step as the reference does, because f32 rounds: at position 6,000 a frequency that differs in its last bit turns a pair by
//! 4e-4 more or less. Sources: RoFormer (<https://arxiv.org/abs/2104.09864>), linear position interpolation
//! (<https://arxiv.org/abs/2306.15595>), YaRN (<https://arxiv.org/abs/2309.00071>), LongRoPE (<https://arxiv.org/abs/2402.13753>), and Llama 3.1's
//! and the dynamic scaling as in Hugging Face transformers 5.23, `modeling_rope_utils.py`.

use std::cell::RefCell;
use std::f64::consts::TAU;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// For which embedding, width, kind and length, and the frequencies.
type CachedFrequencies = (Rope, i64, Kind, i64, Vec<f64>);

/// How many are remembered: a family has one embedding, or one for each kind of layer.
const CACHED: usize = 4;

thread_local! {
    /// What was asked for last: a model asks for the same at every token.
    static LAST: RefCell<Vec<CachedFrequencies>> = const { RefCell::new(Vec::new()) };
}

/// A rotary position embedding: position `p` turns the pair of dimensions `(i, i + width / 2)` of the first `width` of each head by the angle
/// `p * f_i`, with `f_i` from [`Rope::inverse_frequencies`], and grows both by [`Rope::growth`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// The base of the geometric series of wavelengths; above 1. Llama 2: 1e4, Llama 3: 5e5, Qwen: 1e6.
    pub theta: f64,
    /// How the frequencies are changed for contexts longer than the pre-training's.
    pub scaling: Scaling,
}

/// How a [`Rope`]'s frequencies are stretched. `f_i` is the frequency before, `f'_i` after.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// `f'_i = f_i`.
    None,
    /// `f'_i = f_i / factor`: positions are interpolated.
    Linear {
        /// The stretch; at least 1.
        factor: f64,
    },
    /// Of a text of `T` tokens, where `T` exceeds the context `L`, the base grows: `theta' = theta (factor T / L - factor + 1)^(d / (d - 2))`
    /// for a width of `d`. Shorter texts stay.
    Dynamic {
        /// The stretch; at least 1.
        factor: f64,
        /// `L`, in tokens; above 0.
        max_positions: i64,
    },
    /// YaRN's: a ramp over the pairs from `f'_i = f_i` to `f'_i = f_i / factor`, between the pairs that turn `beta_fast` and `beta_slow` times
    /// within the pre-training context, and all values grow by `growth`.
    Yarn {
        /// The stretch; at least 1.
        factor: f64,
        /// Turns from which on a pair stays; above `beta_slow`.
        beta_fast: f64,
        /// Turns up to which a pair is stretched fully; above 0.
        beta_slow: f64,
        /// The context length of the pre-training, in tokens; above 0.
        original_max_positions: i64,
        /// Whether the ends of the ramp are whole pairs.
        truncate: bool,
        /// What cosines and sines are multiplied with; above 0.
        growth: f64,
    },
    /// LongRoPE's: `f'_i = f_i / short_i` for texts up to the pre-training context, `f_i / long_i` for longer ones, and all values grow by
    /// `growth`.
    LongRope {
        /// Of each pair; above 0.
        short: Vec<f64>,
        /// Of each pair; above 0.
        long: Vec<f64>,
        /// The context length of the pre-training, in tokens; above 0.
        original_max_positions: i64,
        /// What cosines and sines are multiplied with; above 0.
        growth: f64,
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
    pub(crate) fn new(theta: f64) -> Self {
        Self { theta, scaling: Scaling::None }
    }

    /// The angle in radians per position of each pair of dimensions: `width / 2` values, falling from 1 at pair 0, where pair `i`
    /// has `f_i = theta^(-2 i / width)` changed by [`Scaling`], for texts within the pre-training's context. All are finite and positive when
    /// [`Rope::check`] is `Ok`.
    ///
    /// These are exact to f64. Models of other kinds turn by the f32 ones, rounded where transformers rounds them.
    pub(crate) fn inverse_frequencies(&self, width: i64) -> Vec<f64> {
        self.frequencies(width, Kind::Double, 0)
    }

    /// What cosines and sines are multiplied with: 1 but for YaRN and LongRoPE.
    pub(crate) fn growth(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn { growth, .. } | Scaling::LongRope { growth, .. } => growth,
            _ => 1.0,
        }
    }

    /// Which frequencies a text of `tokens` tokens has: texts of the same number have the same ones.
    pub(crate) fn regime(&self, tokens: i64) -> i64 {
        match self.scaling {
            Scaling::Dynamic { max_positions, .. } if tokens > max_positions => tokens,
            Scaling::LongRope { original_max_positions, .. } if tokens > original_max_positions => original_max_positions + 1,
            _ => 0,
        }
    }

    /// The same, computed in `kind`, f32 or f64, for texts of this [`Rope::regime`].
    pub(super) fn frequencies(&self, width: i64, kind: Kind, regime: i64) -> Vec<f64> {
        LAST.with_borrow_mut(|cached| {
            let same = |(rope, own, of, tokens, _): &CachedFrequencies| (rope, *own, *of, *tokens) == (self, width, kind, regime);
            if let Some((.., frequencies)) = cached.iter().find(|cached| same(cached)) {
                return frequencies.clone();
            }
            let frequencies = Vec::<f64>::try_from(self.computed(width, kind, regime).to_kind(Kind::Double)).unwrap_or_default();
            if cached.len() == CACHED {
                cached.remove(0);
            }
            cached.push((self.clone(), width, kind, regime, frequencies.clone()));
            frequencies
        })
    }

    /// In `kind`. Where the reference divides a number by a tensor, PyTorch takes the reciprocal times the number.
    fn computed(&self, width: i64, kind: Kind, regime: i64) -> Tensor {
        let pairs = Tensor::arange_start_step(0, width / 2 * 2, 2, (kind, Device::Cpu)) / width as f64;
        // libtorch's own power: another one differs in the last bit here and there.
        let waves = |theta: f64| Tensor::pow_scalar(theta, &pairs);
        match &self.scaling {
            Scaling::None => waves(self.theta).reciprocal(),
            Scaling::Linear { factor } => waves(self.theta).reciprocal() / *factor,
            Scaling::Dynamic { factor, max_positions } => {
                let tokens = regime.max(*max_positions);
                let stretch = factor * tokens as f64 / *max_positions as f64 - (factor - 1.0);
                waves(self.theta * stretch.powf(width as f64 / (width as f64 - 2.0))).reciprocal()
            }
            Scaling::Yarn { factor, beta_fast, beta_slow, original_max_positions, truncate, .. } => {
                let turning = |turns: f64| width as f64 * (*original_max_positions as f64 / (turns * TAU)).ln() / (2.0 * self.theta.ln());
                let (mut low, mut high) = (turning(*beta_fast), turning(*beta_slow));
                if *truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(width as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let ramp = ((Tensor::arange(width / 2, (kind, Device::Cpu)) - low) / (high - low)).clamp(0.0, 1.0);
                let kept: Tensor = 1.0 - ramp;
                let waves = waves(self.theta);
                (&waves * *factor).reciprocal() * (1.0 - &kept) + waves.reciprocal() * kept
            }
            Scaling::LongRope { short, long, original_max_positions, .. } => {
                let factors = if regime > *original_max_positions { long } else { short };
                (Tensor::from_slice(factors).to_kind(kind) * waves(self.theta)).reciprocal()
            }
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                let frequencies = waves(self.theta).reciprocal();
                let context = *original_max_positions as f64;
                let wavelengths = frequencies.reciprocal() * TAU;
                let (short, long) = (wavelengths.lt(context / high_freq_factor), wavelengths.gt(context / low_freq_factor));
                let smooth = (wavelengths.reciprocal() * context - *low_freq_factor) / (high_freq_factor - low_freq_factor);
                let between = (1.0 - &smooth) * &frequencies / *factor + smooth * &frequencies;
                let stretched = (&frequencies / *factor).where_self(&long, &between);
                frequencies.where_self(&short, &stretched)
            }
        }
    }

    /// An input error that names the number that is out of the range its field declares.
    pub(crate) fn check(&self) -> Result<()> {
        let need = |good: bool, what: &str, value: f64| match good && value.is_finite() {
            true => Ok(()),
            false => Err(Error::input(format!("the rotary embedding's {what}, but it is {value}"))),
        };
        let stretch = |factor: f64| need(factor >= 1.0, "`factor` must be at least 1", factor);
        let context = |length: i64| need(length > 0, "`original_max_position_embeddings` must be above 0", length as f64);
        let grows = |growth: f64| need(growth > 0.0, "`attention_factor` must be above 0", growth);
        need(self.theta > 1.0, "`rope_theta` must be above 1", self.theta)?;
        match &self.scaling {
            Scaling::None => Ok(()),
            Scaling::Linear { factor } => stretch(*factor),
            Scaling::Dynamic { factor, max_positions } => {
                stretch(*factor)?;
                need(*max_positions > 0, "`max_position_embeddings` must be above 0", *max_positions as f64)
            }
            Scaling::Yarn { factor, beta_fast, beta_slow, original_max_positions, growth, .. } => {
                stretch(*factor)?;
                need(*beta_slow > 0.0, "`beta_slow` must be above 0", *beta_slow)?;
                need(beta_fast > beta_slow, "`beta_fast` must be above `beta_slow`", *beta_fast)?;
                context(*original_max_positions)?;
                grows(*growth)
            }
            Scaling::LongRope { short, long, original_max_positions, growth } => {
                for (name, factors) in [("short_factor", short), ("long_factor", long)] {
                    let least = factors.iter().copied().fold(f64::INFINITY, f64::min);
                    need(least > 0.0, &format!("`{name}` must hold numbers above 0"), least)?;
                }
                context(*original_max_positions)?;
                grows(*growth)
            }
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                stretch(*factor)?;
                need(*low_freq_factor > 0.0, "`low_freq_factor` must be above 0", *low_freq_factor)?;
                need(high_freq_factor > low_freq_factor, "`high_freq_factor` must be above `low_freq_factor`", *high_freq_factor)?;
                context(*original_max_positions)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values below are `LlamaRotaryEmbedding(config).inv_freq` of transformers 5.23 (f32, so good to 1e-6).
    fn assert_close(rope: Rope, head_dim: i64, expected: &[f64]) {
        let found = rope.inverse_frequencies(head_dim);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6 * expected, "{found} is not {expected}");
        }
    }

    #[test]
    fn default_and_linear_agree_with_the_reference() {
        assert_close(Rope::new(1e4), 8, &[1.0, 0.1, 0.01, 0.001]);
        assert_close(Rope { theta: 1e4, scaling: Scaling::Linear { factor: 4.0 } }, 8, &[0.25, 0.025, 0.0025, 0.00025]);
    }

    #[test]
    fn llama3_agrees_with_the_reference() {
        let scaling = Scaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8192 };
        #[rustfmt::skip]
        let expected = [
            1.0, 0.663601279, 0.440366626, 0.292227834, 0.193922758, 0.128687382, 0.0853971019, 0.0566696189, 0.0376060307, 0.0249554086,
            0.0165604409, 0.0109895291, 0.00729266508, 0.00483942125, 0.00321144611, 0.00129054801, 0.000429556705, 9.70828623e-05,
            1.94616387e-05, 1.29147675e-05, 8.57025589e-06, 5.68723226e-06, 3.77405445e-06, 2.50446715e-06, 1.66196742e-06, 1.10288363e-06,
            7.31874934e-07, 4.85673127e-07, 3.22293289e-07, 2.1387423e-07, 1.41927202e-07, 9.41830649e-08,
        ];
        assert_close(Rope { theta: 5e5, scaling }, 64, &expected);
    }

    #[test]
    fn frequencies_and_angles_are_those_of_the_reference_to_the_last_bit() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/rotary.safetensors");
        let Ok(tensors) = Tensor::read_safetensors(path) else { return crate::skipped(&format!("`{path}` is not here")) };
        let golden: std::collections::HashMap<String, Tensor> = tensors.into_iter().collect();
        let llama3 = |factor| Scaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 8192 };
        for (case, head_dim, theta, scaling) in [
            ("llama3_32", 64, 5e5, llama3(32.0)),
            ("llama3_8", 128, 5e5, llama3(8.0)),
            ("qwen3", 128, 1e6, Scaling::None),
            ("plain", 80, 1e4, Scaling::None),
            ("linear", 64, 1e4, Scaling::Linear { factor: 3.0 }),
        ] {
            let rope = Rope { theta, scaling };
            let of = |name: &str| &golden[&format!("{case}.{name}")];
            let theirs = Vec::<f64>::try_from(of("frequencies").to_kind(Kind::Double)).unwrap();
            assert_eq!(rope.frequencies(head_dim, Kind::Float, 0), theirs, "{case}");
            assert_ne!(rope.inverse_frequencies(head_dim), theirs, "{case}: f64 is finer");
            let (cos, sin) = super::super::pass::rotary(&golden["positions"].unsqueeze(0), &rope, head_dim, Kind::Float, &[]);
            for (name, ours) in [("cos", cos), ("sin", sin)] {
                // Up to position 131,071; the last bit of the angle there is worth 8e-3.
                let apart = (ours.get(0).get(0).narrow(-1, 0, head_dim / 2) - of(name)).abs().max().double_value(&[]);
                assert!(apart < 1e-6, "{case} {name}: {apart:.1e}");
            }
        }
    }

    #[test]
    fn each_number_has_its_range() {
        let llama3 = |factor, low, high, original_max_positions| Scaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_positions,
        };
        assert!(Rope { theta: 1e4, scaling: llama3(8.0, 1.0, 4.0, 8192) }.check().is_ok());
        for (rope, name) in [
            (Rope::new(1.0), "`rope_theta`"),
            (Rope::new(f64::INFINITY), "`rope_theta`"),
            (Rope { theta: 1e4, scaling: Scaling::Linear { factor: 0.5 } }, "`factor`"),
            (Rope { theta: 1e4, scaling: llama3(f64::NAN, 1.0, 4.0, 8192) }, "`factor`"),
            (Rope { theta: 1e4, scaling: llama3(8.0, 0.0, 4.0, 8192) }, "`low_freq_factor` must"),
            (Rope { theta: 1e4, scaling: llama3(8.0, 4.0, 4.0, 8192) }, "`high_freq_factor`"),
            (Rope { theta: 1e4, scaling: llama3(8.0, 1.0, 4.0, 0) }, "`original_max_position_embeddings`"),
        ] {
            let error = rope.check().unwrap_err();
            assert!(error.is_input() && error.to_string().contains(name), "{error}");
        }
    }
}
