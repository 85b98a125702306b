//! Requests to the hub: redirects without the token, failures that pass told from those that last.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::Name;
use super::checksum::{is_checksum, is_hex};
use super::pace::Paced;
use super::refusal::{Failure, NAP, Patience, no_answer, refused};
use super::settings::{Settings, Token};
use crate::error::{Error, Result};
use crate::interrupt;

/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(20);
const REDIRECTS: usize = 8;
/// No file of a model is larger: 16 TiB.
const LARGEST: u64 = 1 << 44;
/// No list of a model's files is longer.
const LISTING: u64 = 64 << 20;

/// What is asked for, as messages name it.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a Name,
    pub(super) file: Option<&'a str>,
}

/// What the hub lists for a revision.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What the hub says of one file.
pub(super) struct Entry {
    /// Of the content: SHA-256 for large files, git's SHA-1 for others, in hexadecimal.
    pub(super) checksum: String,
    /// In bytes.
    pub(super) size: u64,
}

pub(super) struct Client {
    agent: Agent,
    /// Until it is dropped, an interrupt ends the connections.
    _watch: Sender<()>,
    pub(super) endpoint: String,
    origin: Origin,
    pub(super) token: Option<Token>,
    /// The longest wait for the next bytes of an answer.
    pub(super) patience: Duration,
}

