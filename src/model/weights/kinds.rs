//! Whether a checkpoint's headers tell its kinds truly.

use super::names::all;
use super::shard::Shard;
use crate::error::{Error, Result};
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
use std::path::Path;

/// How many matrices are looked at, and how many numbers of each: a few pages of the file.
const MATRICES: usize = 16;
const NUMBERS: usize = 4096;
/// Fewer numbers other than zero say nothing.
const LEAST: usize = 64;

/// Refuses tensors of another kind than most. Which of the two is the true one nobody can tell; a kind asked for makes them one.
pub(super) fn demand_one<'a>(folder: &Path, places: impl Iterator<Item = (&'a str, &'a Shard)>) -> Result<()> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, shard) in places {
        if let Some(dtype) = shard.dtype(name) {
            kinds.entry(dtype.to_string()).or_default().push(format!("`{name}`"));
        }
    }
    let Some(most) = kinds.iter().max_by_key(|(_, names)| names.len()).map(|(kind, _)| kind.clone()) else { return Ok(()) };
    let count = kinds.remove(&most).unwrap_or_default().len();
    let others: Vec<String> = kinds.iter().map(|(kind, names)| format!("as {kind} {}", all(names))).collect();
    match others.is_empty() {
        true => Ok(()),
        false => Err(Error::file(format!(
            "`{}`: the weights are of several kinds, stored {}, the other {count} as {most}: if the checkpoint is meant to be so, say in which \
             kind to hold all of it, `OpenOptions::new().kind(Kind::Float).open(..)`; else download it again",
            folder.display(),
            others.join(", ")
        ))),
    }
}

/// Refuses 16-bit matrices whose numbers make sense only as those of the other 16-bit kind.
///
/// A matrix's numbers are a few powers of two apart, whatever its scale. Read as bf16, three of f16's five bits of exponent are taken for
/// bf16's lowest: what was one power of two apart is eight, and the numbers fall from about 1 to below 1e-20. The other way round eight
/// become one, and all numbers lie close together between 1/4 and 4. Most of the matrices must look so, and look like weights as the
/// other kind.
///
/// Measured on the 211 matrices of SmolLM2-135M, [`spread`] as it is and as the other kind: 2.9 to 4.5 and 0.3 to 0.5 for bf16, 2.9 to 4.5
/// and 22.9 to 35.6 for f16.
pub(super) fn demand_plausible<'a>(places: impl Iterator<Item = (&'a str, &'a Shard)>) -> Result<()> {
    let sixteen = |(name, shard): &(&str, &Shard)| matches!(shard.dtype(name), Some(Dtype::BF16 | Dtype::F16));
    let matrix = |(name, shard): &(&str, &Shard)| shard.shape(name).is_some_and(|shape| shape.len() == 2);
    let matrices: Vec<(&str, &Shard)> = places.filter(sixteen).filter(matrix).collect();
    let (mut judged, mut strange) = (0, None);
    let mut found = 0;
    for (name, shard) in matrices.iter().step_by(matrices.len().div_ceil(MATRICES).max(1)) {
        let bits = shard.sixteen_bits(name, NUMBERS)?;
        let is_bf16 = shard.dtype(name) == Some(Dtype::BF16);
        let (Some(as_bf16), Some(as_f16)) = (spread(&bits, bf16), spread(&bits, f16)) else { continue };
        judged += 1;
        let odd = match is_bf16 {
            true => as_bf16 >= 14.0 && as_f16 <= 8.0,
            false => as_f16 <= 1.0 && (1.5..=10.0).contains(&as_bf16) && is_near_one(&bits),
        };
        if odd {
            found += 1;
            strange.get_or_insert((*name, shard.path(), if is_bf16 { ("BF16", "F16") } else { ("F16", "BF16") }));
        }
    }
    match strange {
        Some((name, path, (said, meant))) if 4 * found >= 3 * judged => Err(Error::file(format!(
            "`{}`: its header says {said}, but the numbers of {found} of the {judged} matrices looked at (`{name}` the first) make sense only as \
             {meant}: a program that wrote or changed the file mistook the kind; take the checkpoint from its publisher again",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// True if 19 of 20 numbers, zeros left out, lie between 1/5 and 4 as f16: where bf16's from 1e-7 to 2 would.
fn is_near_one(bits: &[u16]) -> bool {
    let near = |bits: &&u16| **bits << 1 == 0 || (0.2..=4.0).contains(&f16(**bits).abs());
    20 * bits.iter().filter(near).count() >= 19 * bits.len()
}

/// Powers of two between the lower quarter and the largest hundredth of the numbers, zeros left out; `None` where there are too few.
fn spread(bits: &[u16], read: fn(u16) -> f64) -> Option<f64> {
    let mut sizes: Vec<f64> = bits.iter().map(|&bits| read(bits).abs().log2()).filter(|size| size.is_finite()).collect();
    sizes.sort_by(f64::total_cmp);
    let last = sizes.len().checked_sub(LEAST)? + LEAST - 1;
    Some(sizes[last * 99 / 100] - sizes[last / 4])
}

fn bf16(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

fn f16(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if sign == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    fn bits(tensor: &Tensor, kind: Kind) -> Vec<u16> {
        crate::file::content(&tensor.to_kind(kind)).chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
    }

    #[test]
    fn sixteen_bits_are_read_as_libtorch_reads_them() {
        let values = Tensor::from_slice(&[0.0f64, -0.0, 1.0, -2.5, 0.1, 6.1e-5, 3e-8, 65504.0, 1e-3]);
        for (kind, read) in [(Kind::Half, f16 as fn(u16) -> f64), (Kind::BFloat16, bf16)] {
            let expected: Vec<f64> = values.to_kind(kind).to_kind(Kind::Double).try_into().unwrap();
            let ours: Vec<f64> = bits(&values, kind).into_iter().map(read).collect();
            assert_eq!(ours, expected, "{kind:?}");
        }
        assert!(f16(0x7c00).is_infinite() && f16(0xfc01).is_nan());
    }
}
