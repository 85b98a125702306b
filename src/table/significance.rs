//! The table of a study's tests: what was compared, statistic, p, corrected p and effect, one row per test.

use polars::prelude::*;

use super::keys;
use super::summary::column;
use super::value::{Cell, Table};
use super::words::words;
use crate::error::{Error, Result};
use crate::frame::{below, maybe_numbers};

/// What `statistics::compare` calls a test's columns: its name here, then statistic, p, corrected p and effect, and what the last is called.
const COMPARED: [(&str, [&str; 4], &str); 2] =
    [("paired t", ["t", "p_t", "p_t_holm", "d_z"], "d_z"), ("Wilcoxon", ["w", "p_wilcoxon", "p_wilcoxon_holm", "rank_biserial"], "r_rb")];

/// Tests as a table: `test`, `statistic`, `p`, `p_holm` (corrected), `effect`, after the columns that say what was compared. In bold: a
/// corrected p below `level`, a share in (0, 1), as a rule 0.05.
///
/// All numbers of a column have the same decimals: as many as show three digits of its span. The columns `lower` and `upper` are one, the interval.
///
/// Takes a frame of those five columns (`test` is text, the others numbers; null where a test is not defined), whose other columns stand on
/// the left, but floats after the test; or the frame of `statistics::compare`, which has its tests side by side and becomes one row per
/// test. The table's frame is long in both cases, and keeps all digits. Of the latter a note says what the tests assume; `compare` refuses to pool nested N.
///
/// # Errors
/// A column is missing (the message lists those there are) or of another kind, a p lies outside [0, 1], the frame has no rows, the level is
/// not in (0, 1).
pub fn significance(frame: &DataFrame, level: f64) -> Result<Table> {
    if !(level > 0.0 && level < 1.0) {
        return Err(Error::input(format!("table: a level of significance lies in (0, 1), {level} does not")));
    }
    if frame.height() == 0 {
        return Err(Error::input("table: the frame has no rows: was everything filtered away?"));
    }
    let side_by_side = frame.column("p_t").is_ok() || frame.column("p_wilcoxon").is_ok();
    let long = if side_by_side { long(frame)? } else { frame.clone() };
    let number = |name: &str| -> Result<Vec<Option<f64>>> {
        let numbers = maybe_numbers(&long, name).map_err(|error| error.context("table"))?;
        Ok(numbers.into_iter().map(|number| number.filter(|number| number.is_finite())).collect())
    };
    let tests = column(&long, "test")?;
    let (statistic, p, p_holm, effect) = (number("statistic")?, number("p")?, number("p_holm")?, number("effect")?);
    if let Some(wrong) = p.iter().chain(&p_holm).flatten().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(Error::input(format!("table: a p of {wrong} is outside [0, 1]")));
    }
    let measured = ["test", "statistic", "p", "p_holm", "effect", "effect_name", "note"];
    let others = || long.columns().iter().filter(|column| !measured.contains(&column.name().as_str()));
    let named: Vec<&Column> = others().filter(|column| !column.dtype().is_float()).collect();
    let mut floats: Vec<(String, Vec<Vec<Option<f64>>>)> = Vec::new();
    for column in others().filter(|column| column.dtype().is_float()) {
        let own = number(column.name())?;
        match (floats.last_mut(), column.name().as_str()) {
            (Some((name, parts)), "upper") if name == "lower" => {
                *name = if side_by_side { "t interval" } else { "interval" }.to_owned();
                parts.push(own);
            }
            _ => floats.push((words(column.name()), vec![own])),
        }
    }
    let styles: Vec<usize> = floats.iter().map(|(_, parts)| style(parts.iter().flatten(), 3)).collect();
    // The ends of an interval are read against what stands before it.
    let styles: Vec<usize> = (0..styles.len())
        .map(|at| match floats.get(at + 1) {
            Some((_, next)) if next.len() == 2 => styles[at].max(styles[at + 1]),
            _ if at > 0 && floats[at].1.len() == 2 => styles[at].max(styles[at - 1]),
            _ => styles[at],
        })
        .collect();
    let (of_statistic, of_effect) = (style(statistic.iter(), 2), style(effect.iter(), 2));
    let effect_names = long.column("effect_name").ok();
    let shown = |number: Option<f64>, decimals: usize| {
        number.map_or_else(|| "–".to_owned(), |number| super::signed(format!("{number:.decimals$}")))
    };
    let rows = (0..long.height()).map(|row| -> Result<Vec<Cell>> {
        let texts = named.iter().copied().chain([tests]).map(|column| {
            let text = keys::text(&column.get(row)?);
            // A metric is a column's name.
            Ok(Cell::plain(if matches!(column.name().as_str(), "value" | "metric") { words(&text) } else { text }))
        });
        let mut cells: Vec<Cell> = texts.collect::<Result<_>>()?;
        for ((_, parts), decimals) in floats.iter().zip(&styles) {
            cells.push(Cell::plain(parts.iter().map(|part| shown(part[row], *decimals)).collect::<Vec<_>>().join(" to ")));
        }
        cells.push(Cell::plain(shown(statistic[row], of_statistic)));
        cells.push(Cell::plain(share(p[row])));
        cells.push(Cell { text: share(p_holm[row]), bold: p_holm[row].is_some_and(|p| p < level) });
        let name = effect_names.map(|names| Ok::<_, Error>(format!("{} = ", keys::text(&names.get(row)?)))).transpose()?;
        cells.push(Cell::plain(match effect[row] {
            Some(_) => name.unwrap_or_default() + &shown(effect[row], of_effect),
            None => "–".to_owned(),
        }));
        Ok(cells)
    });
    let head = |column: &&Column| words(column.name());
    let last = ["statistic", "p", "p (Holm)", "effect"].map(str::to_owned);
    let mut notes = vec![format!("bold: p corrected by Holm's method below {level}; –: not defined")];
    if long.column("averaged").is_ok() {
        notes.push(
            "a pair is a run: the mean of its differences over models, tasks, N and adapters (averaged: how many differences, in all runs)"
                .into(),
        );
    }
    if side_by_side {
        notes.push(
            "assumes that pairs are independent, and differences normal (t) or symmetric (Wilcoxon); test rows are not resampled: \
             `study.evidence()` has intervals over runs and rows"
                .into(),
        );
    }
    let heads = named.iter().map(head).chain(["test".to_owned()]).chain(floats.iter().map(|(name, _)| name.clone())).chain(last);
    Ok(Table {
        caption: None,
        label: None,
        headings: vec![heads.collect()],
        keys: named.len() + 1,
        rows: rows.collect::<Result<_>>()?,
        notes,
        frame: long,
    })
}

