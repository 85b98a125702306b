//! What can go wrong between us and the hub, in words; and for how long to try again.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use ureq::http::{Response, Uri};
use ureq::{Body, Error as Unanswered};

use super::client::{Client, Wanted};
use crate::error::{Error, Result};
use crate::interrupt;

/// Between two questions whether to stop.
pub(super) const NAP: Duration = Duration::from_millis(200);
/// Failures in a row before we give up, and the wait after the first; each further wait is twice as long.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// A hub that asks for more patience is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

const UNTRUSTED: &str = "the connection is not trusted: where a company's proxy stands between, SSL_CERT_FILE names its certificates";

pub(super) enum Failure {
    /// Worth another try, after the time that the hub asks for.
    Passing(Error, Option<Duration>),
    Lasting(Error),
}

/// Counts the failures in a row.
#[derive(Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits, if it is worth trying again.
    pub(super) fn after(&mut self, failure: Failure) -> Result<()> {
        let (error, asked) = match failure {
            Failure::Lasting(error) => return Err(error),
            Failure::Passing(error, asked) => (error, asked),
        };
        self.failures += 1;
        let wait = asked.unwrap_or(FIRST_WAIT * 2u32.pow(self.failures - 1));
        if self.failures >= ATTEMPTS {
            return Err(error.context(format!("tried {ATTEMPTS} times")));
        }
        if wait > LONGEST_WAIT {
            return Err(error.context(format!("the hub asks to wait for {} s; try again then", wait.as_secs())));
        }
        let began = Instant::now();
        while began.elapsed() < wait {
            interrupt::check()?;
            std::thread::sleep(NAP.min(wait));
        }
        Ok(())
    }

    /// It went on: the count begins again.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }
}

/// An answer that is no success.
pub(super) fn refused(client: &Client, wanted: Wanted, address: &Uri, answer: &Response<Body>) -> Failure {
    let Wanted { name, file } = wanted;
    let header = |header: &str| answer.headers().get(header).and_then(|value| value.to_str().ok());
    let (status, endpoint) = (answer.status().as_u16(), &client.endpoint);
    let host = address.host().unwrap_or_default().to_owned() + &address.port_u16().map_or(String::new(), |port| format!(":{port}"));
    let what = file.map_or(format!("`{name}`"), |file| format!("`{file}` of `{name}`"));
    let said = header("x-error-message").map(|text| {
        let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
        let text = client.token.as_ref().map_or(text.clone(), |token| token.hide(&text));
        format!("; it says: {}", crate::display::shortened(&text, 200))
    });
    let said = said.unwrap_or_default();
    let error = match status {
        401 | 403 => {
            let token = match &client.token {
                Some(_) => "the token in HF_TOKEN (or of `hf auth login`) is not enough",
                None => "no token is set",
            };
            format!(
                "{host} refuses {what} (HTTP {status}){said}. The name may be wrong, or the model is private or gated, and {token}: accept the \
                 model's terms at {endpoint}/{}, make a token that may read it at {endpoint}/settings/tokens, and set HF_TOKEN to it before \
                 this program (or Jupyter) starts",
                name.repository
            )
        }
        404 if header("x-error-code") == Some("RevisionNotFound") => {
            format!(
                "`{}` has no revision `{}` (HTTP 404){said}: see {endpoint}/{0}/tree/main for those it has",
                name.repository, name.revision
            )
        }
        404 => format!(
            "{what} is not at {host} (HTTP 404){said}: check the name; a private model is not found either without its token (HF_TOKEN)"
        ),
        429 => format!(
            "{host} refuses {what} for now, after too many requests (HTTP 429){said}: try again later; with a HF_TOKEN more are allowed"
        ),
        500..=599 => format!("{host} is in trouble (HTTP {status}) with {what}{said}: try again later"),
        _ => format!("{host} answers HTTP {status} for {what}{said}: look at HF_ENDPOINT"),
    };
    let error = Error::file(error);
    match status {
        408 | 429 | 500..=599 => {
            Failure::Passing(error, header("retry-after").and_then(|wait| wait.trim().parse().ok()).map(Duration::from_secs))
        }
        _ => Failure::Lasting(error),
    }
}

/// No answer, or one that broke off.
pub(super) fn no_answer(client: &Client, wanted: Wanted, error: Unanswered) -> Failure {
    let Wanted { name, file } = wanted;
    let what = file.map_or(format!("`{name}`"), |file| format!("`{file}` of `{name}`"));
    let (advice, passes) = match &error {
        Unanswered::HostNotFound => {
            ("check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT; HF_HUB_OFFLINE=1 opens what the cache holds", false)
        }
        Unanswered::Tls(_) | Unanswered::Rustls(_) | Unanswered::Pem(_) => (UNTRUSTED, false),
        // What the handshake refuses comes as a failed read.
        Unanswered::Io(cause) if cause.kind() == ErrorKind::InvalidData && cause.to_string().contains("certificate") => (UNTRUSTED, false),
        Unanswered::Io(_) | Unanswered::Timeout(_) | Unanswered::ConnectionFailed | Unanswered::Protocol(_) => {
            ("check the network and open the model again: what is downloaded is kept", true)
        }
        _ => ("check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT", false),
    };
    let error = Error::file(format!("no whole answer from {} for {what}: {advice}", client.endpoint)).because(error);
    if passes { Failure::Passing(error, None) } else { Failure::Lasting(error) }
}
