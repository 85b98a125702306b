//! The container: magic, metadata and the table of tensors, read with every number checked against what the file holds.
//!
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. The crates that read it (`ggus`, `gguf-rs`, `gguf-rs-lib`) allocate
//! by counts that the file names, or panic on offsets beyond its end, so it is read here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};

use super::blocks::{self, Block};

/// Deeper lists of lists than any model has; each level of them costs a level of the stack.
const DEEPEST: usize = 4;
/// As many dimensions as llama.cpp's tensors have.
const MOST_DIMENSIONS: u32 = 4;
const ALIGNMENT: u64 = 32;

/// What is wrong with a file, for a message that begins with its name.
pub(super) type Wrong = String;

/// A value of the metadata.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
    Text(String),
    List(List),
}

/// A list, by its place in the file: vocabularies are long, and wanted once.
#[derive(Clone, Debug)]
pub(super) struct List {
    item: Item,
    count: u64,
    start: u64,
}

/// A tensor of the table.
#[derive(Debug)]
pub(super) struct Stored {
    /// As Hugging Face has it, outermost first: the file has it the other way round.
    pub shape: Vec<i64>,
    pub block: &'static Block,
    /// Where its data begin in the file.
    pub start: u64,
    /// How many bytes they are.
    pub bytes: usize,
}

impl Stored {
    /// How many numbers it holds. (They fit: their bytes are in the file.)
    pub(super) fn count(&self) -> usize {
        self.bytes / self.block.bytes * self.block.count
    }
}

/// What stands before the tensors' data.
#[derive(Debug)]
pub(super) struct Header {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, Stored>,
}

/// The kind of a value of the metadata, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item {
    /// Width in bytes.
    Unsigned(u8),
    Signed(u8),
    Float(u8),
    Flag,
    Text,
    List,
}

impl Item {
    fn of(number: u32) -> Result<Self, Wrong> {
        const ITEMS: [Item; 13] = [
            Item::Unsigned(1),
            Item::Signed(1),
            Item::Unsigned(2),
            Item::Signed(2),
            Item::Unsigned(4),
            Item::Signed(4),
            Item::Float(4),
            Item::Flag,
            Item::Text,
            Item::List,
            Item::Unsigned(8),
            Item::Signed(8),
            Item::Float(8),
        ];
        ITEMS.get(number as usize).copied().ok_or_else(|| format!("holds a value of the unknown kind {number}"))
    }

    /// The bytes that each takes in the file; of texts and lists the least.
    fn least(self) -> u64 {
        match self {
            Item::Unsigned(width) | Item::Signed(width) | Item::Float(width) => u64::from(width),
            Item::Flag => 1,
            Item::Text => 8,
            Item::List => 12,
        }
    }
}

/// Reads on through a file; never beyond its end.
struct Cursor<'f> {
    file: BufReader<&'f File>,
    at: u64,
    length: u64,
}

impl<'f> Cursor<'f> {
    fn new(mut file: &'f File, at: u64, length: u64) -> Result<Self, Wrong> {
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        Ok(Self { file: BufReader::new(file), at, length })
    }

    fn left(&self) -> u64 {
        self.length - self.at
    }

