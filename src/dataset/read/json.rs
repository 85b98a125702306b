//! JSON: an object a line, an array of objects, or an object a file.

use std::path::Path;

use serde_json::Value;

use super::{Each, Record, bytes, malformed};
use crate::error::{Error, Result};

pub(super) fn lines(path: &Path, each: &mut Each) -> Result<()> {
    for (place, line) in bytes(path)?.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        serde_json::from_slice(line)
            .map_err(|error| format!("not JSON ({error})"))
            .and_then(Record::of)
            .and_then(&mut *each)
            .map_err(|reason| malformed(path, format_args!("line {}", place + 1), reason))?;
    }
    Ok(())
}

pub(super) fn array(path: &Path, each: &mut Each) -> Result<()> {
    let Value::Array(items) = value(path)? else {
        return Err(Error::file(format!("`{}` is no JSON array of objects", path.display())));
    };
    for (place, item) in items.into_iter().enumerate() {
        Record::of(item).and_then(&mut *each).map_err(|reason| malformed(path, format_args!("item {}", place + 1), reason))?;
    }
    Ok(())
}

pub(super) fn object(path: &Path, each: &mut Each) -> Result<()> {
    Record::of(value(path)?).and_then(each).map_err(|reason| Error::file(format!("`{}`: {reason}", path.display())))
}

/// The file's value; the error of what is no JSON names line and column.
fn value(path: &Path) -> Result<Value> {
    serde_json::from_slice(&bytes(path)?).map_err(|error| Error::file(format!("`{}` is not JSON", path.display())).because(error))
}
