//! Secrets of the environment, which no file of a grid may hold.

use crate::error::{Error, Result};

/// What the names of secrets hold.
const WORDS: [&str; 7] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "ACCESS_KEY", "CREDENTIAL"];
/// Shorter ones stand in any text by chance.
const SHORTEST: usize = 8;

/// Whether a variable of that name holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    WORDS.iter().any(|word| name.contains(word))
}

/// Names and values of the secrets in the environment.
fn secrets() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).filter(|(name, value)| is_secret(name) && value.len() >= SHORTEST).collect()
}

/// A text without the values of secrets.
pub(super) fn hidden(text: &str) -> String {
    secrets().into_iter().fold(text.to_string(), |text, (name, value)| text.replace(&value, &format!("<{name}>")))
}

/// Refuses a text that is to be written and holds a secret. `what` it is, for the message, which does not hold it.
pub(super) fn refuse(text: &str, what: &str) -> Result<()> {
    let remedy = "workers need none, because they open models from their files; leave it out, or let the job read it from a file of yours";
    if let Some((name, _)) = secrets().into_iter().find(|(_, value)| text.contains(value.as_str())) {
        return Err(Error::input(format!("{what} holds the value of {name}, and the folder may be read by others: {remedy}")));
    }
    // Hugging Face's tokens, wherever they come from.
    let token = text.match_indices("hf_").any(|(place, _)| text[place + 3..].bytes().take_while(u8::is_ascii_alphanumeric).count() >= 20);
    if token {
        return Err(Error::input(format!("{what} holds a token of the Hugging Face hub, and the folder may be read by others: {remedy}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tokens_are_known() {
        assert!(is_secret("HF_TOKEN") && is_secret("aws_secret_access_key") && is_secret("MY_PASSWORD"));
        assert!(!is_secret("PATH") && !is_secret("HOME") && !is_secret("OMP_NUM_THREADS"));
        let error = refuse("export HF_TOKEN=hf_abcdefghijklmnopqrstuvwx", "a line").unwrap_err().to_string();
        assert!(error.starts_with("a line holds a token") && !error.contains("abcdefgh"), "{error}");
        refuse("module load hf_transfer", "a line").unwrap();
        // The environment of this test's process has whatever it has; no value of it is changed.
        for (name, value) in secrets() {
            assert!(!hidden(&format!("x{value}y")).contains(&value), "{name}");
        }
    }
}
