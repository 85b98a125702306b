//! Every kind of figure, by its table entry; and what all of them promise.

use super::*;
use crate::display::Show;
use crate::plot::scene::{Anchor, Label, Scene, Shape};
use crate::plot::text;

#[test]
fn every_kind_draws_its_sample() {
    let mut documented = String::from(gallery::DOCUMENTED);
    for kind in FIGURES {
        let figure = (kind.draw)(&(kind.sample)().unwrap()).unwrap();
        documented.push_str(&gallery::documented(kind, &figure));
        assert!(figure.svg().starts_with("<svg") && figure.svg().trim_end().ends_with("</svg>"), "{}", kind.name);
        assert!(figure.png().starts_with(b"\x89PNG") && figure.png().len() < 200_000, "{}: {} bytes", kind.name, figure.png().len());
        assert!(figure.alt().len() > 60, "{}: {}", kind.name, figure.alt());
        assert_eq!(figure.frame().height(), (kind.sample)().unwrap().height(), "{}", kind.name);
        assert!(FIGURES.iter().filter(|other| other.name == kind.name).count() == 1 && !kind.about.is_empty(), "{}", kind.name);
    }
    // The documentation shows what is drawn today.
    let there = include_str!("pictures.md");
    assert!(there == documented, "src/figure/pictures.md is old: `cargo test --lib gallery -- --ignored` writes it anew");
}

#[test]
fn every_kind_names_a_missing_column_and_the_columns_there_are() {
    for kind in FIGURES {
        let sample = (kind.sample)().unwrap();
        for &column in kind.columns {
            let error = (kind.draw)(&sample.drop(column).unwrap()).unwrap_err();
            let text = error.to_string();
            assert!(error.is_input() && text.contains(&format!("no column `{column}`")), "{}: {text}", kind.name);
            let other = kind.columns.iter().find(|&&other| other != column).unwrap();
            assert!(text.contains(&format!("`{other}`")), "{}: {text}", kind.name);
        }
    }
}

#[test]
fn no_kind_panics_on_odd_frames() {
    for kind in FIGURES {
        let sample = (kind.sample)().unwrap();
        assert!((kind.draw)(&sample.head(Some(0))).is_err(), "{}", kind.name);
        // A difference is of two; one row is one method, and nothing to rank.
        let least = if kind.name == "difference" { 2 } else { 1 };
        match ((kind.draw)(&sample.head(Some(least))), kind.name) {
            (Err(error), "critical_difference") => assert!(error.is_input()),
            (drawn, _) => drawn.map(|_| ()).unwrap(),
        }
        assert!((kind.draw)(&DataFrame::empty()).is_err(), "{}", kind.name);
    }
}

#[test]
fn labels_of_any_length_are_drawn() {
    // The square of this length would take minutes for each label.
    let tail = "x y".repeat(20_000);
    for kind in FIGURES {
        let mut frame = (kind.sample)().unwrap();
        let texts: Vec<String> =
            frame.columns().iter().filter(|column| column.dtype().is_string()).map(|column| column.name().to_string()).collect();
        for name in texts {
            let longer =
                frame.column(&name).unwrap().str().unwrap().iter().map(|text| text.map(|text| format!("{text}{tail}"))).collect::<Vec<_>>();
            frame.with_column(Column::new(name.as_str().into(), longer)).unwrap();
        }
        // What asks for names of its own says so.
        if let Ok(figure) = (kind.draw)(&frame) {
            assert!(figure.svg().starts_with("<svg"), "{}", kind.name);
        }
    }
}

#[test]
fn the_alt_text_tells_axes_groups_and_what_was_left_out() {
    let frame = df!("layer" => [0i64, 1, 0, 1, 1], "asim_mean" => [0.25, 0.75, -0.5, -0.1, f64::NAN], "method" => ["ICL", "ICL", "SFT", "SFT", "SFT"]).unwrap();
    let figure = lines(&frame, "layer", "asim_mean", "method").unwrap();
    let expected = "Line chart of asim mean over layer (0 to 1), one line per method. \
                    ICL: 0.25 to 0.75, mean 0.5; SFT: −0.5 to −0.1, mean −0.3. (1 row without numbers left out)";
    assert_eq!(figure.alt(), expected);
}

