//! The figures of the IA2 paper (arXiv 2509.22621) as charts of frames of runs: `paper::accuracy_and_ece().draw(&frame)`.
//!
//! Each is a [`Chart`] with its columns set; title, labels, order of the methods and size can be set as for any.

use super::Chart;

/// Figure 1: bars of accuracy and of ECE over the number of demonstrations, one bar per method; means and standard deviations over the rows
/// (data sets and runs).
///
/// Columns: `demonstrations` (N), `method`, `accuracy` and `ece` (fractions; rows where one is null are left out of that one's panel).
pub fn accuracy_and_ece() -> Chart {
    Chart::bars("demonstrations", "accuracy").panel("ece").colour("method").name("ece", "ECE").name("demonstrations", "demonstrations (N)")
}

/// Figure 2: asim with ICL over layers, one panel per method and one line per model, with bands over the rows (data sets and runs).
///
/// Columns: `layer` (from 0), `asim` (in [-1, 1]), `method`, `model`.
pub fn asim_over_layers() -> Chart {
    Chart::lines("layer", "asim").colour("model").facet("method").y_label("asim with ICL")
}

/// Figures 3 and 5: accuracy and ECE over asim with ICL, one point per row, coloured by method, with the least-squares line and Pearson's
/// correlation over all.
///
/// Columns: `asim` (mean over layers), `accuracy`, `ece`, `method`.
pub fn asim_against_performance() -> Chart {
    Chart::points("asim", "accuracy").panel("ece").colour("method").fit().name("ece", "ECE").x_label("asim with ICL")
}

/// Figure 4: the distribution of subspace overlap per pair of methods, with mean and median.
///
/// Columns: `pair` (as `SFT / IA2`), `overlap` (in [0, 1]); one row per site, layer and run.
pub fn overlap() -> Chart {
    Chart::violins("pair", "overlap").colour("pair").y_label("subspace overlap")
}

/// Figure 6: accuracy over the number of demonstrations, by its logarithm, one line per method with whiskers over the rows (runs).
///
/// Columns: `demonstrations` (N), `accuracy`, `method`.
pub fn accuracy_over_n() -> Chart {
    Chart::lines("demonstrations", "accuracy").colour("method").x_log2().whiskers().name("demonstrations", "demonstrations (N)")
}
