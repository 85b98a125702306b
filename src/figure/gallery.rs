//! Not checks: pictures for people to look at.

use polars::prelude::*;

use super::*;
use crate::display::Show;
use crate::plot::render;
use crate::table::{Best, Summary, Table, significance};

/// Writes every kind's sample, harder ones and extreme ones to `target/gallery`, with a page that shows all, and the pictures of the documentation:
/// `cargo test --lib gallery -- --ignored`, or with `GALLERY=name` only those whose name holds it.
#[test]
#[ignore = "writes pictures to look at"]
fn gallery() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/gallery");
    std::fs::create_dir_all(&folder).unwrap();
    let wanted = std::env::var("GALLERY").unwrap_or_default();
    let mut page =
        String::from("<!doctype html><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"><title>gallery</title>\n");
    for (name, draw) in pictures().into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let figure = draw().unwrap_or_else(|error| panic!("{name}: {error}"));
        figure.save(folder.join(format!("{name}.svg"))).unwrap();
        figure.save(folder.join(format!("{name}.png"))).unwrap();
        println!("{name}: {} bytes of PNG, {} of SVG\n  {}", figure.png().len(), figure.svg().len(), figure.alt());
        let shown = match figure.bundle().html.filter(|html| !html.contains("<i title=")) {
            Some(html) if html.contains("display:none") => format!("<img src=\"{name}.svg\">\n{html}"),
            _ => format!("<img src=\"{name}.svg\">"),
        };
        page.push_str(&format!("<h3>{name}</h3>{shown}<p>{}</p>\n", crate::display::escape(figure.alt())));
    }
    for table in tables().unwrap() {
        let bundle = table.bundle();
        println!("{}\n", bundle.plain);
        page.push_str(&format!("<hr>{}<pre>{}</pre>\n", bundle.html.unwrap_or_default(), crate::display::escape(&table.latex())));
    }
    std::fs::write(folder.join("index.html"), page).unwrap();
    if wanted.is_empty() {
        let kinds = FIGURES.iter().map(|kind| documented(kind, &(kind.draw)(&(kind.sample)().unwrap()).unwrap()));
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/figure/pictures.md");
        std::fs::write(place, std::iter::once(DOCUMENTED.to_owned()).chain(kinds).collect::<String>()).unwrap();
    }
}

/// The paper's table in both directions, and a table of tests.
fn tables() -> Result<Vec<Table>> {
    let mut runs = runs()?;
    runs.with_column(Column::new("task".into(), (0..210).map(|row| ["SST2", "FinS"][row % 2]).collect::<Vec<_>>()))?;
    runs.with_column(Column::new("ood".into(), (0..210).map(|row| row % 2 == 1).collect::<Vec<_>>()))?;
    let summary = |rows: &[&str], columns: &[&str]| {
        Summary::new(rows, columns)
            .value("accuracy", Best::Highest)
            .percent("accuracy")
            .value("ece", Best::Lowest)
            .name("ece", "ECE")
            .name("demonstrations", "N")
            .name("ood", "out of distribution")
            .star("task", "ood")
            .order(&METHODS)
    };
    let tests = df!(
        "first" => ["SFT", "SFT"], "second" => ["IA2 → SFT", "IA2 → SFT"], "value" => ["accuracy", "ece"], "pairs" => [50u32, 50],
        "test" => ["paired t", "paired t"], "statistic" => [4.21, -1.1], "p" => [0.0001, 0.27], "p_holm" => [0.0002, 0.27], "effect" => [0.6, -0.16]
    )?;
    Ok(vec![
        summary(&["task", "demonstrations"], &["method"])
            .caption("Accuracy and calibration on 200 queries")
            .build(&runs.head(Some(105)))?,
        summary(&["demonstrations", "method"], &["task"]).compare("method").build(&runs)?,
        significance(&tests, 0.05)?,
    ])
}

