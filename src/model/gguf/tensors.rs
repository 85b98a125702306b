//! The tensors under Hugging Face's names, de-quantised one at a time.

use tch::{Device, Kind, Tensor};

use super::Gguf;
use super::container::Stored;
use super::metadata::{FACTORS, LONG};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::weights::copy;

/// Numbers de-quantised in one go; a multiple of every block's. Small enough to stay in the processor's cache.
const NUMBERS: usize = 1 << 14;

impl Gguf {
    /// Hugging Face's name and the file's own of each tensor that is a weight. One that has no place keeps its own name.
    pub(in crate::model) fn names(&self) -> Vec<(String, String)> {
        // The factors of the rotary embedding are part of the configuration.
        let weights = self.header.tensors.keys().filter(|name| *name != FACTORS && !LONG.contains(&name.as_str()));
        weights.map(|own| (self.public_name(own).unwrap_or_else(|| own.clone()), own.clone())).collect()
    }

    /// `blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`.
    fn public_name(&self, own: &str) -> Option<String> {
        let (stem, ending) = own.rsplit_once('.')?;
        let (prefix, stem) = match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, stem)) => (format!("model.layers.{layer}."), stem),
            None => (String::new(), stem),
        };
        let public = self.layout.public(stem)?;
        // Inside a layer, and outside of it: neither may pass for the other.
        (prefix.is_empty() == (public.starts_with("model.") || public == "lm_head")).then(|| format!("{prefix}{public}.{ending}"))
    }

    fn stored(&self, own: &str) -> Result<&Stored> {
        self.header.tensors.get(own).ok_or_else(|| Error::internal(format!("`{}` has no tensor `{own}`", self.path().display())))
    }

    pub(in crate::model) fn shape(&self, own: &str) -> Option<Vec<i64>> {
        self.header.tensors.get(own).map(|stored| stored.shape.clone())
    }

    /// The bytes of a tensor in the file.
    pub(in crate::model) fn bytes(&self, own: &str) -> usize {
        self.header.tensors.get(own).map_or(0, |stored| stored.bytes)
    }

    /// A tensor in `kind`, in new memory and finite. `name` is what it is called in messages.
    ///
    /// It is read and de-quantised in small pieces straight into its place.
    pub(in crate::model) fn load(&self, name: &str, own: &str, kind: Kind) -> Result<Tensor> {
        let stored = self.stored(own)?;
        let tensor = Tensor::f_empty(&stored.shape, (kind, Device::Cpu))?;
        let flat = tensor.f_view([-1])?;
        let head = self.paired_rows(own, stored)?;
        let raised = self.layout.raised_norms && own.ends_with("norm.weight");
        let mut changed = Vec::new();
        self.pieces(stored, head, |start, numbers| {
            let numbers = match head {
                None if raised => {
                    changed.clear();
                    changed.extend(numbers.iter().map(|number| number - 1.0));
                    &changed
                }
                None => numbers,
                Some(rows) => {
                    side_by_side_to_halves(numbers, rows, &mut changed);
                    &changed
                }
            };
            let mut place = flat.f_narrow(0, start as i64, numbers.len() as i64)?;
            place.f_copy_(&Tensor::from_slice(numbers))?;
            Ok(())
        })?;
        copy::demand_finite(&tensor, || {
            let held = if stored.block.is_plain() { "" } else { ", de-quantised" };
            format!("the weight `{name}` in `{}`{held} to {kind:?},", self.path().display())
        })?;
        Ok(tensor)
    }

    /// The numbers of a small tensor.
    pub(super) fn plain(&self, own: &str) -> Result<Vec<f32>> {
        let stored = self.stored(own)?;
        let mut numbers = Vec::new();
        self.pieces(stored, None, |_, piece| {
            numbers.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(numbers)
    }

    /// The rows of a head, if the rows of this tensor stand in pairs.
    fn paired_rows(&self, own: &str, stored: &Stored) -> Result<Option<usize>> {
        let stem = own.rsplit_once('.').map_or(own, |(stem, _)| stem);
        let heads = match stem.rsplit_once('.').map(|(_, stem)| stem) {
            Some("attn_q") if self.layout.paired => "attention.head_count",
            Some("attn_k") if self.layout.paired => "attention.head_count_kv",
            _ => return Ok(None),
        };
        let number = |key: &str| self.unsigned(&format!("{}.{key}", self.layout.name));
        let heads = number(heads)?.or(number("attention.head_count")?).unwrap_or(0) as i64;
        let rows = stored.shape[0];
        match heads > 0 && rows % heads == 0 && (rows / heads) % 2 == 0 {
            true => Ok(Some((rows / heads) as usize)),
            false => Err(self.error(format!("is damaged: `{own}` has {rows} rows, which {heads} heads cannot share"))),
        }
    }

    /// Hands the numbers of a tensor on, with the place of the first, in pieces of whole blocks and, where a head's `rows` are given, of
    /// whole heads.
    fn pieces(&self, stored: &Stored, rows: Option<usize>, mut take: impl FnMut(usize, &[f32]) -> Result<()>) -> Result<()> {
        let (block, count) = (stored.block, stored.count());
        let row = if stored.shape.len() > 1 { count / stored.shape[0] as usize } else { 1 };
        let at_once = rows.map_or(NUMBERS, |rows| rows * row).min(count);
        let size = |numbers: usize| numbers / block.count * block.bytes;
        let (mut bytes, mut numbers) = (vec![0; size(at_once)], vec![0f32; at_once]);
        for start in (0..count).step_by(at_once) {
            if start > 0 {
                interrupt::check()?;
            }
            let numbers = &mut numbers[..at_once.min(count - start)];
            let bytes = &mut bytes[..size(numbers.len())];
            self.file.read(stored.start + size(start) as u64, bytes)?;
            block.decode(bytes, numbers);
            take(start, numbers)?;
        }
        Ok(())
    }
}

/// Rows `2 i` and `2 i + 1` of each head become rows `i` and `i + rows / 2`.
fn side_by_side_to_halves(numbers: &[f32], rows: usize, turned: &mut Vec<f32>) {
    turned.clear();
    turned.resize(numbers.len(), 0.0);
    let width = numbers.len() / rows;
    for (row, numbers) in numbers.chunks_exact(width).enumerate() {
        let place = row % 2 * (rows / 2) + row / 2;
        turned[place * width..(place + 1) * width].copy_from_slice(numbers);
    }
}
