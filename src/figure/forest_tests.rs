//! Where forest plots put their rows, marks and numbers.

use polars::prelude::*;

use super::Forest;
use crate::plot::palette::WHITE;
use crate::plot::scene::{Point, Shape};

fn frame() -> DataFrame {
    df!(
        "method" => ["IA2", "IA2 → SFT", "IA2 → SFT", "IA2"], "baseline" => ["SFT"; 4], "metric" => ["ece_equal_width_15", "accuracy", "accuracy", "accuracy"],
        "task" => ["SST2", "SST2", "FinS", "SST2"], "difference" => [Some(-0.04), Some(0.11), Some(0.02), None],
        "low" => [Some(-0.11), Some(0.01), None, None], "high" => [Some(0.026), Some(0.2093), None, None]
    )
    .unwrap()
}

fn forest() -> Forest {
    Forest::new("method", "difference", "low", "high").against("baseline").group("task").facet("metric").interval("95 % t interval")
}

#[test]
fn rows_stand_in_groups_with_their_numbers_and_what_they_leave_out_is_said() {
    let (scene, alt) = forest().scene(&frame()).unwrap();
    for text in [
        "accuracy, FinS, IA2 → SFT − SFT: 0.020 (–)",
        "accuracy, SST2, IA2 → SFT − SFT: 0.110 (0.010 to 0.209)",
        "ECE (15 equal-width bins), SST2, IA2 − SFT: −0.040 (−0.110 to 0.026)",
        "with 95 % t interval",
        "1 row without a difference left out",
    ] {
        assert!(alt.contains(text), "{alt} lacks {text}");
    }
    let texts: Vec<&str> =
        scene.shapes.iter().filter_map(|shape| if let Shape::Text(label) = shape { Some(label.text.as_str()) } else { None }).collect();
    for text in ["SST2", "better →", "← better", "0.110 (0.010 to 0.209)", "IA2 → SFT − SFT", "difference: method − baseline"] {
        assert!(texts.contains(&text), "{texts:?} lacks {text}");
    }
}

#[test]
fn marks_stand_at_their_differences_and_zero_is_dashed() {
    let frame = df!("method" => ["a", "b"], "d" => [1.0, -1.0], "l" => [0.5, -3.0], "h" => [1.5, 1.0]).unwrap();
    let forest = Forest::new("method", "d", "l", "h");
    let (scene, _) = forest.scene(&frame).unwrap();
    let whiskers: Vec<(Point, Point)> = scene
        .shapes
        .iter()
        .filter_map(|shape| match shape {
            Shape::Line { points, width, .. } if *width == 1.8 && points.len() == 2 => Some((points[0], points[1])),
            _ => None,
        })
        .collect();
    // Two of the legend, then the rows'; x grows with the value, in one scale.
    let [a, b] = [whiskers[2], whiskers[3]];
    let unit = a.1.0 - a.0.0;
    assert!(unit > 20.0 && ((b.1.0 - b.0.0) / unit - 4.0).abs() < 1e-6 && ((a.0.0 - b.0.0) / unit - 3.5).abs() < 1e-6, "{whiskers:?}");
    assert!(a.0.1 < b.0.1, "the first row is the uppermost");
    let hollow = scene
        .shapes
        .iter()
        .filter(|shape| matches!(shape, Shape::Circle { radius, colour, .. } if *radius < 3.0 && *colour == WHITE))
        .count();
    assert_eq!(hollow, 1, "the one of the legend: b is marked by a square");
    assert!(
        forest
            .draw(&df!("method" => ["a"], "d" => [1.0], "l" => [2.0], "h" => [1.5]).unwrap())
            .unwrap_err()
            .to_string()
            .contains("in row 0, `l` is 2")
    );
    assert!(
        forest
            .draw(&df!("method" => ["a"], "d" => [f64::NAN], "l" => [2.0], "h" => [1.5]).unwrap())
            .unwrap_err()
            .to_string()
            .contains("none of the 1 rows")
    );
    assert!(forest.page(2).draw(&frame).unwrap_err().to_string().contains("there is no page 2: 2 rows are on 1 page"));
}