/// How the documentation's pictures begin.
pub(super) const DOCUMENTED: &str = "\n# Every kind, drawn\nEach of [`FIGURES`] from its sample (written by the test `gallery`).\n\n";

/// One kind for the documentation: what it shows, with a small picture.
pub(super) fn documented(kind: &FigureEntry, figure: &Figure) -> String {
    let wide = figure.svg().split('"').nth(3).and_then(|width| width.parse::<f64>().ok()).unwrap();
    let png = render::pixels(figure.svg(), false, 440.0 / wide).unwrap();
    let (png, about) = (crate::display::base64(&png), crate::display::escape(kind.about));
    format!("**{}**: {about}\n\n<img src=\"data:image/png;base64,{png}\" width=\"440\" alt=\"{about}\">\n\n", kind.name)
}

type Draw = Box<dyn Fn() -> Result<Figure>>;

fn pictures() -> Vec<(String, Draw)> {
    let mut all: Vec<(String, Draw)> =
        FIGURES.iter().map(|kind| (kind.name.to_owned(), Box::new(|| (kind.draw)(&(kind.sample)()?)) as Draw)).collect();
    let mut add = |name: &str, draw: fn() -> Result<Figure>| all.push((name.to_owned(), Box::new(draw)));
    add("hard_bars_six_methods", || {
        paper::accuracy_and_ece().order(&METHODS).title("Mean over ten data sets, Qwen3-4B-Base").draw(&runs()?)
    });
    add("hard_bars_paper_width", || paper::accuracy_and_ece().width(PAPER).draw(&(FIGURES[1].sample)()?));
    add("hard_lines_over_n", || paper::accuracy_over_n().title("SST2 → FinS*").draw(&runs()?));
    add("hard_lines_over_n_bands", || Chart::lines("demonstrations", "accuracy").colour("method").x_log2().draw(&runs()?));
    add("hard_lines_column", || paper::accuracy_over_n().width(COLUMN).draw(&runs()?));
    add("hard_scatter_six", || paper::asim_against_performance().draw(&runs()?));
    add("hard_scatter_column", || Chart::points("asim", "accuracy").colour("method").fit().width(COLUMN).draw(&runs()?));
    add("hard_scatter_plain", || Chart::points("asim", "accuracy").draw(&runs()?));
    add("hard_layers_six_models", || {
        let rows: Vec<(usize, usize)> = (0..6 * 6 * 36).map(|at| (at % 36, at / 36)).collect();
        let frame = df!(
            "layer" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(),
            "asim" => rows.iter().map(|row| (row.0 as f64 / 6.0 + (row.1 % 6) as f64).sin() * 0.4 + 0.3 - 0.1 * (row.1 / 6) as f64).collect::<Vec<_>>(),
            "method" => rows.iter().map(|row| METHODS[row.1 / 6]).collect::<Vec<_>>(),
            "model" => rows.iter().map(|row| ["Qwen3-4B-Base", "Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.2-1B-Instruct", "GPT-NeoX-20B", "tiny-icl"][row.1 % 6]).collect::<Vec<_>>()
        )?;
        paper::asim_over_layers().title("Activation similarity to ICL").draw(&frame)
    });
    add("hard_violins_long_names", || violins(&overlaps()?, "pair of adapters", "overlap"));
    add("hard_violins_grouped", || Chart::violins("site", "overlap").colour("pair of adapters").draw(&overlaps()?));
    add("hard_violins_few", || {
        violins(
            &df!("pair" => ["a", "a", "a", "b", "b", "b", "b", "b", "b"], "overlap" => [0.1, 0.2, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])?,
            "pair",
            "overlap",
        )
    });
    add("hard_reliability_methods", || {
        let frame = (FIGURES[6].sample)()?;
        let frames: Vec<DataFrame> = METHODS
            .iter()
            .enumerate()
            .map(|(at, method)| {
                let mut frame = frame.slice(at as i64, 10 - at);
                frame.with_column(Column::new("method".into(), vec![*method; frame.height()]))?;
                Ok(frame)
            })
            .collect::<Result<_>>()?;
        let mut all = frames[0].clone();
        frames[1..].iter().try_for_each(|frame| all.vstack_mut(frame).map(|_| ()))?;
        Reliability::new().facet("method").binning("10 equal-width bins").title("Calibration on 200 held-out queries").draw(&all)
    });
    add("hard_reliability_mass", || {
        let confidence: Vec<f64> = (0..300).map(|at| 1.0 - 0.6 * (-f64::from(at) / 40.0).exp()).collect();
        let frame = df!("correct" => (0..300).map(|at| at % 5 > 0).collect::<Vec<_>>(), "confidence" => confidence)?;
        reliability(&frame, Binning::EqualMass(15))
    });
    add("hard_heat_tokens", || {
        let tokens: Vec<String> =
            "Text : a warm and very funny film about internationalisation \\n Label".split(' ').map(|token| format!(" {token}")).collect();
        let rows: Vec<(usize, usize)> = (0..36 * tokens.len()).map(|at| (at / tokens.len(), at % tokens.len())).collect();
        let frame = df!(
            "layer" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(),
            "position" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(),
            "token" => rows.iter().map(|row| tokens[row.1].as_str()).collect::<Vec<_>>(),
            "norm" => rows.iter().map(|row| (row.0 * (row.1 + 3)) as f64).collect::<Vec<_>>()
        )?;
        HeatMap::new("position", "layer", "norm").x_names("token").title("Norm of what attention adds").draw(&frame)
    });
    add("hard_heat_fine", || {
        let rows: Vec<(usize, usize)> = (0..36 * 200).map(|at| (at / 200, at % 200)).collect();
        let frame = df!(
            "layer" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(),
            "position" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(),
            "asim" => rows.iter().map(|row| (row.0 as f64 / 4.0).sin() * (row.1 as f64 / 30.0).cos()).collect::<Vec<_>>()
        )?;
        HeatMap::new("position", "layer", "asim").diverging().draw(&frame)
    });
    add("hard_matrix_methods", || {
        let rows: Vec<(usize, usize)> = (0..36).map(|at| (at / 6, at % 6)).filter(|row| *row != (2, 3)).collect();
        let frame = df!(
            "method" => rows.iter().map(|row| METHODS[row.0]).collect::<Vec<_>>(),
            "other_method" => rows.iter().map(|row| METHODS[row.1]).collect::<Vec<_>>(),
            "value" => rows.iter().map(|row| 1.0 / (1.0 + row.0.abs_diff(row.1) as f64)).collect::<Vec<_>>()
        )?;
        matrix("other_method", "method", "value").range(0.0, 1.0).order(&METHODS).name("value", "linear CKA").width(PAPER).draw(&frame)
    });
    add("hard_matrix_36", || {
        let rows: Vec<(usize, usize)> = (0..36 * 36).map(|at| (at / 36, at % 36)).collect();
        let frame = df!(
            "layer" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(),
            "other_layer" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(),
            "value" => rows.iter().map(|row| (-(row.0.abs_diff(row.1) as f64) / 9.0).exp()).collect::<Vec<_>>()
        )?;
        matrix("other_layer", "layer", "value").range(0.0, 1.0).size(620, 540).draw(&frame)
    });
    add("hard_attention_16_heads", || {
        let rows: Vec<(usize, usize, usize)> =
            (0..16 * 24 * 24).map(|at| (at / 576, at / 24 % 24, at % 24)).filter(|row| row.2 <= row.1).collect();
        let frame = df!(
            "head" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(),
            "query" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(),
            "key" => rows.iter().map(|row| row.2 as u32).collect::<Vec<_>>(),
            "weight" => rows.iter().map(|row| 1.0 / (1.0 + ((row.1 - row.2) as f64 - row.0 as f64).abs())).collect::<Vec<_>>()
        )?;
        attention().title("Layer 3").draw(&frame)
    });
    add("hard_attention_tokens", || {
        let tokens = ["Text", ":", " a", " warm", " film", "\n", "Label", ":"];
        let rows: Vec<(usize, usize, usize)> = (0..2 * 64).map(|at| (at / 64, at / 8 % 8, at % 8)).filter(|row| row.2 <= row.1).collect();
        let frame = df!(
            "head" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(),
            "query" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(),
            "key" => rows.iter().map(|row| row.2 as u32).collect::<Vec<_>>(),
            "query_token" => rows.iter().map(|row| tokens[row.1]).collect::<Vec<_>>(),
            "key_token" => rows.iter().map(|row| tokens[row.2]).collect::<Vec<_>>(),
            "weight" => rows.iter().map(|row| 1.0 / (row.1 + 1) as f64).collect::<Vec<_>>()
        )?;
        attention().x_names("key_token").y_names("query_token").draw(&frame)
    });
    add("hard_training_log", || training().y_log10().title("IA2 on sentiment, N = 8").draw(&(FIGURES[7].sample)()?));
    add("hard_training_paper", || training().width(PAPER).draw(&(FIGURES[7].sample)()?));
    add("hard_many_rates", || {
        let rows: Vec<(i64, i64)> = (0..16 * 40).map(|at| (at % 40, at / 40)).collect();
        let frame = df!(
            "step" => rows.iter().map(|(step, _)| step * 50).collect::<Vec<_>>(),
            "loss" => rows.iter().map(|(step, group)| 3.0 * (-(*step as f64) / (4.0 + *group as f64)).exp() - 0.4).collect::<Vec<_>>(),
            "learning_rate" => rows.iter().map(|(_, group)| 1e-5 * 2f64.powi(*group as i32)).collect::<Vec<_>>()
        )?;
        lines(&frame, "step", "loss", "learning_rate")
    });
    add("hard_signs", || bars(&df!("x" => ["a", "b", "c"], "y" => [-0.5, 0.25, 1.0])?, "x", "y", "x"));
    add("hard_methods", || {
        let frame =
            df!("method" => METHODS, "accuracy" => [0.12, 0.94, 0.81, 0.72, 0.95, 0.9], "std" => [0.02, 0.01, 0.06, 0.05, 0.02, 0.03])?;
        Chart::bars("method", "accuracy")
            .colour("method")
            .error("std")
            .title("Accuracy on 200 held-out queries, 8 demonstrations")
            .draw(&frame)
    });
    add("hard_ceiling", || {
        let method: Vec<&str> = METHODS.iter().flat_map(|method| [*method; 4]).collect();
        let frame = df!(
            "demonstrations" => [2u32, 4, 8, 16].repeat(6), "method" => method,
            "accuracy" => (0..24).map(|at| (0.5 + 0.04 * f64::from(at / 4) + 0.12 * f64::from(at % 4)).min(1.0)).collect::<Vec<_>>(),
            "std" => (0..24).map(|at| 0.02 + 0.02 * f64::from(at % 5)).collect::<Vec<_>>()
        )?;
        Chart::bars("demonstrations", "accuracy").colour("method").error("std").draw(&frame)
    });
    add("hard_ceiling_lines", || {
        let frame = df!("demonstrations" => [2u32, 4, 8, 16], "accuracy" => [0.5, 0.7, 0.97, 1.0], "ece" => [0.3, 0.2, 0.02, 0.0], "std" => [0.05, 0.1, 0.1, 0.02])?;
        Chart::lines("demonstrations", "accuracy").panel("ece").error("std").x_log2().draw(&frame)
    });
    add("hard_ceiling_whiskers", || {
        let frame = df!("demonstrations" => [2u32, 4, 8, 16], "accuracy" => [0.5, 0.7, 0.97, 1.0], "ece" => [0.3, 0.2, 0.02, 0.0], "std" => [0.05, 0.1, 0.1, 0.02])?;
        Chart::lines("demonstrations", "accuracy").panel("ece").error("std").x_log2().whiskers().draw(&frame)
    });
    add("hard_letters", || {
        let tokens = ["⏎", "␣the", "▁film", "⇥", "Ġa", "\u{fffd}", "中文", "\u{1b}[", "\u{1f600}", "e\u{301}", "\r\n"];
        let rows: Vec<(usize, usize)> = (0..11 * 3).map(|at| (at / 11, at % 11)).collect();
        let frame = df!(
            "layer" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(),
            "position" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(),
            "token" => rows.iter().map(|row| tokens[row.1]).collect::<Vec<_>>(),
            "top" => rows.iter().map(|row| tokens[(row.0 + row.1) % 11]).collect::<Vec<_>>(),
            "probability" => rows.iter().map(|row| (row.0 * row.1) as f64 / 22.0).collect::<Vec<_>>()
        )?;
        token_table().title("Tokens ⏎ of any 文字").draw(&frame)
    });
    add("hard_learning_rates", || {
        let frame = df!("learning_rate" => [1e-4, 3e-4, 1e-3, 1e-4, 3e-4, 1e-3], "dev_loss" => [0.5, 0.3, 0.9, 0.6, 0.25, 1.4], "method" => ["SFT", "SFT", "SFT", "IA2", "IA2", "IA2"])?;
        Chart::lines("learning_rate", "dev_loss").colour("method").x_log10().y_log10().draw(&frame)
    });
    for (name, picture) in extreme::pictures() {
        all.push((name.to_owned(), Box::new(move || picture().and_then(|(picture, frame)| picture.draw(&frame)))));
    }
    all
}