    /// Goes `count` bytes on, which must be there.
    fn step(&mut self, count: u64) -> Result<(), Wrong> {
        if count > self.left() {
            return Err(format!("is truncated, or damaged: {count} bytes are to follow byte {}, but only {} do", self.at, self.left()));
        }
        self.at += count;
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<(), Wrong> {
        self.step(count)?;
        let count = i64::try_from(count).map_err(|_| "is larger than a file can be")?;
        self.file.seek_relative(count).map_err(unreadable)
    }

    /// A number of up to eight bytes.
    fn number(&mut self, width: u8) -> Result<u64, Wrong> {
        self.step(u64::from(width))?;
        let mut whole = [0; 8];
        self.file.read_exact(&mut whole[..usize::from(width)]).map_err(unreadable)?;
        Ok(u64::from_le_bytes(whole))
    }

    fn short(&mut self) -> Result<u32, Wrong> {
        Ok(self.number(4)? as u32)
    }

    fn skip_text(&mut self) -> Result<(), Wrong> {
        let count = self.number(8)?;
        self.skip(count)
    }

    fn text(&mut self) -> Result<String, Wrong> {
        let at = self.at;
        let count = self.number(8)?;
        self.step(count)?;
        // Grows with what is read: a length is believed only as far as the file goes.
        let mut bytes = Vec::new();
        let read = self.file.by_ref().take(count).read_to_end(&mut bytes).map_err(unreadable)?;
        if (read as u64) < count {
            return Err(unreadable(ErrorKind::UnexpectedEof.into()));
        }
        String::from_utf8(bytes).map_err(|_| format!("is damaged: the text at byte {at} is not UTF-8"))
    }

    fn value(&mut self, item: Item) -> Result<Value, Wrong> {
        Ok(match item {
            Item::Unsigned(width) => Value::Unsigned(self.number(width)?),
            Item::Signed(width) => {
                let unused = 64 - 8 * u32::from(width);
                Value::Signed((self.number(width)? << unused) as i64 >> unused)
            }
            Item::Float(4) => Value::Float(f64::from(f32::from_bits(self.short()?))),
            Item::Float(_) => Value::Float(f64::from_bits(self.number(8)?)),
            Item::Flag => match self.number(1)? {
                0 => Value::Flag(false),
                1 => Value::Flag(true),
                other => return Err(format!("is damaged: true or false is stored as {other} at byte {}", self.at - 1)),
            },
            Item::Text => Value::Text(self.text()?),
            Item::List => Value::List(self.list(0)?),
        })
    }

    /// Passes over a list.
    fn list(&mut self, depth: usize) -> Result<List, Wrong> {
        if depth == DEEPEST {
            return Err(format!("holds lists within lists more than {DEEPEST} deep"));
        }
        let item = Item::of(self.short()?)?;
        let count = self.number(8)?;
        if count > self.left() / item.least() {
            return Err(format!("is truncated, or damaged: a list at byte {} has {count} items, more than what is left can hold", self.at));
        }
        let list = List { item, count, start: self.at };
        match item {
            Item::Text => (0..count).try_for_each(|_| self.skip_text())?,
            Item::List => (0..count).try_for_each(|_| self.list(depth + 1).map(drop))?,
            // No overflow: the product is at most what is left.
            _ => self.skip(count * item.least())?,
        }
        Ok(list)
    }
}

impl List {
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// The texts of a list of texts.
    pub(super) fn texts(&self, file: &File, length: u64) -> Result<Vec<String>, Wrong> {
        if self.item != Item::Text {
            return Err("must be a list of texts".into());
        }
        let mut cursor = Cursor::new(file, self.start, length)?;
        (0..self.count).map(|_| cursor.text()).collect()
    }

