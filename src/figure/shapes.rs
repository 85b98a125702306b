//! Charts and heat maps of the frames that other rooms give, with their columns set.

use super::{Chart, Forest, HeatMap};

/// Loss over steps in training and on the dev set, the best check marked: the frame of [`Trained::history`](crate::train::Trained::history).
///
/// Columns: `step`, `train_loss`, `dev_loss`, `best` (boolean). Several phases in one frame become panels with `.facet("objective")`; several runs are
/// averaged, with bands, and `.each("run")` draws a faint line for each of them.
/// `.y_log10()` for losses that fall by powers of ten.
pub fn training() -> Chart {
    Chart::lines("step", "train_loss").also("dev_loss").marked("best").y_label("loss").name("best", "best check")
}

/// Points in the plane of the first two principal components, coloured by label.
///
/// Columns: `pc1`, `pc2`, `label`; `pc1_share` and `pc2_share` (in [0, 1]), where they are there, stand above each panel as shares of the
/// variance. Every panel has axes of its own: layers differ in scale by orders of magnitude.
pub fn components() -> Chart {
    Chart::points("pc1", "pc2").colour("label").free_x().free_y()
}

/// A matrix of likeness: layers by layers, or methods by methods, with the values in the cells where they fit.
///
/// Columns: the two named, and `value` (by default coloured from the least to the greatest: set `.range(0.0, 1.0)` for CKA).
pub fn matrix(x: &str, y: &str, value: &str) -> HeatMap {
    HeatMap::new(x, y, value).downward()
}

/// What a model would say at each layer and position (the logit lens): cells hold the most probable token, coloured by its probability.
///
/// Columns: `layer`, `position`, `token` (the input token at the position), `top` (the most probable next token), `probability` (in [0, 1]).
pub fn token_table() -> HeatMap {
    HeatMap::new("position", "layer", "probability").text("top").x_names("token").range(0.0, 1.0).x_label("input token")
}

/// Where each head looks: one panel per head, queries downward, keys to the right.
///
/// Columns: `head`, `query`, `key` (positions from 0), `weight` (in [0, 1]). Tokens as labels: `.x_names("key_token").y_names("query_token")`.
pub fn attention() -> HeatMap {
    HeatMap::new("key", "query", "weight").facet("head").downward().square().robust(false).empty("masked: later than the query")
}

/// Paired differences of methods with their intervals: a panel per metric, a group of rows per task, a row per method and baseline.
///
/// Columns: `method`, `baseline`, `metric` (a column's name, such as `accuracy`), `task`, `difference` (method less baseline), `low` and `high` (the
/// interval's ends). Say what the interval is: `.interval("95 % bootstrap interval")`.
pub fn forest() -> Forest {
    Forest::new("method", "difference", "low", "high").against("baseline").group("task").facet("metric")
}
