//! Tables of runs.

use super::*;
use crate::display::Show;

/// Two sources, their evaluations in and out of distribution, two numbers of demonstrations, two methods, two runs.
fn runs() -> DataFrame {
    let rows: Vec<(usize, usize, usize, usize)> = (0..16).map(|at| (at / 8, at / 4 % 2, at / 2 % 2, at % 2)).collect();
    df!(
        "task" => rows.iter().map(|row| ["SST2", "FinS"][row.0]).collect::<Vec<_>>(),
        "ood" => rows.iter().map(|row| row.0 == 1).collect::<Vec<_>>(),
        "demonstrations" => rows.iter().map(|row| [4u32, 2][row.1]).collect::<Vec<_>>(),
        "method" => rows.iter().map(|row| ["SFT", "IA2 → SFT"][row.2]).collect::<Vec<_>>(),
        "accuracy" => rows.iter().map(|row| 0.5 + 0.1 * row.2 as f64 + 0.02 * row.3 as f64).collect::<Vec<_>>(),
        "ece" => rows.iter().map(|row| (row.1 == 1).then_some(0.3 - 0.2 * row.2 as f64)).collect::<Vec<_>>()
    )
    .unwrap()
}

#[test]
fn cells_are_means_with_deviations_and_the_best_is_bold() {
    let table = Summary::new(&["task", "demonstrations"], &["method"])
        .value("accuracy", Best::Highest)
        .percent("accuracy")
        .value("ece", Best::Lowest)
        .decimals("ece", 2)
        .name("ece", "ECE")
        .star("task", "ood")
        .build(&runs())
        .unwrap();
    let expected = "\
| task | demonstrations | SFT, accuracy (%) | SFT, ECE | IA2 → SFT, accuracy (%) | IA2 → SFT, ECE |
| --- | --- | ---: | ---: | ---: | ---: |
| SST2 | 2 | 51.0 (1.4) | 0.30 (0.00) | **61.0 (1.4)** | **0.10 (0.00)** |
| SST2 | 4 | 51.0 (1.4) | – | **61.0 (1.4)** | – |
| FinS\\* | 2 | 51.0 (1.4) | 0.30 (0.00) | **61.0 (1.4)** | **0.10 (0.00)** |
| FinS\\* | 4 | 51.0 (1.4) | – | **61.0 (1.4)** | – |

accuracy (%), ECE: mean (standard deviation) of 2 rows; bold: best method; \\*: out of distribution

8 missing values left out
";
    assert_eq!(table.markdown(), expected);
    let first = table.frame().head(Some(1));
    let names = ["task", "demonstrations", "method", "value", "mean", "std", "count", "best", "starred"];
    assert_eq!(first.get_column_names(), names);
    assert_eq!(first.column("mean").unwrap().f64().unwrap().get(0), Some(0.51));
    assert_eq!(table.frame().height(), 12);
    assert!(table.csv().unwrap().starts_with("task,demonstrations,method,value,mean,std,count,best,starred\nSST2,2,SFT,accuracy,0.51,"));
    assert!(table.bundle().html.unwrap().contains("colspan=\"2\"><div align=\"center\">SFT</div></th>"));
}

#[test]
fn methods_may_stand_below_each_other_and_tasks_beside() {
    let table = Summary::new(&["demonstrations", "method"], &["task"])
        .value("accuracy", Best::Highest)
        .compare("method")
        .star("task", "ood")
        .order(&["IA2 → SFT"])
        .build(&runs())
        .unwrap();
    let text = table.markdown();
    assert!(text.starts_with("| demonstrations | method | SST2 | FinS\\* |\n"), "{text}");
    assert!(text.contains("| 2 | IA2 → SFT | **0.610 (0.014)** | **0.610 (0.014)** |\n| 2 | SFT | 0.510 (0.014) |"), "{text}");
}

