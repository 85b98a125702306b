//! The handler: what it does is safe in the middle of anything, a lock of the allocator's included.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst};

use libc::{SIG_DFL, SIG_IGN, SIGINT, SIGTERM, siginfo_t};

use super::{ANSWERED, COUNT, ENDING, LATEST, PENDING, RUNNING};
use crate::error::{Error, Result};

/// Signals are numbered from 1 to 64.
const SIGNALS: usize = 65;
/// One press of a key may come as two signals, one for the process and one for its group: the second within this many milliseconds is none.
const ONE_PRESS: u64 = 300;

/// What was done about a signal before; null where this library does not listen.
static BEFORE: [AtomicPtr<libc::sigaction>; SIGNALS] = [const { AtomicPtr::new(null_mut()) }; SIGNALS];
/// Whether this process runs a notebook's cells.
static KERNEL: AtomicBool = AtomicBool::new(false);
/// Whether what started this process ends it at a second interrupt: the kernel of `cargo xtask setup`.
static MINDED: AtomicBool = AtomicBool::new(false);
/// Whether it wants to hear when an interrupt was answered.
static COUNTED: AtomicBool = AtomicBool::new(false);
/// Whether this process hears when a cell begins, and how many interrupts there were before.
static CELLS: AtomicBool = AtomicBool::new(false);
static EARLIER: AtomicU32 = AtomicU32::new(0);
/// When it was last said that nothing is running; 0 if it was not since the last call.
static SAID: AtomicU64 = AtomicU64::new(0);

const NOTHING_RUNS: &[u8] =
    b"ia2: no call of ia2 is running, so this cell was not stopped. A second interrupt ends the process, and all variables are gone.\n";
/// A line that the kernel takes for itself: the interrupt before was answered, and the next one is a first one again.
const ANSWER: &str = "EVCXR_INTERRUPT_ANSWERED";

/// Takes SIGINT (Ctrl-C) and SIGTERM for this library's calls, for as long as the process lives: see [the table](super#signals).
///
/// # Errors
/// When the system refuses.
pub fn listen() -> Result<()> {
    listen_to(&[SIGINT, SIGTERM])
}

/// Takes these signals. All but SIGINT ask the process to end ([`ending`](super::ending)).
///
/// # Errors
/// A number that is no signal, or one that cannot be taken, such as SIGKILL.
pub fn listen_to(signals: &[i32]) -> Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for &signal in signals {
        let slot = usize::try_from(signal).ok().and_then(|signal| BEFORE.get(signal)).filter(|_| signal > 0);
        let slot = slot.ok_or_else(|| Error::input(format!("{signal} is no signal: they are numbered from 1 to {}", SIGNALS - 1)))?;
        let refused = |error| Error::input(format!("cannot listen to {}: choose another signal", name(signal))).because(error);
        let now = action(signal, None).map_err(refused)?;
        if now.sa_sigaction == handle as *const () as usize {
            continue;
        }
        // The handler may read it at any moment from now on: it is never freed.
        slot.store(Box::into_raw(Box::new(now)), SeqCst);
        // SAFETY: of zeros it is a valid structure of C.
        let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = handle as *const () as usize;
        // A read that is under way goes on; a stack of its own, because the one in use may be nearly full.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        action(signal, Some(&ours)).map_err(refused)?;
    }
    Ok(())
}

/// What is done about a signal now, after it was set if asked for.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: both pointers are valid or null, and of zeros it is a valid structure of C.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        match libc::sigaction(signal, new.map_or(std::ptr::null(), |new| new), &mut old) {
            0 => Ok(old),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// In a notebook's process, when this library is loaded there.
extern "C" fn loaded() {
    if std::env::var_os("EVCXR_IS_RUNTIME").is_none() {
        return;
    }
    KERNEL.store(true, SeqCst);
    MINDED.store(std::env::var_os("EVCXR_REPORTS_PANICS").is_some(), SeqCst);
    COUNTED.store(std::env::var_os("EVCXR_COUNTS_INTERRUPTS").is_some(), SeqCst);
    // Where the system refuses, an interrupt ends the process as it always did.
    let _ = listen();
}