    /// The numbers of a list of numbers; of true or false 1 and 0.
    pub(super) fn numbers(&self, file: &File, length: u64) -> Result<Vec<f64>, Wrong> {
        let number = |value| match value {
            Value::Unsigned(number) => Ok(number as f64),
            Value::Signed(number) => Ok(number as f64),
            Value::Float(number) => Ok(number),
            Value::Flag(flag) => Ok(f64::from(u8::from(flag))),
            _ => Err("must be a list of numbers".into()),
        };
        if matches!(self.item, Item::Text | Item::List) {
            return Err("must be a list of numbers".into());
        }
        let mut cursor = Cursor::new(file, self.start, length)?;
        (0..self.count).map(|_| number(cursor.value(self.item)?)).collect()
    }
}

fn unreadable(error: std::io::Error) -> Wrong {
    match error.kind() {
        ErrorKind::UnexpectedEof => "was changed while it was being read: open the model again".into(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Reads all that stands before the data, and checks that the data are there.
pub(super) fn read(file: &File, length: u64) -> Result<Header, Wrong> {
    let mut cursor = Cursor::new(file, 0, length)?;
    match &cursor.number(length.min(4) as u8)?.to_le_bytes()[..4] {
        b"GGUF" => {}
        b"lmgg" | b"fmgg" | b"tjgg" => return Err("is of llama.cpp's format before GGUF: take the model as GGUF".into()),
        _ => return Err("is not a GGUF file: it does not begin with `GGUF`; download it again".into()),
    }
    match cursor.short()? {
        2 | 3 => {}
        1 => return Err("is of GGUF's version 1, and 2 and 3 are read: take the model from its publisher again".into()),
        version if version.swap_bytes() <= 3 => return Err("is written for big-endian machines: take the file that is not".into()),
        version => return Err(format!("is of GGUF's version {version}, and 2 and 3 are read")),
    }
    let (tensor_count, value_count) = (cursor.number(8)?, cursor.number(8)?);

    let mut metadata = BTreeMap::new();
    for _ in 0..value_count {
        let key = cursor.text()?;
        let item = Item::of(cursor.short()?)?;
        let value = cursor.value(item).map_err(|wrong| format!("{wrong} (reading `{}`)", brief(&key)))?;
        if metadata.contains_key(&key) {
            return Err(format!("is damaged: `{}` stands in its metadata twice", brief(&key)));
        }
        metadata.insert(key, value);
    }
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() && *alignment <= 1 << 20 => *alignment,
        Some(other) => return Err(format!("has the `general.alignment` {other:?}, which must be a power of two up to 2^20")),
    };

    let mut table = Vec::new();
    for _ in 0..tensor_count {
        table.push(Row::read(&mut cursor)?);
    }
    let start = aligned(cursor.at, alignment).unwrap_or(cursor.at);
    let (mut tensors, mut end) = (BTreeMap::new(), start);
    for Row { name, shape, block, bytes, offset } in table {
        let quoted = brief(&name);
        // llama.cpp writes and demands them one after the other: an offset that says otherwise would give another tensor's numbers.
        if start.checked_add(offset) != Some(end) {
            return Err(format!(
                "is damaged: the data of `{quoted}` are said to begin {offset} bytes after byte {start}, but byte {end} is where they do"
            ));
        }
        let until = end.checked_add(bytes).filter(|until| *until <= length).ok_or_else(|| {
            format!(
                "is truncated: the data of `{quoted}` end {bytes} bytes after byte {end}, but the file has {length} bytes; download it again"
            )
        })?;
        let stored = Stored { shape, block, start: end, bytes: bytes as usize };
        if tensors.insert(name, stored).is_some() {
            return Err(format!("is damaged: it holds the tensor `{quoted}` twice"));
        }
        end = aligned(until, alignment).ok_or("is damaged: its data end beyond what a file can hold")?;
    }
    Ok(Header { metadata, tensors })
}

fn aligned(at: u64, alignment: u64) -> Option<u64> {
    at.checked_next_multiple_of(alignment)
}

/// A row of the table of tensors.
struct Row {
    name: String,
    shape: Vec<i64>,
    block: &'static Block,
    bytes: u64,
    offset: u64,
}

impl Row {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Wrong> {
        let name = cursor.text()?;
        let quoted = brief(&name);
        let dimensions = cursor.short()?;
        if dimensions == 0 || dimensions > MOST_DIMENSIONS {
            return Err(format!("is damaged: the tensor `{quoted}` has {dimensions} dimensions, and 1 to {MOST_DIMENSIONS} are possible"));
        }
        let mut shape = (0..dimensions).map(|_| cursor.number(8)).collect::<Result<Vec<u64>, Wrong>>()?;
        let block = blocks::of(cursor.short()?).map_err(|wrong| format!("holds the tensor `{quoted}` {wrong}"))?;
        let offset = cursor.number(8)?;
        let unfit = |why: &str| Err(format!("is damaged: the tensor `{quoted}` has the shape {shape:?}, {why}"));
        let count = shape.iter().try_fold(1u64, |count, size| count.checked_mul(*size)).filter(|count| i64::try_from(*count).is_ok());
        let Some(count) = count.filter(|count| *count > 0) else {
            return unfit("which no tensor can have");
        };
        if shape[0] % block.count as u64 != 0 {
            return unfit(&format!("whose rows are no multiple of the {} numbers of a block of {}", block.count, block.name));
        }
        let Some(bytes) = (count / block.count as u64).checked_mul(block.bytes as u64) else {
            return unfit("which no file can hold");
        };
        shape.reverse();
        Ok(Self { name, shape: shape.into_iter().map(|size| size as i64).collect(), block, bytes, offset })
    }
}

/// A name of the file's, short enough for a message.
fn brief(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_default).collect()
}
