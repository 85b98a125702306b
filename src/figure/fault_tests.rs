//! One test for each fault of drawing that was once reported, on the shapes themselves.

use polars::prelude::*;

use super::*;
use crate::plot::scene::{Label, Point, Scene, Shape};
use crate::plot::{palette, scale};

fn labels(scene: &Scene) -> Vec<&Label> {
    scene.shapes.iter().filter_map(|shape| if let Shape::Text(label) = shape { Some(label) } else { None }).collect()
}

fn has(scene: &Scene, text: &str) -> bool {
    labels(scene).iter().any(|label| label.text == text)
}

fn at(scene: &Scene, text: &str) -> Point {
    labels(scene).into_iter().find(|label| label.text == text).unwrap_or_else(|| panic!("no `{text}`")).at
}

/// Rectangles of the `group`-th colour, without legend samples.
fn bars_of(scene: &Scene, group: usize) -> Vec<(Point, Point)> {
    let wanted = palette::colour(group);
    let of = |shape: &Shape| match shape {
        Shape::Rectangle { from, to, colour } if *colour == wanted && to.0 - from.0 != 14.0 => Some((*from, *to)),
        _ => None,
    };
    scene.shapes.iter().filter_map(of).collect()
}

fn extreme(name: &str) -> (Scene, String) {
    let (picture, frame) = (extreme::pictures().into_iter().find(|(other, _)| *other == name).unwrap().1)().unwrap();
    picture.scene(&frame).unwrap()
}

#[test]
fn a_value_stands_at_its_bars_foot_not_at_the_whiskers_tip() {
    let frame = df!("n" => [4u32, 8], "score" => [0.6, 0.8], "std" => [0.1, 0.1]).unwrap();
    let scene = Chart::bars("n", "score").error("std").scene(&frame).unwrap().0;
    let bar = bars_of(&scene, 0)[0];
    let value = at(&scene, "0.60");
    assert!(bar.1.1 - value.1 < 6.0 && bar.1.1 > value.1, "{value:?} in {bar:?}");
    // Without whiskers nothing can be mistaken.
    let scene = Chart::bars("n", "score").scene(&frame).unwrap().0;
    assert!(at(&scene, "0.60").1 < bars_of(&scene, 0)[0].0.1);
}

#[test]
fn small_values_beside_large_ones_keep_their_digits() {
    let (scene, _) = extreme("numbers_huge_and_tiny");
    for value in ["312", "−0.5", "0.004", "1e-9", "−120"] {
        assert!(has(&scene, value), "{value}");
    }
}

#[test]
fn bars_stand_over_their_ticks_whatever_groups_there_are() {
    let (scene, _) = extreme("real_kinds_and_layers");
    for (site, group) in [("block 3", 0), ("mlp 3", 1), ("head 2", 2)] {
        let x = at(&scene, site).0;
        assert!(bars_of(&scene, group).iter().any(|(from, to)| (from.0.midpoint(to.0) - x).abs() < 0.1), "{site}");
    }
    // Where a group is missing at one place, the others move together.
    let frame = df!("n" => [2u32, 2, 4], "y" => [1.0, 2.0, 3.0], "m" => ["a", "b", "b"]).unwrap();
    let scene = Chart::bars("n", "y").colour("m").scene(&frame).unwrap().0;
    let last = bars_of(&scene, 1)[1];
    assert!((last.0.0.midpoint(last.1.0) - at(&scene, "4").0).abs() < 0.1, "{last:?}");
}

#[test]
fn an_axis_near_a_million_tells_its_ticks_apart() {
    let (scene, _) = extreme("numbers_near_a_million");
    assert!(has(&scene, "+ 1000000") && has(&scene, "step (+ 5000000)") && has(&scene, "0.0005") || has(&scene, "0.0004"));
    for name in ["numbers_1e300", "numbers_tiny", "numbers_apart"] {
        assert!(labels(&extreme(name).0).iter().all(|label| label.size == 10.5 || label.text.chars().count() < 14), "{name}");
    }
}

#[test]
fn titles_are_wrapped_not_cut() {
    let (scene, _) = extreme("real_lines_by_layer");
    let bold: Vec<&str> = labels(&scene).into_iter().filter(|label| label.bold).map(|label| label.text.as_str()).collect();
    assert!(bold.len() == 2 && bold.join(" ").ends_with("the number of demonstrations and of runs"), "{bold:?}");
    // So are the names of panels.
    let (scene, _) = extreme("real_reliability_30");
    assert!(labels(&scene).iter().all(|label| !label.bold || !label.text.contains('…')));
}

