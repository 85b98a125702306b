//! Every kind of figure, by its table entry; and what all of them promise.

use super::scene::{Anchor, Label, Shape};
use super::*;
use crate::display::Show;

#[test]
fn every_kind_draws_its_sample() {
    for kind in FIGURES {
        let figure = (kind.draw)(&(kind.sample)().unwrap()).unwrap();
        assert!(figure.svg().starts_with("<svg") && figure.svg().trim_end().ends_with("</svg>"), "{}", kind.name);
        assert!(figure.png().starts_with(b"\x89PNG") && figure.png().len() < 200_000, "{}: {} bytes", kind.name, figure.png().len());
        assert!(figure.alt().len() > 60, "{}: {}", kind.name, figure.alt());
        assert_eq!(figure.frame().height(), (kind.sample)().unwrap().height(), "{}", kind.name);
        assert!(FIGURES.iter().filter(|other| other.name == kind.name).count() == 1 && !kind.about.is_empty(), "{}", kind.name);
    }
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
        (kind.draw)(&sample.head(Some(1))).unwrap();
        assert!((kind.draw)(&DataFrame::empty()).is_err(), "{}", kind.name);
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
    let sample = |kind: usize| (FIGURES[kind].sample)().unwrap();
    let cases = [
        (Chart::lines("x", "y").colour("z"), frame.clone()),
        (Chart::bars("x", "y").colour("z"), frame.clone()),
        (Chart::bars("x", "y").colour("x").title(long).x_label(long).y_label(long), frame.clone()),
        (Chart::bars("few", "y").facet("z").title("title"), frame.clone()),
        (Chart::lines("y", "y").facet("few"), frame.clone()),
        (Chart::bars("few", "y").error("few"), frame),
        (Chart::lines("layer", "asim").colour("method").facet("task"), sample(0)),
        (Chart::bars("method", "asim").colour("task").facet("run"), sample(0)),
        (Chart::bars("demonstrations", "accuracy").colour("method"), sample(1)),
        (Chart::bars("demonstrations", "accuracy").colour("method").facet("run").size(400, 300), sample(1)),
        (Chart::lines("demonstrations", "accuracy").colour("method").size(260, 200), sample(1)),
    ];
    for (case, (chart, frame)) in cases.into_iter().enumerate() {
        let (scene, _) = chart.scene(&frame).unwrap();
        let labels: Vec<&Label> =
            scene.shapes.iter().filter_map(|shape| if let Shape::Text(label) = shape { Some(label) } else { None }).collect();
        for (at, label) in labels.iter().enumerate() {
            let [left, top, right, bottom] = bounds(label);
            assert!(
                left >= 0.0 && top >= 0.0 && right <= scene.width && bottom <= scene.height,
                "case {case}: `{}` leaves the picture",
                label.text
            );
            for other in &labels[..at] {
                let [l, t, r, b] = bounds(other);
                let apart = right <= l || r <= left || bottom <= t || b <= top;
                assert!(apart, "case {case}: `{}` and `{}` overlap", label.text, other.text);
            }
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
    assert!(bundle.html.as_deref().unwrap().starts_with("<img src=\"data:image/png;base64,iVBORw0KGgo"));
    assert!(bundle.html.unwrap().contains(" width=\"720\" alt=\"Line chart"));
    let row = Figures::row([figure.clone(), figure.clone()]).bundle();
    assert_eq!(row.html.unwrap().matches("width=\"49%\"").count(), 2);
    assert!(row.png.unwrap().len() > figure.png().len());
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
}
