//! The finished table as a value: shown in a notebook, written as Markdown, LaTeX or CSV, and the frame behind it.

use std::fmt;
use std::path::Path;

use polars::prelude::*;

use crate::display::{Bundle, Grid, Show, escape, table_cell};
use crate::error::{Error, Result};
use crate::file;

/// What one cell says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cell {
    pub text: String,
    pub bold: bool,
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), bold: false }
    }
}

/// A table as a paper prints it, with the numbers behind it.
#[derive(Clone)]
pub struct Table {
    pub(super) caption: Option<String>,
    pub(super) label: Option<String>,
    /// Lines of headings, the uppermost first, each with a text per column; neighbours that say the same are one heading above several
    /// columns, except in the lowest line.
    pub(super) headings: Vec<Vec<String>>,
    /// The columns on the left that name the rows.
    pub(super) keys: usize,
    pub(super) rows: Vec<Vec<Cell>>,
    pub(super) notes: Vec<String>,
    pub(super) frame: DataFrame,
}

impl Table {
    /// Of cells that are written already, each with whether it is bold, in one line of headings of which the first `keys` name rows.
    pub(crate) fn of(
        caption: Option<&str>,
        headings: &[&str],
        keys: usize,
        rows: Vec<Vec<(String, bool)>>,
        notes: &[String],
        frame: &DataFrame,
    ) -> Self {
        let rows = rows.into_iter().map(|row| row.into_iter().map(|(text, bold)| Cell { text, bold }).collect()).collect();
        let headings = vec![headings.iter().map(|heading| (*heading).to_owned()).collect()];
        Self { caption: caption.map(str::to_owned), label: None, headings, keys, rows, notes: notes.to_vec(), frame: frame.clone() }
    }

    /// The numbers behind the table, long: one row per cell, with the columns its maker documents.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// The same table below this caption, in every form.
    pub fn caption(mut self, text: &str) -> Self {
        self.caption = Some(text.to_owned());
        self
    }

    /// What LaTeX refers to the table by: `\label{..}` after its caption. Other forms do not show it.
    pub fn label(mut self, name: &str) -> Self {
        self.label = Some(name.to_owned());
        self
    }

    /// The table in Markdown, with the best in `**bold**`.
    pub fn markdown(&self) -> String {
        let clean = |text: &str| text.replace('|', "\\|").replace('*', "\\*");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = self.caption.as_ref().map_or_else(String::new, |caption| format!("{}\n\n", clean(caption)));
        out.push_str(&line(self.joined_headings().iter().map(|text| clean(text)).collect()));
        out.push_str(&line((0..self.width()).map(|column| if column < self.keys { "---" } else { "---:" }.to_owned()).collect()));
        for row in &self.rows {
            let bold = |cell: &Cell| if cell.bold { format!("**{}**", clean(&cell.text)) } else { clean(&cell.text) };
            out.push_str(&line(row.iter().map(bold).collect()));
        }
        self.notes.iter().for_each(|note| out.push_str(&format!("\n{}\n", clean(note))));
        out
    }

    /// The table in LaTeX, for the package `booktabs`, with the best in `\textbf`, its `\caption` and `\label`, and a rule below each group heading.
    pub fn latex(&self) -> String {
        let columns: String = (0..self.width()).map(|column| if column < self.keys { 'l' } else { 'r' }).collect();
        let mut out = String::from("% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n");
        if let Some(caption) = &self.caption {
            out.push_str(&format!("\\caption{{{}}}\n", latex(caption)));
        }
        if let Some(label) = &self.label {
            // A label is a name, not a text: what names cannot hold is left out.
            let name: String = label.chars().filter(|letter| letter.is_ascii_alphanumeric() || ":-_.+/".contains(*letter)).collect();
            out.push_str(&format!("\\label{{{name}}}\n"));
        }
        out.push_str(&format!("\\begin{{tabular}}{{{columns}}}\n\\toprule\n"));
        for level in 0..self.headings.len() {
            let cells = self.spans(level).into_iter().map(|(text, wide)| match wide {
                1 => latex(&text),
                wide => format!("\\multicolumn{{{wide}}}{{c}}{{{}}}", latex(&text)),
            });
            out.push_str(&format!("{} \\\\\n", cells.collect::<Vec<_>>().join(" & ")));
            let mut from = 1;
            let rules = self.spans(level).into_iter().filter_map(|(_, wide)| {
                from += wide;
                (wide > 1).then(|| format!("\\cmidrule(lr){{{}-{}}}", from - wide, from - 1))
            });
            let rules: String = rules.collect();
            if !rules.is_empty() {
                out.push_str(&format!("{rules}\n"));
            }
        }
        out.push_str("\\midrule\n");
        for (at, row) in self.shown_rows().into_iter().enumerate() {
            if at > 0 && self.keys > 1 && !row[0].text.is_empty() {
                out.push_str("\\midrule\n");
            }
            let bold = |cell: &Cell| if cell.bold { format!("\\textbf{{{}}}", latex(&cell.text)) } else { latex(&cell.text) };
            out.push_str(&format!("{} \\\\\n", row.iter().map(bold).collect::<Vec<_>>().join(" & ")));
        }
        out.push_str("\\bottomrule\n\\end{tabular}\n");
        self.notes.iter().for_each(|note| out.push_str(&format!("\n{{\\footnotesize {}}}\n", latex(note))));
        out.push_str("\\end{table}\n");
        out
    }

