//! Parquet, as Hugging Face keeps data sets.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use ::parquet::basic::PageType;
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Each, Record, malformed};
use crate::error::{Error, Result};
use crate::file;
use crate::interrupt;
use crate::libtorch::guarded;

pub(super) fn rows(path: &Path, each: &mut Each) -> Result<()> {
    let file = file::open(path).map_err(|error| Error::file(format!("cannot read `{}`", path.display())).because(error))?;
    let unreadable =
        || format!("`{}` is no readable parquet file (damaged, or packed otherwise than with snappy, gzip or zstd?)", path.display());
    // Some damaged files make the reader panic; nothing of ours runs inside this guard.
    let records = guarded("reading parquet", || {
        let reader = SerializedFileReader::new(CheckedFile(file)).map_err(|error| Error::file(unreadable()).because(error))?;
        check_counts(&reader).map_err(|error| Error::file(unreadable()).because(error))?;
        let row = |row: ParquetResult<Row>| {
            interrupt::check()?;
            row.map(|row| object(&row)).map_err(|error| Error::file(unreadable()).because(error))
        };
        RowIter::from_file_into(Box::new(reader)).map(row).collect::<Result<Vec<_>>>()
    });
    let records = records.map_err(|error| if error.is_internal() { Error::file(unreadable()) } else { error })?;
    for (place, record) in records.into_iter().enumerate() {
        interrupt::check()?;
        Record::of(record).and_then(&mut *each).map_err(|reason| malformed(path, format_args!("row {}", place + 1), reason))?;
    }
    Ok(())
}

/// A file whose end is said: the crate skips what it does not know of a page's header element by element, and goes on behind the file's end, where
/// nothing can be read, as long as a damaged header counts.
struct CheckedFile(File);

impl Length for CheckedFile {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for CheckedFile {
    type T = UntilEnd<BufReader<File>>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(UntilEnd { inner: self.0.get_read(start)?, empty: 0 })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Reads on, and gives up where there is nothing to be read time after time.
struct UntilEnd<R> {
    inner: R,
    empty: usize,
}

impl<R: Read> Read for UntilEnd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const PATIENCE: usize = 16;
        let read = self.inner.read(buffer)?;
        self.empty = if read == 0 && !buffer.is_empty() { self.empty + 1 } else { 0 };
        if self.empty > PATIENCE { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(read) }
    }
}

/// Refuses pages that count more values than they can hold: the reader makes room for them before it looks, and a flipped bit may ask for more
/// memory than there is.
fn check_counts(reader: &impl FileReader) -> ParquetResult<()> {
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        for column in 0..group.num_columns() {
            let mut left = group.metadata().column(column).num_values();
            if group.metadata().num_rows() > left {
                return Err(ParquetError::General(format!("{} rows of {left} values", group.metadata().num_rows())));
            }
            let mut pages = group.get_column_page_reader(column)?;
            while let Some(page) = pages.get_next_page()? {
                interrupt::check().map_err(|error| ParquetError::External(Box::new(error)))?;
                let values = i64::from(page.num_values());
                // A value of a dictionary takes a byte at least; of those in other pages many may.
                let most = if page.page_type() == PageType::DICTIONARY_PAGE { page.buffer().len() as i64 } else { left };
                if values > most {
                    return Err(ParquetError::General(format!("a page counts {values} values and has room for {most}")));
                }
                left -= if page.page_type() == PageType::DICTIONARY_PAGE { 0 } else { values };
            }
            if left != 0 {
                return Err(ParquetError::General(format!("{left} values are missing")));
            }
        }
    }
    Ok(())
}

fn object(row: &Row) -> Value {
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect::<Map<_, _>>())
}

/// The kinds of fields that data sets of text have; any other shows as its text.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        // By its shortest spelling: widened bit by bit, 0.1 would become 0.10000000149.
        Field::Float(value) => value.to_string().parse().unwrap_or(f64::from(*value)).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.as_str().into(),
        // Text that its writer did not declare as text.
        Field::Bytes(bytes) if std::str::from_utf8(bytes.data()).is_ok() => String::from_utf8_lossy(bytes.data()).into(),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => other.to_string().into(),
    }
}
