//! Pictures of data as hard as they come: the size of real models, letters of every script, huge and tiny numbers. Drawn by the gallery to be looked
//! at, and by a test that finds every text inside the picture and none on another.

use polars::prelude::*;

use super::*;
use crate::plot::scene::Scene;

/// How one is drawn.
pub(super) enum Picture {
    Chart(Chart),
    Map(HeatMap),
    Reliability(Reliability),
    Forest(Forest),
    Ranks(CriticalDifference),
    Text(TokenText),
    Heads(AttentionHeads),
}

impl Picture {
    pub(super) fn scene(&self, frame: &DataFrame) -> Result<(Scene, String)> {
        match self {
            Self::Chart(chart) => chart.scene(frame),
            Self::Map(map) => map.scene(frame),
            Self::Reliability(diagram) => diagram.scene(frame),
            Self::Forest(forest) => forest.scene(frame),
            Self::Ranks(ranks) => ranks.scene(frame),
            Self::Text(text) => text.scene(frame),
            Self::Heads(heads) => heads.scene(frame),
        }
    }

    pub(super) fn draw(&self, frame: &DataFrame) -> Result<Figure> {
        match self {
            Self::Chart(chart) => chart.draw(frame),
            Self::Map(map) => map.draw(frame),
            Self::Reliability(diagram) => diagram.draw(frame),
            Self::Forest(forest) => forest.draw(frame),
            Self::Ranks(ranks) => ranks.draw(frame),
            Self::Text(text) => text.draw(frame),
            Self::Heads(heads) => heads.draw(frame),
        }
    }
}

/// Makes a picture and the frame that it is drawn from.
pub(super) type Draw = fn() -> Result<(Picture, DataFrame)>;

/// A number in [0, 1) that is the same every time.
pub(super) fn noise(at: usize) -> f64 {
    let swirl = (at as f64 * 12.9898).sin() * 43_758.545_3;
    swirl - swirl.floor()
}

/// Every pair of indices.
pub(super) fn pairs(outer: usize, inner: usize) -> Vec<(usize, usize)> {
    (0..outer * inner).map(|at| (at / inner, at % inner)).collect()
}

pub(super) fn column<T>(rows: &[(usize, usize)], of: impl Fn(usize, usize) -> T) -> Vec<T> {
    rows.iter().map(|&(a, b)| of(a, b)).collect()
}

const METHODS: [&str; 5] = ["ICL", "SFT only", "soft labels", "IA2 only", "IA2 -> SFT"];

/// Layers by something, with a value that falls.
fn layers(layers: usize, rows_each: usize) -> Result<DataFrame> {
    let rows = pairs(layers, rows_each);
    Ok(df!(
        "layer" => column(&rows, |layer, _| layer as u32),
        "run" => column(&rows, |_, row| row as u32),
        "method" => column(&rows, |_, row| METHODS[row % 5]),
        "asim" => column(&rows, |layer, row| 0.9 - 0.5 * layer as f64 / layers as f64 - 0.05 * (row % 5) as f64 + 0.05 * noise(layer * 31 + row))
    )?)
}

fn planes(layers: usize) -> Result<DataFrame> {
    let rows = pairs(layers, 60);
    let at = |layer: usize, row: usize, shift: usize| {
        1.6f64.powi((layer / 2) as i32) * (noise(layer * 999 + row + shift) + (row % 2) as f64 - 1.0)
    };
    Ok(df!(
        "layer" => column(&rows, |layer, _| layer as u32), "label" => column(&rows, |_, row| ["0", "1"][row % 2]),
        "pc1" => column(&rows, |layer, row| at(layer, row, 0)), "pc2" => column(&rows, |layer, row| at(layer, row, 500) / 3.0),
        "pc1_share" => column(&rows, |layer, _| 0.9 - 0.02 * layer as f64), "pc2_share" => column(&rows, |layer, _| 0.05 + 0.001 * layer as f64)
    )?)
}

/// Activations of one token: most near 0, one unit a hundred times as large, as in real models.
fn units(layers: usize, units: usize) -> Result<DataFrame> {
    let rows = pairs(layers, units);
    let value = |layer: usize, unit: usize| match (layer > 2, unit) {
        (true, 318) => 812.0,
        _ => (noise(layer * 4099 + unit) - 0.5) * (1.0 + layer as f64 / 8.0) + 2.0 * f64::from(u8::from(unit.is_multiple_of(97))),
    };
    Ok(
        df!("layer" => column(&rows, |layer, _| layer as u32), "unit" => column(&rows, |_, unit| unit as u32), "value" => column(&rows, value))?,
    )
}

