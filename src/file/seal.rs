//! A checksum over the whole of a file, inside it: what was changed since it was written is told from what was saved.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::read_text;
use crate::error::{Error, Result};
use crate::interrupt;

/// The key of a file's own checksum: SHA-256 of all its bytes, in which the checksum's 64 digits stand as zeros. It is a key of a JSON
/// object, or of the text metadata in a safetensors file.
pub(crate) const CHECKSUM: &str = "ia2_checksum";
/// What stands there while the checksum is computed.
pub(crate) const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const PIECE: usize = 1 << 20;

/// Where the digits of the checksum stand in a JSON text.
fn place(text: &[u8]) -> Option<usize> {
    let key = [b"\"", CHECKSUM.as_bytes(), b"\""].concat();
    // Inside of a string the quotes would be escaped.
    let after = memchr::memmem::find(text, &key)? + key.len();
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    let colon = after + text.get(after..)?.iter().position(|byte| !blank(byte))?;
    let quote = colon + 1 + text.get(colon + 1..)?.iter().position(|byte| !blank(byte))?;
    let digits = text.get(quote + 1..quote + 1 + BLANK.len())?;
    let whole = digits.iter().all(u8::is_ascii_hexdigit) && text.get(quote + 1 + BLANK.len()) == Some(&b'"');
    (text[colon] == b':' && text[quote] == b'"' && whole).then_some(quote + 1)
}

/// The checksum of a file that begins with `head`, whose digits stand at `place` in it, and goes on with `rest`.
fn checksum(head: &[u8], place: usize, mut rest: impl Read) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    digest.update(&head[..place]);
    digest.update(BLANK);
    digest.update(&head[place + BLANK.len()..]);
    let mut piece = vec![0; PIECE];
    loop {
        match rest.read(&mut piece)? {
            0 => return Ok(format!("{:x}", digest.finalize())),
            read => {
                digest.update(&piece[..read]);
                // More than a small file has.
                if read == PIECE {
                    interrupt::io()?;
                }
            }
        }
    }
}

/// A file from some place on, read without moving what others read by.
pub(crate) struct From<'f>(pub &'f File, pub u64);

impl Read for From<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read_at(buffer, self.1)?;
        self.1 += read as u64;
        Ok(read)
    }
}

/// Writes the checksum into a file that begins with `head`, where it is blank.
pub(super) fn stamp(file: &File, head: &[u8], checksum: &str) -> std::io::Result<()> {
    let place = place(head).ok_or_else(|| std::io::Error::other("there is no place for the checksum"))?;
    file.write_all_at(checksum.as_bytes(), place as u64)
}

/// Whether the checksum in the first `head` bytes is that of the file; `None` if there is none.
pub(crate) fn holds(head: &[u8], rest: impl Read) -> std::io::Result<Option<bool>> {
    let Some(place) = place(head) else { return Ok(None) };
    Ok(Some(checksum(head, place, rest)?.as_bytes() == &head[place..place + BLANK.len()]))
}

/// A value as a JSON object with its checksum as the last key.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::internal("writing JSON").because(error))?;
    let body = text.strip_suffix("\n}").ok_or_else(|| Error::internal("only an object with keys can hold its checksum"))?;
    let mut text = format!("{body},\n  \"{CHECKSUM}\": \"{BLANK}\"\n}}\n");
    let place = text.rfind(BLANK).unwrap_or_default();
    let digits = checksum(text.as_bytes(), place, std::io::empty()).map_err(|error| Error::internal("a checksum").because(error))?;
    text.replace_range(place..place + BLANK.len(), &digits);
    Ok(text)
}

/// Reads what [`json`] wrote. `what` it should be, as in "the record of a run", and `remedy` are for messages.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, what: &str, remedy: &str) -> Result<T> {
    let text = read_text(path)?;
    let value = serde_json::from_str(&text);
    let value = value.map_err(|error| Error::file(format!("{} is not {what}: {remedy}", path.display())).because(error))?;
    match holds(text.as_bytes(), std::io::empty()) {
        Ok(Some(true)) => Ok(value),
        Ok(None) => Err(unsealed(path, remedy)),
        _ => Err(broken(path, remedy)),
    }
}

/// For a file that holds another checksum than its own.
pub(crate) fn broken(path: &Path, remedy: &str) -> Error {
    Error::file(format!(
        "{} was changed or damaged after it was written: its checksum is not that of its content; {remedy}",
        path.display()
    ))
}

/// For a file that must have a checksum and has none.
pub(crate) fn unsealed(path: &Path, remedy: &str) -> Error {
    Error::file(format!("{} holds no checksum: it was changed, or an earlier version of this library wrote it; {remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn any_changed_byte_of_a_sealed_text_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        // Text that looks like the key is escaped where it stands in a string.
        let value = BTreeMap::from([("a".to_string(), 1.5), (format!("\"{CHECKSUM}\": \"{BLANK}\""), 2.0)]);
        let text = json(&value).unwrap();
        let read = || read_json::<serde_json::Value>(&path, "a test", "remove it");
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read().unwrap()["a"], 1.5);
        // sha256sum of the text with 64 zeros.
        let blank = text.replace(&text[text.len() - 68..text.len() - 4], BLANK);
        assert_eq!(format!("{:x}", Sha256::digest(&blank)), text[text.len() - 68..text.len() - 4]);
        for place in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let error = read().unwrap_err();
            assert!(error.is_file() && error.to_string().contains("a.json"), "{place}: {error}");
        }
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        assert!(read().unwrap_err().to_string().contains("holds no checksum"));
    }
}
