//! Text whose tokens are coloured by a value each.

use polars::prelude::DataFrame;

use super::bytes::joined;
use super::cells::visible;
use super::colours::{Colours, colour_setters};
use super::select::{Select, select_setters};
use super::settings::setters;
use super::{Figure, alt, read};
use crate::display::{escape, shortened};
use crate::error::{Error, Result};
use crate::plot::colour_bar::{Bar, on};
use crate::plot::layout::{self, MARGIN};
use crate::plot::palette::{GRID, TEXT};
use crate::plot::ramp::{self, Ramp};
use crate::plot::scale::shown;
use crate::plot::scene::{Anchor, Label, Scene};
use crate::plot::settings::{NOTEBOOK, Settings};
use crate::plot::text::{self, printable};

/// Size of the text, height of its boxes and of its lines, and the room around a token.
const SIZE: f64 = 12.5;
const BOX: f64 = 18.0;
const LINE: f64 = 22.0;
const AIR: f64 = 2.0;
const GAP: f64 = 1.0;
const RIM: f64 = 0.75;
/// The greatest height of a picture, and what the note needs of it.
const HIGHEST: f64 = 4000.0;
const BELOW: f64 = 90.0;
/// Height of the name of a text.
const HEADING: f64 = 24.0;
/// The most tokens: a notebook keeps about 150 bytes for each.
const MOST: usize = 2000;
/// The most letters of one token, and of the text in the description.
const LETTERS: usize = 60;
const DESCRIBED: usize = 300;

/// Text whose tokens are coloured by a value each: the loss, the probability of a label, the attention of a head.
///
/// ```no_run
/// # use ia2::figure::token_text;
/// # use ia2::model::Scores;
/// # fn show(scores: &Scores) -> ia2::Result<ia2::figure::Figure> {
/// token_text("token", "log_likelihood").facet("continuation").draw(&scores.tokens()?)
/// # }
/// ```
///
/// One row per token, in the order of the text. A token without a number is written without a colour. Text goes on in the next line where a token ends in
/// a line break. In a notebook it is text, to be selected and copied, and each token says its value under the pointer; PNG and SVG hold the same as a
/// picture. Tokens stand from left to right as the model reads them, in every script; a letter that the tokenizer cuts into several tokens stands in the one that
/// completes it, after a `‥` for each before.
#[derive(Clone, Debug)]
pub struct TokenText {
    token: String,
    value: String,
    settings: Settings,
    colours: Colours,
    select: Select,
}

/// A token with its value, and which of the texts it is of.
struct Token {
    text: String,
    /// As the tokenizer spells it, where that is not how it reads.
    spelled: Option<String>,
    value: Option<f64>,
    of: usize,
}

impl TokenText {
    /// The text of the column `token`, coloured by the column `value`.
    pub fn new(token: &str, value: &str) -> Self {
        Self {
            token: token.to_owned(),
            value: value.to_owned(),
            settings: Settings::default(),
            colours: Colours::default(),
            select: Select::default(),
        }
    }

    setters! {
        /// A text of its own, below the others, for each value of this column (the prompt, the continuation).
        facet
    }

    colour_setters!();
    select_setters!();
    setters!(plain);

