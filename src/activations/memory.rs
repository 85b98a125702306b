//! How much memory is free.

use std::ffi::c_int;
use std::path::Path;

use libloading::os::unix::Library;
use tch::Device;

use crate::file::{self, Holds};
use crate::libtorch;

/// What is assumed to be free where the system does not say.
const UNKNOWN: u64 = 1 << 30;

/// Bytes that are free on a device: on the CPU the kernel's estimate of what programs may still take (`MemAvailable` of `/proc/meminfo`), on a
/// GPU what its driver has not given away yet, which leaves out what libtorch holds in reserve. 1 GiB where neither can be asked.
pub(super) fn free(device: Device) -> u64 {
    let asked = match device {
        Device::Cuda(index) => cuda(index),
        _ => file::text(Path::new("/proc/meminfo"), Holds::Settings).ok().and_then(|text| available(&text)),
    };
    asked.unwrap_or(UNKNOWN)
}

/// `MemAvailable:   123 kB`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Asks the CUDA runtime that libtorch has loaded with itself, whatever its file is called: its symbols are global.
fn cuda(index: usize) -> Option<u64> {
    type GetDevice = unsafe extern "C" fn(*mut c_int) -> c_int;
    type SetDevice = unsafe extern "C" fn(c_int) -> c_int;
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
    if !libtorch::load_cuda().ok()? {
        return None;
    }
    let process = Library::this();
    // SAFETY: the types are those of CUDA's `cuda_runtime_api.h`, the pointers outlive the calls, and the device that was current is made
    // so again, because libtorch's operations run on it.
    unsafe {
        let get_device = process.get::<GetDevice>(b"cudaGetDevice\0").ok()?;
        let set_device = process.get::<SetDevice>(b"cudaSetDevice\0").ok()?;
        let get_info = process.get::<MemGetInfo>(b"cudaMemGetInfo\0").ok()?;
        let (mut before, mut free, mut total) = (0, 0usize, 0usize);
        if get_device(&mut before) != 0 || set_device(c_int::try_from(index).ok()?) != 0 {
            return None;
        }
        let asked = get_info(&mut free, &mut total);
        let restored = set_device(before);
        (asked == 0 && restored == 0).then_some(free as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_what_the_kernel_says() {
        assert_eq!(available("MemTotal: 9 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB"), None);
        let free = free(Device::Cpu);
        assert!(free > 1 << 20 && free != UNKNOWN, "{free}");
    }

    #[test]
    fn a_gpu_says_how_much_is_free() {
        match libtorch::best_device() {
            Ok(Device::Cuda(index)) => assert!(cuda(index).is_some_and(|free| free > 1 << 20)),
            _ => {
                assert_eq!(free(Device::Cuda(0)), UNKNOWN);
                crate::skipped("no CUDA device to ask for its free memory");
            }
        }
    }
}
