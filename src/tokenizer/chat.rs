//! Chats: what instruct models are given.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, Value};

use super::Tokenizer;
use crate::display::{Bundle, Show};
use crate::error::{Error, Result};
use crate::libtorch::caught;

/// Steps that a template may take; real ones take some hundreds for each message.
const FUEL: u64 = 10_000_000;

/// The longest template that is read, in bytes; real ones have up to 40,000.
const LONGEST: usize = 1 << 16;

/// Room for the deepest expression of such a template, a level for each byte: what the templates' library builds up it takes down by recursion.
/// Only what is used of it takes memory.
const STACK: usize = 1 << 28;

/// Messages, to be written as a model's chat template writes them.
///
/// ```no_run
/// use ia2::{model::Model, tokenizer::Chat};
///
/// let model = Model::open("Qwen/Qwen3-0.6B")?;
/// let chat = Chat::of([("system", "Answer with one word."), ("user", "What is the capital of France?")]);
/// println!("{}", model.tokenizer()?.chat(&chat.set("enable_thinking", false))?);
/// # Ok::<(), ia2::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    messages: Vec<(String, String)>,
    variables: BTreeMap<String, serde_json::Value>,
    reply: bool,
}

impl Chat {
    /// Each message as its role (`system`, `user`, `assistant`) and its text, in order. The chat ends where the model's reply begins.
    pub fn of<R: Into<String>, T: Into<String>>(messages: impl IntoIterator<Item = (R, T)>) -> Self {
        let messages = messages.into_iter().map(|(role, text)| (role.into(), text.into())).collect();
        Self { messages, variables: BTreeMap::new(), reply: true }
    }

    /// The same chat, ending with its last message: `add_generation_prompt=False` of transformers.
    pub fn without_reply(mut self) -> Self {
        self.reply = false;
        self
    }

