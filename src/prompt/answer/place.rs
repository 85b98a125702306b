//! Where in a response its answer stands.

use std::ops::Range;

use super::{AnswerForm, Reading, boxed};
use crate::compat::Compat;

/// What a response in the form the tasks teach puts before its answer.
const MARKER: &str = "####";

impl AnswerForm {
    /// The bytes of a response that hold its answer, `None` where it holds none: of text all that is read; of a box what is within it; of a number its digits
    /// and signs, on the line after the last `####` where it stands there, else at its last mention. Spaces around it and whatever is said after
    /// it are no part of it.
    ///
    /// Readers give a normal spelling, not a place, so a number is found from behind: it begins at the last place from which the text still reads
    /// as the same answer, and ends at the first one to which it does.
    pub(crate) fn answer_place(&self, response: &str) -> Option<Range<usize>> {
        let answer = self.answer(response)?;
        let text = self.stop().and_then(|stop| response.split(stop).next()).unwrap_or(response);
        let (start, end) = match (self.reading, &self.answer_after) {
            (Reading::Text, None) => (0, text.len()),
            (Reading::Text, Some(marker)) => (text.rfind(marker.as_str()).map_or(0, |place| place + marker.len()), text.len()),
            (Reading::Boxed, _) if self.compat == Compat::Corrected => boxed::last(text).map_or((0, text.len()), |inside| {
                let start = inside.as_ptr().addr() - text.as_ptr().addr();
                (start, start + inside.len())
            }),
            _ => {
                let start = self.found_from_behind(text, &answer);
                (start, self.found_from_ahead(text, start, &answer))
            }
        };
        let read = &text[start..end];
        let before = read.len() - read.trim_start().len();
        Some(start + before..start + read.trim_end().len()).filter(|place| !place.is_empty())
    }

    fn found_from_ahead(&self, text: &str, start: usize, answer: &str) -> usize {
        let reads = |end: usize| self.gold(&text[start..end]).is_some_and(|read| read == answer);
        let mut ends = text[start..].char_indices().map(|(place, letter)| start + place + letter.len_utf8()).peekable();
        let Some(mut found) = ends.by_ref().find(|&end| reads(end)) else { return text.len() };
        // `0.50` reads as `0.5` does.
        while let Some(end) = ends.next_if(|&end| text[..end].ends_with(|letter: char| letter.is_numeric()) && reads(end)) {
            found = end;
        }
        found
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
    fn an_answer_stands_where_it_is_read() {
        let number = AnswerForm::number();
        let boxed = AnswerForm::boxed();
        let marked = AnswerForm::free().after("####").unwrap();
        let whole = AnswerForm::free();
        for (form, response, answer) in [
            (&number, "8 and 3 more #### 1,080\n", "1,080"),
            (&number, "#### -5", "-5"),
            (&number, "#### 42\nSo 42 apples.", "42"),
            (&number, "#### 7 7 school", "7"),
            (&number, "The answer is 0.50 dollars", "0.50"),
            (&number, "so 8 - 3 = 5", "5"),
            (&number, "It is 15 or 5, the answer is 15.", "15"),
            (&boxed, "so $\\boxed{ \\frac12}$.", "\\frac12"),
            (&marked, "a #### 2 so #### red fox\nmore ", "red fox\nmore"),
            (&whole, " Paris ", "Paris"),
        ] {
            assert_eq!(&response[form.answer_place(response).unwrap()], answer, "{response}");
        }
        assert_eq!(number.clone().compat(Compat::Paper).answer_place("so #### 12 it is"), Some(8..10));
        for (form, response) in [(&number, "none"), (&boxed, "5"), (&marked, "5"), (&whole, " ")] {
            assert_eq!(form.answer_place(response), None, "{response}");
        }
        // Nothing from the stop string on counts.
        let stopped = number.stopping_at(Some("\n\n")).unwrap();
        assert_eq!(stopped.answer_place("it is 5\n\nQuestion: 6"), Some(6..7));
    }
}