/// Left, top, right and bottom of a label.
fn bounds(label: &Label) -> [f64; 4] {
    let long = text::width(&label.text, label.size, label.bold);
    let from = match label.anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => -long / 2.0,
        Anchor::End => -long,
    };
    let (up, down) = (label.size * 0.75, label.size * 0.2);
    let (x, y) = label.at;
    if label.turned { [x - up, y - from - long, x + down, y - from] } else { [x + from, y - up, x + from + long, y + down] }
}

#[test]
fn text_stays_inside_and_never_overlaps() {
    let long = "a very long name that no legend can hold in full, however wide the page may be, and then some more";
    let names: Vec<String> = (0..16).map(|at| format!("{at} {long}")).collect();
    let frame = df!("x" => &names, "y" => (0..16).map(|at| f64::from(at) - 4.5).collect::<Vec<_>>(), "z" => &names, "few" => [1.0, 2.5, 300.0, 4.0].repeat(4)).unwrap();
    let sample = |name: &str| (FIGURES.iter().find(|kind| kind.name == name).unwrap().sample)().unwrap();
    let runs = sample("bars");
    let mut scenes: Vec<Scene> = [
        (Chart::lines("x", "y").colour("z"), &frame),
        (Chart::bars("x", "y").colour("z"), &frame),
        (Chart::bars("x", "y").colour("x").title(long).x_label(long).y_label(long), &frame),
        (Chart::bars("few", "y").facet("z").title("title"), &frame),
        (Chart::lines("y", "y").facet("few"), &frame),
        (Chart::bars("few", "y").error("few"), &frame),
        (Chart::violins("x", "y").colour("z").name("z", long), &frame),
        (Chart::violins("few", "y").facet("few").panel("few").size(900, 500), &frame),
        (Chart::points("y", "few").colour("z").facet("few").y_log10(), &frame),
        (Chart::points("y", "y").facet("few").fit().title(long), &frame),
        (Chart::lines("layer", "asim").colour("method").facet("task"), &sample("lines")),
        (Chart::bars("method", "asim").colour("task").facet("run"), &sample("lines")),
        (Chart::bars("demonstrations", "accuracy").colour("method"), &runs),
        (Chart::bars("demonstrations", "accuracy").colour("method").facet("run").size(500, 360), &runs),
        (Chart::lines("demonstrations", "accuracy").colour("method").size(260, 240), &runs),
        (Chart::lines("demonstrations", "accuracy").colour("run").x_log2().whiskers().width(COLUMN), &runs),
        (paper::accuracy_and_ece().facet("method").colour("method"), &runs),
        (paper::accuracy_and_ece().width(PAPER), &runs),
        (paper::asim_against_performance().width(PAPER), &runs),
        (training().y_log10().width(COLUMN), &sample("training")),
    ]
    .into_iter()
    .map(|(chart, frame)| chart.scene(frame).unwrap().0)
    .collect();
    let heads = sample("attention");
    let maps = [
        (HeatMap::new("x", "z", "y").title(long).name("y", long), &frame),
        (HeatMap::new("x", "few", "y").diverging().width(PAPER), &frame),
        (HeatMap::new("position", "layer", "asim").width(COLUMN), &sample("heat_map")),
        (token_table().width(PAPER), &sample("token_table")),
        (attention(), &heads),
        (attention().panels_per_row(2).width(COLUMN), &heads),
        (HeatMap::new("key", "query", "weight"), &heads),
    ];
    scenes.extend(maps.into_iter().map(|(map, frame)| map.scene(frame).unwrap().0));
    let mut bins = sample("reliability");
    scenes.push(Reliability::new().title(long).binning(long).scene(&bins).unwrap().0);
    bins.with_column(Column::new("method".into(), (0..10).map(|row| format!("{} {long}", row / 3)).collect::<Vec<_>>())).unwrap();
    scenes.push(Reliability::new().facet("method").scene(&bins).unwrap().0);
    scenes.iter().enumerate().for_each(|(case, scene)| legible(&format!("case {case}"), scene));
}