#[test]
fn what_reads_the_same_is_as_good_and_one_alone_is_not_the_best() {
    let frame = df!("method" => ["a", "b", "c"], "accuracy" => [0.5004, 0.5001, 0.4]).unwrap();
    let table = Summary::new(&["method"], &[]).value("accuracy", Best::Highest).build(&frame).unwrap();
    assert!(table.markdown().contains("| a | **0.500** |\n| b | **0.500** |\n| c | 0.400 |"), "{}", table.markdown());
    let one = Summary::new(&["method"], &[]).value("accuracy", Best::Highest).build(&frame.head(Some(1))).unwrap();
    assert!(!one.markdown().contains("**"));
}

#[test]
fn every_bad_frame_says_what_is_wrong() {
    let frame = runs();
    let message = |summary: Summary, frame: &DataFrame| summary.build(frame).unwrap_err().to_string();
    let one = |value: &str| Summary::new(&["task"], &["method"]).value(value, Best::Highest);
    assert!(message(one("f1"), &frame).contains("table: the frame has no column `f1`; it has `task`, `ood`"));
    assert!(message(one("method"), &frame).contains("holds str"));
    assert!(message(one("accuracy"), &frame.head(Some(0))).contains("no rows"));
    assert!(message(one("accuracy").star("method", "accuracy"), &frame).contains("booleans are needed"));
    assert!(message(one("accuracy").star("method", "ood"), &frame).contains("`SFT` has rows with `ood` and rows without"));
    assert!(message(one("accuracy").compare("run"), &frame).contains("`run` names neither rows nor columns"));
    assert!(message(Summary::new(&["task"], &["task"]).value("accuracy", Best::Highest), &frame).contains("names twice"));
    assert!(message(Summary::new(&["task"], &[]), &frame).contains("one must be a value"));
    let nan = df!("task" => ["a"], "method" => ["b"], "accuracy" => [f64::NAN]).unwrap();
    assert!(message(one("accuracy"), &nan).contains("NaN in row 0"));
}

#[test]
fn a_table_is_saved_by_its_extension() {
    let table = Summary::new(&["task"], &["method"]).value("accuracy", Best::Highest).build(&runs()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("a.md", table.markdown()), ("a.TEX", table.latex()), ("a.csv", table.csv().unwrap())] {
        std::fs::write(folder.path().join(name), "old").unwrap();
        table.save(folder.path().join(name)).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), text);
    }
    assert!(table.save(folder.path().join("a.txt")).unwrap_err().to_string().contains("ends in none of .md, .tex and .csv"));
    assert!(table.save(folder.path().join("none/a.md")).unwrap_err().is_file());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "a temporary file was left behind");
}

#[test]
fn a_column_has_one_style_and_its_name_in_words() {
    let frame = df!("method" => ["SFT", "SFT", "IA2", "IA2"], "ece_equal_width_15" => [0.25, 0.75, 0.00012, 0.00034], "loss" => [700.0, 640.0, 95.25, 80.5]).unwrap();
    let table = Summary::new(&["method"], &[])
        .value("ece_equal_width_15", Best::Lowest)
        .value("loss", Best::Neither)
        .caption("Losses")
        .label("tab:losses");
    let table = table.build(&frame).unwrap();
    let text = table.markdown();
    assert!(text.contains("| method | ECE (15 equal-width bins) | loss |"), "{text}");
    assert!(text.contains("| SFT | 0.500 (0.354) | 670 (42) |\n| IA2 | **0.000 (0.000)** | 88 (10) |"), "{text}");
    let text = table.latex();
    assert!(text.contains("\\caption{Losses}\n\\label{tab:losses}\n"), "{text}");
    assert!(table.caption("Other").label("tab:other").latex().contains("\\caption{Other}\n\\label{tab:other}\n"));
    assert_eq!(
        [decimals([0.1, 0.4].into_iter()), decimals([3.0, f64::NAN, 5.0].into_iter()), decimals([1.0, 1.0].into_iter())],
        [Some(3), Some(2), None]
    );
}

