//! Prompts to responses, as text.

use polars::prelude::*;
use serde::{Deserialize, Serialize};

use super::generate::continuation;
use super::reading::{Tree, Watch};
use super::score::Step;
use super::{Ending, Generated, Generation, Model, Sample};
use crate::display::{Bundle, Show, headed};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::nn::Hooks;
use crate::prompt::{AnswerForm, Prompt, Prompts, SEPARATOR};
use crate::tokenizer::{Chat, Tokenizer};

/// A prompt and what the model answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// What was asked.
    pub prompt: Prompt,
    /// Tokens of prompt and response.
    pub tokens: Sample,
    /// The response up to its stop string.
    pub text: String,
    /// Why it ended.
    pub ending: Ending,
    /// Tokens chosen where the two best logits were closer than 1e-4.
    pub close_calls: usize,
}

/// Responses in the order of their prompts, with the form that answers take.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Responses {
    form: AnswerForm,
    rows: Vec<Response>,
}

/// Tokens before a piece of a response that are decoded with it: a letter may be spread over four.
const AROUND: usize = 4;

impl Response {
    /// The place of the first token that holds a part of the text from byte `start` on.
    pub(crate) fn token_at(&self, start: usize, tokenizer: &Tokenizer) -> Result<usize> {
        let Sample { prompt, response } = &self.tokens;
        let before = &prompt[prompt.len().saturating_sub(AROUND)..];
        // How much of the text the first tokens make grows with their number.
        let (mut least, mut most) = (0, response.len().saturating_sub(1));
        while least < most {
            let middle = (least + most) / 2;
            match continuation(tokenizer, before, &response[..=middle])?.len() > start {
                true => most = middle,
                false => least = middle + 1,
            }
        }
        Ok(least)
    }
}

impl Responses {
    pub(crate) fn new(prompts: &Prompts, generated: Vec<Generated>) -> Self {
        let row = |(prompt, Generated { tokens, text, ending, close_calls }): (&Prompt, Generated)| Response {
            prompt: prompt.clone(),
            tokens,
            text,
            ending,
            close_calls,
        };
        Self { form: prompts.form().clone(), rows: prompts.iter().zip(generated).map(row).collect() }
    }

    /// Responses from elsewhere, e.g. written by hand.
    pub fn from_rows(form: AnswerForm, rows: Vec<Response>) -> Self {
        Self { form, rows }
    }

    /// One per prompt.
    pub fn rows(&self) -> &[Response] {
        &self.rows
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The form that answers take.
    pub fn form(&self) -> &AnswerForm {
        &self.form
    }

    /// The prompts that were asked.
    pub fn prompts(&self) -> Prompts {
        Prompts::new(self.rows.iter().map(|row| row.prompt.clone()).collect()).with_form(self.form.clone())
    }

    /// The same response tokens after the queries alone: what an adapted model has to say without seeing demonstrations.
    ///
    /// # Errors
    /// The model has no tokenizer, or cannot encode a query.
    pub fn without_demonstrations(&self, model: &Model) -> Result<Self> {
        interrupt::during("tokenising queries", || {
            let tokenizer = model.tokenizer()?;
            let mut rows = self.rows.clone();
            for (place, row) in rows.iter_mut().enumerate() {
                interrupt::at(place as u64, self.len() as u64, "queries")?;
                row.prompt.demonstrations.clear();
                row.tokens.prompt = tokenizer.encode(&row.prompt.text())?;
            }
            Ok(Self { form: self.form.clone(), rows })
        })
    }

    /// Where the form left open at which words responses end: without what the length limit left of a stop string that had begun.
    pub(crate) fn without_begun_stop(mut self) -> Self {
        let stop = if self.form.is_open() { self.prompts().stop() } else { None };
        for row in self.rows.iter_mut().filter(|row| row.ending == Ending::Length) {
            let Some(stop) = &stop else { break };
            let begun = (SEPARATOR.len()..stop.len()).rev().filter_map(|end| stop.get(..end)).find(|begun| row.text.ends_with(begun));
            row.text.truncate(row.text.len() - begun.map_or(0, str::len));
        }
        self
    }

    /// `index`, `demonstrations` (count), `query`, `response`, `gold`, `correct`, `tokens`, `ending`, `close_calls`.
    ///
    /// # Errors
    /// When polars cannot build the frame.
    pub fn frame(&self) -> Result<DataFrame> {
        let correct = |row: &Response| {
            let gold = self.form.gold(&row.prompt.example.gold);
            gold.is_some() && self.form.answer(&row.text) == gold
        };
        Ok(df!(
            "index" => self.rows.iter().map(|row| row.prompt.index as u32).collect::<Vec<_>>(),
            "demonstrations" => self.rows.iter().map(|row| row.prompt.demonstrations.len() as u32).collect::<Vec<_>>(),
            "query" => self.rows.iter().map(|row| row.prompt.example.query.as_str()).collect::<Vec<_>>(),
            "response" => self.rows.iter().map(|row| row.text.as_str()).collect::<Vec<_>>(),
            "gold" => self.rows.iter().map(|row| row.prompt.example.gold.as_str()).collect::<Vec<_>>(),
            "correct" => self.rows.iter().map(correct).collect::<Vec<_>>(),
            "tokens" => self.rows.iter().map(|row| row.tokens.response.len() as u32).collect::<Vec<_>>(),
            "ending" => self.rows.iter().map(|row| row.ending.name()).collect::<Vec<_>>(),
            "close_calls" => self.rows.iter().map(|row| row.close_calls as u32).collect::<Vec<_>>(),
        )?)
    }
}

impl std::fmt::Debug for Responses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tokens: usize = self.rows.iter().map(|row| row.tokens.response.len()).sum();
        write!(f, "Responses({} rows, {tokens} tokens)", self.len())
    }
}

