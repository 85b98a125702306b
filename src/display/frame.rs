//! Frames as tables, in text and in HTML with the same cells.

use polars::prelude::*;

use super::{Bundle, Show, escape, more, number, shortened};
use crate::error::Result;

/// Rows, columns and characters per cell that one frame shows.
const ROWS: usize = 40;
/// Rows below a heading: there the frame is a glimpse, and `frame()` has it whole.
const HEADED_ROWS: usize = 10;
const COLUMNS: usize = 20;
const CHARACTERS: usize = 60;
/// The most that a column of plain text is padded to; what is wider stands out.
const WIDEST: usize = 200;

/// A table of ready-made text: a heading of several lines per column, and rows of cells.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    /// One list of lines per column: the name, then the kind.
    pub heading: Vec<Vec<String>>,
    /// Columns whose cells end at the right edge, as numbers do.
    pub right: Vec<bool>,
    pub rows: Vec<Vec<String>>,
    /// Lines below the table, on what was left out and on the whole.
    pub notes: Vec<String>,
}

impl Grid {
    /// Columns padded to a common width, two spaces apart.
    pub(crate) fn plain(&self) -> String {
        let width = |text: &String| text.chars().count();
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| {
                let heading = self.heading.get(column).into_iter().flatten();
                heading.chain(self.rows.iter().filter_map(|row| row.get(column))).map(width).max().unwrap_or(0).min(WIDEST)
            })
            .collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().enumerate().map(|(column, cell)| {
                // By hand: a format's width ends at 65,535, and what is wider panics.
                let air = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                if self.right[column] { air + cell } else { format!("{cell}{air}") }
            });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let depth = self.heading.iter().map(Vec::len).max().unwrap_or(0);
        let mut lines: Vec<String> =
            (0..depth).map(|at| line(self.heading.iter().map(|lines| lines.get(at).map_or("", String::as_str)).collect())).collect();
        if depth > 0 {
            lines.push(widths.iter().map(|&width| "─".repeat(width)).collect::<Vec<_>>().join("  "));
        }
        lines.extend(self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
        lines.extend(self.notes.iter().cloned());
        lines.join("\n")
    }

    /// A bare table; alignment by attribute, because styles are stripped where notebooks are shown.
    pub(crate) fn html(&self) -> String {
        let mut out = String::from("<table>\n");
        if !self.heading.is_empty() {
            out.push_str("<thead><tr>");
            for (column, lines) in self.heading.iter().enumerate() {
                let (name, rest) = lines.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
                let rest: String = rest.iter().map(|line| format!("<br><small>{}</small>", escape(line))).collect();
                out.push_str(&table_cell("th", self.right[column], &format!("{}{rest}", escape(name))));
            }
            out.push_str("</tr></thead>\n");
        }
        out.push_str("<tbody>\n");
        for row in &self.rows {
            let cells: String = row.iter().enumerate().map(|(column, cell)| table_cell("td", self.right[column], &escape(cell))).collect();
            out.push_str(&format!("<tr>{cells}</tr>\n"));
        }
        out.push_str("</tbody></table>\n");
        let notes: Vec<String> = self.notes.iter().map(|note| escape(note)).collect();
        if !notes.is_empty() {
            out.push_str(&format!("<small>{}</small>\n", notes.join("<br>")));
        }
        out
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle { plain: self.plain(), html: Some(self.html()), ..Bundle::default() }
    }
}

impl Show for DataFrame {
    fn bundle(&self) -> Bundle {
        grid(self, ROWS).bundle()
    }
}

/// A frame's first `most` rows as a table.
fn grid(frame: &DataFrame, most: usize) -> Grid {
    let shown = frame.height().min(most);
    let columns: Vec<&Column> = frame.columns().iter().take(COLUMNS).collect();
    let cells: Vec<Vec<String>> = columns.iter().map(|column| cells(column, shown)).collect();
    let mut notes: Vec<String> =
        [more(frame.height(), most, "row"), more(frame.width(), COLUMNS, "column")].into_iter().flatten().collect();
    notes.push(format!("{} × {}", count(frame.height(), "row"), count(frame.width(), "column")));
    Grid {
        heading: columns.iter().map(|column| vec![shortened(column.name(), CHARACTERS), kind(column.dtype())]).collect(),
        right: columns.iter().map(|column| column.dtype().is_primitive_numeric()).collect(),
        rows: (0..shown).map(|row| cells.iter().map(|column| column[row].clone()).collect()).collect(),
        notes,
    }
}

/// Lines that say what a value is, above the first rows of its frame: how this crate's own values show themselves.
///
/// A frame that could not be made is named in the table's place.
pub(crate) fn headed(heading: &str, frame: Result<DataFrame>) -> Bundle {
    let body = match frame {
        Ok(frame) => grid(&frame, HEADED_ROWS).bundle(),
        Err(error) => error.bundle(),
    };
    let lines = heading.lines().map(escape).collect::<Vec<_>>().join("<br>");
    let rest = body.html.unwrap_or_else(|| format!("<pre>{}</pre>", escape(&body.plain)));
    Bundle { plain: format!("{heading}\n\n{}", body.plain), html: Some(format!("<p>{lines}</p>\n{rest}")), ..Bundle::default() }
}