/// What breaks a LaTeX table: braces, environments and cells that do not add up.
fn well_formed(text: &str) {
    let (mut depth, mut escaped) = (0, false);
    for letter in text.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        assert!(depth >= 0, "{text}");
    }
    assert_eq!(depth, 0, "{text}");
    for environment in ["table", "tabular"] {
        assert_eq!(
            text.matches(&format!("\\begin{{{environment}}}")).count(),
            text.matches(&format!("\\end{{{environment}}}")).count(),
            "{text}"
        );
    }
    assert!(text.replace("\\$", "").matches('$').count().is_multiple_of(2), "{text}");
    let columns = text.split("\\begin{tabular}{").nth(1).unwrap().split('}').next().unwrap().len();
    let span = |cell: &str| cell.trim().strip_prefix("\\multicolumn{").map_or(1, |rest| rest.split('}').next().unwrap().parse().unwrap());
    for row in text.lines().filter(|line| line.ends_with("\\\\")) {
        let wide: usize = row.replace("\\&", "").split('&').map(span).sum();
        assert_eq!(wide, columns, "{row}");
    }
}

#[test]
fn latex_is_whole_whatever_the_names_are() {
    let mut frame = runs();
    let hostile = ["a & b", "50 % {of} $x$", "\\end{tabular}", "d_z^2 ~ #1", "<a|b> * \"q\""];
    frame.with_column(Column::new("method".into(), (0..16).map(|row| hostile[row % 5]).collect::<Vec<_>>())).unwrap();
    let summary = Summary::new(&["task", "demonstrations"], &["method"])
        .value("accuracy", Best::Highest)
        .value("ece", Best::Lowest)
        .star("task", "ood");
    let tests = df!(
        "first" => ["a_b", "a_b"], "second" => ["IA2 → SFT", "&"], "value" => ["accuracy", "ece_equal_width_15"], "test" => ["paired t", "Wilcoxon"], "difference" => [0.1, 0.2],
        "lower" => [0.0, 0.1], "upper" => [0.2, 0.3], "statistic" => [Some(1.0), None], "p" => [0.1, 0.2], "p_holm" => [0.01, 0.2], "effect" => [0.5, -0.1]
    )
    .unwrap();
    let tables = [
        summary.caption("50 % of {all} & more").label("tab:a").build(&frame).unwrap(),
        Summary::new(&["method"], &[]).value("accuracy", Best::Highest).build(&frame).unwrap(),
        significance(&tests, 0.05).unwrap().caption("Tests").label("tab:b"),
    ];
    let mut document = String::from("\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\begin{document}\n");
    for table in &tables {
        well_formed(&table.latex());
        document.push_str(&table.latex());
    }
    document.push_str("\\end{document}\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.tex"), document).unwrap();
    let compiled = std::process::Command::new("pdflatex")
        .args(["-halt-on-error", "-interaction=nonstopmode", "all.tex"])
        .current_dir(folder.path())
        .output();
    match compiled {
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout)),
        Err(_) => crate::skipped("compiling tables: there is no `pdflatex` here; only their structure was checked"),
    }
}

#[test]
fn nothing_is_no_table() {
    assert!(stack(&[]).unwrap_err().to_string().contains("no frames to stack"));
    assert!(results(&[]).unwrap_err().to_string().contains("no methods"));
}

#[test]
fn three_runs_have_their_sample_deviation() {
    let frame = df!("task" => ["a"; 3], "method" => ["m"; 3], "accuracy" => [1.0, 2.0, 3.0]).unwrap();
    let table = Summary::new(&["task"], &["method"]).value("accuracy", Best::Neither).build(&frame).unwrap();
    let number = |name: &str| table.frame().column(name).unwrap().f64().unwrap().get(0);
    // By two, one less than there are: 2 / 2.
    assert_eq!((number("mean"), number("std")), (Some(2.0), Some(1.0)));
}
