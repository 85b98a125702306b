//! A hub of the test's own on 127.0.0.1, with a store of large files at another port, as the real one has them at another host.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// A client that asks without end fails its test instead of keeping it.
const MOST_REQUESTS: usize = 200;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at_store: bool,
    pub method: String,
    pub path: String,
    pub range: Option<usize>,
    pub token: Option<String>,
}

/// An answer; `sent` is how much of the body goes out before the connection is cut, `drip` the pause after each byte of it.
#[derive(Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub sent: Option<usize>,
    pub pause: Duration,
    pub drip: Option<Duration>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, body: b"no".to_vec(), ..Self::default() }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Changes the answer to a request, given how often the same was asked before.
type Fault = dyn Fn(&Seen, usize, Reply) -> Reply + Send + Sync;

pub struct Hub {
    pub address: String,
    inner: Arc<Inner>,
}

struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    store: String,
    seen: Mutex<Vec<Seen>>,
    fault: Mutex<Box<Fault>>,
}

impl Hub {
    /// Serves the files of a folder as the model `org/name`; those that end in `.safetensors` from the store.
    pub fn of(folder: &Path) -> Self {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        Self::serve(files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())).collect())
    }

    pub fn serve(files: BTreeMap<String, Vec<u8>>) -> Self {
        let (hub, store) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let fault = Mutex::new(Box::new(|_: &Seen, _, reply| reply) as Box<Fault>);
        let inner = Arc::new(Inner { files, store: address(&store), seen: Mutex::default(), fault });
        let address = address(&hub);
        for (listener, at_store) in [(hub, false), (store, true)] {
            let inner = inner.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().take(MOST_REQUESTS) {
                    let inner = inner.clone();
                    // A client may be killed or hang up: that is its own affair.
                    std::thread::spawn(move || inner.answer(stream.unwrap(), at_store).ok());
                }
            });
        }
        Self { address, inner }
    }

    pub fn with(self, fault: impl Fn(&Seen, usize, Reply) -> Reply + Send + Sync + 'static) -> Self {
        *self.inner.fault.lock().unwrap() = Box::new(fault);
        self
    }

    pub fn healed(&self) {
        *self.inner.fault.lock().unwrap() = Box::new(|_, _, reply| reply);
    }

    /// The requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.inner.seen.lock().unwrap())
    }
}

impl Inner {
    fn answer(&self, mut stream: TcpStream, at_store: bool) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && head.len() < 16_384 {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let mut words = head.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let range = header("range").map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
        let seen = Seen { at_store, method, path, range, token: header("authorization") };
        let before = {
            let mut all = self.seen.lock().unwrap();
            all.push(seen.clone());
            all.iter().filter(|other| (&other.method, &other.path) == (&seen.method, &seen.path)).count() - 1
        };
        let reply = self.fault.lock().unwrap()(&seen, before, self.proper(&seen));
        std::thread::sleep(reply.pause);
        let mut text = format!("HTTP/1.1 {} It\r\nConnection: close\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
        reply.headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        if seen.method != "HEAD" {
            let body = &reply.body[..reply.sent.unwrap_or(usize::MAX).min(reply.body.len())];
            let Some(drip) = reply.drip else { return stream.write_all(body) };
            for byte in body.chunks(1) {
                stream.write_all(byte)?;
                std::thread::sleep(drip);
            }
        }
        Ok(())
    }

    /// What the real hub would answer.
    fn proper(&self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap_or_default();
        if path.starts_with("/api/models/org/name/revision/") {
            let siblings: Vec<_> = self.files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
            let body = serde_json::json!({ "id": "org/name", "sha": COMMIT, "siblings": siblings }).to_string().into_bytes();
            return Reply { status: 200, body, ..Reply::default() };
        }
        let prefix = if seen.at_store { "/store/".to_owned() } else { format!("/org/name/resolve/{COMMIT}/") };
        let found = path.strip_prefix(&prefix).and_then(|name| Some((name, self.files.get(name)?)));
        let Some((name, content)) = found else { return Reply::status(404).header("X-Error-Code", "EntryNotFound") };
        if name.ends_with(".safetensors") && !seen.at_store {
            let reply = Reply::status(302).header("Location", format!("{}/store/{name}?signature=private", self.store));
            // The hub's answer has an ETag of its own, which is not the file's.
            let reply = reply.header("ETag", "\"not-this\"").header("X-Linked-Size", content.len().to_string());
            return reply.header("X-Linked-ETag", format!("\"{}\"", sha256(content)));
        }
        match seen.range {
            Some(from) if from >= content.len() => Reply::status(416),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
                Reply { status: 206, body: content[from..].to_vec(), ..Reply::default() }.header("Content-Range", range)
            }
            None => Reply { status: 200, body: content.clone(), ..Reply::default() }.header("ETag", format!("\"{}\"", git(content))),
        }
    }
}

pub fn sha256(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

/// Git's name of a blob.
pub fn git(content: &[u8]) -> String {
    format!("{:x}", Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}