impl Model {
    /// Greedy responses to prompts, which end where [`Prompts::stop`] says and at the length limit of their answer form.
    ///
    /// An answer to a label task goes on to the end of its label where labels have several tokens, and ends at the first token with which it is none.
    ///
    /// # Errors
    /// As [`Model::generate`]; the model has no tokenizer.
    pub fn respond(&self, prompts: &Prompts) -> Result<Responses> {
        Ok(self.respond_as(prompts, &Generation::for_prompts(prompts))?.without_begun_stop())
    }

    /// [`Model::respond`] with settings of one's own.
    ///
    /// # Errors
    /// As [`Model::respond`].
    pub fn respond_as(&self, prompts: &Prompts, settings: &Generation) -> Result<Responses> {
        interrupt::during("responding", || {
            let rows = self.encode(prompts)?;
            Ok(Responses::new(prompts, self.generate(&rows, &self.reaching(prompts, settings)?)?))
        })
    }

    /// Free responses with what each step said of its token. Hooks see every token of every prompt, and then each new one.
    pub(crate) fn respond_in_steps(
        &self,
        prompts: &Prompts,
        settings: &Generation,
        hooks: Option<&mut Hooks<'_>>,
    ) -> Result<(Responses, Vec<Vec<Step>>)> {
        guarded("generate", || {
            let rows = self.encode(prompts)?;
            let generated = match hooks {
                None => self.generate_steps(&rows, settings, None, Watch::End, true)?,
                Some(hooks) => {
                    hooks.bind(self.points())?;
                    let generated = self.generate_steps(&rows, settings, Some(hooks), Watch::From(0), true)?;
                    hooks.finish()?;
                    generated
                }
            };
            let (generated, steps): (Vec<_>, Vec<_>) = generated.into_iter().unzip();
            Ok((Responses::new(prompts, generated), steps))
        })
    }

    /// Responses to texts, in their order.
    ///
    /// ```
    /// use ia2::prelude::*;
    ///
    /// let model = Model::open("tiny-icl")?;
    /// let response = model.generate_text(&["Text:fine\nLabel:1\n\nText:bad\nLabel:"], &Generation::greedy(3).stop("\n"))?.remove(0);
    /// println!("{}", response.text);
    /// # assert!(!response.tokens.response.is_empty());
    /// # Ok::<(), ia2::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Model::generate`]; the model has no tokenizer; a text is empty.
    pub fn generate_text<S: AsRef<str>>(&self, texts: &[S], settings: &Generation) -> Result<Vec<Generated>> {
        let tokenizer = self.tokenizer()?;
        let encode = |text: &S| {
            interrupt::check()?;
            tokenizer.encode(text.as_ref())
        };
        interrupt::during("responding", || self.generate(&texts.iter().map(encode).collect::<Result<Vec<_>>>()?, settings))
    }

    /// An instruct model's reply to a chat.
    ///
    /// ```no_run
    /// use ia2::prelude::*;
    /// use ia2::tokenizer::Chat;
    ///
    /// let model = Model::open("HuggingFaceTB/SmolLM2-135M-Instruct")?;
    /// model.chat(&Chat::of([("user", "What is the capital of France?")]), &Generation::greedy(50))?
    /// # ; Ok::<(), ia2::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Model::generate`] and [`Tokenizer::chat`](crate::tokenizer::Tokenizer::chat); the model has no tokenizer.
    pub fn chat(&self, chat: &Chat, settings: &Generation) -> Result<Generated> {
        let tokenizer = self.tokenizer()?;
        // The template has written the special tokens.
        let row = tokenizer.encode_plain(&tokenizer.chat(chat)?)?;
        self.generate(&[row], settings)?.pop().ok_or_else(|| Error::internal("a chat got no reply"))
    }

