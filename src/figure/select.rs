//! Which rows of its frame a figure draws.

use std::borrow::Cow;

use polars::prelude::*;

use super::read;
use crate::display;
use crate::error::{Error, Result};
use crate::plot::settings::Settings;

/// What a figure is told to draw of a frame; [`select_setters`] gives builders the method.
#[derive(Clone, Debug, Default)]
pub(super) struct Select {
    /// A column and the value it must have.
    pub only: Vec<(String, String)>,
    /// The last few places along the axes.
    pub last: Option<usize>,
}

/// The rows that are left, and what the note says of them.
pub(super) type Selected<'a> = (Cow<'a, DataFrame>, Vec<String>);

impl Select {
    /// The rows with the values that are asked for.
    ///
    /// # Errors
    /// A column is missing, or no row has the value.
    pub(super) fn rows<'a>(&self, frame: &'a DataFrame, settings: &Settings) -> Result<Selected<'a>> {
        let (mut kept, mut notes) = (Cow::Borrowed(frame), Vec::new());
        for (name, value) in &self.only {
            let texts = read::texts(&kept, name, "the rows to draw")?;
            let wanted = value.parse().map_or_else(|_| value.clone(), display::number);
            let is = |text: &String| text == value || *text == wanted;
            if !texts.iter().any(is) {
                let (there, _) = read::names(read::column(&kept, name, "the rows to draw")?, &[])?;
                let more = display::more(there.len(), 12, "value").map_or_else(String::new, |more| format!(", {more}"));
                let there = there.iter().take(12).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                return Err(Error::input(format!("figure: no row has `{value}` in column `{name}`; it has {there}{more}")));
            }
            kept = Cow::Owned(filtered(&kept, texts.iter().map(is))?);
            notes.push(format!("{} {value}", settings.name(name)));
        }
        let notes = if notes.is_empty() { notes } else { vec![notes.join(", ")] };
        Ok((kept, notes))
    }

    /// Of these, the rows of the last places along y, and of them those of the last places along x. `share`: the column whose values add up to one
    /// along x, of which the note says how much is left out.
    ///
    /// # Errors
    /// An axis does not hold numbers.
    pub(super) fn last<'a>(
        &self,
        (frame, mut notes): Selected<'a>,
        (x, y): (&str, &str),
        share: Option<&str>,
        settings: &Settings,
    ) -> Result<Selected<'a>> {
        let Some(most) = self.last else { return Ok((frame, notes)) };
        if most == 0 {
            return Err(Error::input("figure: the last 0 places leave nothing to draw: ask for 1 or more"));
        }
        let mut kept = frame;
        for (name, axis) in [(y, "y"), (x, "x")] {
            let values = read::numbers(&kept, name, axis)?;
            let mut places: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            places.sort_by(f64::total_cmp);
            places.dedup();
            let Some(first) = places.len().checked_sub(most).filter(|out| *out > 0).and_then(|out| places.get(out)) else { continue };
            let inside: Vec<bool> = values.iter().map(|value| value.is_nan() || value >= first).collect();
            let mut note = format!("{}: the last {most} of {}", settings.name(name), places.len());
            if let Some(share) = share.filter(|_| axis == "x") {
                let shares = read::numbers(&kept, share, "the value")?;
                let sum = |within: bool| {
                    shares
                        .iter()
                        .zip(&inside)
                        .filter(|(value, own)| value.is_finite() && **own == within)
                        .map(|(value, _)| value)
                        .sum::<f64>()
                };
                let (kept, out) = (sum(true), sum(false));
                note.push_str(&format!(" ({:.0} % of all {} lies before them)", 100.0 * out / (out + kept), settings.name(share)));
            }
            notes.push(note);
            kept = Cow::Owned(filtered(&kept, inside.into_iter())?);
        }
        Ok((kept, notes))
    }
}

fn filtered(frame: &DataFrame, kept: impl Iterator<Item = bool>) -> Result<DataFrame> {
    Ok(frame.filter(&kept.collect::<BooleanChunked>())?)
}

/// The method of a builder that has `select`.
macro_rules! select_setters {
    () => {
        /// Only the rows in which this column has this value (`.only("layer", 4)`); several calls must all hold. The note says so.
        pub fn only(mut self, column: &str, value: impl ToString) -> Self {
            self.select.only.push((column.to_owned(), value.to_string()));
            self
        }
    };
}
pub(super) use select_setters;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> DataFrame {
        df!("layer" => [0u32, 0, 1, 1], "head" => ["a", "b", "a", "b"], "key" => [0i32, 1, 0, 1], "weight" => [0.75, 0.25, 0.1, 0.9])
            .unwrap()
    }

    #[test]
    fn rows_are_those_that_have_every_value() {
        let select =
            |only: &[(&str, &str)]| Select { only: only.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(), last: None };
        let (frame, settings) = (frame(), Settings::default());
        let (kept, notes) = select(&[("layer", "1"), ("head", "b")]).rows(&frame, &settings).unwrap();
        assert_eq!((kept.height(), read::numbers(&kept, "weight", "").unwrap(), notes), (1, vec![0.9], vec!["layer 1, head b".to_owned()]));
        assert_eq!(select(&[("weight", "0.10")]).rows(&frame, &settings).unwrap().0.height(), 1);
        let error = select(&[("layer", "2")]).rows(&frame, &settings).unwrap_err().to_string();
        assert!(error.contains("no row has `2` in column `layer`; it has `0`, `1`"), "{error}");
        let error = select(&[("site", "2")]).rows(&frame, &settings).unwrap_err().to_string();
        assert!(error.contains("no column `site`"), "{error}");
    }

    #[test]
    fn the_last_places_and_what_lies_before_them() {
        let (frame, settings) = (frame(), Settings::default());
        let last = |most| {
            Select { only: Vec::new(), last: Some(most) }.last(
                (Cow::Borrowed(&frame), Vec::new()),
                ("key", "layer"),
                Some("weight"),
                &settings,
            )
        };
        let (kept, notes) = last(1).unwrap();
        // Of layer 1 alone, 0.1 lies on the key that is left out.
        assert_eq!(
            (kept.height(), notes),
            (1, vec!["layer: the last 1 of 2".to_owned(), "key: the last 1 of 2 (10 % of all weight lies before them)".to_owned()])
        );
        let (kept, notes) = last(5).unwrap();
        assert_eq!((kept.height(), notes.len()), (4, 0));
        assert!(last(0).unwrap_err().to_string().contains("the last 0 places leave nothing to draw"));
    }
}