pub(super) fn tokens(layers: usize, tokens: &[&str], positions: usize) -> Result<DataFrame> {
    let rows = pairs(layers, positions);
    Ok(df!(
        "layer" => column(&rows, |layer, _| layer as u32), "position" => column(&rows, |_, position| position as u32),
        "token" => column(&rows, |_, position| tokens[position % tokens.len()]),
        "top" => column(&rows, |layer, position| tokens[(layer * 7 + position * 3) % tokens.len()]),
        "probability" => column(&rows, |layer, position| (layer as f64 / layers as f64 * noise(layer * 77 + position)).clamp(0.0, 1.0))
    )?)
}

fn heads(heads: usize, queries: std::ops::Range<usize>) -> Result<DataFrame> {
    let rows: Vec<(usize, usize, usize)> =
        (0..heads).flat_map(|head| queries.clone().flat_map(move |query| (0..=query).map(move |key| (head, query, key)))).collect();
    Ok(df!(
        "head" => rows.iter().map(|row| row.0 as u32).collect::<Vec<_>>(), "query" => rows.iter().map(|row| row.1 as u32).collect::<Vec<_>>(),
        "key" => rows.iter().map(|row| row.2 as u32).collect::<Vec<_>>(),
        "weight" => rows.iter().map(|row| 1.0 / (1.0 + ((row.1 - row.2) as f64 - row.0 as f64).abs())).collect::<Vec<_>>()
    )?)
}

fn bins(methods: usize, from: f64) -> Result<DataFrame> {
    let rows = pairs(methods, 10);
    let count = |method: usize, bin: usize| if (bin as f64) / 10.0 < from { 0 } else { (noise(method * 10 + bin) * 40.0) as u32 + 1 };
    let share = |method: usize, bin: usize, of: f64| (count(method, bin) > 0).then_some(of.clamp(0.0, 1.0));
    Ok(df!(
        "method" => column(&rows, |method, _| if methods > 5 { format!("learning rate 3e-4, run {method}") } else { METHODS[method].to_owned() }),
        "lower" => column(&rows, |_, bin| bin as f64 / 10.0), "upper" => column(&rows, |_, bin| (bin + 1) as f64 / 10.0),
        "count" => column(&rows, count), "confidence" => column(&rows, |method, bin| share(method, bin, (bin as f64 + 0.5) / 10.0)),
        "accuracy" => column(&rows, |method, bin| share(method, bin, bin as f64 / 12.0 + 0.2 * noise(method + bin)))
    )?)
}

/// Differences of methods to one, on tasks, of numbers of every size.
fn differences(methods: &[&str], tasks: usize, size: f64) -> Result<DataFrame> {
    let rows = pairs(tasks, methods.len());
    let middle = |task: usize, method: usize| size * (noise(task * 17 + method) - 0.4);
    let half = |task: usize, method: usize| size * 0.3 * noise(task * 31 + method + 500);
    Ok(df!(
        "method" => column(&rows, |_, method| methods[method]), "baseline" => vec!["SFT"; rows.len()], "metric" => vec!["accuracy"; rows.len()],
        "task" => column(&rows, |task, _| format!("task {task}, named at the length of titles of benchmarks that nobody abbreviates")),
        "difference" => column(&rows, middle), "low" => column(&rows, |task, method| middle(task, method) - half(task, method)),
        "high" => column(&rows, |task, method| (task != 1).then_some(middle(task, method) + half(task, method)))
    )?)
}

/// Methods over runs, each better than the last by `step`.
fn ranked(methods: &[&str], runs: usize, step: f64) -> Result<DataFrame> {
    let rows = pairs(methods.len(), runs);
    Ok(df!(
        "method" => column(&rows, |method, _| methods[method]), "run" => column(&rows, |_, run| run as u32),
        "loss" => column(&rows, |method, run| step * method as f64 + noise(method * 77 + run))
    )?)
}