    /// How long prompts are, before they are run: `index`, `demonstrations` (count), `tokens` (special tokens included), `left` (positions of
    /// the context that remain for the response), `read` (those of its tokens that are read for it: a prefix that it shares with an earlier
    /// prompt is read once, if that saves time). Where `left` is negative the prompt does not fit: everything that runs prompts
    /// refuses it, and none is ever cut.
    ///
    /// # Errors
    /// The model has no tokenizer; a prompt is empty.
    pub fn lengths(&self, prompts: &Prompts) -> Result<DataFrame> {
        let rows = self.tokenised(prompts)?;
        let tokens: Vec<i64> = rows.iter().map(|row| row.len() as i64).collect();
        let read = Tree::of(&rows, |_| usize::MAX).read(&rows);
        let context = self.config().max_positions - self.virtual_tokens().map_or(0, |prefix| prefix.shift);
        Ok(df!(
            "index" => prompts.iter().map(|prompt| prompt.index as u32).collect::<Vec<_>>(),
            "demonstrations" => prompts.iter().map(|prompt| prompt.demonstrations.len() as u32).collect::<Vec<_>>(),
            "tokens" => tokens.iter().map(|&tokens| tokens as u32).collect::<Vec<_>>(),
            "left" => tokens.iter().map(|&tokens| context - tokens).collect::<Vec<_>>(),
            "read" => read.iter().map(|&read| read as u32).collect::<Vec<_>>(),
        )?)
    }

    /// The prompts' tokens, with the tokenizer's special tokens.
    ///
    /// # Errors
    /// The model has no tokenizer; a prompt is empty or over the context.
    pub fn encode(&self, prompts: &Prompts) -> Result<Vec<Vec<u32>>> {
        let rows = self.tokenised(prompts)?;
        self.check(&rows, 0)?;
        Ok(rows)
    }

    fn tokenised(&self, prompts: &Prompts) -> Result<Vec<Vec<u32>>> {
        interrupt::during("tokenising prompts", || {
            let tokenizer = self.tokenizer()?;
            let encode = |(place, prompt): (usize, &Prompt)| {
                interrupt::at(place as u64, prompts.len() as u64, "prompts")?;
                tokenizer.encode(&prompt.text())
            };
            prompts.iter().enumerate().map(encode).collect()
        })
    }
}

impl Generation {
    /// Greedy, ending where [`Prompts::stop`] says and at the length limit of the prompts' answer form.
    pub fn for_prompts(prompts: &Prompts) -> Self {
        prompts.stop().into_iter().fold(Self::for_targets(prompts.form()), Self::stop)
    }
}

impl Show for Responses {
    fn bundle(&self) -> Bundle {
        headed(&format!("{self:?}"), self.frame())
    }
}

impl Show for Response {
    fn bundle(&self) -> Bundle {
        Bundle::text(format!("{}{}", self.prompt.text(), self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Task;

    #[test]
    fn open_answers_end_where_the_next_question_begins() {
        let model = Model::open("tiny-icl").unwrap();
        let split = Task::open("answer").unwrap().few_shot(4, 0).unwrap();
        let asked = |form: AnswerForm| split.test.with_demonstrations(&split.train, 0).unwrap().take(6).with_form(form);
        let open = AnswerForm::free().after("####").unwrap();
        let prompts = asked(open.clone().at_most(40).unwrap());
        assert_eq!(prompts.stop().as_deref(), Some("\n\nQuestion:"));
        let responses = model.respond(&prompts).unwrap();
        let stopped = model.respond(&asked(split.test.form().clone())).unwrap();
        for (row, short) in responses.rows().iter().zip(stopped.rows()) {
            assert_ne!(row.ending, Ending::Length);
            assert_eq!(row.text.trim(), short.text.trim());
        }
        // Where the limit comes first, what had begun of the next question is no answer.
        for tokens in 1..20 {
            let responses = model.respond(&asked(open.clone().at_most(tokens).unwrap())).unwrap();
            let cut = responses.rows().iter().filter(|row| row.ending == Ending::Length);
            assert!(cut.clone().all(|row| !row.text.contains("\n\n")), "{tokens}: {:?}", cut.map(|row| &row.text).collect::<Vec<_>>());
        }
        let row = |text: &str, ending| Response { text: text.into(), ending, ..responses.rows()[0].clone() };
        for (text, ending, kept) in [
            ("red fox\n\nQues", Ending::Length, "red fox"),
            ("red fox\n\n", Ending::Length, "red fox"),
            ("red\n\nfox", Ending::Length, "red\n\nfox"),
            ("red fox\n\nQues", Ending::Eos, "red fox\n\nQues"),
        ] {
            let responses = Responses::from_rows(open.clone(), vec![row(text, ending)]);
            assert_eq!(responses.without_begun_stop().rows()[0].text, kept);
        }
        let told = Responses::from_rows(split.test.form().clone(), vec![row("red fox\n\nQues", Ending::Length)]);
        assert_eq!(told.without_begun_stop().rows()[0].text, "red fox\n\nQues", "a form with a stop string of its own");
    }
}
