//! How numbers are stored: in blocks that share scales, each of a type that says how.
//!
//! What a block gives is, bit for bit in f32, what the Python package `gguf` (0.19) gives: products and sums in the same order. In the
//! formulas `d` and `m` are f16 at the block's beginning or end, `q` an integer of a few bits.

use half::f16;

use super::container::Wrong;

/// A type of blocks.
#[derive(Debug)]
pub(super) struct Block {
    /// Its number in the file.
    number: u32,
    pub name: &'static str,
    /// Numbers in a block.
    pub count: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// The numbers of one block.
    decode: fn(&[u8], &mut [f32]),
}

impl Block {
    /// Decodes whole blocks: `bytes` holds as many as `numbers` has room for.
    pub(super) fn decode(&self, bytes: &[u8], numbers: &mut [f32]) {
        for (block, numbers) in bytes.chunks_exact(self.bytes).zip(numbers.chunks_exact_mut(self.count)) {
            (self.decode)(block, numbers);
        }
    }

    /// True if each number stands for itself.
    pub(super) fn is_plain(&self) -> bool {
        self.count == 1
    }
}

/// Every type that is read.
#[rustfmt::skip]
pub(super) static BLOCKS: [Block; 13] = [
    Block { number: 0, name: "F32", count: 1, bytes: 4, decode: f32 },
    Block { number: 1, name: "F16", count: 1, bytes: 2, decode: f16_ },
    Block { number: 30, name: "BF16", count: 1, bytes: 2, decode: bf16_ },
    Block { number: 2, name: "Q4_0", count: 32, bytes: 18, decode: q4_0 },
    Block { number: 3, name: "Q4_1", count: 32, bytes: 20, decode: q4_1 },
    Block { number: 6, name: "Q5_0", count: 32, bytes: 22, decode: q5_0 },
    Block { number: 7, name: "Q5_1", count: 32, bytes: 24, decode: q5_1 },
    Block { number: 8, name: "Q8_0", count: 32, bytes: 34, decode: q8_0 },
    Block { number: 10, name: "Q2_K", count: 256, bytes: 84, decode: q2_k },
    Block { number: 11, name: "Q3_K", count: 256, bytes: 110, decode: q3_k },
    Block { number: 12, name: "Q4_K", count: 256, bytes: 144, decode: q4_k },
    Block { number: 13, name: "Q5_K", count: 256, bytes: 176, decode: q5_k },
    Block { number: 14, name: "Q6_K", count: 256, bytes: 210, decode: q6_k },
];

/// Types that are known by name and not read.
#[rustfmt::skip]
const OTHERS: [(u32, &str); 20] = [
    (9, "Q8_1"), (15, "Q8_K"), (16, "IQ2_XXS"), (17, "IQ2_XS"), (18, "IQ3_XXS"), (19, "IQ1_S"), (20, "IQ4_NL"), (21, "IQ3_S"), (22, "IQ2_S"),
    (23, "IQ4_XS"), (24, "I8"), (25, "I16"), (26, "I32"), (27, "I64"), (28, "F64"), (29, "IQ1_M"), (34, "TQ1_0"), (35, "TQ2_0"),
    (39, "MXFP4"), (40, "NVFP4"),
];

/// The type of a number in the file.
pub(super) fn of(number: u32) -> Result<&'static Block, Wrong> {
    BLOCKS.iter().find(|block| block.number == number).ok_or_else(|| {
        let read: Vec<&str> = BLOCKS.iter().map(|block| block.name).collect();
        let read = read.join(", ");
        match OTHERS.iter().find(|(own, _)| *own == number) {
            Some((_, name)) => format!("in the type {name}, which is not read: take the model in another ({read})"),
            None => format!("in the unknown type {number}: it is damaged, or of a newer llama.cpp; these are read: {read}"),
        }
    })
}

/// The f16 at a place.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn f32(block: &[u8], out: &mut [f32]) {
    out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
}

fn f16_(block: &[u8], out: &mut [f32]) {
    out[0] = half(block, 0);
}

fn bf16_(block: &[u8], out: &mut [f32]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes([block[0], block[1]])) << 16);
}

/// `d (q - 8)`; the low halves of 16 bytes, then the high ones.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = d * (f32::from(byte & 15) - 8.0);
        *high = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// `d q + m`.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let (low, high) = out.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[4..]) {
        *low = d * f32::from(byte & 15) + m;
        *high = d * f32::from(byte >> 4) + m;
    }
}

/// The fifth bit of each of 32 numbers, as 16 or 0.
fn fifth(block: &[u8], at: usize) -> impl Fn(usize) -> u8 {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    move |number| (bits >> number & 1) as u8 * 16
}

