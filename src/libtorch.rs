//! libtorch as this process has it: its version, its devices, its threads, and the guard ([`guarded`]) that turns its panics into errors.

mod copies;
mod guard;
pub(crate) mod operations;
#[cfg(test)]
mod products_tests;

use crate::error::{Error, Result};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use tch::{Cuda, Device};

pub(crate) use copies::check as check_copies;
pub use guard::guarded;
pub(crate) use guard::{caught, user_code};

/// The version of libtorch, major and minor, that tch was made for.
const VERSION: (u64, u64) = (2, 11);

/// A plain C function of no arguments that returns a constant; libtorch exports it since 2.1.
const VERSION_FUNCTION: &[u8] = b"aoti_torch_abi_version\0";

/// The C library's flag for "only if it is loaded already".
const RTLD_NOLOAD: c_int = 4;

/// A handle of the loaded `libtorch_cpu.so`. By name, because the process's global symbols need not hold it: a notebook's cells are loaded
/// into a program that does not link it.
fn loaded() -> Option<Library> {
    // SAFETY: nothing is loaded, so no initialiser runs.
    unsafe { Library::open(Some("libtorch_cpu.so"), RTLD_NOW | RTLD_NOLOAD) }.ok()
}

/// The version of the libtorch that is loaded, such as `(2, 11, 0)`. `None` if it does not say, as those before 2.1.
pub fn version() -> Option<(u64, u64, u64)> {
    let library = loaded()?;
    // SAFETY: the type is that of libtorch's header `shim.h`, and the library stays loaded.
    let number = unsafe { library.get::<unsafe extern "C" fn() -> u64>(VERSION_FUNCTION).ok()?() };
    Some((number >> 56, number >> 48 & 0xff, number >> 40 & 0xff))
}

/// The library inside libtorch that computes f32 products, oneDNN or MKL, and a message where [`operations::PRODUCTS`] names neither.
pub(crate) fn products() -> (&'static str, Option<String>) {
    let other = std::env::var_os(operations::PRODUCTS).filter(|name| !["onednn", "mkl"].iter().any(|known| name == known));
    let problem = other.map(|name| format!("{} is `{}`: let it be `onednn` or `mkl`, or unset it", operations::PRODUCTS, name.display()));
    (if operations::has_onednn() { "oneDNN" } else { "MKL" }, problem)
}

/// A torch error that says what to do if the loaded libtorch is not the version that tch was made for.
pub(crate) fn check_version() -> Result<()> {
    let (major, minor) = VERSION;
    match version() {
        Some((found_major, found_minor, _)) if (found_major, found_minor) == VERSION => Ok(()),
        found => {
            let found = found.map_or("an older one".to_owned(), |(major, minor, patch)| format!("{major}.{minor}.{patch}"));
            Err(Error::torch(format!(
                "libtorch {major}.{minor} is needed, but {found} is loaded{}: point LIBTORCH and LD_LIBRARY_PATH at libtorch {major}.{minor} \
                 and build again",
                folder().map_or(String::new(), |folder| format!(" from `{}`", folder.display()))
            )))
        }
    }
}

/// What `dladdr` of the C library fills in.
#[repr(C)]
struct Located {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    address: *mut c_void,
}

unsafe extern "C" {
    /// Of `libtorch/threads.cpp`; done once.
    safe fn ia2_let_threads_sleep();
    fn dladdr(address: *const c_void, located: *mut Located) -> c_int;
}

/// The folder where the loader found `libtorch_cpu.so`; `None` if libtorch is linked in another way.
///
/// A link is not followed: in a folder of links the rest of libtorch is what is linked there, not what lies where the links lead.
pub(crate) fn folder() -> Option<PathBuf> {
    let library = loaded()?;
    let mut located = Located { file: null(), base: null_mut(), symbol: null(), address: null_mut() };
    // SAFETY: the address is that of a loaded function, `located` outlives the call, and a filled `file` is the loader's own string, which
    // lives as long as the library, that is to the end of the process.
    let file = unsafe {
        let address: *const c_void = library.get::<*const c_void>(VERSION_FUNCTION).ok()?.into_raw().cast();
        if dladdr(address, &mut located) == 0 || located.file.is_null() {
            return None;
        }
        CStr::from_ptr(located.file)
    };
    let file = Path::new(OsStr::from_bytes(file.to_bytes()));
    file.parent().filter(|_| file.ends_with("libtorch_cpu.so")).map(Path::to_owned)
}

/// Loads libtorch's CUDA part when it lies next to the rest, once per process: true if it is loaded now, false if there is none.
///
/// Linkers drop that part because no symbol of it is named in Rust, and `tch::Cuda` finds no device until it is loaded. libtorch looks
/// for it at the first question about CUDA and remembers the answer, so this must come before any such question.
///
/// A torch error says what the loader found missing; a present but broken CUDA part is never passed over in silence.
pub(crate) fn load_cuda() -> Result<bool> {
    static LOADED: OnceLock<std::result::Result<bool, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| {
        let Some(path) = folder().map(|folder| folder.join("libtorch_cuda.so")).filter(|path| path.exists()) else { return Ok(false) };
        // SAFETY: the library is libtorch's own part, whose initialisers register CUDA with the part that is loaded already.
        let open = |path: &Path| unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
        // Where `path` is a link, the CUDA libraries may lie next to it or next to what it leads to.
        let library = open(&path).or_else(|error| path.canonicalize().map_or(Err(error), |target| open(&target)));
        // It stays loaded to the end of the process, because libtorch keeps pointers into it.
        library.map(std::mem::forget).map_err(|error| error.to_string())?;
        Ok(true)
    });
    loaded.clone().map_err(|reason| {
        Error::torch(format!("libtorch's CUDA part cannot be loaded: {reason}; install the CUDA libraries that belong to this libtorch"))
    })
}

