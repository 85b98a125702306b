//! Memory that was freed, given back to the system.
//!
//! libtorch asks the C library for aligned blocks. glibc before 2.38 seldom finds the place of a freed one again for the next of the same
//! size, so that a notebook's process grows by about a tensor with each cell that makes a new one (measured: 3.9 MB for 4 MB, glibc 2.36).
//! The places stay known as free; their pages can be had back at any time. (Taking every large block from the system at once,
//! `MALLOC_MMAP_THRESHOLD_`, would cure it too, and make filling 4 MB seven times as slow.)

use std::ffi::c_int;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Pages given back are slow to fill again: not more often than this.
const PAUSE: Duration = Duration::from_secs(2);

unsafe extern "C" {
    fn malloc_trim(pad: usize) -> c_int;
    /// Of `libtorch/allocator.cpp`, which keeps freed tensors' memory for the next of their size.
    fn ia2_give_back();
}

/// Gives back the pages of freed memory, unless that was done just now. A few milliseconds.
pub(crate) fn give_back() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    // Another thread that is at it does it for this one.
    let Ok(mut last) = LAST.try_lock() else { return };
    if last.is_none_or(|last| last.elapsed() >= PAUSE) {
        // SAFETY: each locks what it works on.
        unsafe {
            ia2_give_back();
            malloc_trim(0);
        }
        *last = Some(Instant::now());
    }
}