pub(super) const HOSTILE: [&str; 20] = [
    "今天",
    "天气",
    "مرحبا",
    "بالعالم",
    "שלום",
    "\u{1f600}",
    "ไทย",
    "हिन्दी",
    "한국어",
    "日本語",
    "Ġthe",
    "▁film",
    "\n\n",
    "\t",
    "<|im_start|>",
    "a\u{301}",
    "\u{200b}",
    "\u{10fffd}",
    "\"&<>'",
    "%$#_{}",
];

/// Every extreme picture by its name.
pub(super) fn pictures() -> Vec<(&'static str, Draw)> {
    fn chart(chart: Chart, frame: Result<DataFrame>) -> Result<(Picture, DataFrame)> {
        Ok((Picture::Chart(chart), frame?))
    }
    fn map(map: HeatMap, frame: Result<DataFrame>) -> Result<(Picture, DataFrame)> {
        Ok((Picture::Map(map), frame?))
    }
    let mut all: Vec<(&'static str, Draw)> = vec![
        ("real_bars_17_layers", || chart(Chart::bars("layer", "asim").colour("layer"), layers(17, 1))),
        ("real_bars_60_numbers", || chart(Chart::bars("layer", "asim"), layers(60, 3))),
        ("real_violins_36_layers", || chart(Chart::violins("layer", "asim").colour("layer"), layers(36, 20))),
        ("real_heads_by_name", || {
            let frame = df!("head" => (0..32).map(|at| format!("layer 3, head {at}")).collect::<Vec<_>>(), "weight" => (0..32).map(noise).collect::<Vec<_>>());
            chart(Chart::bars("head", "weight").colour("head"), Ok(frame?))
        }),
        ("real_heads_as_colours", || {
            let rows = pairs(32, 12);
            let frame = df!("head" => column(&rows, |head, _| format!("L3H{head}")), "position" => column(&rows, |_, at| at as u32), "weight" => column(&rows, |head, at| noise(head) + at as f64 * 0.02));
            chart(Chart::lines("position", "weight").colour("head"), Ok(frame?))
        }),
        ("real_lines_by_layer", || {
            chart(Chart::lines("run", "asim").colour("layer").title("A title that is longer than the picture is wide, as titles of figures are that name the model, the task, the number of demonstrations and of runs"), layers(64, 10))
        }),
        ("real_components_30_layers", || chart(components().facet("layer"), planes(30))),
        ("real_panels_64", || chart(Chart::lines("run", "asim").facet("layer"), layers(64, 8))),
        ("real_panels_130_page_2", || chart(Chart::lines("run", "asim").facet("layer").page(2), layers(130, 5))),
        ("real_units_4096", || map(HeatMap::new("unit", "layer", "value").diverging(), units(36, 4096))),
        ("real_units_1025_sequential", || map(HeatMap::new("unit", "layer", "value"), units(17, 1025))),
        ("real_tokens_36_by_60", || {
            map(
                token_table(),
                tokens(36, &["Text", ":", " a", " warm", " and", " funny", " internationalisation", "\n", "Label", " positive"], 60),
            )
        }),
        ("real_tokens_30_by_8", || map(token_table(), tokens(30, &["Text", ":", " a", " warm", " film", "\n", "Label", ":"], 8))),
        ("real_attention_9_heads", || map(attention(), heads(9, 0..24))),
        ("real_attention_32_heads", || map(attention(), heads(32, 0..20))),
        ("real_attention_94_tokens", || map(attention(), heads(4, 0..94))),
        ("real_attention_one_query", || map(attention(), heads(9, 93..94))),
        ("real_matrix_64", || {
            let rows = pairs(64, 64);
            let frame = df!("layer" => column(&rows, |a, _| a as u32), "other_layer" => column(&rows, |_, b| b as u32), "measure" => vec!["linear_cka"; 4096], "value" => column(&rows, |a, b| (-(a.abs_diff(b) as f64) / 9.0).exp()));
            map(matrix("other_layer", "layer", "value").range(0.0, 1.0), Ok(frame?))
        }),
        ("real_matrix_facets_30", || {
            let rows = pairs(30 * 5, 5);
            let frame = df!("layer" => column(&rows, |a, _| (a / 5) as u32), "method" => column(&rows, |a, _| METHODS[a % 5]), "other_method" => column(&rows, |_, b| METHODS[b]), "value" => column(&rows, |a, b| 1.0 / (1.0 + (a % 5).abs_diff(b) as f64)));
            map(matrix("other_method", "method", "value").facet("layer").range(0.0, 1.0), Ok(frame?))
        }),
        ("real_reliability_half", || {
            Ok((Picture::Reliability(Reliability::new().facet("method").title("Two labels: no confidence below 0.5")), bins(5, 0.5)?))
        }),
        ("real_reliability_30", || Ok((Picture::Reliability(Reliability::new().facet("method")), bins(30, 0.0)?))),
        ("real_training_runs", || {
            let rows: Vec<(usize, usize)> = pairs(6, 40).into_iter().filter(|(run, step)| *step < 40 - 3 * run).collect();
            let frame = df!("run" => column(&rows, |run, _| run as u32), "step" => column(&rows, |_, step| step as u32 * 10), "train_loss" => column(&rows, |run, step| 2.0 * (-(step as f64) / (4.0 + run as f64)).exp() + 0.05 * noise(step + run * 50)), "dev_loss" => column(&rows, |run, step| 1.7 * (-(step as f64) / 6.0).exp() + 0.2 + 0.004 * step as f64 + 0.1 * noise(run)), "best" => column(&rows, |run, step| step == 20 + run));
            chart(training().each("run").x_range(0.0, 300.0), Ok(frame?))
        }),
        ("real_rows_and_columns", || {
            let rows = pairs(3 * 4 * 3, 28);
            let frame = df!("layer" => column(&rows, |_, layer| layer as u32), "model" => column(&rows, |at, _| ["Llama-3.2-1B", "Qwen3-4B-Base", "SmolLM2-135M"][at % 3]), "task" => column(&rows, |at, _| ["SST2", "FinS", "AGN", "SciQr"][at / 3 % 4]), "method" => column(&rows, |at, _| METHODS[at / 12 + 1]), "asim" => column(&rows, |at, layer| 0.8 - 0.01 * layer as f64 - 0.1 * (at / 12) as f64 + 0.1 * noise(at * 28 + layer)));
            chart(Chart::lines("layer", "asim").colour("method").rows("model").facet("task").reference(0.5, "zero-shot"), Ok(frame?))
        }),
        ("real_bars_with_runs", || {
            let rows = pairs(5, 40);
            let frame = df!("method" => column(&rows, |method, _| METHODS[method]), "demonstrations" => column(&rows, |_, row| [2u32, 4, 8, 16][row % 4]), "accuracy" => column(&rows, |method, row| (0.5 + 0.08 * method as f64 + 0.2 * noise(method * 40 + row)).min(1.0)));
            chart(
                Chart::bars("demonstrations", "accuracy")
                    .colour("method")
                    .dots()
                    .spread(Spread::T(0.95))
                    .reference(0.5, "chance")
                    .reference_range(0.46, 0.54, "95 % of guesses"),
                Ok(frame?),
            )
        }),
        ("real_violins_20_rows", || {
            let rows = pairs(3, 20);
            let frame = df!("pair" => column(&rows, |pair, _| ["SFT only / IA2 only", "SFT only / IA2 -> SFT", "IA2 only / IA2 -> SFT"][pair]), "overlap" => column(&rows, |pair, row| 0.1 + 0.2 * pair as f64 + 0.15 * noise(pair * 20 + row)));
            chart(Chart::violins("pair", "overlap").colour("pair").dots(), Ok(frame?))
        }),
        ("real_points_2000", || {
            let rows = pairs(4, 500);
            let frame = df!("method" => column(&rows, |method, _| METHODS[method + 1]), "n" => column(&rows, |_, row| [2u32, 4, 8, 16][row % 4]), "accuracy" => column(&rows, |method, row| (0.4 + 0.1 * method as f64 + 0.3 * noise(method * 500 + row)).min(1.0)));
            chart(Chart::points("n", "accuracy").colour("method").x_log2().jitter(), Ok(frame?))
        }),
        ("real_kinds_and_layers", || {
            let frame = df!("site" => ["block 3", "block 9", "mlp 3", "mlp 9", "head 2"], "kind" => ["block", "block", "mlp", "mlp", "head"], "effect" => [0.5, 0.2, -0.1, 0.3, 0.05]);
            chart(Chart::bars("site", "effect").colour("kind"), Ok(frame?))
        }),
        ("letters_tokens", || map(token_table().title("今天 مرحبا שלום \u{1f600} ไทย"), tokens(4, &HOSTILE, 20))),
        ("letters_names", || {
            let frame = df!("token" => HOSTILE, "logit" => (0..20).map(|at| noise(at) - 0.3).collect::<Vec<_>>());
            chart(Chart::bars("token", "logit").title("文字 in every place").x_label("符号 (token)").y_label("логит"), Ok(frame?))
        }),
        ("letters_groups", || {
            let rows = pairs(12, 5);
            let frame = df!("language" => column(&rows, |at, _| HOSTILE[at]), "n" => column(&rows, |_, n| n as u32), "accuracy" => column(&rows, |at, n| noise(at) * 0.5 + 0.1 * n as f64));
            chart(Chart::lines("n", "accuracy").colour("language"), Ok(frame?))
        }),
        ("real_forest_12_tasks", || Ok((Picture::Forest(forest().interval("95 % bootstrap interval")), differences(&METHODS, 12, 0.2)?))),
        ("real_forest_page_2", || Ok((Picture::Forest(forest().page(2)), differences(&METHODS, 30, 0.2)?))),
        ("real_forest_column", || Ok((Picture::Forest(forest().width(COLUMN)), differences(&METHODS[..2], 2, 0.2)?))),
        ("letters_forest", || Ok((Picture::Forest(forest().title("差 (difference)")), differences(&HOSTILE, 1, 1.0)?))),
        ("numbers_forest_huge", || Ok((Picture::Forest(forest()), differences(&METHODS, 2, 1e300)?))),
        ("numbers_forest_tiny", || Ok((Picture::Forest(forest()), differences(&METHODS, 2, 1e-12)?))),
        ("real_ranks_9_methods", || {
            let methods = ["zero-shot", "ICL", "SFT", "SFT on ICL", "soft labels", "IA2", "IA2 → SFT", "SFT → IA2", "IA2 + SFT"];
            Ok((Picture::Ranks(CriticalDifference::new("method", "run", "loss").title("Twelve data sets")), ranked(&methods, 12, 0.1)?))
        }),
        ("real_ranks_equal", || {
            Ok((Picture::Ranks(CriticalDifference::new("method", "run", "loss").wilcoxon_holm()), ranked(&METHODS, 5, 0.0)?))
        }),
        ("real_ranks_column", || {
            Ok((Picture::Ranks(CriticalDifference::new("method", "run", "loss").width(COLUMN)), ranked(&METHODS, 20, 0.3)?))
        }),
        ("letters_ranks", || Ok((Picture::Ranks(CriticalDifference::new("method", "run", "loss")), ranked(&HOSTILE, 20, 0.2)?))),
        ("numbers_near_a_million", || {
            let frame = df!("step" => (0..30).map(|at| 5_000_000 + at).collect::<Vec<i64>>(), "loss" => (0..30).map(|at| 1e6 + 1e-3 * noise(at)).collect::<Vec<_>>());
            chart(Chart::lines("step", "loss"), Ok(frame?))
        }),
        ("numbers_huge_and_tiny", || {
            let frame = df!("name" => ["a", "b", "c", "d", "e"], "effect" => [312.0, -0.5, 0.004, 1e-9, -120.0]);
            chart(bars_of("name", "effect"), Ok(frame?))
        }),
        ("numbers_1e300", || {
            let frame = df!("x" => [-1e300, 0.0, 1e300], "y" => [1e-300, 1e300, -1e300]);
            chart(Chart::points("x", "y"), Ok(frame?))
        }),
        ("numbers_tiny", || {
            let frame = df!("x" => [1e-9, 2e-9, 3e-9], "y" => [1e-12, 5e-12, 3e-12]);
            chart(Chart::lines("x", "y"), Ok(frame?))
        }),
        ("numbers_apart", || {
            let rows = pairs(4, 10);
            let frame = df!("layer" => column(&rows, |layer, _| layer as u32), "step" => column(&rows, |_, step| step as u32), "norm" => column(&rows, |layer, step| 10f64.powi(3 * layer as i32) * (1.0 + 0.1 * step as f64)));
            chart(Chart::lines("step", "norm").facet("layer").free_y(), Ok(frame?))
        }),
    ];
    all.extend(extreme_tokens::pictures());
    all
}

fn bars_of(x: &str, y: &str) -> Chart {
    Chart::bars(x, y).colour(x)
}
