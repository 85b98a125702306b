//! Which columns of one's own data make the queries and the golds.

use polars::prelude::*;
use serde_json::Value;

use super::read::{Reason, Record};
use crate::display::{Bundle, Show, quoted};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::prompt::Example;

/// Which columns of a file or a frame make the queries and the golds; unless said, those called `query` and `gold`.
///
/// ```
/// use ia2::dataset::{Columns, Task};
/// use polars::prelude::*;
///
/// let frame = df!("sentence" => ["fine", "dull"], "stars" => [5, 1])?;
/// let columns = Columns::named("sentence", "stars").template("Text:{sentence}\nLabel:");
/// let task = Task::from_frame_with("reviews", &frame, &columns)?.labelled(["1", "5"])?;
/// assert_eq!(task.examples().rows()[0].query, "Text:fine\nLabel:");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In a template `{name}` stands for a column's text, `{{` and `}}` for braces. A query's column holds text. A gold's column holds text, whole
/// numbers or booleans, which become `0`, `1`, `true`, `false`; other numbers may be spelled in several ways, so write such golds as text. A
/// template takes text, numbers and booleans. Where no column has the very name, case does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    query: Made,
    gold: Made,
}

/// How a text is made of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Made {
    Column(String),
    Template(String),
}

impl Default for Columns {
    fn default() -> Self {
        Self::named("query", "gold")
    }
}

impl Columns {
    /// The column that holds the queries, and the one that holds the golds.
    pub fn named(query: &str, gold: &str) -> Self {
        Self { query: Made::Column(query.into()), gold: Made::Column(gold.into()) }
    }

    /// Makes each query of this template, such as `"Premise:{premise}\nHypothesis:{hypothesis}\nLabel:"`, in place of one column's text.
    pub fn template(mut self, template: &str) -> Self {
        self.query = Made::Template(template.into());
        self
    }

    /// Makes each gold of this template, such as `"{rationale}\n#### {answer}"`, in place of one column's text.
    pub fn gold_template(mut self, template: &str) -> Self {
        self.gold = Made::Template(template.into());
        self
    }

    /// Refuses templates that cannot be read.
    pub(super) fn check(&self) -> Result<()> {
        for made in [&self.query, &self.gold] {
            made.columns().map_err(Error::input)?;
        }
        Ok(())
    }

    pub(super) fn example(&self, record: &Record) -> std::result::Result<Example, Reason> {
        let query = match &self.query {
            Made::Column(name) => record.text(name)?.to_owned(),
            Made::Template(template) => filled(template, record)?,
        };
        let gold = match &self.gold {
            Made::Column(name) => record.class(name)?,
            Made::Template(template) => filled(template, record)?,
        };
        Ok(Example::new(query, gold))
    }

    /// The rows of a frame.
    ///
    /// # Errors
    /// A column that is missing or cannot be text; the row (from 0) where a value is missing.
    pub(super) fn examples(&self, frame: &DataFrame) -> Result<Vec<Example>> {
        let mut columns: Vec<&Column> = Vec::new();
        for wanted in self.query.columns().and_then(|query| Ok([query, self.gold.columns()?].concat())).map_err(Error::input)? {
            let alike = || frame.columns().iter().find(|column| column.name().to_lowercase() == wanted.to_lowercase());
            let names = || quoted(frame.get_column_names());
            let column = frame.column(&wanted).ok().or_else(alike);
            let column = column.ok_or_else(|| Error::input(format!("there is no column `{wanted}`; there are {}", names())))?;
            let kind = column.dtype();
            if !(kind.is_string() || kind.is_bool() || kind.is_primitive_numeric()) {
                return Err(Error::input(format!("the column `{wanted}` must hold text, numbers or booleans, it is {kind}")));
            }
            columns.push(column);
        }
        let row = |row: usize| -> Result<Example> {
            interrupt::check()?;
            let fields =
                columns.iter().map(|column| Ok((column.name().to_string(), value(&column.get(row)?)))).collect::<Result<Vec<_>>>()?;
            self.example(&Record::of_values(fields)).map_err(|reason| Error::input(format!("row {row}: {reason}")))
        };
        (0..frame.height()).map(row).collect()
    }
}

impl Made {
    /// The columns it is made of.
    fn columns(&self) -> std::result::Result<Vec<String>, Reason> {
        let template = match self {
            Self::Column(name) => return Ok(vec![name.clone()]),
            Self::Template(template) => template,
        };
        let mut names = Vec::new();
        walk(template, &mut |piece| {
            if let Piece::Column(name) = piece {
                names.push(name.to_owned());
            }
            Ok(())
        })?;
        match names.is_empty() {
            true => Err(format!("the template {template:?} names no column: write for example `Text:{{sentence}}`")),
            false => Ok(names),
        }
    }
}

enum Piece<'a> {
    Text(&'a str),
    Column(&'a str),
}

fn filled(template: &str, record: &Record) -> std::result::Result<String, Reason> {
    let mut out = String::new();
    walk(template, &mut |piece| {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Column(name) => out.push_str(&record.spelled(name)?),
        }
        Ok(())
    })?;
    Ok(out)
}

