//! Prompts without content: what a model says before it is asked anything.

use std::collections::HashMap;

use super::{Example, Prompt, Prompts};
use crate::error::{Error, Result};

/// What ends the heading of a template's line.
const SIGNS: [char; 5] = [':', '：', ']', '>', '|'];

/// A line of a template.
enum Line {
    /// The same in all queries.
    Kept(String),
    /// What stands before the content.
    Filled(String),
}

impl Prompts {
    /// The same demonstrations before queries that ask nothing: each of the `inputs` (such as `N/A`) where the queries have their content; for each
    /// list of demonstrations once. The golds are the first label and mean nothing.
    ///
    /// The template is read off the queries, demonstrations' included. Lines that are the same in all of them stay (`Label:`). Of other lines what comes
    /// before the first `:`, `]`, `>` or `|` stays if it is the same in all (`Text:`), and the rest becomes the input. Where every query has one of the
    /// labels in a line (the choices of a question), it has the labels there, in the task's order. Queries of different numbers of lines keep the heading
    /// of the first line and the last lines that all have.
    ///
    /// ```
    /// use ia2::prompt::{AnswerForm, Example, Examples};
    ///
    /// let form = AnswerForm::labels(["0", "1"])?;
    /// let rows = vec![Example::new("Text:fine\nLabel:", "1"), Example::new("Text:bad\nLabel:", "0")];
    /// let prompts = Examples::new("mood", form, rows)?.zero_shot()?.content_free(&["N/A", ""])?;
    /// assert_eq!(prompts.texts(), ["Text:N/A\nLabel:", "Text:\nLabel:"]);
    /// # Ok::<(), ia2::Error>(())
    /// ```
    ///
    /// # Errors
    /// No prompts, no inputs, no labels; queries that are all the same, which tell content and template apart nowhere.
    pub fn content_free(&self, inputs: &[&str]) -> Result<Self> {
        Ok(self.content_free_of(inputs)?.0)
    }