// The loader runs it before anything else of this library. Outside notebooks it does nothing.
#[used]
#[unsafe(link_section = ".init_array")]
static LOADED: extern "C" fn() = loaded;
/// The kernel of `cargo xtask setup` calls it before each cell: an interrupt that came too late for the cell before is none of this one's.
#[unsafe(no_mangle)]
extern "C" fn evcxr_before_execution() {
    CELLS.store(true, SeqCst);
    EARLIER.store(COUNT.load(SeqCst), SeqCst);
    PENDING.store(false, SeqCst);
}

/// How many interrupts there were before this cell; `None` where nobody says when a cell begins.
pub(super) fn before_this_cell() -> Option<u32> {
    CELLS.load(SeqCst).then(|| EARLIER.load(SeqCst))
}

pub(super) fn in_kernel() -> bool {
    KERNEL.load(SeqCst)
}

/// Milliseconds on a clock that never goes back, from 1.
pub(super) fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid; POSIX lists it among what a handler may call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    1 + time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// A call has begun.
pub(super) fn begun() {
    SAID.store(0, SeqCst);
}

/// Interrupts were answered.
pub(super) fn answered() {
    if COUNTED.load(SeqCst) {
        println!("{ANSWER}");
    }
}

/// A signal's name, or its number.
pub(super) fn name(signal: c_int) -> String {
    match signal {
        libc::SIGHUP => "SIGHUP".into(),
        libc::SIGINT => "SIGINT".into(),
        libc::SIGTERM => "SIGTERM".into(),
        libc::SIGUSR1 => "SIGUSR1".into(),
        libc::SIGUSR2 => "SIGUSR2".into(),
        libc::SIGXCPU => "SIGXCPU".into(),
        other => format!("signal {other}"),
    }
}

/// Nothing but atomics and calls that POSIX allows in handlers.
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the C library's place for this thread's error number, which what was disturbed may be about to read.
    unsafe {
        let number = libc::__errno_location();
        let kept = *number;
        take(signal, info, context);
        *number = kept;
    }
}

fn take(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let kernel = KERNEL.load(SeqCst);
    if signal != SIGINT && !kernel {
        ENDING.store(signal, SeqCst);
        return;
    }
    let now = now();
    let since = now.saturating_sub(LATEST.load(SeqCst));
    // The kernel hands on what its whole process group was sent.
    if kernel && signal == SIGINT && since <= ONE_PRESS {
        return;
    }
    if RUNNING.load(SeqCst) > 0 {
        if !PENDING.swap(true, SeqCst) {
            ANSWERED.store(signal, SeqCst);
            LATEST.store(now, SeqCst);
            COUNT.fetch_add(1, SeqCst);
        } else if since > ONE_PRESS && !MINDED.load(SeqCst) {
            hand_on(signal, info, context);
        }
        return;
    }
    if !kernel || signal != SIGINT {
        return hand_on(signal, info, context);
    }
    let said = SAID.swap(now, SeqCst);
    if said != 0 && since <= ONE_PRESS {
        return;
    }
    if said != 0 && !MINDED.load(SeqCst) {
        return hand_on(signal, info, context);
    }
    // For a call that begins at once: a loop may be between two of them.
    LATEST.store(now, SeqCst);
    COUNT.fetch_add(1, SeqCst);
    // SAFETY: the bytes are there; what cannot be written is not.
    unsafe { libc::write(libc::STDERR_FILENO, NOTHING_RUNS.as_ptr().cast(), NOTHING_RUNS.len()) };
}

/// Does what was done about the signal before.
fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let before = BEFORE.get(signal as usize).map_or(null_mut(), |slot| slot.load(SeqCst));
    // SAFETY: never freed, and not changed after it was stored.
    let Some(before) = (unsafe { before.as_ref() }) else { return };
    match before.sa_sigaction {
        SIG_IGN => {}
        SIG_DFL => {
            // It is blocked until the handler returns; then it does what it does by default.
            let _ = action(signal, Some(before));
            // SAFETY: a signal of this process to itself.
            unsafe { libc::raise(signal) };
        }
        // SAFETY: whoever set it gave a function of the type that the flag says.
        function => unsafe {
            if before.sa_flags & libc::SA_SIGINFO != 0 {
                let function: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(function);
                function(signal, info, context);
            } else {
                let function: extern "C" fn(c_int) = std::mem::transmute(function);
                function(signal);
            }
        },
    }
}