/// The first CUDA device if there is one, else the CPU.
///
/// A torch error if libtorch's CUDA part is there but cannot be loaded.
pub fn best_device() -> Result<Device> {
    match load_cuda()? && Cuda::is_available() {
        true => Ok(Device::Cuda(0)),
        false => Ok(Device::Cpu),
    }
}

/// The CUDA device of this number, counted from 0.
///
/// A torch error says why there is none: a libtorch without CUDA, no usable GPU or driver, or fewer devices.
pub fn cuda_device(index: usize) -> Result<Device> {
    if !load_cuda()? {
        return Err(Error::torch("this libtorch has no CUDA part: install one that has, or choose `Device::Cpu`"));
    }
    if !Cuda::is_available() {
        return Err(Error::torch("libtorch finds no usable CUDA device: check the driver with `nvidia-smi`, or choose `Device::Cpu`"));
    }
    let count = Cuda::device_count();
    match i64::try_from(index).is_ok_and(|index| index < count) {
        true => Ok(Device::Cuda(index)),
        false => Err(Error::torch(format!("there is no CUDA device {index}: libtorch finds {count}, counted from 0"))),
    }
}

/// Where an operation uses several threads, sees to it that waiting ones sleep and do not spin, whoever started the process; what
/// `OMP_WAIT_POLICY` or `GOMP_SPINCOUNT` say holds.
#[inline(never)]
pub(crate) fn let_threads_sleep() {
    if threads() > 1 {
        ia2_let_threads_sleep();
    }
}

/// The number of threads that one operation on the CPU uses.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

/// Sets the number of threads that one operation on the CPU uses, from 1 to 1024. Results may differ in the last bits between numbers.
pub fn set_threads(count: usize) -> Result<()> {
    match i32::try_from(count) {
        Ok(count @ 1..=1024) => {
            tch::set_num_threads(count);
            Ok(())
        }
        _ => Err(Error::input(format!("the number of threads must be from 1 to 1024, but is {count}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_libtorch_is_the_one_tch_was_made_for() {
        let (major, minor, _) = version().unwrap();
        assert_eq!((major, minor), VERSION);
        check_version().unwrap();
        assert!(folder().unwrap().join("libtorch_cpu.so").exists());
    }

    #[test]
    fn a_device_is_found_or_its_absence_explained() {
        let best = best_device().unwrap();
        match best {
            Device::Cpu => {
                let error = cuda_device(0).unwrap_err();
                assert!(error.is_torch() && error.to_string().contains("Device::Cpu"), "{error}");
            }
            _ => assert!(cuda_device(1 << 20).unwrap_err().to_string().contains("counted from 0")),
        }
    }

    /// Run by the next test: what two threads have to wait for often. Prints the processor time of all its threads, in seconds.
    #[test]
    #[ignore = "the child of `waiting_threads_leave_the_processors_to_others`"]
    fn child() {
        use tch::{Kind, Tensor};
        set_threads(2).unwrap();
        let work = || {
            let values = Tensor::ones([200_000], (Kind::Float, Device::Cpu));
            (0..1200).for_each(|_| drop(&values + 1.0));
            Ok(())
        };
        guarded("adding", work).unwrap();
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the C library fills in what lives here.
        assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) }, 0);
        println!("took {} s", time.tv_sec as f64 + time.tv_nsec as f64 / 1e9);
    }

    #[test]
    fn waiting_threads_leave_the_processors_to_others() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let seconds = |policy: Option<&str>| -> f64 {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.env_remove("OMP_WAIT_POLICY").env_remove("GOMP_SPINCOUNT");
            if let Some(policy) = policy {
                child.env("OMP_WAIT_POLICY", policy);
            }
            let output = child.args(["--exact", "libtorch::tests::child", "--ignored", "--nocapture"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let took = text.split_once("took ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            took.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
        };
        let stop = AtomicBool::new(false);
        let (own, passive) = std::thread::scope(|scope| {
            let processors = std::thread::available_parallelism().map_or(2, usize::from).min(16);
            for _ in 0..2 * processors {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let times = (seconds(None), seconds(Some("passive")));
            stop.store(true, Ordering::Relaxed);
            times
        });
        // Loading libtorch is in all of them. Threads that spin take several times as much.
        assert!(own < 2.0 * passive + 0.2, "{own} s without a policy, {passive} s with a passive one");
    }

    #[test]
    fn threads_are_set_within_their_range() {
        let before = threads();
        set_threads(before).unwrap();
        assert_eq!(threads(), before);
        for wrong in [0, 1025, usize::MAX] {
            assert!(set_threads(wrong).unwrap_err().is_input());
        }
    }
}
