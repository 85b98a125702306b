//! Token ids of several examples as one tensor.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Ragged rows of token ids: padded on the right, or one behind the other.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `[example, token]`, or `[1, token]` of all.
    pub ids: Tensor,
    pub lengths: Vec<usize>,
}

impl Batch {
    pub(super) fn new<R: AsRef<[u32]>>(rows: &[R], device: Device) -> Self {
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().len()).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        let mut flat = vec![0i64; rows.len() * width];
        for (row, ids) in rows.iter().enumerate() {
            for (token, &id) in ids.as_ref().iter().enumerate() {
                flat[row * width + token] = i64::from(id);
            }
        }
        let ids = Tensor::from_slice(&flat).view([rows.len() as i64, width as i64]).to_device(device);
        Self { ids, lengths }
    }

    /// The rows one behind the other as a single one, with the positions of their tokens in their own: `[1, token]` both.
    pub(super) fn packed<R: AsRef<[u32]>>(rows: &[R], device: Device) -> (Self, Tensor) {
        let tokens = || rows.iter().flat_map(|row| row.as_ref().iter().enumerate());
        let ids: Vec<i64> = tokens().map(|(_, &id)| i64::from(id)).collect();
        let places: Vec<i64> = tokens().map(|(place, _)| place as i64).collect();
        let [ids, places] = [ids, places].map(|values| Tensor::from_slice(&values).unsqueeze(0).to_device(device));
        (Self { ids, lengths: rows.iter().map(|row| row.as_ref().len()).collect() }, places)
    }

    pub(super) fn tokens(&self) -> i64 {
        self.ids.size()[1]
    }

    /// `[example, token]`, true where a token is real.
    pub(super) fn real(&self) -> Tensor {
        let lengths: Vec<i64> = self.lengths.iter().map(|&length| length as i64).collect();
        let lengths = Tensor::from_slice(&lengths).to_device(self.ids.device()).unsqueeze(1);
        Tensor::arange(self.tokens(), (Kind::Int64, self.ids.device())).unsqueeze(0).lt_tensor(&lengths)
    }
}

/// `count` token indices of each row starting at `starts`, as `[example, longest]` (short rows repeat their last index) and the
/// flat indices of the real ones within it, `[token]`.
pub(crate) fn spans(starts: &[usize], counts: &[usize], device: Device) -> (Tensor, Tensor) {
    let width = counts.iter().copied().max().unwrap_or(0);
    let mut indices = Vec::with_capacity(starts.len() * width);
    let mut real = Vec::new();
    for (row, (&start, &count)) in starts.iter().zip(counts).enumerate() {
        for offset in 0..width {
            indices.push((start + offset.min(count.saturating_sub(1))) as i64);
            if offset < count {
                real.push((row * width + offset) as i64);
            }
        }
    }
    let indices = Tensor::from_slice(&indices).view([starts.len() as i64, width as i64]).to_device(device);
    (indices, Tensor::from_slice(&real).to_device(device))
}

/// [`spans`] of rows that stand one behind the other, `[1, token]` both: all are real.
pub(crate) fn packed_spans(lengths: &[usize], starts: &[usize], counts: &[usize], device: Device) -> (Tensor, Tensor) {
    let mut first = 0;
    let mut indices: Vec<i64> = Vec::new();
    for ((length, start), count) in lengths.iter().zip(starts).zip(counts) {
        indices.extend((first + start..first + start + count).map(|index| index as i64));
        first += length;
    }
    let real = Tensor::arange(indices.len() as i64, (Kind::Int64, device));
    (Tensor::from_slice(&indices).unsqueeze(0).to_device(device), real)
}

/// Refuses what no forward can take: an empty batch, an empty prompt, a prompt over the context. `before` of its positions are taken by
/// virtual tokens.
pub(crate) fn check<R: AsRef<[u32]>>(rows: &[R], extra: usize, before: usize, context: usize) -> Result<()> {
    if rows.is_empty() {
        return Err(Error::input("the batch is empty: give at least one prompt"));
    }
    for (index, row) in rows.iter().enumerate() {
        let row = row.as_ref();
        if row.is_empty() {
            return Err(Error::input(format!("prompt {index} has no tokens: give at least one")));
        }
        if (before + row.len()).saturating_add(extra) > context {
            return Err(Error::input(format!(
                "prompt {index} has {} tokens{}{}, but the model's context is {context}: use fewer demonstrations or a shorter query; `Model::lengths` shows which prompts fit",
                row.len(),
                if extra > 0 { format!(" and up to {extra} more to come") } else { String::new() },
                if before > 0 { format!(" after {before} virtual ones") } else { String::new() }
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_pad_with_the_last_index_and_name_the_real_places() {
        let (indices, real) = spans(&[2, 5], &[3, 1], Device::Cpu);
        assert_eq!(Vec::<Vec<i64>>::try_from(indices).unwrap(), [[2, 3, 4], [5, 5, 5]]);
        assert_eq!(Vec::<i64>::try_from(real).unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn rows_behind_each_other_keep_their_positions() {
        let (batch, places) = Batch::packed(&[vec![7, 8, 9], vec![4], vec![5, 6]], Device::Cpu);
        assert_eq!((Vec::<Vec<i64>>::try_from(batch.ids).unwrap(), batch.lengths), (vec![vec![7, 8, 9, 4, 5, 6]], vec![3, 1, 2]));
        assert_eq!(Vec::<Vec<i64>>::try_from(places).unwrap(), [[0, 1, 2, 0, 0, 1]]);
        let (indices, real) = packed_spans(&[3, 1, 2], &[1, 0, 1], &[2, 1, 1], Device::Cpu);
        assert_eq!(Vec::<Vec<i64>>::try_from(indices).unwrap(), [[1, 2, 3, 5]]);
        assert_eq!(Vec::<i64>::try_from(real).unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn unusable_batches_say_why() {
        let text = |rows: &[Vec<u32>], extra| check(rows, extra, 0, 4).unwrap_err().to_string();
        assert!(text(&[], 0).contains("empty"));
        assert!(text(&[vec![]], 0).contains("prompt 0 has no tokens"));
        assert!(text(&[vec![1, 2, 3]], 2).contains("context is 4"));
        assert!(check(&[[1, 2]], 0, 3, 4).unwrap_err().to_string().contains("after 3 virtual"));
    }
}
