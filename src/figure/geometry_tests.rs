//! Where marks stand and what colour they have: the pictures say what the frames say.

use polars::prelude::*;

use super::*;
use crate::plot::palette;
use crate::plot::scene::{Anchor, Colour, Label, Point, Scene, Shape};

fn labels(scene: &Scene) -> Vec<&Label> {
    scene.shapes.iter().filter_map(|shape| if let Shape::Text(label) = shape { Some(label) } else { None }).collect()
}

/// Where this text stands.
fn at(scene: &Scene, text: &str) -> Point {
    let found: Vec<&Label> = labels(scene).into_iter().filter(|label| label.text == text).collect();
    assert_eq!(found.len(), 1, "`{text}` is there {} times", found.len());
    found[0].at
}

/// Rectangles of this colour, from their top left to their bottom right corner.
fn rectangles(scene: &Scene, wanted: Colour) -> Vec<(Point, Point)> {
    let of = |shape: &Shape| match shape {
        Shape::Rectangle { from, to, colour } if *colour == wanted => Some((*from, *to)),
        _ => None,
    };
    scene.shapes.iter().filter_map(of).collect()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

#[test]
fn powers_of_two_are_equally_far_apart() {
    let frame = df!("n" => [2u32, 4, 8, 64], "accuracy" => [0.1, 0.2, 0.3, 0.4]).unwrap();
    let scene = Chart::lines("n", "accuracy").x_log2().scene(&frame).unwrap().0;
    let [two, four, eight, last] = ["2", "4", "8", "64"].map(|text| at(&scene, text).0);
    assert!(close(four - two, eight - four) && close(last - eight, 3.0 * (four - two)), "{two} {four} {eight} {last}");
}

#[test]
fn bars_are_as_high_as_their_values_in_each_panel_of_its_own_axis() {
    let frame = df!("m" => ["a", "b"], "accuracy" => [0.4, 0.8], "ece" => [0.02, 0.01]).unwrap();
    let scene = Chart::bars("m", "accuracy").panel("ece").colour("m").scene(&frame).unwrap().0;
    let high = |group: usize| rectangles(&scene, palette::colour(group)).iter().map(|(from, to)| to.1 - from.1).collect::<Vec<_>>();
    let (a, b) = (high(0), high(1));
    assert_eq!((a.len(), b.len()), (2, 2), "no legend where colour repeats x");
    assert!(close(b[0], 2.0 * a[0]) && close(a[1], 2.0 * b[1]), "{a:?} {b:?}");
    assert!(labels(&scene).iter().any(|label| label.text == "ECE" && label.bold));
}

#[test]
fn a_name_keeps_its_colour_when_others_are_missing() {
    let frame = df!("method" => ["ICL", "SFT", "IA2"], "accuracy" => [0.5, 0.6, 0.7]).unwrap();
    let chart = Chart::bars("method", "accuracy").colour("method").order(&["ICL", "SFT", "IA2"]);
    for frame in [frame.clone(), frame.slice(1, 2), frame.slice(2, 1), frame.reverse()] {
        let scene = chart.scene(&frame).unwrap().0;
        assert_eq!(rectangles(&scene, palette::colour(2)).len(), 1);
        assert_eq!(rectangles(&scene, palette::colour(0)).len(), usize::from(frame.height() == 3));
    }
}

#[test]
fn cells_have_the_colours_of_their_values_and_stand_in_their_rows() {
    let frame = df!("x" => [0i64, 1, 0, 1], "y" => [0i64, 0, 1, 1], "v" => [-2.0, 0.0, f64::NAN, 1.0]).unwrap();
    let map = HeatMap::new("x", "y", "v").diverging();
    let (scene, alt) = map.scene(&frame).unwrap();
    let cell = |colour: u32| {
        let wide = rectangles(&scene, Colour::hex(colour)).into_iter().filter(|(from, to)| to.0 - from.0 > 100.0).collect::<Vec<_>>();
        assert_eq!(wide.len(), 1, "{colour:x}");
        wide[0].0
    };
    // Blue at −2, white at 0; the range is −2 to 2.
    let (low, zero) = (cell(0x053061), cell(0xF7F7F7));
    assert!(low.0 < zero.0 && close(low.1, zero.1) && at(&scene, "1.0").1 < low.1, "rows of numbers go up");
    assert!(alt.contains("(grey: no value (1 of 4 cells); 1 row without numbers left out)"), "{alt}");
    assert!(alt.contains("Heat map of v over x (0 to 1) and y (0 to 1). −2 to 1, mean −0.3333. Greatest at 1, 1: 1."), "{alt}");
    let down = map.clone().downward().scene(&frame).unwrap().0;
    assert!(at(&down, "1.0").1 > at(&scene, "1.0").1);
    let outside = map.range(-1.0, 1.0).scene(&frame).unwrap().1;
    assert!(outside.contains("1 value outside the colours' range"), "{outside}");
}

#[test]
fn a_violin_is_widest_where_most_values_are() {
    let frame = df!("m" => ["a"; 9], "v" => [0.0, 0.9, 0.95, 1.0, 1.0, 1.0, 1.05, 1.1, 2.0]).unwrap();
    let scene = Chart::violins("m", "v").scene(&frame).unwrap().0;
    let outline = scene.shapes.iter().find_map(|shape| match shape {
        Shape::Polygon { points, .. } if points.len() > 50 => Some(points),
        _ => None,
    });
    let points = outline.unwrap();
    let leftmost = points.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let (top, base) = points.iter().fold((f64::MAX, f64::MIN), |(top, base), point| (top.min(point.1), base.max(point.1)));
    assert!((leftmost.1 - (top + base) / 2.0).abs() < 0.05 * (base - top), "{leftmost:?} between {top} and {base}");
}

#[test]
fn reliability_bars_end_at_accuracy_and_gaps_at_confidence() {
    let frame =
        df!("lower" => [0.0, 0.5], "upper" => [0.5, 1.0], "count" => [10u32, 30], "confidence" => [0.4, 0.9], "accuracy" => [0.4, 0.6])
            .unwrap();
    let scene = Reliability::new().scene(&frame).unwrap().0;
    let bars: Vec<_> = rectangles(&scene, palette::colour(0)).into_iter().filter(|(from, to)| to.0 - from.0 > 20.0).collect();
    let high = |(from, to): (Point, Point)| to.1 - from.1;
    assert!(close(high(bars[1]) / high(bars[0]), 1.5), "{bars:?}");
    let gaps: Vec<_> = rectangles(&scene, palette::colour(1).faint(0.45)).into_iter().filter(|(from, to)| to.0 - from.0 > 20.0).collect();
    assert!(close(high(gaps[0]), 0.0) && close(high(gaps[1]) / high(bars[1]), 0.5), "{gaps:?}");
    let counts = rectangles(&scene, palette::MUTED.faint(0.75));
    assert!(close(high(counts[1]) / high(counts[0]), 3.0), "{counts:?}");
    assert!(labels(&scene).iter().any(|label| label.text == "ECE 0.225 (n = 40)"));
}

#[test]
fn the_best_step_is_marked_across_the_panel() {
    let frame =
        df!("step" => [0u32, 10, 20], "train_loss" => [3.0, 2.0, 1.0], "dev_loss" => [3.0, 1.0, 2.0], "best" => [false, true, false])
            .unwrap();
    let (scene, alt) = training().scene(&frame).unwrap();
    let x = at(&scene, "10").0;
    let upright = |shape: &Shape| matches!(shape, Shape::Line { points, .. } if points.len() == 2 && points.iter().all(|point| close(point.0, x)) && (points[0].1 - points[1].1).abs() > 3.9);
    assert!(scene.shapes.iter().filter(|shape| upright(shape)).count() > 20);
    assert!(alt.contains("dashed vertical line: best check"), "{alt}");
}

/// Numbers along the y axis.
fn ticks(scene: &Scene) -> Vec<f64> {
    let ticks = labels(scene).into_iter().filter(|label| label.anchor == Anchor::End && !label.text.contains(' '));
    ticks.filter_map(|label| label.text.replace('−', "-").parse().ok()).collect()
}

#[test]
fn axes_and_whiskers_end_where_values_do() {
    let frame = df!("n" => [4u32, 8, 16], "accuracy" => [0.6, 0.97, 1.0], "ece" => [0.01, 0.4, 0.0], "std" => [0.2, 0.1, 0.15]).unwrap();
    let bars = |y: &str| Chart::bars("n", y).error("std");
    let lines = |y: &str| Chart::lines("n", y).error("std");
    for chart in [bars("accuracy"), bars("ece"), lines("accuracy"), lines("ece"), lines("accuracy").whiskers()] {
        let (scene, alt) = chart.scene(&frame).unwrap();
        let ticks = ticks(&scene);
        assert!(ticks.len() > 2 && ticks.iter().all(|tick| (0.0..=1.0).contains(tick)), "{chart:?}: {ticks:?}");
        assert!(alt.contains("cut at the end of the scale"), "{alt}");
    }
    // The least and the greatest height of lines of this width, and how many are level.
    let whiskers = |scene: &Scene, wanted: f64| {
        let lines = scene.shapes.iter().filter_map(|shape| match shape {
            Shape::Line { points, width, .. } if *width == wanted => Some(points.clone()),
            _ => None,
        });
        let (caps, uprights): (Vec<_>, Vec<_>) = lines.partition(|points: &Vec<Point>| points[0].1 == points[1].1);
        (caps.len(), uprights.iter().flatten().map(|point| point.1).fold(f64::INFINITY, f64::min))
    };
    for (chart, width) in [(bars("accuracy"), 1.4), (lines("accuracy").whiskers(), 1.4)] {
        let scene = chart.scene(&frame).unwrap().0;
        let (caps, highest) = whiskers(&scene, width);
        let one = at(&scene, "1.0").1 - 4.0;
        assert!(caps == 4 && close(highest, one), "{caps} caps, {highest} and {one}");
    }
    // Percentages are no fractions.
    let percent = df!("n" => [4u32, 8], "accuracy" => [97.0, 60.0], "std" => [10.0, 10.0]).unwrap();
    let (scene, alt) = bars("accuracy").scene(&percent).unwrap();
    assert!(ticks(&scene).contains(&100.0) && !alt.contains("cut"), "{alt}");
    // A range that is asked for cuts, too.
    let (scene, alt) = bars("accuracy").y_range(0.5, 0.65).scene(&frame).unwrap();
    assert!(alt.contains("cut") && whiskers(&scene, 1.4).0 == 0, "{alt}");
}