/// The decimals of a column of these numbers, `usual` where they do not differ.
fn style<'a>(numbers: impl Iterator<Item = &'a Option<f64>>, usual: usize) -> usize {
    super::decimals(numbers.flatten().copied()).unwrap_or(usual).min(6)
}

/// A p as papers write it.
pub(crate) fn share(p: Option<f64>) -> String {
    match p {
        None => "–".to_owned(),
        Some(p) if p < 0.001 => "< 0.001".to_owned(),
        Some(p) => format!("{p:.3}"),
    }
}

/// One row per comparison and test.
fn long(frame: &DataFrame) -> Result<DataFrame> {
    let mut whole: Option<DataFrame> = None;
    for (test, [statistic, p, p_holm, effect], effect_name) in COMPARED {
        let mut columns = Vec::new();
        for name in ["first", "second", "value", "pairs", "difference", "lower", "upper"] {
            columns.push(column(frame, name)?.clone());
        }
        // Of a study: how many differences the pairs are means of.
        columns.extend(frame.column("averaged").ok().cloned());
        columns.push(Column::new("test".into(), vec![test; frame.height()]));
        for (name, from) in [("statistic", statistic), ("p", p), ("p_holm", p_holm), ("effect", effect)] {
            columns.push(column(frame, from)?.clone().with_name(name.into()));
        }
        columns.push(Column::new("effect_name".into(), vec![effect_name; frame.height()]));
        let part = DataFrame::new(frame.height(), columns)?;
        whole = below(whole, part)?;
    }
    let whole = whole.ok_or_else(|| Error::internal("no tests are known"))?;
    // The tests of one comparison stand together.
    let order: Vec<u32> = (0..frame.height() as u32).flat_map(|row| [row, row + frame.height() as u32]).collect();
    Ok(whole.take(&IdxCa::from_vec("order".into(), order))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_rows_and_small_p_bold() {
        let frame = df!(
            "comparison" => ["SFT / IA2 → SFT", "SFT / IA2"], "n" => [50i64, 50], "test" => ["paired t", "Wilcoxon"],
            "statistic" => [Some(4.25), None], "p" => [Some(0.0000941), None], "p_holm" => [Some(0.00019), None], "effect" => [Some(-0.601), None]
        )
        .unwrap();
        let table = significance(&frame, 0.05).unwrap();
        let expected = "| comparison | n | test | statistic | p | p (Holm) | effect |\n| --- | --- | --- | ---: | ---: | ---: | ---: |\n\
                        | SFT / IA2 → SFT | 50 | paired t | 4.25 | < 0.001 | **< 0.001** | −0.60 |\n\
                        | SFT / IA2 | 50 | Wilcoxon | – | – | – | – |\n";
        assert!(table.markdown().starts_with(expected), "{}", table.markdown());
        assert_eq!(table.frame(), &frame);
    }

    #[test]
    fn comparisons_side_by_side_become_rows() {
        let frame = df!(
            "first" => ["SFT", "SFT"], "second" => ["IA2", "ICL"], "value" => ["ece_equal_width_15"; 2], "pairs" => [8u32; 2], "mean_first" => [0.5; 2],
            "mean_second" => [0.6; 2], "difference" => [0.1, 0.2], "lower" => [0.01, -0.1], "upper" => [0.2, 0.4], "t" => [2.5, 1.0], "p_t" => [0.04, 0.3], "d_z" => [0.9, 0.4],
            "w" => [3.0, 9.0], "p_wilcoxon" => [0.05, 0.5], "rank_biserial" => [0.8, 0.1], "p_t_holm" => [0.08, 0.3], "p_wilcoxon_holm" => [0.1, 0.5]
        )
        .unwrap();
        let table = significance(&frame, 0.1).unwrap();
        assert_eq!(table.frame().height(), 4);
        let text = table.markdown();
        let first =
            "| SFT | IA2 | ECE (15 equal-width bins) | 8 | paired t | 0.100 | 0.010 to 0.200 | 2.50 | 0.040 | **0.080** | d_z = 0.900 |\n";
        let second = "| SFT | IA2 | ECE (15 equal-width bins) | 8 | Wilcoxon | 0.100 | 0.010 to 0.200 | 3.00 | 0.050 | 0.100 |";
        assert!(text.contains(first) && text.contains(second) && text.contains("| difference | t interval | statistic |"), "{text}");
    }

    #[test]
    fn an_interval_is_read_against_what_it_is_of() {
        let shown = |values: [f64; 2], ends: [f64; 2]| {
            let frame = df!(
                "difference" => values, "lower" => [ends[0]; 2], "upper" => [ends[1]; 2], "test" => ["t"; 2], "statistic" => [1.0; 2],
                "p" => [0.5; 2], "p_holm" => [0.5; 2], "effect" => [0.1; 2]
            );
            significance(&frame.unwrap(), 0.05).unwrap().markdown()
        };
        // As many decimals as the finer of the two needs.
        let fine = shown([0.1234, 0.1246], [-100.0, 50.0]);
        assert!(fine.contains("| 0.12340 | −100.00000 to 50.00000 |"), "{fine}");
        // Columns that do not belong together have their own.
        let apart = df!("n" => [100.0, 250.0], "share" => [0.1234, 0.1246], "test" => ["t"; 2], "statistic" => [1.0; 2], "p" => [0.5; 2], "p_holm" => [0.5; 2], "effect" => [0.1; 2]);
        let apart = significance(&apart.unwrap(), 0.05).unwrap().markdown();
        assert!(apart.contains("| 100 | 0.12340 |"), "{apart}");
        let coarse = shown([100.0, 250.0], [0.01, 0.04]);
        assert!(coarse.contains("| 100.0000 | 0.0100 to 0.0400 |"), "{coarse}");
    }

    #[test]
    fn an_upper_end_without_a_lower_one_stands_alone() {
        let frame = df!("mean" => [0.5], "upper" => [0.75], "test" => ["t"], "statistic" => [1.0], "p" => [0.5], "p_holm" => [0.5], "effect" => [0.1]);
        let text = significance(&frame.unwrap(), 0.05).unwrap().markdown();
        assert!(text.contains("| mean | upper |") && text.contains("| 0.500 | 0.750 |"), "{text}");
    }

    #[test]
    fn bad_frames_are_named() {
        let frame = df!("test" => ["t"], "statistic" => [1.0], "p" => [1.5], "p_holm" => [1.0], "effect" => [0.1]).unwrap();
        assert!(significance(&frame, 0.05).unwrap_err().to_string().contains("a p of 1.5 is outside [0, 1]"));
        assert!(significance(&frame.drop("effect").unwrap(), 0.05).unwrap_err().to_string().contains("no column `effect`; it has `test`"));
        assert!(significance(&frame, 1.0).unwrap_err().to_string().contains("level"));
        assert!(significance(&frame.head(Some(0)), 0.05).unwrap_err().to_string().contains("no rows"));
    }
}