    /// [`Table::frame`] in CSV, at full precision, for other programs.
    ///
    /// # Errors
    /// None that is known: the frame holds only text, numbers and booleans.
    pub fn csv(&self) -> Result<String> {
        let mut bytes = Vec::new();
        CsvWriter::new(&mut bytes).finish(&mut self.frame.clone())?;
        String::from_utf8(bytes).map_err(|error| Error::internal("a table's CSV is not text").because(error))
    }

    /// Writes the table to a file, by the path's extension as Markdown (`.md`), LaTeX (`.tex`) or [`Table::csv`] (`.csv`). A file that was
    /// there is replaced whole or not at all.
    ///
    /// # Errors
    /// The extension is none of these, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        let text = match extension.as_deref() {
            Some("md") => self.markdown(),
            Some("tex") => self.latex(),
            Some("csv") => self.csv()?,
            _ => return Err(Error::input(format!("table: `{}` ends in none of .md, .tex and .csv", path.display()))),
        };
        file::write(path, text.as_bytes())
    }

    fn width(&self) -> usize {
        self.headings.last().map_or(0, Vec::len)
    }

    /// One heading per column, its lines joined.
    fn joined_headings(&self) -> Vec<String> {
        let lines = |column: usize| self.headings.iter().map(move |line| line[column].as_str()).filter(|text| !text.is_empty());
        (0..self.width()).map(|column| lines(column).collect::<Vec<_>>().join(", ")).collect()
    }

    /// The headings of one line with the number of columns that each stands above.
    fn spans(&self, level: usize) -> Vec<(String, usize)> {
        let merge = level + 1 < self.headings.len();
        let mut out: Vec<(String, usize)> = Vec::new();
        for (column, text) in self.headings[level].iter().enumerate() {
            // What differs further up cannot be one heading here.
            let same = |column: usize| self.headings[..=level].iter().all(|line| line[column] == line[column - 1]);
            match out.last_mut() {
                Some((_, wide)) if merge && column > self.keys && same(column) => *wide += 1,
                _ => out.push((text.clone(), 1)),
            }
        }
        out
    }

    /// The rows, without the names that only repeat the row above.
    fn shown_rows(&self) -> Vec<Vec<Cell>> {
        let mut out = self.rows.clone();
        for at in (1..out.len()).rev() {
            let repeated = (0..self.keys.saturating_sub(1)).take_while(|&key| self.rows[at][key] == self.rows[at - 1][key]).count();
            out[at][..repeated].iter_mut().for_each(|cell| cell.text.clear());
        }
        out
    }

    fn plain(&self) -> String {
        let rows = self.shown_rows();
        let mark = |cell: &Cell| if cell.bold { format!("**{}**", cell.text) } else { cell.text.clone() };
        let grid = Grid {
            heading: (0..self.width()).map(|column| self.headings.iter().map(|line| line[column].clone()).collect()).collect(),
            right: (0..self.width()).map(|column| column >= self.keys).collect(),
            rows: rows.iter().map(|row| row.iter().map(mark).collect()).collect(),
            notes: self.notes.clone(),
        };
        self.caption.as_ref().map_or_else(String::new, |caption| format!("{caption}\n\n")) + &grid.plain()
    }

    /// Bare: styles are stripped where notebooks are shown.
    fn html(&self) -> String {
        let right = |column: usize| column >= self.keys;
        let mut out = String::from("<table>\n");
        if let Some(caption) = &self.caption {
            out.push_str(&format!("<caption>{}</caption>\n", escape(caption)));
        }
        out.push_str("<thead>\n");
        for level in 0..self.headings.len() {
            let mut column = 0;
            out.push_str("<tr>");
            for (text, wide) in self.spans(level) {
                out.push_str(&match wide {
                    1 => table_cell("th", right(column), &escape(&text)),
                    // JupyterLab's own styles outweigh a cell's `align`, but not that of what is in it.
                    _ => format!("<th align=\"center\" colspan=\"{wide}\"><div align=\"center\">{}</div></th>", escape(&text)),
                });
                column += wide;
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</thead>\n<tbody>\n");
        for row in self.shown_rows() {
            out.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let text = escape(&cell.text);
                let text = if cell.bold { format!("<b>{text}</b>") } else { text };
                out.push_str(&table_cell("td", right(column), &text));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table>\n");
        let notes: Vec<String> = self.notes.iter().map(|note| escape(note)).collect();
        if !notes.is_empty() {
            out.push_str(&format!("<small>{}</small>\n", notes.join("<br>")));
        }
        out
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} rows x {} columns)", self.rows.len(), self.width())
    }
}

