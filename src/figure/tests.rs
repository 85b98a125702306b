//! Every kind of figure, by its table entry; and what all of them promise.

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

#[test]
fn text_never_leaves_the_picture() {
    let long = "a very long name that no legend can hold in full, however wide the page may be, and then some more";
    let names: Vec<String> = (0..16).map(|at| format!("{at} {long}")).collect();
    let frame = df!("x" => &names, "y" => (0..16).map(f64::from).collect::<Vec<_>>(), "z" => &names).unwrap();
    for chart in [Chart::lines("x", "y").colour("z"), Chart::bars("x", "y").colour("z"), Chart::bars("x", "y").facet("z").title(long)] {
        let figure = chart.draw(&frame).unwrap();
        assert!(figure.svg().contains('…'));
    }
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
