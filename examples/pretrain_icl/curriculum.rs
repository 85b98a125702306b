//! What is taught when: short and plain first, then every kind of task in lone words, then sentences, distraction and long contexts.

use crate::world::Stage;

/// The stage at `progress` (0..1) of the training, the row lengths to choose from, and the share of repeated random rows.
pub fn at(progress: f64) -> (Stage, &'static [usize], f64) {
    let ramp = |from: f64, to: f64| ((progress - from) / (to - from)).clamp(0.0, 1.0);
    let mix = |a: f64, b: f64, t: f64| a + (b - a) * t;
    let kinds = ramp(0.06, 0.09);
    let settle = ramp(0.35, 0.55);
    let skew = ramp(0.5, 0.8);
    let rare = mix(1.0, 0.6, skew);
    let stage = Stage {
        words: 2 + (6.0 * ramp(0.12, 0.40)).round() as usize,
        wordings: match progress {
            p if p < 0.10 => 1,
            p if p < 0.18 => 2,
            _ => 3,
        },
        topics: 6 + (6.0 * ramp(0.10, 0.25)).round() as usize,
        classes: if progress < 0.05 { 3 } else { 4 },
        distractors: match progress {
            p if p < 0.20 => 0,
            p if p < 0.32 => 1,
            _ => 2,
        },
        bare: mix(1.0, 0.05, ramp(0.14, 0.30)),
        // text, named, true/false, choice, answer
        mix: [
            mix(0.85, mix(0.28, 0.38, settle), kinds),
            mix(0.15, mix(0.14, 0.08, settle), kinds),
            mix(0.0, mix(0.20, 0.20, settle), kinds),
            mix(0.0, 0.20, kinds),
            mix(0.0, mix(0.18, 0.14, settle), kinds),
        ],
        open: mix(0.4, 0.15, ramp(0.3, 0.7)),
        themed: mix(0.9, 0.6, ramp(0.3, 0.7)),
        rule: [mix(1.0, 2.0, skew), 2.0, rare, rare, rare],
    };
    let lengths: &[usize] = match progress {
        p if p < 0.06 => &[32],
        p if p < 0.14 => &[40, 56],
        p if p < 0.30 => &[64],
        p if p < 0.45 => &[64, 96],
        p if p < 0.65 => &[64, 112, 160],
        _ => &[80, 160, 160, 320],
    };
    (stage, lengths, mix(0.35, 0.0, ramp(0.06, 0.12)))
}