#[test]
fn extreme_data_is_drawn_and_legible() {
    for (name, picture) in extreme::pictures() {
        let (picture, frame) = picture().unwrap();
        let (scene, alt) = picture.scene(&frame).unwrap_or_else(|error| panic!("{name}: {error}"));
        legible(name, &scene);
        assert!(alt.len() < 4000, "{name}: {} bytes", alt.len());
        assert!(!scene.areas.is_empty() && scene.areas.len() <= 2600, "{name}: {} areas", scene.areas.len());
        let inside = |(x, y): (f64, f64)| (0.0..=scene.width).contains(&x) && (0.0..=scene.height).contains(&y);
        assert!(scene.areas.iter().all(|area| inside(area.from) && inside(area.to) && !area.title.is_empty()), "{name}");
    }
}

/// Every text lies inside the picture, and on no other.
fn legible(name: &str, scene: &Scene) {
    let labels = scene.shapes.iter().filter_map(|shape| if let Shape::Text(label) = shape { Some(label) } else { None });
    let labels: Vec<(&Label, [f64; 4])> = labels.map(|label| (label, bounds(label))).collect();
    for (at, (label, [left, top, right, bottom])) in labels.iter().enumerate() {
        assert!(
            *left >= 0.0 && *top >= 0.0 && *right <= scene.width && *bottom <= scene.height,
            "{name}: `{}` leaves the picture",
            label.text
        );
        for (other, [l, t, r, b]) in &labels[..at] {
            let apart = right <= l || r <= left || bottom <= t || b <= top;
            assert!(apart, "{name}: `{}` and `{}` overlap", label.text, other.text);
        }
    }
}

#[test]
fn a_figure_too_small_for_its_labels_is_refused() {
    let sample = (FIGURES[0].sample)().unwrap();
    let error = Chart::lines("layer", "asim").colour("method").facet("layer").size(240, 160).draw(&sample).unwrap_err().to_string();
    assert!(error.contains("240 x 160 is too small for 6 panels"), "{error}");
}

#[test]
fn a_figure_shows_itself_in_three_forms_and_several_as_one() {
    let figure = (FIGURES[0].draw)(&(FIGURES[0].sample)().unwrap()).unwrap();
    let bundle = figure.bundle();
    assert!(bundle.plain.starts_with("[figure] Line chart of asim over layer (0 to 5)"), "{}", bundle.plain);
    let html = bundle.html.unwrap();
    assert!(html.starts_with("<div style=\"position:relative;display:inline-block\"><img src=\"data:image/png;base64,iVBORw0KGgo"));
    assert!(html.contains(" width=\"720\" alt=\"Line chart"));
    // Two panels of six layers, each with what two methods are there.
    assert_eq!(html.matches("<i title=\"layer ").count(), 12);
    assert!(html.contains("<i title=\"layer 0&#10;SFT: "), "{}", &html[html.len() - 400..]);
    let row = Figures::row([figure.clone(), figure.clone()]).bundle();
    let html = row.html.unwrap();
    assert!(html.starts_with("<table width=\"100%\"><tr>\n<td width=\"50%\"><div "), "{}", &html[..60]);
    assert!(html.ends_with("</td>\n</tr></table>") && html.matches("</td>\n<td width=\"50%\"><div").count() == 1);
    assert!(row.png.unwrap().len() > figure.png().len());
    let small = Chart::lines("layer", "asim").colour("method").width(COLUMN).draw(figure.frame()).unwrap();
    let html = Figures::row([small.clone(), small]).bundle().html.unwrap();
    assert!(html.starts_with("<table><tr>\n<td><div ") && html.matches(&format!("width=\"{COLUMN}\"")).count() == 2, "{}", &html[..60]);
    let column = vec![figure.clone(), figure].bundle();
    assert!(column.html.unwrap().matches("<img").count() == 2 && column.png.is_some());
}

