//! How sure a model is of a free answer, and what that is worth.

use polars::prelude::*;

use super::read::{self, confidence, correct, numbers};
use crate::error::Result;
use crate::frame::maybe_numbers;

/// What stands for the confidence of a free answer: a column of [`evaluate`](crate::evaluate::evaluate)'s frame that [`with_confidence`] makes.
///
/// The default is the probability of the answer, because it is the nearest to a probability of what is scored: a model that gave golds as often as they
/// come would be right in just that share of cases, and its calibration error would be 0. It is what the
/// probability of a label is, and for an answer of one token they are one. Whether the model stops after the answer has no part in it: fine-tuning on golds
/// does not teach that; the probability of the whole response has. It falls with an answer's length. The mean per token (Malinin
/// and Gales 2021) does not, so it ranks answers of different lengths better where these are no harder, but it is no probability of any event: a
/// model that is right as often as it should be looks over-confident by it, the more the longer its answers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// `exp(Σ ln p)` over the answer's tokens, given what the response says before.
    #[default]
    Answer,
    /// `exp(1/n Σ ln p)` over them: the geometric mean.
    AnswerPerToken,
    /// `exp(Σ ln p)` over all tokens of the response: of the answer with its reasoning.
    Response,
    /// `exp(1/n Σ ln p)` over them.
    ResponsePerToken,
}

/// The frame of free answers with another `confidence`; that of labels stays as it is. A response without an answer has none, 0.
///
/// ```
/// use ia2::metric::{Confidence, with_confidence};
/// use polars::prelude::*;
///
/// let frame = df!(
///     "tokens" => [9_u32, 4], "answer_tokens" => [2_u32, 0], "answer_log_likelihood" => [Some(-1.0), None], "response_log_likelihood" => [-3.0, -2.0],
/// )?;
/// let frame = with_confidence(&frame, Confidence::AnswerPerToken)?;
/// assert_eq!(frame.column("confidence")?.f64()?.to_vec(), [Some((-0.5f64).exp()), Some(0.0)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// An input error when a frame without labels lacks `tokens`, `answer_tokens`, `answer_log_likelihood` or `response_log_likelihood`, or they hold what they
/// cannot.
pub fn with_confidence(frame: &DataFrame, confidence: Confidence) -> Result<DataFrame> {
    if read::has(frame, &[read::PROBABILITIES]) {
        return Ok(frame.clone());
    }
    let answers = maybe_numbers(frame, "answer_log_likelihood")?;
    let tokens = [maybe_numbers(frame, "answer_tokens")?, maybe_numbers(frame, "tokens")?];
    let responses = numbers(frame, "response_log_likelihood", (f64::NEG_INFINITY, f64::INFINITY))?;
    let value = |row: usize| {
        let answer = answers[row]?;
        let (sum, count) = match confidence {
            Confidence::Answer => (answer, 1.0),
            Confidence::AnswerPerToken => (answer, tokens[0][row]?),
            Confidence::Response => (responses[row], 1.0),
            Confidence::ResponsePerToken => (responses[row], tokens[1][row]?),
        };
        Some((sum / count).exp().min(1.0))
    };
    let values: Vec<f64> = (0..responses.len()).map(|row| value(row).unwrap_or(0.0)).collect();
    let mut changed = frame.clone();
    changed.with_column(Column::new("confidence".into(), values))?;
    Ok(changed)
}

/// Brier score of the answer, in [0, 1]; lower is better: the mean of `(confidence − [correct])²` (Brier 1950, of the one event "it is right"). Of two
/// labels it is half of [`brier`](super::brier).
///
/// # Errors
/// As [`ece`](super::ece).
pub fn answer_brier(frame: &DataFrame) -> Result<f64> {
    mean(frame, |confidence, correct| (confidence - f64::from(u8::from(correct))).powi(2))
}

/// The most that one answer adds to [`answer_nll`], nats: about that of a probability of 2^-52, which an f64 cannot tell from 0 next to 1.
pub(super) const MOST: f64 = 36.0;

/// Negative log-likelihood of being right or wrong as one was, in [0, 36] nats; lower is better: the mean of `-ln confidence` over right answers
/// and `-ln (1 − confidence)` over wrong ones, each at most 36, so that one sure error among thousands leaves a number to compare.
///
/// # Errors
/// As [`ece`](super::ece).
pub fn answer_nll(frame: &DataFrame) -> Result<f64> {
    mean(frame, |confidence, correct| (-(if correct { confidence } else { 1.0 - confidence }).ln()).clamp(0.0, MOST) + 0.0)
}

fn mean(frame: &DataFrame, of: impl Fn(f64, bool) -> f64) -> Result<f64> {
    let correct = correct(frame)?;
    let sum: f64 = confidence(frame)?.into_iter().zip(&correct).map(|(confidence, &correct)| of(confidence, correct)).sum();
    Ok(sum / correct.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let frame = df!("correct" => [true, false, true], "confidence" => [0.5, 0.25, 1.0]).unwrap();
        assert!((answer_brier(&frame).unwrap() - (0.25 + 0.0625) / 3.0).abs() < 1e-15);
        assert!((answer_nll(&frame).unwrap() + (0.5f64.ln() + 0.75f64.ln()) / 3.0).abs() < 1e-15);
        let sure = df!("correct" => [false, true], "confidence" => [1.0, 1.0]).unwrap();
        assert_eq!(answer_nll(&sure).unwrap(), MOST / 2.0);
    }

    #[test]
    fn each_confidence_by_hand() {
        let free = df!(
            "confidence" => [0.9, 0.9], "tokens" => [4_u32, 3], "answer_tokens" => [2_u32, 0],
            "answer_log_likelihood" => [Some(0.25f64.ln()), None], "response_log_likelihood" => [0.0625f64.ln(), -1.0],
        );
        let free = free.unwrap();
        for (confidence, value) in [
            (Confidence::Answer, 0.25),
            (Confidence::AnswerPerToken, 0.5),
            (Confidence::Response, 0.0625),
            (Confidence::ResponsePerToken, 0.5),
        ] {
            let changed = with_confidence(&free, confidence).unwrap();
            let ours = changed.column("confidence").unwrap().f64().unwrap().to_vec();
            assert!((ours[0].unwrap() - value).abs() < 1e-12 && ours[1] == Some(0.0), "{confidence:?}: {ours:?}");
        }
        let labels = df!("p_a" => [0.5], "p_b" => [0.5], "confidence" => [0.5]).unwrap();
        assert!(with_confidence(&labels, Confidence::Response).unwrap().equals(&labels));
        let error = with_confidence(&free.drop("answer_tokens").unwrap(), Confidence::Answer).unwrap_err().to_string();
        assert!(error.contains("no column `answer_tokens`"), "{error}");
    }
}
