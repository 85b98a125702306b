//! Charts and heat maps of the frames that other rooms give, with their columns set.

use super::attention_heads::LAST;
use super::{AttentionHeads, Chart, Forest, HeatMap, TokenText};

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

/// What a model would say at each layer and position (the logit lens): cells hold the most probable token, coloured by its probability. In a notebook it is
/// a table that scrolls below its heads, and each cell says the five likeliest tokens under the pointer.
///
/// Columns: `layer`, `position`, `token` (the input token at the position), `top` (the most probable next token), `probability` (in [0, 1]); `top_2`,
/// `probability_2` to `top_5`, `probability_5` where they are there.
pub fn token_table() -> HeatMap {
    let map = HeatMap::new("position", "layer", "probability").text("top").x_names("token").range(0.0, 1.0).x_label("input token");
    (2..=5).fold(map, |map, place| map.tooltip(&format!("top_{place}"), &format!("probability_{place}")))
}

/// Text whose tokens are coloured by the column `value` ([`TokenText`]): the frames of [`Scores::tokens`](crate::model::Scores::tokens) (`log_likelihood`), of
/// [`logit_lens`](crate::lens::logit_lens) (`p_<label>`, with `.only("layer", n)`), or of
/// [`attention_patterns`](crate::lens::attention_patterns) (the column `key_token`, with `.only` for one layer, head and query).
pub fn token_text(token: &str, value: &str) -> TokenText {
    TokenText::new(token, value)
}

/// Where each head looks: one panel per head, queries downward, keys to the right, of the last 24 tokens ([`HeatMap::last`]). What lies later than the query
/// is blank.
///
/// Columns: `head`, `query`, `key` (positions from 0), `weight` (in [0, 1]). Tokens as labels: `.x_names("key_token").y_names("query_token")`.
pub fn attention() -> HeatMap {
    let map = HeatMap::new("key", "query", "weight").facet("head").downward().square().robust(false).empty("");
    map.shares().last(LAST)
}

/// One head of one layer, large, with its tokens: [`attention`] of a frame that holds several layers and heads.
///
/// Columns: those of [`attention_patterns`](crate::lens::attention_patterns).
pub fn attention_head(layer: usize, head: usize) -> HeatMap {
    attention().only("layer", layer).only("head", head).x_names("key_token").y_names("query_token")
}

/// All heads of all layers as thumbnails ([`AttentionHeads`]).
///
/// Columns: those of [`attention_patterns`](crate::lens::attention_patterns).
pub fn attention_heads() -> AttentionHeads {
    AttentionHeads::default()
}

/// Which activations carry the answer: layers by positions of one prompt, coloured by how much of the donor's answer each brings back, one panel for each
/// kind of hook point. 0 (white): as if nothing was patched; 1 (dark red): all of it; blue: away from it.
///
/// Columns: `layer`, `position`, `token`, `site`, `normalised_logit_difference`, as [`patch_map`](crate::lens::patch_map) gives them; of several prompts, one with
/// `.only("index", n)`.
pub fn patching() -> HeatMap {
    HeatMap::new("position", "layer", "normalised_logit_difference")
        .facet("site")
        .annotated(false)
        .x_names("token")
        .diverging()
        .range(-1.0, 1.0)
        .x_label("input token")
}

/// Paired differences of methods with their intervals: a panel per metric, a group of rows per task, a row per method and baseline.
///
/// Columns: `method`, `baseline`, `metric` (a column's name, such as `accuracy`), `task`, `difference` (method less baseline), `low` and `high` (the
/// interval's ends). Say what the interval is: `.interval("95 % bootstrap interval")`.
pub fn forest() -> Forest {
    Forest::new("method", "difference", "low", "high").against("baseline").group("task").facet("metric")
}