const METHODS: [&str; 6] = ["zero-shot", "ICL", "SFT", "soft labels", "IA2", "IA2 → SFT"];

/// Six methods, N from 2 to 128, five runs.
fn runs() -> Result<DataFrame> {
    let rows: Vec<(usize, usize, usize)> = (0..6 * 7 * 5).map(|at| (at / 35, at / 5 % 7, at % 5)).collect();
    let swing = |row: &(usize, usize, usize)| ((row.0 * 31 + row.1 * 17 + row.2 * 7) as f64).sin();
    let asim = |row: &(usize, usize, usize)| [0.2, 0.95, 0.5, 0.6, 0.8, 0.68][row.0] + 0.04 * swing(row);
    Ok(df!(
        "demonstrations" => rows.iter().map(|row| 2u32 << row.1).collect::<Vec<_>>(),
        "method" => rows.iter().map(|row| METHODS[row.0]).collect::<Vec<_>>(),
        "run" => rows.iter().map(|row| row.2 as u32).collect::<Vec<_>>(),
        "asim" => rows.iter().map(asim).collect::<Vec<_>>(),
        "accuracy" => rows.iter().map(|row| 0.25 + 0.45 * asim(row) + 0.04 * row.1 as f64 + 0.05 * swing(row)).collect::<Vec<_>>(),
        "ece" => rows.iter().map(|row| 0.36 - 0.25 * asim(row) - 0.012 * row.1 as f64 + 0.02 * swing(row)).collect::<Vec<_>>()
    )?)
}

/// Overlaps of six pairs with long names at two sites.
fn overlaps() -> Result<DataFrame> {
    let rows: Vec<(usize, usize)> = (0..6 * 80).map(|at| (at / 80, at % 80)).collect();
    Ok(df!(
        "pair of adapters" => rows.iter().map(|row| format!("{} / {}", METHODS[row.0 % 3 + 2], METHODS[row.0 / 3 + 4])).collect::<Vec<_>>(),
        "site" => rows.iter().map(|row| ["self_attn.q_proj", "self_attn.o_proj"][row.1 % 2]).collect::<Vec<_>>(),
        "overlap" => rows.iter().map(|row| (0.06 + 0.1 * row.0 as f64) * (1.0 + 0.5 * ((row.1 * row.1 + row.0) as f64).sin())).collect::<Vec<_>>()
    )?)
}
