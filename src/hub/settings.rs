//! What the environment says of the hub, in the variables that Python's `huggingface_hub` reads.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::cache;
use crate::error::{Error, Result};
use crate::file::{self, Holds};

const SILENCE: Duration = Duration::from_secs(30);

pub(super) struct Settings {
    /// `HF_ENDPOINT`, else the hub itself; without a slash at its end.
    pub(super) endpoint: String,
    pub(super) token: Option<Token>,
    /// `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`): no connection is made.
    pub(super) offline: bool,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds: the longest silence of the hub; 30 s unless said.
    pub(super) patience: Duration,
}

impl Settings {
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['@', '?', '#', ' '])) {
            // Not shown: it may hold a password.
            return Err(Error::input("HF_ENDPOINT must be an address like `https://huggingface.co`, with neither a password nor a query"));
        }
        let patience = variable("HF_HUB_DOWNLOAD_TIMEOUT").map_or(Ok(SILENCE), |text| {
            let seconds = text.trim().parse::<u64>().ok().filter(|seconds| (1..=86_400).contains(seconds));
            let wrong = || Error::input(format!("HF_HUB_DOWNLOAD_TIMEOUT is {text:?}: it must be whole seconds, 1 to 86400"));
            seconds.map(Duration::from_secs).ok_or_else(wrong)
        })?;
        let yes =
            |name: &str| variable(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.trim().to_lowercase().as_str()));
        let offline = yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE");
        Ok(Self { endpoint, token: Token::of(&variable)?, offline, patience })
    }
}

/// The secret that opens private and gated models. It is never shown.
pub(super) struct Token(String);

impl Token {
    /// `HF_TOKEN`, else what `hf auth login` has stored.
    fn of(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let stored = || {
            let path = variable("HF_TOKEN_PATH").map_or_else(|| cache::home(variable).join("token"), PathBuf::from);
            file::text(path.as_path(), Holds::Settings).ok()
        };
        let Some(token) = variable("HF_TOKEN").or_else(stored).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
        else {
            return Ok(None);
        };
        match token.bytes().all(|letter| letter.is_ascii_graphic()) {
            true => Ok(Some(Self(token))),
            false => Err(Error::input("the token of the hub (HF_TOKEN) holds spaces or letters no token has: copy it again")),
        }
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// A text from elsewhere without the token in it.
    pub(super) fn hide(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(set: &[(&str, &str)]) -> Result<Settings> {
        Settings::of(|name| set.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_is_read() {
        let home = tempfile::tempdir().unwrap();
        let place = home.path().to_str().unwrap();
        let plain = settings(&[("HF_HOME", place)]).unwrap();
        assert_eq!((plain.endpoint.as_str(), plain.token.is_none(), plain.offline), ("https://huggingface.co", true, false));
        std::fs::write(home.path().join("token"), "hf_stored\n").unwrap();
        let token = |set: &[(&str, &str)]| settings(set).unwrap().token.unwrap().header();
        assert_eq!(token(&[("HF_HOME", place)]), "Bearer hf_stored");
        assert_eq!(token(&[("HF_HOME", place), ("HF_TOKEN", " hf_given ")]), "Bearer hf_given");
        assert!(settings(&[("HF_HUB_OFFLINE", "True")]).unwrap().offline);
        assert_eq!((plain.patience, settings(&[("HF_HUB_DOWNLOAD_TIMEOUT", "90")]).unwrap().patience), (SILENCE, Duration::from_secs(90)));
        for wrong in ["0", "-1", "soon", "1e9"] {
            let error = settings(&[("HF_HUB_DOWNLOAD_TIMEOUT", wrong)]).err().unwrap().to_string();
            assert!(error.contains("HF_HUB_DOWNLOAD_TIMEOUT"), "{error}");
        }
        assert_eq!(settings(&[("HF_ENDPOINT", "http://127.0.0.1:8/hub/")]).unwrap().endpoint, "http://127.0.0.1:8/hub");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let token = settings(&[("HF_TOKEN", "hf_secret")]).unwrap().token.unwrap();
        assert_eq!((format!("{token:?}"), token.hide("no: hf_secret")), ("Token(***)".to_owned(), "no: ***".to_owned()));
        for (name, value) in [("HF_TOKEN", "hf_se cret"), ("HF_ENDPOINT", "https://me:cret@host"), ("HF_ENDPOINT", "cret")] {
            let error = settings(&[(name, value)]).err().unwrap().to_string();
            assert!(error.contains(name) && !error.contains("cret"), "{error}");
        }
    }
}
