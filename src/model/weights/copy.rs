//! A tensor's own memory, and the search for numbers that are none.

use crate::error::{Error, Result};
use crate::interrupt;
use tch::{Kind, Tensor};

/// Elements looked at in one go: it bounds what the search allocates, and it is below libtorch's threshold (32,768) for waking its
/// threads, whose coming together costs more than such a sum, above all where other processes want the same cores.
const PIECE: i64 = 1 << 14;

/// The memory of a new contiguous CPU tensor with this number of bytes, to be filled.
pub(super) fn bytes_of(tensor: &mut Tensor, bytes: usize) -> Result<&mut [u8]> {
    let room = tensor.numel() * tensor.f_kind()?.elt_size_in_bytes();
    if !tensor.is_contiguous() || tensor.device() != tch::Device::Cpu || bytes != room {
        return Err(Error::internal(format!("{bytes} bytes do not fit a tensor of {room} bytes")));
    }
    if room == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the tensor is contiguous on the CPU and `room` bytes long, the memory is libtorch's own, which Rust knows nothing of, the slice
    // lives no longer than the borrow of the tensor, and every bit pattern is a valid number of the kinds loaded here.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), room) })
}

/// A numeric error, naming the tensor by `name`, if it holds NaN or infinity.
pub(in crate::model) fn demand_finite(tensor: &Tensor, name: impl Fn() -> String) -> Result<()> {
    let flat = tensor.f_view([-1])?;
    let size = flat.numel() as i64;
    let mut bad = 0;
    for start in (0..size).step_by(PIECE as usize) {
        if start > 0 {
            interrupt::check()?;
        }
        let piece = flat.f_narrow(0, start, PIECE.min(size - start))?;
        // NaN and infinity survive summation, so a finite sum clears the piece in one pass without temporaries. The sum of finite numbers
        // may overflow; then the numbers are counted one by one.
        if piece.f_sum(Kind::Float)?.f_double_value(&[])?.is_finite() {
            continue;
        }
        bad += piece.f_isfinite()?.f_logical_not()?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    }
    match bad {
        0 => Ok(()),
        _ => Err(Error::numeric(format!(
            "{} holds NaN or infinity in {bad} of {size} places: the checkpoint is damaged or its training diverged; take another",
            name()
        ))),
    }
}
