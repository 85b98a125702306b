//! Where in a response its answer begins.

use super::{AnswerForm, Reading, boxed};
use crate::compat::Compat;

/// What a response in the form the tasks teach puts before its answer.
const MARKER: &str = "####";

impl AnswerForm {
    /// The byte at which the answer of a response begins, `None` where it holds none: of text the first letter that is read; of a box the first
    /// within it; of a number its first digit or sign, on the line after the last `####` where it stands there, else its last mention.
    ///
    /// Readers give a normal spelling, not a place, so a number is found from behind: it begins at the last place from which the text still reads
    /// as the same answer.
    pub(crate) fn answer_start(&self, response: &str) -> Option<usize> {
        let answer = self.answer(response)?;
        let text = self.stop().and_then(|stop| response.split(stop).next()).unwrap_or(response);
        let start = match (self.reading, &self.answer_after) {
            (Reading::Text, None) => 0,
            (Reading::Text, Some(marker)) => text.rfind(marker.as_str()).map_or(0, |place| place + marker.len()),
            (Reading::Boxed, _) if self.compat == Compat::Corrected => {
                boxed::last(text).map_or(0, |inside| inside.as_ptr().addr() - text.as_ptr().addr())
            }
            _ => self.found_from_behind(text, &answer),
        };
        Some(start + text[start..].find(|letter: char| !letter.is_whitespace()).unwrap_or(0))
    }

    fn found_from_behind(&self, text: &str, answer: &str) -> usize {
        let marked = text.rfind(MARKER).map(|place| place + MARKER.len());
        let line = marked.map(|start| (start, text[start..].find('\n').map_or(text.len(), |length| start + length)));
        let reads = |start: usize, end: usize| self.gold(&text[start..end]).is_some_and(|read| read == answer);
        for (start, end) in line.into_iter().chain([(0, text.len())]) {
            let mut places = text[start..end].char_indices().rev().map(|(place, _)| start + place).peekable();
            let Some(mut found) = places.by_ref().find(|&place| reads(place, end)) else { continue };
            // `.50` reads as `0.50` does.
            while let Some(place) = places.next_if(|&place| text[place..].starts_with(part_of_a_number) && reads(place, end)) {
                found = place;
            }
            return found;
        }
        0
    }
}

fn part_of_a_number(letter: char) -> bool {
    letter.is_numeric() || matches!(letter, '.' | ',' | '-' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_begins_where_it_is_read() {
        let number = AnswerForm::number();
        let boxed = AnswerForm::boxed();
        let marked = AnswerForm::free().after("####").unwrap();
        let whole = AnswerForm::free();
        for (form, response, rest) in [
            (&number, "8 and 3 more #### 1,080\n", "1,080\n"),
            (&number, "#### -5", "-5"),
            (&number, "#### 42\nSo 42 apples.", "42\nSo 42 apples."),
            (&number, "The answer is 0.50 dollars", "0.50 dollars"),
            (&number, "so 8 - 3 = 5", "5"),
            (&number, "It is 15 or 5, the answer is 15.", "15."),
            (&boxed, "so $\\boxed{ \\frac12}$.", "\\frac12}$."),
            (&marked, "a #### 2 so #### red fox\nmore", "red fox\nmore"),
            (&whole, " Paris", "Paris"),
        ] {
            let start = form.answer_start(response).unwrap();
            assert_eq!(&response[start..], rest, "{response}");
        }
        assert_eq!(number.clone().compat(Compat::Paper).answer_start("so #### 12 it is"), Some(8));
        for (form, response) in [(&number, "none"), (&boxed, "5"), (&marked, "5"), (&whole, " ")] {
            assert_eq!(form.answer_start(response), None, "{response}");
        }
        // Nothing from the stop string on counts.
        let stopped = number.stopping_at(Some("\n\n")).unwrap();
        assert_eq!(stopped.answer_start("it is 5\n\nQuestion: 6"), Some(6));
    }
}
