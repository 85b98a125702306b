//! What a chart reads from a frame.

use polars::prelude::*;

use super::data::{Columns, Data, End};
use crate::error::Result;
use crate::plot::along::Along;
use crate::plot::settings::Settings;

fn columns(x: &str, y: &str, colour: Option<&str>) -> Columns {
    Columns { x: x.into(), y: y.into(), colour: colour.map(Into::into), ..Columns::default() }
}

fn read(frame: &DataFrame, columns: &Columns) -> Result<Data> {
    Data::read(frame, columns, &Settings::default())
}

fn panels(facet: &str, rows: Option<&str>) -> Settings {
    Settings { facet: Some(facet.into()), rows: rows.map(Into::into), ..Settings::default() }
}

#[test]
fn repeated_places_become_mean_and_standard_deviation() {
    let frame = df!("n" => [8i64, 2, 8, 8], "acc" => [0.5, 0.25, 0.7, f64::NAN], "m" => ["b", "a", "b", "b"]).unwrap();
    let data = read(&frame, &columns("n", "acc", Some("m"))).unwrap();
    assert_eq!((&data.along, &data.groups[..], data.skipped), (&Along::Numbers(vec![2.0, 8.0]), &["b".to_owned(), "a".to_owned()][..], 1));
    let cell = data.series(0, 0)[0];
    assert_eq!((cell.at, &cell.values[..]), (1, &[0.5, 0.7][..]));
    assert!((cell.mean - 0.6).abs() < 1e-12 && (cell.interval.unwrap().1 - 0.6 - 0.02f64.sqrt()).abs() < 1e-12);
    assert_eq!(data.series(0, 1)[0].interval, None);
}

#[test]
fn an_error_column_is_the_spread() {
    let frame = df!("m" => ["a", "b"], "acc" => [0.5, 0.7], "std" => [0.1, 0.2]).unwrap();
    let data = read(&frame, &Columns { error: Some("std".into()), ..columns("m", "acc", None) }).unwrap();
    assert_eq!(data.cells.iter().map(|cell| cell.interval).collect::<Vec<_>>(), [Some((0.4, 0.6)), Some((0.7 - 0.2, 0.7 + 0.2))]);
}

#[test]
fn a_spread_ends_where_values_do() {
    let frame = df!("m" => ["a", "b", "c"], "accuracy" => [0.95, 0.5, 1.0], "std" => [0.1, 0.125, 0.0]).unwrap();
    let data = read(&frame, &Columns { error: Some("std".into()), ..columns("m", "accuracy", None) }).unwrap();
    let end = |value, cut| End { value, cut };
    assert_eq!(data.cells[0].ends().unwrap()[1], end(1.0, true));
    assert_eq!(data.cells[1].ends(), Some([end(0.375, false), end(0.625, false)]));
    assert_eq!(data.cells[2].ends(), None);
}

#[test]
fn booleans_count_and_numeric_names_ascend() {
    let frame = df!("run" => [10i64, 9, 10], "correct" => [true, false, false]).unwrap();
    let data = read(&frame, &columns("run", "correct", Some("run"))).unwrap();
    assert_eq!(data.groups, ["9", "10"]);
    assert_eq!(data.series(0, 1)[0].mean, 0.5);
}

#[test]
fn further_columns_are_groups_or_panels() {
    let frame =
        df!("step" => [1i64, 2], "train" => [3.0, 2.0], "dev" => [4.0, f64::NAN], "run" => [0i64, 0], "best" => [false, true]).unwrap();
    let also = Columns { also: vec!["dev".into()], marked: Some("best".into()), ..columns("step", "train", None) };
    let data = read(&frame, &also).unwrap();
    assert_eq!((&data.groups[..], data.panels.len(), data.skipped), (&["train".to_owned(), "dev".to_owned()][..], 1, 1));
    assert_eq!(data.series(0, 0).iter().map(|cell| (cell.mean, cell.marked)).collect::<Vec<_>>(), [(3.0, false), (2.0, true)]);
    let beside = Columns { own_panels: vec!["dev".into()], ..columns("step", "train", None) };
    let data = Data::read(&frame, &beside, &panels("run", None)).unwrap();
    assert_eq!(data.panels, ["train: run 0", "dev: run 0"]);
    assert_eq!((data.panels_per_row, data.sharing(1).count()), (1, 1));
    assert!(read(&frame, &Columns { also: vec!["dev".into()], ..beside }).unwrap_err().to_string().contains("not both"));
}

