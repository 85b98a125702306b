//! Which directions the adapters of two methods share.

use polars::prelude::*;

use super::Study;
use super::study::Row;
use crate::adapter::{Adapter, AdapterConfig};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::libtorch::guarded;
use crate::similarity::{Factors, Side, subspace_overlap};

impl Study {
    /// Subspace overlap of the chosen adapters, for each pair of methods within a run: `model`, `task`, `n`, `run`, `adapter`, `first`, `second`,
    /// `pair` (`first / second`), `sites` (their number), `overlap` and `note`.
    ///
    /// As in the paper and the authors' code: `|U1ᵀ U2|² / r` with the left singular vectors of each site's `B`, then the mean over the sites. LoRA
    /// adapters only. Where it is not defined (an update of fewer directions than its rank), `overlap` is null and `note` says why.
    ///
    /// # Errors
    /// An adapter's files are gone; when polars cannot build the frame.
    pub fn overlap(&self) -> Result<DataFrame> {
        guarded("subspace overlap of adapters", || {
            let lora = |row: &Row<'_>| {
                row.entry.record.trained.is_some()
                    && row.run().training.as_ref().is_some_and(|training| matches!(training.adapter, AdapterConfig::Lora(_)))
            };
            // An adapter is one on all tests: chosen is that of the task's own.
            let rows: Vec<Row<'_>> = self.chosen()?.into_iter().filter(|row| !row.ood() && lora(row)).collect();
            let mut adapters = Vec::with_capacity(rows.len());
            for row in &rows {
                interrupt::check()?;
                adapters.push(row.entry.record.open_adapter(self.home().path(), row.entry.model.get()?)?);
            }
            let (mut firsts, mut seconds, mut sites, mut overlaps, mut notes) = (vec![], vec![], vec![], vec![], vec![]);
            for (place, first) in rows.iter().enumerate() {
                for (other, second) in rows.iter().enumerate().skip(place + 1).filter(|(_, second)| together(first, second)) {
                    interrupt::at(place as u64, rows.len() as u64, "adapters")?;
                    let (overlap, note) = match overlap(&adapters[place], &adapters[other]) {
                        Ok(overlap) => (Some(overlap), None),
                        Err(error) if error.is_numeric() || error.is_input() => (None, Some(error.to_string())),
                        Err(error) => return Err(error),
                    };
                    firsts.push(*first);
                    seconds.push(second.run().method.name());
                    sites.push(adapters[place].sites().len() as u32);
                    overlaps.push(overlap);
                    notes.push(note);
                }
            }
            let mut frame = self.names(&firsts)?;
            frame.rename("method", "first".into())?;
            let pairs: Vec<String> =
                firsts.iter().zip(&seconds).map(|(row, second)| format!("{} / {second}", row.run().method.name())).collect();
            let frame = frame.drop("ood")?.drop("evaluated_on")?;
            Ok(frame.hstack(&[
                Column::new("second".into(), seconds),
                Column::new("pair".into(), pairs),
                Column::new("sites".into(), sites),
                Column::new("overlap".into(), overlaps),
                Column::new("note".into(), notes),
            ])?)
        })
    }
}

fn together(a: &Row<'_>, b: &Row<'_>) -> bool {
    let of = |row: &Row<'_>| (row.run().n, row.run().run, row.adapter());
    of(a) == of(b) && a.run().task == b.run().task && a.run().model == b.run().model
}

/// Mean over the sites.
fn overlap(first: &Adapter, second: &Adapter) -> Result<f64> {
    let sites = first.sites();
    let mut sum = 0.0;
    for site in &sites {
        let missing = || Error::internal(format!("an adapter has no update at {site}"));
        let (one, two) = (first.update(site)?.ok_or_else(missing)?, second.update(site)?.ok_or_else(missing)?);
        let rank = one.a.size()[0] as usize;
        let value = subspace_overlap(&Factors { a: &one.a, b: &one.b }, &Factors { a: &two.a, b: &two.b }, Side::B, rank);
        sum += value.map_err(|error| error.context(site))?;
    }
    Ok(sum / sites.len().max(1) as f64)
}
