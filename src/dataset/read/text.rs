//! Plain text: fields between tabs, commas or `@`, and whole files.

use std::path::Path;

use super::{Each, Record, bytes, malformed, unmarked};
use crate::error::{Error, Result};
use crate::interrupt;

/// Lines of fields between tabs. Nothing is quoted: `"` is text.
pub(super) fn tsv(path: &Path, columns: &[&str], each: &mut Each) -> Result<()> {
    let text = utf8(path)?;
    let mut lines = lines(&text);
    let named: Vec<&str> = match columns {
        [] => lines.next().map(|(_, line)| line.split('\t').collect()).unwrap_or_default(),
        columns => columns.to_vec(),
    };
    distinct(path, &named)?;
    for (number, line) in lines {
        interrupt::check()?;
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != named.len() {
            let reason = format!("{} fields between tabs, {} expected ({})", fields.len(), named.len(), named.join(", "));
            return Err(malformed(path, format_args!("line {number}"), reason));
        }
        each(Record::new(named.iter().copied().zip(fields))).map_err(|reason| malformed(path, format_args!("line {number}"), reason))?;
    }
    Ok(())
}

/// Comma-separated fields; quoted ones may hold commas and line breaks, a quote inside is doubled, a backslash is text.
pub(super) fn csv(path: &Path, columns: &[&str], each: &mut Each) -> Result<()> {
    let text = utf8(path)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut named: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let (mut lines, mut record) = (LineNumbers { text: &text, byte: 0, line: 1 }, csv::StringRecord::new());
    loop {
        interrupt::check()?;
        let start = reader.position().byte() as usize;
        let more = reader.read_record(&mut record);
        if !more.map_err(|error| Error::file(format!("`{}` is no comma-separated file", path.display())).because(error))? {
            break;
        }
        let line = lines.of_record(start);
        if named.is_empty() {
            named = record.iter().map(|name| name.trim().to_owned()).collect();
            distinct(path, &named)?;
            continue;
        }
        if record.len() != named.len() {
            let reason = format!("{} fields between commas, {} expected ({})", record.len(), named.len(), named.join(", "));
            return Err(malformed(path, format_args!("line {line}"), reason));
        }
        each(Record::new(named.iter().map(String::as_str).zip(record.iter())))
            .map_err(|reason| malformed(path, format_args!("line {line}"), reason))?;
    }
    Ok(())
}

/// Which line a record begins on. The csv crate's own count is one too small after a line that ends in CR LF: it stops between the two.
struct LineNumbers<'a> {
    text: &'a str,
    byte: usize,
    line: usize,
}

impl LineNumbers<'_> {
    /// The line of the record that is read from `start` on, which may stand behind the end of the line before and behind empty lines.
    fn of_record(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let empty = bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let to = start + empty;
        let ends = |&place: &usize| bytes[place] == b'\n' || (bytes[place] == b'\r' && bytes.get(place + 1) != Some(&b'\n'));
        self.line += (self.byte..to).filter(ends).count();
        self.byte = to;
        self.line
    }
}

/// A name that two columns share would stand for one of them, nobody knows which.
fn distinct(path: &Path, names: &[impl AsRef<str>]) -> Result<()> {
    let named = |place: usize| names[place].as_ref();
    match (1..names.len()).find(|&place| !named(place).is_empty() && (0..place).any(|earlier| named(earlier) == named(place))) {
        Some(place) => Err(malformed(path, "line 1", format_args!("two columns are called `{}`: rename one", named(place)))),
        None => Ok(()),
    }
}

/// `sentence@class` a line; the last `@` counts.
pub(super) fn at(path: &Path, each: &mut Each) -> Result<()> {
    let text = latin(bytes(path)?);
    for (number, line) in lines(&text) {
        interrupt::check()?;
        let fields = line.rsplit_once('@').ok_or_else(|| "no `@` between sentence and class".to_owned());
        fields
            .and_then(|(sentence, class)| each(Record::new([("sentence", sentence), ("class", class)])))
            .map_err(|reason| malformed(path, format_args!("line {number}"), reason))?;
    }
    Ok(())
}

/// A whole file; its class is its folder's name.
pub(super) fn whole(path: &Path, each: &mut Each) -> Result<()> {
    let text = latin(bytes(path)?);
    let class = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    each(Record::new([("class", class.as_str()), ("text", &text)])).map_err(|reason| Error::file(format!("`{}`: {reason}", path.display())))
}

/// Lines that are not empty, with their numbers from 1. Only line feeds end a line: other separators may be text.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.split('\n').enumerate().map(|(place, line)| (place + 1, line.strip_suffix('\r').unwrap_or(line)));
    lines.filter(|(_, line)| !line.trim().is_empty())
}

fn utf8(path: &Path) -> Result<String> {
    String::from_utf8(unmarked(path)?).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        malformed(path, format_args!("line {line}"), "not UTF-8")
    })
}

/// ISO-8859-1, unless it reads as UTF-8, as converted copies do: real ISO-8859-1 with letters beyond ASCII hardly ever does.
fn latin(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().map(|&byte| char::from(byte)).collect())
}