impl Show for Table {
    fn bundle(&self) -> Bundle {
        Bundle { plain: self.plain(), html: Some(self.html()), ..Bundle::default() }
    }
}

/// Text as LaTeX prints it.
pub(crate) fn latex(text: &str) -> String {
    // Names with an index are mathematics.
    let text = text.replace("d_z", "\u{1}").replace("r_rb", "\u{2}");
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', letter]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' | '>' => out.push_str(&format!("${letter}$")),
            '*' => out.push_str("$^{*}$"),
            '\u{1}' => out.push_str("$d_z$"),
            '\u{2}' => out.push_str("$r_{\\mathrm{rb}}$"),
            '→' => out.push_str("$\\rightarrow$"),
            '−' => out.push_str("$-$"),
            '±' => out.push_str("$\\pm$"),
            '×' => out.push_str("$\\times$"),
            '–' => out.push_str("--"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let cell = |text: &str, bold: bool| Cell { text: text.into(), bold };
        let line = |texts: [&str; 4]| texts.map(str::to_owned).to_vec();
        Table {
            caption: Some("Accuracy & more".into()),
            label: Some("tab:a_b}".into()),
            headings: vec![line(["", "", "ICL", "ICL"]), line(["task", "N", "acc", "ece"])],
            keys: 2,
            rows: vec![
                vec![cell("FinS*", false), cell("2", false), cell("41.9 (1.0)", false), cell("0.19", true)],
                vec![cell("FinS*", false), cell("4", false), cell("68.4 (2.0)", true), cell("–", false)],
            ],
            notes: vec!["*: out of distribution".into()],
            frame: df!("a" => [1i64]).unwrap(),
        }
    }

    #[test]
    fn markdown_has_one_heading_and_bold() {
        let expected = "Accuracy & more\n\n| task | N | ICL, acc | ICL, ece |\n| --- | --- | ---: | ---: |\n\
                        | FinS\\* | 2 | 41.9 (1.0) | **0.19** |\n| FinS\\* | 4 | **68.4 (2.0)** | – |\n\n\\*: out of distribution\n";
        assert_eq!(table().markdown(), expected);
    }

    #[test]
    fn latex_is_escaped_and_spans_columns() {
        let text = table().latex();
        assert!(text.contains("\\begin{tabular}{llrr}") && text.contains("\\caption{Accuracy \\& more}\n\\label{tab:a_b}\n"), "{text}");
        assert!(text.contains(" &  & \\multicolumn{2}{c}{ICL} \\\\\n\\cmidrule(lr){3-4}\ntask & N & acc & ece \\\\\n"), "{text}");
        assert_eq!(latex("d_z = 1, r_rb_"), "$d_z$ = 1, $r_{\\mathrm{rb}}$\\_");
        assert!(text.contains("FinS$^{*}$ & 2 & 41.9 (1.0) & \\textbf{0.19} \\\\\n & 4 &"), "{text}");
        assert_eq!(latex("a_b → {50 %} < \\"), "a\\_b $\\rightarrow$ \\{50 \\%\\} $<$ \\textbackslash{}");
    }

    #[test]
    fn a_notebook_shows_text_and_html() {
        let bundle = table().bundle();
        let expected = "\
Accuracy & more

                     ICL       ICL
task   N             acc       ece
─────  ─  ──────────────  ────────
FinS*  2      41.9 (1.0)  **0.19**
       4  **68.4 (2.0)**         –
*: out of distribution";
        assert_eq!(bundle.plain, expected);
        let html = bundle.html.unwrap();
        assert!(
            html.contains("<th align=\"center\" colspan=\"2\"><div align=\"center\">ICL</div></th></tr>") && html.contains("<b>0.19</b>"),
            "{html}"
        );
        assert!(html.contains("<caption>Accuracy &amp; more</caption>") && !html.contains("style"));
        assert_eq!(table().csv().unwrap(), "a\n1\n");
    }
}