impl Client {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        let origin = settings.endpoint.parse().ok().and_then(|uri| Origin::of(&uri));
        let origin = origin.ok_or_else(|| Error::input(format!("HF_ENDPOINT: `{}` is no address", settings.endpoint)))?;
        let mut config = Agent::config_builder()
            .user_agent(concat!("ia2/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed here, so that the token is not.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(settings.patience))
            .timeout_per_read(Some(settings.patience));
        if origin.scheme == "https" {
            config = config.tls_config(TlsConfig::builder().root_certs(trusted()).build());
        }
        let Settings { endpoint, token, patience, .. } = settings;
        let agent = config.build().new_agent();
        Ok(Self { _watch: watch(agent.clone()), agent, endpoint, origin, token, patience })
    }

    /// The commit that a revision means, and its files.
    pub(super) fn listing(&self, name: &Name) -> Result<Listing> {
        let wanted = Wanted { name, file: None };
        let address = format!("{}/api/models/{}/revision/{}", self.endpoint, name.repository, name.revision.replace('/', "%2F"));
        let mut patience = Patience::default();
        let text = loop {
            let text = self.get(wanted, &address, 0).and_then(|(answer, _)| {
                let mut text = String::new();
                let body = Paced::new(answer.into_body().into_reader(), self.patience);
                body.take(LISTING).read_to_string(&mut text).map(|_| text).map_err(|error| no_answer(self, wanted, error.into()))
            });
            match text {
                Ok(text) => break text,
                Err(failure) => patience.after(failure)?,
            }
        };
        let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let commit = json.as_ref().and_then(|json| json.get("sha")?.as_str()).filter(|commit| is_hex(commit, 40));
        let files = json.as_ref().and_then(|json| json.get("siblings")?.as_array());
        let (Some(commit), Some(files)) = (commit, files) else {
            return Err(Error::file(format!("{} does not answer as a hub does: look at HF_ENDPOINT", self.endpoint)));
        };
        let files = files.iter().filter_map(|file| Some(file.get("rfilename")?.as_str()?.to_owned())).collect();
        Ok(Listing { commit: commit.to_owned(), files })
    }

    /// A file's checksum and size.
    pub(super) fn entry(&self, name: &Name, commit: &str, file: &str) -> Result<Entry> {
        let wanted = Wanted { name, file: Some(file) };
        let mut patience = Patience::default();
        let headers = loop {
            match self.head(wanted, &self.address(name, commit, file)) {
                Ok(headers) => break headers,
                Err(failure) => patience.after(failure)?,
            }
        };
        let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
        let tag = text("x-linked-etag").or_else(|| text("etag")).unwrap_or_default();
        let checksum = tag.trim_start_matches("W/").trim_matches('"').to_lowercase();
        let size = text("x-linked-size").or_else(|| text(CONTENT_LENGTH.as_str())).and_then(|size| size.parse().ok());
        match size {
            Some(size) if size > LARGEST => Err(Error::file(format!(
                "{} announces {size} bytes for `{file}` of `{name}`, more than any file of a model has: look at HF_ENDPOINT",
                self.endpoint
            ))),
            Some(size) if is_checksum(&checksum) => Ok(Entry { checksum, size }),
            _ => Err(Error::file(format!(
                "{} gives no checksum and size for `{file}` of `{name}`, as the hub does: look at HF_ENDPOINT",
                self.endpoint
            ))),
        }
    }

    pub(super) fn address(&self, name: &Name, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{file}", self.endpoint, name.repository)
    }

    /// What the hub itself says of a file, wherever the content may lie.
    fn head(&self, wanted: Wanted, address: &str) -> std::result::Result<HeaderMap, Failure> {
        let mut address: Uri = parse(address)?;
        for _ in 0..REDIRECTS {
            let mut request = self.agent.head(&address);
            if let Some(token) = self.token_for(&address) {
                request = request.header(AUTHORIZATION, token);
            }
            let answer = request.call().map_err(|error| no_answer(self, wanted, error))?;
            let says_all = ["x-linked-etag", "x-linked-size"].iter().all(|header| answer.headers().contains_key(*header));
            match self.next(&address, &answer)? {
                // A model that was renamed, or another service of the hub's own. Elsewhere only the content lies, without what we ask for.
                Some(next) if self.is_ours(&next) && !says_all => address = next,
                Some(_) => {
                    let mut headers = answer.into_parts().0.headers;
                    // Of the redirect, not of the file.
                    headers.remove(CONTENT_LENGTH);
                    return Ok(headers);
                }
                None if answer.status().is_success() => return Ok(answer.into_parts().0.headers),
                None => return Err(refused(self, wanted, &address, &answer)),
            }
        }
        Err(Failure::Lasting(Error::file(format!("{} redirects in a circle", self.endpoint))))
    }

    /// The content from byte `from` on; and true if the server begins there, false if it begins at the start.
    pub(super) fn get(&self, wanted: Wanted, address: &str, from: u64) -> std::result::Result<(Response<Body>, bool), Failure> {
        let mut address: Uri = parse(address)?;
        for _ in 0..REDIRECTS {
            let mut request = self.agent.get(&address);
            if let Some(token) = self.token_for(&address) {
                request = request.header(AUTHORIZATION, token);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let answer = request.call().map_err(|error| no_answer(self, wanted, error))?;
            match self.next(&address, &answer)? {
                Some(next) => address = next,
                None if answer.status().as_u16() == 206 => {
                    let range = answer.headers().get("content-range").and_then(|range| range.to_str().ok()).unwrap_or_default();
                    return match range.starts_with(&format!("bytes {from}-")) {
                        true => Ok((answer, true)),
                        false => Err(Failure::Lasting(Error::file(format!("the server sent other bytes ({range:?}) than were asked for")))),
                    };
                }
                None if answer.status().as_u16() == 200 => return Ok((answer, from == 0)),
                None => return Err(refused(self, wanted, &address, &answer)),
            }
        }
        Err(Failure::Lasting(Error::file(format!("{} redirects in a circle", self.endpoint))))
    }

    /// Where an answer redirects to.
    fn next(&self, address: &Uri, answer: &Response<Body>) -> std::result::Result<Option<Uri>, Failure> {
        if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
        let scheme = address.scheme_str().unwrap_or_default();
        let next = match location {
            path if path.starts_with('/') && !path.starts_with("//") => {
                format!("{scheme}://{}{path}", address.authority().map_or("", |host| host.as_str()))
            }
            other if other.starts_with("//") => format!("{scheme}:{other}"),
            other => other.to_owned(),
        };
        let next = parse(&next)?;
        match scheme == "https" && next.scheme_str() != Some("https") {
            true => Err(Failure::Lasting(Error::file(format!(
                "{} redirects to an address without encryption: look at HF_ENDPOINT",
                self.endpoint
            )))),
            false => Ok(Some(next)),
        }
    }

    fn is_ours(&self, address: &Uri) -> bool {
        Origin::of(address).is_some_and(|origin| origin == self.origin)
    }

    /// The token goes to the hub and nowhere else: not to the stores of files that the hub redirects to.
    fn token_for(&self, address: &Uri) -> Option<String> {
        self.token.as_ref().filter(|_| self.is_ours(address)).map(Token::header)
    }
}

/// Scheme, host and port.
#[derive(PartialEq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    fn of(address: &Uri) -> Option<Self> {
        let scheme = address.scheme_str()?.to_lowercase();
        let port = address.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some(Self { scheme, host: address.host()?.to_lowercase(), port })
    }
}

/// The certificates that this machine trusts, a company's own among them; where it has none, Mozilla's.
fn trusted() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    let found: Vec<Certificate<'static>> = found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    if found.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&found) }
}

/// Ends the connections of `agent` when the call that uses it is interrupted: a read that waits for a silent host would go on waiting.
fn watch(agent: Agent) -> Sender<()> {
    let (sender, dropped): (Sender<()>, Receiver<()>) = channel();
    let watching = move || {
        while dropped.recv_timeout(NAP) == Err(RecvTimeoutError::Timeout) {
            if interrupt::is_requested() {
                return agent.shutdown();
            }
        }
    };
    // Without a thread for it a silent host is waited for until the time for an answer is over.
    let _ = std::thread::Builder::new().spawn(watching);
    sender
}

/// The address is not shown: where it came in a redirect, it may be signed.
fn parse(address: &str) -> std::result::Result<Uri, Failure> {
    let uri = address.parse::<Uri>().ok().filter(|uri| Origin::of(uri).is_some());
    uri.ok_or_else(|| Failure::Lasting(Error::file("the hub redirects to something that is no address: look at HF_ENDPOINT")))
}