    /// A variable that the template reads, such as `enable_thinking` (Qwen3) or `date_string` (Llama-3.2, which writes today's date unless told).
    pub fn set(mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The messages, role and text.
    pub fn messages(&self) -> &[(String, String)] {
        &self.messages
    }
}

impl Tokenizer {
    /// A chat as the model's template writes it, special tokens included, as `apply_chat_template(.., tokenize=False)` of transformers.
    ///
    /// Its ids are those of [`encode_plain`](Self::encode_plain): the template has written what [`encode`](Self::encode) would add. Templates are
    /// run by minijinja; `tools` and `documents` are not supported.
    ///
    /// # Errors
    /// An input error when there are no messages, the tokenizer has no chat template, or the template itself refuses them (such as a system
    /// message where it knows none); a file error when the template is no Jinja.
    pub fn chat(&self, chat: &Chat) -> Result<String> {
        let folder = || self.0.file.parent().unwrap_or(&self.0.file).display().to_string();
        if chat.messages.is_empty() {
            return Err(Error::input("the chat has no messages: give it at least one, such as `(\"user\", \"...\")`"));
        }
        let template = self.0.special.template.as_deref().ok_or_else(|| {
            Error::input(format!(
                "the model in `{}` has no chat template (`chat_template.jinja`, or `chat_template` in `tokenizer_config.json`): it is no \
                 instruct model, or the file was not copied with it; give it its prompts as plain text",
                folder()
            ))
        })?;
        let names = self.0.special.names.iter();
        let mut variables: BTreeMap<String, Value> = names.map(|(role, token)| (role.clone(), token.as_str().into())).collect();
        let message = |(role, text): &(String, String)| Value::from_pairs([("role", role.as_str()), ("content", text.as_str())]);
        variables.insert("messages".into(), chat.messages.iter().map(message).collect::<Vec<_>>().into());
        variables.insert("add_generation_prompt".into(), chat.reply.into());
        // transformers sets these, too.
        variables.extend(["tools", "documents"].map(|name| (name.into(), Value::from(()))));
        variables.extend(chat.variables.iter().map(|(name, value)| (name.clone(), converted(value))));
        if template.len() > LONGEST {
            let length = template.len();
            let remedy = "it is damaged, or no chat template: fetch it again";
            return Err(Error::file(format!("the chat template in `{}` has {length} bytes, more than {LONGEST}: {remedy}", folder())));
        }
        let rendered = std::thread::scope(|scope| {
            let work = || caught(|| render(template, variables));
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            let thread =
                thread.map_err(|error| Error::input("no thread can be started to write a chat: free some memory").because(error))?;
            let outcome = thread.join().unwrap_or_else(|_| Err("a thread that broke off".into()));
            let broken =
                |why: String| Error::file(format!("the chat template in `{}` cannot be run: fetch it again", folder())).because(why);
            outcome.map_err(broken)
        })?;
        rendered.map_err(|error| {
            let place = error.line().map_or(String::new(), |line| format!(" (line {line})"));
            match error.kind() {
                ErrorKind::SyntaxError => {
                    Error::file(format!("the chat template in `{}` is damaged{place}: fetch it again", folder())).because(error)
                }
                _ => Error::input(format!("the chat template in `{}` does not take this chat{place}", folder())).because(error),
            }
        })
    }
}

/// As transformers renders: blocks take their line breaks with them, Python's methods are there, and so are its two functions.
fn render(template: &str, variables: BTreeMap<String, Value>) -> std::result::Result<String, minijinja::Error> {
    let refusal = |message| minijinja::Error::new(ErrorKind::InvalidOperation, message);
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    // `none` is iterable to minijinja, and not to Jinja: `tools is iterable` asks whether there are tools.
    environment.add_test("iterable", |value: Value| !matches!(value.kind(), ValueKind::None | ValueKind::Bool | ValueKind::Number));
    environment.add_function("raise_exception", move |message: String| Err::<Value, _>(refusal(message)));
    environment.add_function("strftime_now", move |format: String| {
        now(&format).ok_or_else(|| refusal(format!("the date cannot be written as {format:?}")))
    });
    environment.render_str(&without_marks(template), variables)
}

/// The template without the marks around what an assistant says, `{% generation %}`, which change nothing that is written.
fn without_marks(template: &str) -> String {
    let mut whole = String::new();
    let mut rest = template;
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else { break };
        let word = inside.trim_matches(|letter: char| letter.is_whitespace() || "-+".contains(letter));
        let stand_in = match word {
            "generation" => inside.replace(word, "if true"),
            "endgeneration" => inside.replace(word, "endif"),
            _ => inside.to_owned(),
        };
        whole += &format!("{before}{{%{stand_in}%}}");
        rest = after;
    }
    whole + rest
}

fn converted(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => number.as_i64().map_or_else(|| number.as_f64().unwrap_or(f64::NAN).into(), Value::from),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(values) => values.iter().map(converted).collect::<Vec<_>>().into(),
        serde_json::Value::Object(values) => Value::from_pairs(values.iter().map(|(name, value)| (name.as_str(), converted(value)))),
    }
}

/// The local time as C writes it, and Python with it; `None` where the format gives nothing, or more than a line.
fn now(format: &str) -> Option<String> {
    let format = std::ffi::CString::new(format).ok()?;
    let mut text = vec![0u8; 1024];
    // SAFETY: `time` takes a null pointer; `localtime_r` fills `parts`, for which zeros are valid; `strftime` writes at most the length given, and
    // `format` ends with a zero.
    let length = unsafe {
        let seconds = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&seconds, &mut parts).is_null() {
            return None;
        }
        libc::strftime(text.as_mut_ptr().cast(), text.len(), format.as_ptr(), &parts)
    };
    text.truncate(length);
    if length == 0 { None } else { String::from_utf8(text).ok() }
}