/// The pieces of a template in their order.
fn walk<'a>(template: &'a str, each: &mut dyn FnMut(Piece<'a>) -> std::result::Result<(), Reason>) -> std::result::Result<(), Reason> {
    let wrong = |what: &str| format!("the template {template:?} {what}: columns stand as `{{name}}`, and `{{{{` and `}}}}` are braces");
    let mut rest = template;
    while let Some(place) = rest.find(['{', '}']) {
        each(Piece::Text(&rest[..place]))?;
        let (brace, after) = (&rest[place..place + 1], &rest[place + 1..]);
        rest = match after.strip_prefix(brace) {
            Some(behind) => {
                each(Piece::Text(brace))?;
                behind
            }
            None if brace == "}" => return Err(wrong("has a `}` too many")),
            None => {
                let (name, behind) = after.split_once('}').ok_or_else(|| wrong("has a `{` without its `}`"))?;
                if name.is_empty() || name.contains('{') {
                    return Err(wrong("has a `{` without a column's name"));
                }
                each(Piece::Column(name))?;
                behind
            }
        };
    }
    each(Piece::Text(rest))
}

/// A cell as JSON has it.
fn value(cell: &AnyValue<'_>) -> Value {
    match cell {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => (*value).into(),
        AnyValue::String(text) => (*text).into(),
        AnyValue::StringOwned(text) => text.as_str().into(),
        // By its shortest spelling: widened bit by bit, 0.1 would become 0.10000000149.
        AnyValue::Float32(value) => value.to_string().parse().unwrap_or(f64::from(*value)).into(),
        AnyValue::Float64(value) => (*value).into(),
        other => other.extract::<i64>().map(Value::from).or_else(|| other.extract::<u64>().map(Value::from)).unwrap_or(Value::Null),
    }
}

impl Show for Columns {
    fn bundle(&self) -> Bundle {
        let said = |made: &Made| match made {
            Made::Column(name) => format!("the column `{name}`"),
            Made::Template(template) => format!("{template:?}"),
        };
        Bundle::text(format!("Columns(query: {}, gold: {})", said(&self.query), said(&self.gold)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record::of(serde_json::from_str(text).unwrap()).unwrap_or_else(|reason| panic!("{reason}"))
    }

    #[test]
    fn templates_take_columns_and_braces() {
        let row = record(r#"{"premise": "a {b}", "n": 3, "share": 0.25, "ok": true, "none": null, "list": [1]}"#);
        let made = |template: &str| Columns::named("q", "ok").template(template).example(&row).map(|made| made.query);
        assert_eq!(made("P:{premise}\nn={n} {share} {ok} {{x}}:").unwrap(), "P:a {b}\nn=3 0.25 true {x}:");
        assert_eq!(made("{N}").unwrap(), "3", "case does not count");
        assert!(made("{none}").unwrap_err().contains("it is null"));
        assert!(made("{list}").unwrap_err().contains("must be text, a number"));
        assert!(made("{other}").unwrap_err().contains("no `other`; there are"));
        for (template, word) in
            [("{a", "without its `}`"), ("a}", "too many"), ("{}", "without a column's name"), ("plain", "names no column")]
        {
            let error = Columns::default().template(template).check().unwrap_err();
            assert!(error.is_input() && error.to_string().contains(word), "{error}");
            assert!(Columns::default().gold_template(template).check().is_err());
        }
        assert!(Columns::default().check().is_ok());
    }

    #[test]
    fn golds_are_texts_whole_numbers_and_booleans() {
        let gold = |gold: &str| Columns::default().example(&record(&format!(r#"{{"query": "q", "gold": {gold}}}"#))).map(|row| row.gold);
        assert_eq!([r#""a""#, "0", "-3", "true", "false"].map(|text| gold(text).unwrap()), ["a", "0", "-3", "true", "false"]);
        assert!(gold("0.5").unwrap_err().contains("it is 0.5") && gold("null").unwrap_err().contains("it is null"));
        let both = record(r#"{"query": "q", "why": "1+1", "result": 2}"#);
        assert_eq!(Columns::default().gold_template("{why}\n#### {result}").example(&both).unwrap().gold, "1+1\n#### 2");
    }

    #[test]
    fn frames_of_every_kind_of_column() {
        let frame = df!("Text" => ["a", "b"], "n" => [1u32, 2], "half" => [0.1f32, 0.5], "ok" => [Some(true), None]).unwrap();
        let rows = |columns: Columns| columns.examples(&frame);
        let golds = |rows: Vec<Example>| rows.into_iter().map(|row| row.gold).collect::<Vec<_>>();
        assert_eq!(golds(rows(Columns::named("Text", "n")).unwrap()), ["1", "2"]);
        let made = rows(Columns::named("-", "n").template("{text} {half}")).unwrap();
        assert_eq!(made[0], Example::new("a 0.1", "1"));
        assert!(rows(Columns::named("Text", "ok")).unwrap_err().to_string().contains("row 1: `ok` must be text"));
        assert!(rows(Columns::named("n", "ok")).unwrap_err().to_string().contains("row 0: `n` must be a string, it is 1"));
        assert!(rows(Columns::named("Text", "gone")).unwrap_err().to_string().contains("there is no column `gone`; there are `Text`"));
        let list = df!("query" => ["a"], "gold" => [Series::new("".into(), [1i64])]).unwrap();
        let error = Columns::default().examples(&list).unwrap_err().to_string();
        assert!(error.contains("the column `gold` must hold text"), "{error}");
    }
}
