//! Maps of activation patching.

use polars::prelude::*;

use super::encoded;
use super::patch::patch;
use crate::activations::Activations;
use crate::error::{Error, Result};
use crate::evaluate::evaluate;
use crate::libtorch::guarded;
use crate::model::Model;
use crate::nn::layer_of;
use crate::prompt::Prompts;

/// Where the answer lies: how much of the donor's answer comes back when one layer's activation at one position is the donor's (Meng et al. 2022; Wang et
/// al. 2023).
///
/// The prompts are the *corrupted* ones, the donors those of the *clean* ones: the same text with another word, say. With
/// LD = logit(the donor's gold) − logit(the prompt's gold),
///
/// normalised = (LD patched − LD corrupted) / (LD clean − LD corrupted):
///
/// 0 where the patch does nothing, 1 where all of the donor's answer comes back; below 0 and above 1 where it leads away, or further. *Patched* is
/// [`patch`] at that hook point and position, *corrupted* the prompt without a patch, *clean* the donor's prompt without one.
///
/// One row per prompt, hook point and position:
///
/// | column | |
/// |---|---|
/// | `index`, `donor` | the prompt's and the donor's |
/// | `hook_point`, `site`, `layer` | where; `site` is the hook point with `*` for its layer |
/// | `position`, `from_end` | of the prompt's token: from 0, and from its end |
/// | `token`, `donor_token` | the prompt's there and the donor's, spelled as [`Tokenizer::spelling`](crate::tokenizer::Tokenizer::spelling) does |
/// | `clean`, `corrupted`, `patched` | LD, in nats |
/// | `normalised_logit_difference` | as above; null where LD clean and LD corrupted are the same, or the two golds are |
///
/// [`figure::patching`](crate::figure::patching) draws it.
///
/// ```
/// # use ia2::prelude::*;
/// # fn main() -> Result<()> {
/// # let model = Model::open("tiny-icl")?;
/// let prompts = Task::open("sentiment")?.few_shot(8, 0)?.test.zero_shot()?.take(8);
/// let clean = Capture::at("model.layers.*").positions(Positions::Prompt).of(&model, &model.respond(&prompts)?)?;
/// let map = patch_map(&model, &prompts, &clean.roll(1)?, 2)?;
/// assert_eq!(map.height(), 8 * 6 * 2);
/// # Ok(()) }
/// ```
///
/// # Errors
/// A task without labels, whose answers have no logits to compare; no prompt whose gold is another than its donor's; what [`patch`] refuses.
pub fn patch_map(model: &Model, prompts: &Prompts, donors: &Activations, last: usize) -> Result<DataFrame> {
    guarded("the patching map", || {
        if prompts.form().label_set().is_empty() {
            return Err(Error::input("a patching map compares the logits of two labels: these prompts have free answers, use `patch`"));
        }
        let patched = patch(model, prompts, donors, last)?;
        let others = donors.responses().prompts();
        let (own, theirs) = (evaluate(model, prompts)?, evaluate(model, &others)?);
        let golds = (own.column("gold")?.str()?.clone(), theirs.column("gold")?.str()?.clone());
        let pairs: Vec<Option<(&str, &str)>> =
            golds.0.iter().zip(golds.1.iter()).map(|(own, their)| Some((own?, their?)).filter(|(own, their)| own != their)).collect();
        if pairs.iter().all(Option::is_none) {
            return Err(Error::input(
                "no prompt has another gold than its donor: give each a donor of another label (`Activations::roll`, `Activations::select`)",
            ));
        }
        let corrupted = differences(&own, &pairs)?;
        let clean = differences(&theirs, &pairs)?;
        let [rows, donor_rows] = [encoded(model, prompts)?, encoded(model, &others)?];
        let tokenizer = model.tokenizer()?;

        let (count, height) = (prompts.len(), patched.height());
        let from_end: Vec<usize> = patched.column("from_end")?.u32()?.into_no_null_iter().map(|place| place as usize).collect();
        let place = |row: usize| (row % count, from_end[row]);
        let at = |rows: &[Vec<u32>], (row, from_end): (usize, usize)| rows[row].len() - 1 - from_end;
        let spelled = |rows: &[Vec<u32>], place: (usize, usize)| tokenizer.spelling(rows[place.0][at(rows, place)]);
        let sites: Vec<String> = patched.column("hook_point")?.str()?.iter().map(|path| site(path.unwrap_or_default())).collect();
        // `patch` counts the other way round.
        let found: Vec<Option<f64>> = patched.column("logit_difference")?.f64()?.iter().map(|value| value.map(|value| -value)).collect();
        let share = |row: usize| {
            let (clean, corrupted) = (clean[row % count]?, corrupted[row % count]?);
            Some((found[row]? - corrupted) / (clean - corrupted)).filter(|share| share.is_finite())
        };
        let all = || 0..height;
        let mut frame = patched.select(["index", "donor", "hook_point", "layer", "from_end"])?;
        let columns = [
            Column::new("position".into(), all().map(|row| at(&rows, place(row)) as u32).collect::<Vec<_>>()),
            Column::new("token".into(), all().map(|row| spelled(&rows, place(row))).collect::<Vec<_>>()),
            Column::new("donor_token".into(), all().map(|row| spelled(&donor_rows, place(row))).collect::<Vec<_>>()),
            Column::new("site".into(), sites),
            Column::new("clean".into(), all().map(|row| clean[row % count]).collect::<Vec<_>>()),
            Column::new("corrupted".into(), all().map(|row| corrupted[row % count]).collect::<Vec<_>>()),
            Column::new("patched".into(), found.as_slice()),
            Column::new("normalised_logit_difference".into(), all().map(share).collect::<Vec<_>>()),
        ];
        for column in columns {
            frame.with_column(column)?;
        }
        Ok(frame)
    })
}

/// `ln p(donor's gold) - ln p(prompt's gold)` among the labels of each row: the difference of their logits.
fn differences(frame: &DataFrame, pairs: &[Option<(&str, &str)>]) -> Result<Vec<Option<f64>>> {
    let chance = |row: usize, label: &str| -> Result<Option<f64>> { Ok(frame.column(&format!("p_{label}"))?.f64()?.get(row).map(f64::ln)) };
    let one = |(row, pair): (usize, &Option<(&str, &str)>)| match pair {
        Some((own, their)) => Ok(chance(row, their)?.zip(chance(row, own)?).map(|(their, own)| their - own)),
        None => Ok(None),
    };
    pairs.iter().enumerate().map(one).collect()
}

/// A hook point with `*` for its layer.
fn site(path: &str) -> String {
    layer_of(path).map_or_else(|| path.to_owned(), |layer| path.replacen(&format!("layers.{layer}"), "layers.*", 1))
}