impl Show for Chat {
    fn bundle(&self) -> Bundle {
        Bundle::text(self.messages.iter().map(|(role, text)| format!("{role}: {text}")).collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{of_files, of_json};
    use super::*;

    const WORDS: &str = r#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0}}}"#;

    fn with(template: &str) -> Tokenizer {
        let config = serde_json::json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": template}).to_string();
        of_files(&[("tokenizer.json", WORDS), ("tokenizer_config.json", &config)]).unwrap()
    }

    /// Templates, chats and what transformers makes of them: `tests/python/golden_chat.py`, whose other files `IA2_CHAT` may name.
    #[test]
    fn templates_write_what_transformers_writes() {
        let other = std::env::var_os("IA2_CHAT").map(|path| std::fs::read_to_string(path).unwrap());
        let golden = other.as_deref().unwrap_or(include_str!("../../tests/data/chat.json"));
        let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let mut cases = 0;
        for template in golden.as_array().unwrap() {
            let tokenizer = with(template["template"].as_str().unwrap());
            for case in template["cases"].as_array().unwrap() {
                let messages = case["messages"].as_array().unwrap();
                let mut chat = Chat::of(messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))));
                if case["add_generation_prompt"] == false {
                    chat = chat.without_reply();
                }
                for (name, value) in case["variables"].as_object().unwrap() {
                    chat = chat.set(name, value.clone());
                }
                match &case["text"] {
                    serde_json::Value::Null => {
                        let error = tokenizer.chat(&chat).unwrap_err();
                        assert!(error.is_input() && error.to_string().contains(&text(&case["refusal"])), "{error}");
                    }
                    expected => assert_eq!(tokenizer.chat(&chat).unwrap(), text(expected), "{} {chat:?}", template["name"]),
                }
                cases += 1;
            }
        }
        assert!(cases >= 100, "{cases}");
    }

    #[test]
    fn dates_are_todays() {
        let tokenizer = with("{{ strftime_now('%Y-%m-%d %j') }}");
        let today = || String::from_utf8(std::process::Command::new("date").arg("+%Y-%m-%d %j").output().unwrap().stdout).unwrap();
        let (before, ours, after) = (today(), tokenizer.chat(&Chat::of([("user", "x")])).unwrap(), today());
        assert!(before.trim() == ours || after.trim() == ours, "{ours} and {before}");
    }

    #[test]
    fn what_cannot_be_written_says_why() {
        let user = Chat::of([("user", "x")]);
        let error = of_json(WORDS).unwrap().chat(&user).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("no chat template"), "{error}");
        let error = with("x").chat(&Chat::of([("", ""); 0])).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("no messages"), "{error}");
        let error = with("{% for %}").chat(&user).unwrap_err();
        assert!(error.is_file() && error.to_string().contains("line 1"), "{error}");
        let error = with("{{ messages[7].content.strip() }}").chat(&user).unwrap_err();
        assert!(error.is_input() && error.to_string().contains("does not take this chat"), "{error}");
        // A template comes from strangers: it cannot run for ever, nor nest deeper than the stack.
        let nested = |open: &str, close: &str, depth: usize| format!("{{{{ {}1{} }}}}", open.repeat(depth), close.repeat(depth));
        let all = LONGEST - 16;
        let deep = [("(", ")", 9000), ("[", "]", 9000), ("not ", "", all / 4), ("-", "", all), ("1-", "", 2000), ("", "|e", 2000)];
        let deep = deep.map(|(open, close, depth)| nested(open, close, depth));
        let blocks = ["{% if true %}".repeat(3000), "{% for a in b %}".repeat(3000), "-".repeat(LONGEST + 1)];
        for template in deep.iter().chain(&blocks) {
            if let Err(error) = with(template).chat(&user) {
                assert!(error.is_file() || error.is_input(), "{error}");
            }
        }
        assert!(with(&blocks[2]).chat(&user).unwrap_err().to_string().contains("65537 bytes"));
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(with(endless).chat(&user).unwrap_err().to_string().contains("fuel"));
    }
}