#[test]
fn saving_follows_the_extension_and_replaces_whole_files() {
    let figure = (FIGURES[1].draw)(&(FIGURES[1].sample)().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, head) in [("a.svg", &b"<svg"[..]), ("a.PNG", &b"\x89PNG"[..])] {
        let path = folder.path().join(name);
        std::fs::write(&path, "old").unwrap();
        figure.save(&path).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(head));
    }
    assert!(figure.save(folder.path().join("a.pdf")).unwrap_err().to_string().contains("neither .svg nor .png"));
    assert!(figure.save(folder.path().join("none/a.png")).unwrap_err().is_file());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left behind");
}

#[test]
fn settings_out_of_bounds_are_errors() {
    let frame = (FIGURES[1].sample)().unwrap();
    let chart = || Chart::bars("demonstrations", "accuracy");
    assert!(chart().size(10, 10).draw(&frame).unwrap_err().to_string().contains("10 x 10"));
    assert!(chart().y_range(1.0, 0.0).draw(&frame).unwrap_err().to_string().contains("ascending"));
    chart().size(400, 300).y_range(0.0, 0.6).error("run").note(false).draw(&frame).unwrap();
    let message = |chart: Chart| chart.draw(&frame).unwrap_err().to_string();
    assert!(message(chart().y_log10()).contains("bars have no axis of logarithms"));
    assert!(message(chart().fit()).contains("bars have no fitted line"));
    assert!(message(Chart::violins("method", "accuracy").error("run")).contains("violins have no error column"));
    assert!(message(Chart::points("method", "accuracy").fit()).contains("needs numbers along x, column `method` holds names"));
    assert!(message(Chart::lines("run", "accuracy").x_log2()).contains("column `run` has 0, which an axis of logarithms cannot show"));
    assert!(message(Chart::lines("run", "accuracy").marked("run")).contains("booleans are needed"));
    assert!(message(Chart::lines("run", "accuracy").y_log10().y_range(0.0, 1.0)).contains("ascending positive numbers"));
    let map = || HeatMap::new("demonstrations", "run", "accuracy");
    let message = |map: HeatMap| map.draw(&frame).unwrap_err().to_string();
    assert!(message(map().range(1.0, 1.0)).contains("two ascending numbers"));
    assert!(message(map().diverging().range(0.0, 1.0)).contains("a range around zero"));
    assert!(message(map().facet("asim").page(3)).contains("there is no page 3: 80 panels are on 2 pages"));
    let message = |chart: Chart| chart.draw(&frame).unwrap_err().to_string();
    assert!(message(chart().x_range(0.0, 1.0)).contains("bars have no range of x"));
    assert!(message(chart().free_x()).contains("bars have no free x axis"));
    assert!(message(chart().reference(f64::NAN, "chance")).contains("the reference `chance` needs a number"));
    assert!(message(chart().opacity(0.5)).contains("bars have no opacity") && message(chart().jitter()).contains("no jitter"));
    assert!(message(Chart::points("asim", "accuracy").opacity(2.0)).contains("at most 1, not 2"));
    assert!(message(Chart::points("asim", "accuracy").dots()).contains("points have no points over them"));
    assert!(message(Chart::lines("run", "accuracy").x_range(2.0, 1.0)).contains("range of x must be two ascending numbers"));
    assert!(message(chart().spread(Spread::T(95.0))).contains("in (0, 1)"));
    assert!(message(chart().rows("run").panel("ece")).contains("not both"));
    let message = |map: HeatMap| map.draw(&frame).unwrap_err().to_string();
    assert!(message(map().x_names("method")).contains("place 2 of column `demonstrations` has two names"));
}

#[test]
fn names_without_room_are_an_error_not_a_smear() {
    let names: Vec<String> = (0..200).map(|at| format!("name {at}")).collect();
    let frame = df!("name" => &names, "value" => vec![1.0; 200]).unwrap();
    let error = bars(&frame, "name", "value", "name").unwrap_err().to_string();
    assert!(error.contains("200 names along x, but a panel of this size has room for"), "{error}");
    bars(&frame.head(Some(100)), "name", "value", "name").unwrap();
    Chart::bars("name", "value").size(3000, 400).draw(&frame).unwrap();
}
