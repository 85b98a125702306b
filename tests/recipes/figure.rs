//! Accuracy over the length of the prompt.

use polars::prelude::*;

use super::{Chart, FigureEntry};
use crate::error::Result;

pub(super) const ENTRY: FigureEntry = FigureEntry {
    name: "lengths",
    about: "accuracy over the length of the prompt, one line per method",
    columns: &["prompt_tokens", "accuracy", "method"],
    sample,
    draw: |frame| lengths().draw(frame),
};

/// Accuracy over the number of tokens of the prompt, by its logarithm.
///
/// Columns: `prompt_tokens`, `accuracy` (in [0, 1]), `method`.
pub fn lengths() -> Chart {
    Chart::lines("prompt_tokens", "accuracy").colour("method").x_log2()
}

fn sample() -> Result<DataFrame> {
    Ok(df!(
        "prompt_tokens" => [8u32, 64, 512, 8, 64, 512],
        "accuracy" => [0.4, 0.6, 0.9, 0.5, 0.5, 0.5],
        "method" => ["ICL", "ICL", "ICL", "SFT", "SFT", "SFT"],
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_drawn_and_a_missing_column_named() {
        assert!((ENTRY.draw)(&sample().unwrap()).unwrap().alt().contains("one line per method"));
        for column in ENTRY.columns {
            let error = (ENTRY.draw)(&sample().unwrap().drop(column).unwrap()).unwrap_err();
            assert!(error.to_string().contains(&format!("no column `{column}`")));
        }
    }
}
