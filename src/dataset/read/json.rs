//! JSON: an object a line, an array of objects, or an object a file.

use std::path::Path;

use serde_json::Value;

use super::{Each, Reason, Record, malformed, unmarked};
use crate::error::{Error, Result};
use crate::interrupt;

pub(super) fn lines(path: &Path, each: &mut Each) -> Result<()> {
    of_lines(path, &unmarked(path)?, each)
}

fn of_lines(path: &Path, bytes: &[u8], each: &mut Each) -> Result<()> {
    for (place, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        interrupt::check()?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        serde_json::from_slice(line)
            .map_err(not_json)
            .and_then(Record::of)
            .and_then(&mut *each)
            .map_err(|reason| malformed(path, format_args!("line {}", place + 1), reason))?;
    }
    Ok(())
}

/// serde_json numbers the lines of what it is given, which is one line.
fn not_json(error: serde_json::Error) -> Reason {
    format!("not JSON ({})", error.to_string().replace(" at line 1 column ", " at column "))
}

pub(super) fn array(path: &Path, each: &mut Each) -> Result<()> {
    of_array(path, &unmarked(path)?, each)
}

fn of_array(path: &Path, bytes: &[u8], each: &mut Each) -> Result<()> {
    let Value::Array(items) = value(path, bytes)? else {
        return Err(Error::file(format!("`{}` is no JSON array of objects", path.display())));
    };
    for (place, item) in items.into_iter().enumerate() {
        interrupt::check()?;
        Record::of(item).and_then(&mut *each).map_err(|reason| malformed(path, format_args!("item {}", place + 1), reason))?;
    }
    Ok(())
}

pub(super) fn array_or_lines(path: &Path, each: &mut Each) -> Result<()> {
    let bytes = unmarked(path)?;
    match bytes.trim_ascii_start().first() {
        None | Some(b'[') => of_array(path, &bytes, each),
        Some(_) => of_lines(path, &bytes, each).map_err(|error| match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) if fields.values().any(|field| field.is_object() || field.is_array()) || spread(&bytes) => {
                Error::file(format!(
                    "`{}` is one JSON object: rows stand in an array of objects, or one object a line (pandas: orient=\"records\")",
                    path.display()
                ))
            }
            _ => error,
        }),
    }
}

/// Whether it takes more than one line.
fn spread(bytes: &[u8]) -> bool {
    bytes.trim_ascii().contains(&b'\n')
}

pub(super) fn object(path: &Path, each: &mut Each) -> Result<()> {
    let whole = value(path, &unmarked(path)?)?;
    Record::of(whole).and_then(each).map_err(|reason| Error::file(format!("`{}`: {reason}", path.display())))
}

/// The file's value; the error of what is no JSON names line and column.
fn value(path: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| Error::file(format!("`{}` is not JSON", path.display())).because(error))
}