#[test]
fn legends_and_colour_bars_have_titles_except_methods() {
    let frame =
        df!("x" => [1, 2, 1, 2], "y" => [1.0, 2.0, 3.0, 4.0], "gold" => ["1", "1", "0", "0"], "method" => ["ICL", "ICL", "SFT", "SFT"])
            .unwrap();
    let scene = |colour: &str| Chart::lines("x", "y").colour(colour).scene(&frame).unwrap().0;
    assert!(has(&scene("gold"), "gold") && !has(&scene("method"), "method"));
    assert!(has(&extreme("real_matrix_64").0, "linear CKA"), "the measure's name, not `value`");
    assert!(has(&extreme("real_heads_as_colours").0, "head"));
}

#[test]
fn numbers_along_x_are_thinned_and_ordered_groups_have_a_row_of_colours() {
    let ticks = |name: &str, greatest: i64| {
        let scene = extreme(name).0;
        (0..greatest).filter(|tick| has(&scene, &tick.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(ticks("real_bars_60_numbers", 60), (0..60).step_by(5).collect::<Vec<_>>());
    assert_eq!(ticks("real_violins_36_layers", 36), (0..36).step_by(2).collect::<Vec<_>>());
    let scene = extreme("real_bars_17_layers").0;
    let colours: std::collections::BTreeSet<(u8, u8, u8)> = scene
        .shapes
        .iter()
        .filter_map(|shape| match shape {
            Shape::Rectangle { from, to, colour } if to.0 - from.0 < 60.0 && to.1 - from.1 > 50.0 => Some((colour.0, colour.1, colour.2)),
            _ => None,
        })
        .collect();
    assert_eq!(colours.len(), 17);
}

#[test]
fn wide_maps_say_their_bins_and_what_their_colours_leave_out() {
    let (_, alt) = extreme("real_units_4096");
    assert!(alt.contains("each cell: the mean of 8 values of unit, named by the first"), "{alt}");
    assert!(alt.contains("values outside the colours' range"), "{alt}");
    let (scene, _) = extreme("real_units_4096");
    // Without robust colours the ends would be near 100.
    assert!(has(&scene, "1") && !has(&scene, "100"));
    let (picture, frame) = (extreme::pictures().into_iter().find(|(name, _)| *name == "real_units_4096").unwrap().1)().unwrap();
    let extreme::Picture::Map(map) = picture else { panic!("no map") };
    assert!(has(&map.robust(false).scene(&frame).unwrap().0, "100"));
}

#[test]
fn tokens_of_a_real_prompt_are_legible() {
    let (scene, _) = extreme("real_tokens_36_by_60");
    assert!(scene.width <= 1000.0 && ["position 0 to 19", "position 20 to 39", "position 40 to 59"].iter().all(|name| has(&scene, name)));
    assert_eq!(
        labels(&scene)
            .iter()
            .filter(|label| label.size == 10.5 && label.anchor == crate::plot::scene::Anchor::Middle && label.text == "Label")
            .count()
            % 2,
        0
    );
    let low = extreme("real_tokens_30_by_8").0;
    assert!(low.height < 640.0, "{}", low.height);
}

#[test]
fn attention_is_square_and_the_mask_is_blank() {
    let (scene, alt) = extreme("real_attention_94_tokens");
    // The last 24 of them, and what is left out is said; the mask is nothing that could be missing.
    assert!(alt.contains("key (70 to 93)") && alt.contains("key: the last 24 of 94 (41 % of all weight lies before them)"), "{alt}");
    assert!(
        !alt.contains("grey")
            && !alt.contains("no value")
            && !scene.shapes.iter().any(|shape| matches!(shape, Shape::Rectangle { colour, .. } if *colour == palette::GRID)),
        "{alt}"
    );
    let (head, _) = extreme("real_head_of_94_tokens");
    let bounds = head.areas.iter().fold([f64::MAX, f64::MAX, 0.0, 0.0], |[l, t, r, b], area| {
        [l.min(area.from.0), t.min(area.from.1), r.max(area.to.0), b.max(area.to.1)]
    });
    assert!((bounds[2] - bounds[0] - (bounds[3] - bounds[1])).abs() < 0.5 && bounds[2] - bounds[0] > 300.0, "{bounds:?}");
    assert!(has(&head, "·internationalisation"), "one head has its tokens along both axes");
    let (scene, _) = extreme("real_attention_one_query");
    assert!(scene.height < 260.0, "one query is a row, not a page: {}", scene.height);
    // Nine heads: three rows of three.
    let heights: std::collections::BTreeSet<i64> =
        (0..9).map(|head| at(&extreme("real_attention_9_heads").0, &format!("head {head}")).1 as i64).collect();
    assert_eq!(heights.len(), 3);
}

#[test]
fn reliability_begins_where_confidences_do() {
    let (scene, alt) = extreme("real_reliability_half");
    assert!(alt.contains("one panel per method") && has(&scene, "0.5") && !has(&scene, "0.1") && !has(&scene, "0.3"));
    let first = bars_of(&scene, 0).into_iter().map(|(from, _)| from.0).fold(f64::MAX, f64::min);
    // At the very left of the panel, but for the axis' inset.
    assert!(first < at(&scene, "0.5").0 + 1.0, "{first}");
    let bins = df!("lower" => [0.0, 0.5], "upper" => [0.5, 1.0], "count" => [0u32, 10], "confidence" => [None, Some(0.8)], "accuracy" => [None, Some(0.8)]).unwrap();
    let predictions = df!("confidence" => (0..40).map(|at| 0.5 + f64::from(at) / 80.0).collect::<Vec<_>>(), "correct" => (0..40).map(|at| at % 3 > 0).collect::<Vec<_>>()).unwrap();
    let figure = |diagram: Reliability| diagram.scene(&bins).unwrap().0;
    let [plain, curved] = [figure(Reliability::new()), figure(Reliability::new().curve(&predictions))];
    let long = |scene: &Scene| scene.shapes.iter().filter(|shape| matches!(shape, Shape::Line { points, .. } if points.len() > 40)).count();
    assert_eq!((long(&plain), long(&curved)), (0, 2), "a line and its rim");
    assert!(labels(&plain).iter().any(|label| label.text.contains("95 % binomial intervals")));
    assert!(has(&figure(Reliability::new().from(0.25)), "0.3") || has(&figure(Reliability::new().from(0.25)), "0.4"));
    assert!(Reliability::new().intervals(95.0).draw(&bins).unwrap_err().to_string().contains("[0, 1)"));
}

#[test]
fn many_points_are_transparent_and_set_aside() {
    let (scene, alt) = extreme("real_points_2000");
    let faint = scene
        .shapes
        .iter()
        .filter(|shape| matches!(shape, Shape::Polygon { colour, .. } | Shape::Circle { colour, .. } if colour.3 < 0.5))
        .count();
    assert!(faint >= 2000 && alt.contains("spread at random along x"), "{faint}");
    let frame = df!("x" => [1.0, 1.0, 1.0], "y" => [1.0, 2.0, 3.0]).unwrap();
    let xs = |chart: Chart| {
        let circles = chart
            .scene(&frame)
            .unwrap()
            .0
            .shapes
            .into_iter()
            .filter_map(|shape| if let Shape::Circle { centre, .. } = shape { Some(centre.0) } else { None });
        circles.map(|x| (x * 10.0) as i64).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!((xs(Chart::points("x", "y")), xs(Chart::points("x", "y").jitter())), (1, 3));
}

#[test]
fn principal_components_say_their_variance_and_have_their_own_scales() {
    let (scene, alt) = extreme("real_components_30_layers");
    assert!(alt.contains("each panel has its own axes"), "{alt}");
    assert!(labels(&scene).iter().filter(|label| label.text.starts_with("variance ") && label.text.ends_with('%')).count() == 30);
    assert!(has(&scene, "variance 90 %, 5.0 %"));
    // Layers of scales from 1 to 700 fill their panels: one scale for all would leave the first a dot.
    let first: Vec<f64> = scene
        .areas
        .iter()
        .filter(|area| area.from.1 < scene.height * 0.25 && area.from.0 < scene.width * 0.2)
        .map(|area| area.from.0)
        .collect();
    let (least, greatest) = scale::extent(first.into_iter());
    assert!(greatest - least > 60.0, "{least} {greatest}");
}

#[test]
fn references_intervals_points_and_panels_are_where_they_should_be() {
    let frame = df!("m" => ["a", "a", "a", "b", "b", "b"], "y" => [0.2, 0.4, 0.6, 0.5, 0.7, 0.9]).unwrap();
    let chart = Chart::bars("m", "y").reference(0.5, "chance").reference_range(0.6, 0.7, "null").dots().spread(Spread::Se);
    let (scene, alt) = chart.scene(&frame).unwrap();
    assert!(
        has(&scene, "chance (0.5)") && has(&scene, "null (0.6 to 0.7)") && alt.contains("Grey: chance (0.5); null (0.6 to 0.7)."),
        "{alt}"
    );
    assert!(alt.contains("whiskers: ± 1 standard error; points: rows"), "{alt}");
    let dots = scene.shapes.iter().filter(|shape| matches!(shape, Shape::Circle { radius, .. } if *radius == 1.8)).count();
    assert_eq!(dots, 6);
    let area = scene.areas.iter().find(|area| area.title == "chance (0.5)").unwrap();
    let bar = bars_of(&scene, 0).into_iter().find(|(_, to)| (to.1 - bars_of(&scene, 0)[0].1.1).abs() < 0.1).unwrap();
    assert!(area.from.1 > bar.0.1 - 200.0 && area.to.0 - area.from.0 > 400.0, "across the panel");

    let line = df!("x" => [0, 1, 2, 3], "y" => [10.0, 20.0, 30.0, 40.0]).unwrap();
    let (scene, alt) = Chart::lines("x", "y").x_range(1.0, 2.0).scene(&line).unwrap();
    assert!(alt.contains("2 means outside the x range left out") && has(&scene, "1") && !has(&scene, "3"), "{alt}");
    let (scene, alt) = Chart::lines("x", "y").reference_x(1.5, "here").scene(&line).unwrap();
    assert!(has(&scene, "here (1.5)") && alt.contains("Grey: here"));

    let (scene, alt) = extreme("real_rows_and_columns");
    let (first, last) = (at(&scene, "SST2"), at(&scene, "SciQr"));
    assert!(first.1 == last.1 && labels(&scene).iter().filter(|label| label.text == "SST2").count() == 1, "columns are named once");
    assert!(labels(&scene).iter().any(|label| label.turned && label.bold && label.text == "Qwen3-4B-Base"), "rows are named at their side");
    assert!(alt.contains("one row of panels per model, one panel per task"), "{alt}");
    let (_, alt) = extreme("real_training_runs");
    assert!(alt.contains("faint lines: one for each run") && alt.contains("bands: ± 1 standard deviation"), "{alt}");
    assert!(alt.contains("short dashes on the x axis: best check"), "{alt}");
}

#[test]
fn a_method_has_one_name_and_colour_in_every_figure() {
    let frame = df!("method" => ["IA2 only", "SFT only", "ICL"], "accuracy" => [0.7, 0.6, 0.9]).unwrap();
    for frame in [frame.clone(), frame.slice(0, 1), frame.reverse()] {
        let scene = Chart::bars("method", "accuracy").colour("method").scene(&frame).unwrap().0;
        assert!(has(&scene, "IA2") && !has(&scene, "IA2 only"));
        let bar = bars_of(&scene, 2)[0];
        assert!((bar.0.0.midpoint(bar.1.0) - at(&scene, "IA2").0).abs() < 0.1);
    }
    let order = |frame: &DataFrame| {
        let scene = Chart::bars("method", "accuracy").scene(frame).unwrap().0;
        ["ICL", "SFT", "IA2"].map(|name| at(&scene, name).0)
    };
    let xs = order(&frame);
    assert!(xs == order(&frame.reverse()) && xs[0] < xs[1] && xs[1] < xs[2], "{xs:?}");
}

#[test]
fn a_notebook_keeps_only_so_many_titles() {
    let few = (FIGURES[1].draw)(&(FIGURES[1].sample)().unwrap()).unwrap();
    let html = crate::display::Show::bundle(&few).html.unwrap();
    assert_eq!(html.matches("<i title=").count(), 16);
    assert!(
        html.contains("<i title=\"demonstrations 2, ICL: 0.6") && few.svg().matches("<title>").count() == 17,
        "{}",
        &html[html.len() - 300..]
    );
    let (picture, frame) = (extreme::pictures().into_iter().find(|(name, _)| *name == "real_matrix_64").unwrap().1)().unwrap();
    let figure = picture.draw(&frame).unwrap();
    let html = crate::display::Show::bundle(&figure).html.unwrap();
    let titles = html.matches("<i title=").count();
    assert!(titles > 300 && titles <= 700 && html.len() - figure.png().len() * 4 / 3 < 120_000, "{titles}");
}

#[test]
fn bars_in_one_colour_are_described_one_by_one() {
    let losses = df!("layer" => [0u32, 1, 2], "loss" => [3.5, 1.25, 2.0]).unwrap();
    let alt = Chart::bars("layer", "loss").draw(&losses).unwrap().alt().to_owned();
    assert!(alt.contains("0: 3.5; 1: 1.25; 2: 2."), "{alt}");
    // Too many to listen to: their range.
    let many = df!("layer" => (0u32..30).collect::<Vec<_>>(), "loss" => (0..30).map(f64::from).collect::<Vec<_>>()).unwrap();
    let alt = Chart::bars("layer", "loss").draw(&many).unwrap().alt().to_owned();
    assert!(alt.contains("0 to 29, mean 14.5"), "{alt}");
}