    /// Draws the frame.
    ///
    /// # Errors
    /// A column is missing (the message lists those there are) or holds no numbers, the frame has no rows, none with what `only` asks for, or none with a
    /// finite number, the range is not ascending or does not lie around zero where colours diverge, or the width is out of bounds.
    pub fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        Figure::drawn(frame, || self.scene(frame))
    }

    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        let (kept, mut notes) = self.select.rows(frame, &self.settings)?;
        let (names, mut tokens) = self.read(&kept)?;
        let values: Vec<f64> = tokens.iter().filter_map(|token| token.value).collect();
        if values.is_empty() {
            return Err(Error::numeric(format!("figure: none of the {} rows has a number in `{}`", kept.height(), self.value)));
        }
        let ramp = self.colours.ramp(&self.value, &values)?;
        let bar = Bar::new(ramp, self.settings.name(&self.value));
        let width = self.settings.size((NOTEBOOK, 400))?.0;
        let mut scene = Scene::new(width, HIGHEST);
        let top = layout::header(&mut scene, &self.settings, None);
        let top = bar.across(&mut scene, top - 4.0) + 6.0;
        let room = self.set(&mut scene.clone(), &names, &tokens, &ramp, top).1.min(MOST);
        if room < tokens.len() {
            notes.push(format!("the first {room} of {} tokens", tokens.len()));
            tokens.truncate(room);
        }
        match tokens.iter().filter(|token| token.value.is_none()).count() {
            0 => {}
            1 => notes.push("1 token without a value has no colour".to_owned()),
            without => notes.push(format!("{without} tokens without a value have no colour")),
        }
        notes.extend(ramp.outside(values.iter().copied()));
        if tokens.iter().any(|token| token.text.chars().any(is_leftward)) {
            notes.push("tokens stand from left to right".to_owned());
        }
        let note = notes.join("; ");

        let base = self.set(&mut scene, &names, &tokens, &ramp, top).0;
        let lines = layout::note_lines(&self.settings, &note, width);
        layout::shorten(&mut scene, base + layout::note_height(&lines) + MARGIN);
        layout::footer(&mut scene, &lines);
        scene.html = Some(self.html(&names, &tokens, &ramp, &bar, &note));
        let alt = self.alt(&names, &tokens, &values, &note);
        Ok((scene, alt))
    }

    fn read(&self, frame: &DataFrame) -> Result<(Vec<String>, Vec<Token>)> {
        let texts = read::texts(frame, &self.token, "the tokens")?;
        let values = read::numbers(frame, &self.value, "the value")?;
        let (names, of, _) = read::grid(frame, &self.settings)?;
        read::some_rows(frame)?;
        let readable = |text: &str| printable(&shortened(&visible(text), LETTERS)).into_owned();
        let rows = texts.iter().zip(values).zip(of);
        let token = |((text, value), of): ((&String, f64), usize)| Token {
            text: text.clone(),
            spelled: None,
            value: Some(value).filter(|value| value.is_finite()),
            of,
        };
        let mut tokens: Vec<Token> = rows.map(token).collect();
        // Stable: those of one text stay in their order.
        tokens.sort_by_key(|token| token.of);
        for tokens in tokens.chunk_by_mut(|a, b| a.of == b.of) {
            let whole = joined(&tokens.iter().map(|token| token.text.clone()).collect::<Vec<_>>());
            for (token, text) in tokens.iter_mut().zip(whole) {
                token.spelled = (text != token.text).then(|| readable(&token.text));
                token.text = readable(&text);
            }
        }
        Ok((names, tokens))
    }

    /// Sets the tokens in lines from `top` on; returns where they end, and how many there was room for.
    fn set(&self, scene: &mut Scene, names: &[String], tokens: &[Token], ramp: &Ramp, top: f64) -> (f64, usize) {
        let (left, right) = (MARGIN + 2.0, scene.width - MARGIN);
        let (mut x, mut y, mut broken) = (left, top, false);
        for (at, token) in tokens.iter().enumerate() {
            if at == 0 || tokens[at - 1].of != token.of {
                if at > 0 {
                    (x, y, broken) = (left, y + LINE + 8.0, false);
                }
                let name = text::fitted(&names[token.of], SIZE, (right - left) * 0.88);
                scene.text(Label { bold: true, ..Label::new((left, y + 13.0), &name, SIZE, TEXT, Anchor::Start) });
                y += if name.is_empty() { 0.0 } else { HEADING };
            }
            let words = text::fitted(&token.text, SIZE, right - left - 2.0 * AIR);
            let wide = text::width(&words, SIZE, false) + 2.0 * AIR;
            if broken || x > left && x + wide > right {
                (x, y) = (left, y + LINE);
            }
            if y + LINE > HIGHEST - BELOW {
                return (y, at);
            }
            let ink = token.value.map_or(TEXT, |value| {
                let colour = ramp.colour(value);
                // The rim sets the lightest colour apart from none.
                scene.rectangle((x, y), (x + wide, y + BOX), GRID);
                scene.rectangle((x + RIM, y + RIM), (x + wide - RIM, y + BOX - RIM), colour);
                ramp::ink(colour)
            });
            scene.text(Label::new((x + AIR, y + BOX * 0.72), &words, SIZE, ink, Anchor::Start));
            scene.hover((x, y), (x + wide, y + BOX), self.said(token));
            x += wide + GAP;
            broken = token.is_break();
        }
        (y + LINE, tokens.len())
    }

    fn said(&self, token: &Token) -> String {
        let value = token.value.map_or_else(|| "no value".to_owned(), shown);
        let spelled = token.spelled.as_ref().map_or_else(String::new, |spelled| format!(" {spelled}"));
        format!("{}{spelled}: {} {value}", token.text, self.settings.name(&self.value))
    }

    fn html(&self, names: &[String], tokens: &[Token], ramp: &Ramp, bar: &Bar, note: &str) -> String {
        let title = self.settings.title.as_ref().map_or_else(String::new, |title| format!("<div><b>{}</b></div>\n", escape(title)));
        let mut out = format!("{title}{}", bar.html());
        for text in tokens.chunk_by(|a, b| a.of == b.of) {
            let name = &names[text[0].of];
            if !name.is_empty() {
                out.push_str(&format!("<div><b>{}</b></div>\n", escape(name)));
            }
            out.push_str("<div style=\"line-height:1.5\">");
            for token in text {
                let colour = token.value.map_or_else(String::new, |value| format!("{};border:1px solid #BBB;", on(ramp.colour(value))));
                out.push_str(&format!(
                    "<span style=\"{colour}display:inline-block;white-space:pre;margin:0 1px\" title=\"{}\">{}</span>{}",
                    escape(&self.said(token)),
                    escape(&token.text),
                    if token.is_break() { "<br>" } else { "" }
                ));
            }
            out.push_str("</div>\n");
        }
        if !note.is_empty() && self.settings.note {
            out.push_str(&format!("<small>{}</small>\n", escape(note)));
        }
        out
    }

    fn alt(&self, names: &[String], tokens: &[Token], values: &[f64], note: &str) -> String {
        let title = self.settings.sentence();
        let of = |of: usize| tokens.iter().filter(move |token| token.of == of).filter_map(|token| token.value).collect::<Vec<_>>();
        let phrases = names.iter().enumerate().map(|(at, name)| (name, of(at))).filter(|(_, values)| !values.is_empty());
        let listed = if names.len() > 1 {
            alt::listed(phrases.map(|(name, values)| alt::phrase(name, &values)).collect())
        } else {
            alt::phrase("", values) + "."
        };
        let greatest =
            tokens.iter().filter(|token| token.value.is_some()).max_by(|a, b| a.value.unwrap_or(0.0).total_cmp(&b.value.unwrap_or(0.0)));
        let greatest = greatest
            .map_or_else(String::new, |token| format!(" Greatest: {}, {}.", token.text, token.value.map_or_else(String::new, shown)));
        let text = shortened(&tokens.iter().map(|token| token.text.as_str()).collect::<String>(), DESCRIBED);
        let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
        format!(
            "{title}Text of {} tokens coloured by {}. {listed}{greatest} It reads: {text}{note}",
            tokens.len(),
            self.settings.name(&self.value)
        )
    }
}

impl Token {
    /// Does the text go on in the next line?
    fn is_break(&self) -> bool {
        self.text.ends_with("\\n")
    }
}

/// Hebrew, Arabic and their kin.
fn is_leftward(letter: char) -> bool {
    matches!(letter, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}')
}