    /// The same, and for each of these prompts which list of demonstrations it has, counted from 0.
    pub(crate) fn content_free_of(&self, inputs: &[&str]) -> Result<(Self, Vec<usize>)> {
        let labels = self.form().label_set();
        let Some(gold) = labels.first() else {
            return Err(Error::input("content-free inputs tell what the labels have beforehand, and these prompts have free answers"));
        };
        if self.is_empty() || inputs.is_empty() {
            return Err(Error::input(format!("{} prompts and {} inputs: give at least one of each", self.len(), inputs.len())));
        }
        let queries = self.iter().flat_map(|prompt| prompt.demonstrations.iter().chain([&prompt.example])).map(|row| row.query.as_str());
        let template = template(&queries.collect::<Vec<_>>(), labels)?;
        let filled = |input: &str| {
            let line = |line: &Line| match line {
                Line::Kept(text) => text.clone(),
                Line::Filled(before) => format!("{before}{input}"),
            };
            template.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        let (mut groups, mut rows, mut lists) = (Vec::with_capacity(self.len()), Vec::new(), HashMap::new());
        for prompt in self.iter() {
            let shown: Vec<(&str, &str)> = prompt.demonstrations.iter().map(|row| (row.query.as_str(), row.gold.as_str())).collect();
            let next = lists.len();
            let group = *lists.entry(shown).or_insert(next);
            groups.push(group);
            if group == next {
                rows.extend(inputs.iter().enumerate().map(|(place, input)| Prompt {
                    demonstrations: prompt.demonstrations.clone(),
                    example: Example::new(filled(input), gold.as_str()),
                    index: group * inputs.len() + place,
                }));
            }
        }
        Ok((Self::new(rows).with_form(self.form().clone()), groups))
    }
}

fn template(queries: &[&str], labels: &[String]) -> Result<Vec<Line>> {
    let cut: Vec<Vec<&str>> = queries.iter().map(|query| query.split('\n').collect()).collect();
    let count = cut[0].len();
    if cut.iter().all(|lines| lines == &cut[0]) {
        return Err(Error::input(format!(
            "all queries are {:?}: give two that differ, so that content and template can be told apart",
            queries[0]
        )));
    }
    if cut.iter().any(|lines| lines.len() != count) {
        let alike = |back: usize| cut.iter().all(|lines| lines.len() > back && lines[lines.len() - back] == cut[0][count - back]);
        let kept = (1..count).take_while(|&back| alike(back)).count();
        let first: Vec<&str> = cut.iter().map(|lines| lines[0]).collect();
        let mut template = vec![Line::Filled(heading(&first))];
        template.extend(cut[0][count - kept..].iter().map(|line| Line::Kept((*line).into())));
        return Ok(template);
    }
    let mut options = labels.iter();
    let lines = (0..count).map(|place| {
        let lines: Vec<&str> = cut.iter().map(|lines| lines[place]).collect();
        if lines.iter().all(|line| *line == lines[0]) {
            return Line::Kept(lines[0].into());
        }
        if lines.iter().all(|line| labels.iter().any(|label| label.trim() == line.trim())) {
            return Line::Kept(options.next().map_or(lines[0], |label| label.trim()).into());
        }
        Line::Filled(heading(&lines))
    });
    Ok(lines.collect())
}

/// How all lines begin: up to the first sign, with the space after it.
fn heading(lines: &[&str]) -> String {
    let Some(end) = lines[0].find(SIGNS) else { return String::new() };
    let sign = lines[0][end..].chars().next().map_or(0, char::len_utf8);
    let heading = &lines[0][..end + sign];
    if !lines.iter().all(|line| line.starts_with(heading)) {
        return String::new();
    }
    let spaced = lines.iter().all(|line| line[heading.len()..].starts_with(' '));
    if spaced { format!("{heading} ") } else { heading.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{AnswerForm, Examples};

    fn free_of(queries: &[&str], labels: &[&str]) -> Result<Vec<String>> {
        let rows = queries.iter().map(|query| Example::new(*query, labels[0])).collect();
        Ok(Examples::new("t", AnswerForm::labels(labels.iter().copied())?, rows)?.zero_shot()?.content_free(&["N/A"])?.texts())
    }

    #[test]
    fn content_goes_and_the_template_stays() {
        for (queries, expected) in [
            (vec!["Text:fine: day\nLabel:", "Text:bad\nLabel:"], "Text:N/A\nLabel:"),
            (vec!["Premise: a\nHypothesis: b\nLabel:", "Premise: c\nHypothesis: d\nLabel:"], "Premise: N/A\nHypothesis: N/A\nLabel:"),
            (vec!["Classify.\nText:a\nLabel:", "Classify.\nText:b\nLabel:"], "Classify.\nText:N/A\nLabel:"),
            (vec!["Q:x\nChoices:\n1\n0\nA:", "Q:y\nChoices:\n0\n1\nA:", "Q:z\nChoices:\n1\n0\nA:"], "Q:N/A\nChoices:\n0\n1\nA:"),
            // A text of several lines.
            (vec!["Text:a\nb\nLabel:", "Text:c\nLabel:"], "Text:N/A\nLabel:"),
            (vec!["Text:a\nb\nLabel:", "Text:c\nd\ne\nLabel:"], "Text:N/A\nLabel:"),
            (vec!["Text:a\nb\nIs it so?\nLabel:", "Text:c\nIs it so?\nLabel:"], "Text:N/A\nIs it so?\nLabel:"),
            (vec!["a fine day ->", "a bad day ->"], "N/A"),
        ] {
            assert_eq!(free_of(&queries, &["0", "1"]).unwrap(), [expected], "{queries:?}");
        }
        let error = free_of(&["Text:a\nLabel:"], &["0", "1"]).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("two that differ"), "{error}");
    }

    #[test]
    fn each_list_of_demonstrations_comes_once() {
        let rows: Vec<Example> = (0..6).map(|row| Example::new(format!("Text:{row}\nLabel:"), "0")).collect();
        let examples = Examples::new("t", AnswerForm::labels(["0", "1"]).unwrap(), rows).unwrap();
        let (train, test) = (examples.take(2), examples.pick(2..6));
        let (free, groups) = test.with_demonstrations(&train, 0).unwrap().content_free_of(&["N/A", "[MASK]", ""]).unwrap();
        assert_eq!((free.len(), groups), (3, vec![0; 4]));
        assert!(free.texts()[1].ends_with("\n\nText:[MASK]\nLabel:") && free.texts()[1].starts_with("Text:"));
        let (free, groups) = test.with_demonstrations_per_query(&train, 1, 1).unwrap().content_free_of(&["N/A"]).unwrap();
        assert_eq!(free.len(), groups.iter().max().unwrap() + 1);
    }
}