/// `d (q - 16)`.
fn q5_0(block: &[u8], out: &mut [f32]) {
    let (d, fifth) = (half(block, 0), fifth(block, 2));
    let (low, high) = out.split_at_mut(16);
    for (index, ((low, high), byte)) in low.iter_mut().zip(high).zip(&block[6..]).enumerate() {
        *low = d * (f32::from(byte & 15 | fifth(index)) - 16.0);
        *high = d * (f32::from(byte >> 4 | fifth(index + 16)) - 16.0);
    }
}

/// `d q + m`.
fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m, fifth) = (half(block, 0), half(block, 2), fifth(block, 4));
    let (low, high) = out.split_at_mut(16);
    for (index, ((low, high), byte)) in low.iter_mut().zip(high).zip(&block[8..]).enumerate() {
        *low = d * f32::from(byte & 15 | fifth(index)) + m;
        *high = d * f32::from(byte >> 4 | fifth(index + 16)) + m;
    }
}

/// `d q`.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (out, byte) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*byte as i8) * d;
    }
}

/// `(d s) q - (m t)`, `s` and `t` four bits for each 16 numbers, `q` two: of each 32 bytes the lowest pairs of bits, then the next.
fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, bits) = (&block[..16], &block[16..80]);
    let (d, m) = (half(block, 80), half(block, 82));
    for (group, (out, scale)) in out.chunks_exact_mut(16).zip(scales).enumerate() {
        let (scale, least) = (d * f32::from(scale & 15), m * f32::from(scale >> 4));
        let (from, shift) = (group / 8 * 32 + group % 2 * 16, group % 8 / 2 * 2);
        for (out, byte) in out.iter_mut().zip(&bits[from..from + 16]) {
            *out = scale * f32::from(byte >> shift & 3) - least;
        }
    }
}

/// `(d (s - 32)) q`, `s` six bits for each 16 numbers, `q` two bits less 4 where the number's bit in the mask is not set.
fn q3_k(block: &[u8], out: &mut [f32]) {
    let (mask, bits, scales, d) = (&block[..32], &block[32..96], &block[96..108], half(block, 108));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let low = scales[group % 8] >> (group / 8 * 4) & 15;
        let high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        let scale = d * (f32::from(low | high << 4) - 32.0);
        let (from, shift, half) = (group / 8 * 32 + group % 2 * 16, group % 8 / 2 * 2, group % 2 * 16);
        for (index, out) in out.iter_mut().enumerate() {
            let less = if mask[half + index] >> (group / 2) & 1 == 1 { 0.0 } else { 4.0 };
            *out = scale * (f32::from(bits[from + index] >> shift & 3) - less);
        }
    }
}

/// The six-bit scale and least value of each 32 numbers, from twelve bytes.
fn scale_and_least(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, least) = match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (packed[group + 4] & 15 | packed[group - 4] >> 6 << 4, packed[group + 4] >> 4 | packed[group] >> 6 << 4),
    };
    (f32::from(scale), f32::from(least))
}

/// `(d s) q - (m t)`: of each 32 bytes the low halves, then the high ones.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, m, bits) = (half(block, 0), half(block, 2), &block[16..]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let (from, shift) = (group / 2 * 32, group % 2 * 4);
        for (out, byte) in out.iter_mut().zip(&bits[from..from + 32]) {
            *out = scale * f32::from(byte >> shift & 15) - least;
        }
    }
}

/// As Q4_K, with a fifth bit from 32 bytes, whose lowest bits belong to the first 32 numbers.
fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, m, fifth, bits) = (half(block, 0), half(block, 2), &block[16..48], &block[48..]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, least) = scale_and_least(&block[4..16], group);
        let (scale, least) = (d * scale, m * least);
        let (from, shift) = (group / 2 * 32, group % 2 * 4);
        for ((out, byte), fifth) in out.iter_mut().zip(&bits[from..from + 32]).zip(fifth) {
            *out = scale * f32::from(byte >> shift & 15 | (fifth >> group & 1) << 4) - least;
        }
    }
}

/// `(d s) (q - 32)`, `s` a signed byte for each 16 numbers, `q` four bits and two more.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (group, (out, scale)) in out.chunks_exact_mut(32).zip(scales.chunks_exact(2)).enumerate() {
        let scale = [d * f32::from(scale[0] as i8), d * f32::from(scale[1] as i8)];
        // 128 numbers: four times 32, from the low halves of 64 bytes and from their high halves.
        let (from, shift) = (group / 4 * 64 + group % 2 * 32, group % 4 / 2 * 4);
        let (two, two_shift) = (group / 4 * 32, group % 4 * 2);
        for (index, out) in out.iter_mut().enumerate() {
            let number = low[from + index] >> shift & 15 | (high[two + index] >> two_shift & 3) << 4;
            *out = scale[index / 16] * (f32::from(number) - 32.0);
        }
    }
}