#[test]
fn methods_stand_in_the_papers_order_and_an_order_asked_for_comes_first() {
    let frame = df!("m" => ["new", "SFT only", "ICL"], "y" => [1.0, 2.0, 3.0]).unwrap();
    let groups = |order: &[&str]| {
        let order = order.iter().map(|name| (*name).to_owned()).collect();
        let data = Data::read(&frame, &columns("m", "y", Some("m")), &Settings { order, ..Settings::default() }).unwrap();
        assert_eq!(data.along, Along::Names(data.groups.clone()));
        data.groups
    };
    assert_eq!(
        (groups(&[]), groups(&["new", "SFT only"])),
        (vec!["ICL".to_owned(), "SFT".into(), "new".into()], vec!["new".into(), "SFT".into(), "ICL".into()])
    );
}

#[test]
fn numbers_and_many_names_take_colours_in_order() {
    let frame = df!("x" => vec![0i64; 32], "y" => vec![1.0; 32], "layer" => (0..32i64).collect::<Vec<_>>(), "head" => (0..32).map(|at| format!("L0H{at}")).collect::<Vec<_>>()).unwrap();
    for colour in ["layer", "head"] {
        let data = read(&frame, &columns("x", "y", Some(colour))).unwrap();
        assert!(data.ordered && data.styles.len() == 32 && data.styles[0].colour != data.styles[31].colour, "{colour}");
    }
    assert!(!read(&frame.head(Some(9)), &columns("x", "y", Some("head"))).unwrap().ordered);
}

#[test]
fn panels_of_rows_and_columns_and_pages_of_them() {
    let rows: Vec<(i64, i64)> = (0..20 * 5).map(|at| (at / 5, at % 5)).collect();
    let frame = df!("a" => rows.iter().map(|row| row.0).collect::<Vec<_>>(), "b" => rows.iter().map(|row| row.1).collect::<Vec<_>>(), "x" => vec![0i64; 100], "y" => (0..100).map(f64::from).collect::<Vec<_>>()).unwrap();
    let mut data = Data::read(&frame, &columns("x", "y", None), &panels("b", Some("a"))).unwrap();
    assert_eq!(
        (data.panels.len(), &data.panels[..6], data.row_names[19].as_str()),
        (100, &["b 0", "b 1", "b 2", "b 3", "b 4", ""].map(String::from)[..], "a 19")
    );
    let page = |page: usize| Settings { page, ..Settings::default() };
    data.turn(&page(2)).unwrap();
    // 12 rows of 5 on the first page.
    assert_eq!((data.panels.len(), data.panels[1].as_str(), data.row_names[0].as_str(), data.cells[0].mean), (40, "b 1", "a 12", 60.0));
    assert_eq!(data.page.as_deref(), Some("page 2 of 2: panels 61 to 100 of 100, others by .page(n)"));
    let mut data = Data::read(&frame, &columns("x", "y", None), &panels("y", None)).unwrap();
    assert!(data.turn(&page(3)).unwrap_err().to_string().contains("no page 3: 100 panels are on 2 pages"));
    data.turn(&Settings::default()).unwrap();
    assert_eq!((data.panels.len(), data.cells.len()), (64, 64));
}

#[test]
fn every_bad_frame_says_what_is_wrong() {
    let frame = df!("layer" => [0i64, 1], "asim" => [0.1, 0.2], "method" => ["a", "b"], "none" => [f64::NAN; 2]).unwrap();
    let message = |x: &str, y: &str, colour: &str, frame: &DataFrame| read(frame, &columns(x, y, Some(colour))).unwrap_err().to_string();
    assert_eq!(
        message("layer", "cka", "method", &frame),
        "figure: the frame has no column `cka` for y; it has `layer`, `asim`, `method`, `none`"
    );
    assert_eq!(message("layer", "method", "method", &frame), "figure: column `method` for y holds str, but numbers are needed");
    assert_eq!(message("layer", "none", "method", &frame), "figure: none of the 2 rows has numbers in `layer` and `none`");
    assert!(message("layer", "asim", "method", &frame.head(Some(0))).contains("no rows"));
    let many = df!("layer" => vec![0i64; 1001], "asim" => vec![0.0; 1001], "method" => (0..1001i64).collect::<Vec<_>>()).unwrap();
    assert!(message("layer", "asim", "method", &many).contains("`method` has 1001 different values; colours can be at most 1000"));
}