impl Show for Column {
    fn bundle(&self) -> Bundle {
        self.clone().into_frame().bundle()
    }
}

impl Show for Series {
    fn bundle(&self) -> Bundle {
        self.clone().into_frame().bundle()
    }
}

/// What `frame.column("n")?.i64()?` gives.
impl<T: PolarsDataType> Show for ChunkedArray<T>
where
    Self: IntoSeries,
{
    fn bundle(&self) -> Bundle {
        self.slice(0, self.len()).into_series().bundle()
    }
}

/// The first `rows` cells of a column as text.
fn cells(column: &Column, rows: usize) -> Vec<String> {
    let values: Vec<AnyValue<'_>> = (0..rows).map(|row| column.get(row).unwrap_or(AnyValue::Null)).collect();
    if column.dtype().is_float() {
        let floats: Vec<Option<f64>> = values.iter().map(|value| value.extract::<f64>()).collect();
        return number::column(&floats);
    }
    values
        .iter()
        .map(|value| match value {
            AnyValue::Null => "null".to_owned(),
            AnyValue::String(text) => shortened(text, CHARACTERS),
            AnyValue::StringOwned(text) => shortened(text, CHARACTERS),
            other => shortened(&other.to_string(), CHARACTERS),
        })
        .collect()
}

/// polars abbreviates its kinds (`str`, `f64`, `bool`); so does every frame its users have seen.
fn kind(kind: &DataType) -> String {
    kind.to_string()
}

fn count(number: usize, unit: &str) -> String {
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

/// A cell of an HTML table. What stands in a left one is aligned once more: Jupyter's style sheets set all cells to the right, over their `align`.
pub(crate) fn table_cell(tag: &str, right: bool, content: &str) -> String {
    match right {
        true => format!("<{tag} align=\"right\">{content}</{tag}>"),
        false => format!("<{tag} align=\"left\"><div align=\"left\">{content}</div></{tag}>"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> DataFrame {
        df!(
            "method" => ["ICL", "SFT only", "IA2 → <SFT>"],
            "accuracy" => [Some(0.91666), None, Some(1.0)],
            "step" => [1i64, 20, 300],
            "best" => [false, false, true]
        )
        .unwrap()
    }

    #[test]
    fn text_is_an_aligned_table() {
        let expected = "\
method       accuracy  step  best
str               f64   i64  bool
───────────  ────────  ────  ─────
ICL            0.9167     1  false
SFT only         null    20  false
IA2 → <SFT>    1.0000   300  true
3 rows × 4 columns";
        assert_eq!(results().bundle().plain, expected);
    }

    #[test]
    fn html_needs_no_styles_and_is_escaped() {
        let html = results().bundle().html.unwrap();
        assert!(html.contains("<th align=\"right\">accuracy<br><small>f64</small></th>"), "{html}");
        assert!(
            html.contains("<td align=\"left\"><div align=\"left\">IA2 → &lt;SFT&gt;</div></td><td align=\"right\">1.0000</td>"),
            "{html}"
        );
        assert!(!html.contains("style") && !html.contains("class"));
    }

    #[test]
    fn a_heading_stands_above_a_glimpse() {
        let frame = df!("row" => (0..30).collect::<Vec<i32>>()).unwrap();
        let bundle = headed("Examples of <a>\nsecond line", Ok(frame));
        assert!(bundle.plain.starts_with("Examples of <a>\nsecond line\n\nrow\ni32\n"), "{}", bundle.plain);
        assert!(bundle.plain.ends_with("… 20 more rows\n30 rows × 1 column"));
        assert!(bundle.html.unwrap().starts_with("<p>Examples of &lt;a&gt;<br>second line</p>\n<table>"));
        let broken = headed("Examples", Err(crate::Error::input("no <frame>")));
        assert_eq!(broken.plain, "Examples\n\nerror: no <frame>");
        assert!(broken.html.unwrap().contains("<pre>error: no &lt;frame&gt;</pre>"));
    }

    #[test]
    fn rows_columns_and_cells_are_capped_and_said() {
        let long = "x".repeat(500);
        let columns = (0..30).map(|at| Column::new(format!("c{at}").into(), vec![long.as_str(); 160])).collect();
        let bundle = DataFrame::new(160, columns).unwrap().bundle();
        assert!(bundle.plain.ends_with("… 120 more rows\n… 10 more columns\n160 rows × 30 columns"));
        assert!(bundle.plain.lines().all(|line| line.chars().count() <= COLUMNS * (CHARACTERS + 2)));
        assert!(bundle.html.unwrap().contains("… 120 more rows"));
    }

    #[test]
    fn empty_frames_lists_and_series_show_too() {
        assert_eq!(DataFrame::empty().bundle().plain, "0 rows × 0 columns");
        let none = df!("a" => Vec::<f64>::new()).unwrap().bundle().plain;
        assert_eq!(none, "  a\nf64\n───\n0 rows × 1 column");
        let list = Series::new("tokens".into(), [Series::new("".into(), [1i64, 2, 3])]);
        assert!(list.bundle().plain.contains("[1, 2, 3]"), "{}", list.bundle().plain);
        let line = df!("prompt" => ["Text: a\nLabel:"]).unwrap().bundle().plain;
        assert!(line.contains("Text: a⏎Label:"));
    }
}
