//! Stopping long work without losing what there is: an interrupt asks, and every long call of this library answers.
//!
//! A call that trains, collects, evaluates, resamples, reads or downloads asks before each forward, step or block of its work whether it is to stop.
//! In a notebook the kernel's interrupt asks it to (the library takes the signal as soon as it is loaded there). In a program of your own nothing
//! is changed unless it says [`listen`]; then Ctrl-C and SIGTERM ask.
//!
//! | call | what comes back |
//! |---|---|
//! | [`Training::run`](crate::train::Training::run) | the [`Trained`](crate::train::Trained) with the weights that were best so far and [`Stopped::Interrupted`](crate::train::Stopped), its checkpoint written; before the first step an error |
//! | [`Experiment::run`](crate::experiment::Experiment::run) | the [`Study`](crate::experiment::Study) of what is done; the same call does the rest, to the same bits |
//! | what goes to a disk: [`Collect::shards`](crate::objective::Collect::shards), downloads | an error that says what is there; the same call goes on from it |
//! | all others | an error that says how far it was ([`Error::is_interrupted`](crate::Error::is_interrupted)); nothing is changed |
//!
//! ```
//! use ia2::interrupt;
//! use ia2::prelude::*;
//!
//! # fn main() -> Result<()> {
//! // Work of your own that is to stop as the library's does.
//! let sum = interrupt::during("adding up", || {
//!     let mut sum = 0u64;
//!     for block in 0..1000 {
//!         interrupt::at(block, 1000, "blocks")?;
//!         sum += block;
//!     }
//!     Ok(sum)
//! })?;
//! # assert_eq!(sum, 499500);
//! # Ok(()) }
//! ```
//!
//! # Whom an interrupt stops
//! The outermost call that is running, with all that it calls: an interrupted grid stops, and does not just leave one of its runs out. The next
//! call begins as if nothing had been. An interrupt that comes between two calls holds for one that begins within a second
//! (with the kernel of `cargo xtask setup`: for the next one of the same cell).
//!
//! # Signals
//! | | in a program that listens | in a notebook |
//! |---|---|---|
//! | SIGINT, a call is running | it stops; a second SIGINT before it has done so goes where it went before | it stops |
//! | SIGINT, none is running | goes where it went before: by default it ends the process | a line on standard error says so |
//! | SIGTERM, and others of [`listen_to`] | the process is to end: this call stops, and every later one ([`ending`]) | as SIGINT where a call is running, else it ends the process |
//!
//! A scheduler's warning before the time is up is such another signal: `listen_to(&[SIGTERM, SIGUSR1])`, with the numbers of the crate `libc`.
//! A handler that was there before is called where the table says "goes where it went before"; one that is set later takes this one's place.

mod signals;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

use crate::error::{self, Error, Result};
pub use signals::{listen, listen_to};

/// How long an interrupt that no call was there to answer holds for the next one, in milliseconds.
const HOLDS: u64 = 1000;

/// How many interrupts there have been.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// When the last one came, on the clock of [`signals::now`].
static LATEST: AtomicU64 = AtomicU64::new(0);
/// Whether the last one came while a call was running, and none has answered yet.
static PENDING: AtomicBool = AtomicBool::new(false);
/// The signal that asks the process to end; 0 if none has.
static ENDING: AtomicI32 = AtomicI32::new(0);
/// The last signal that a call has answered; 0 if none has.
static ANSWERED: AtomicI32 = AtomicI32::new(0);
/// Outermost calls that are running, of all threads.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The calls that this thread is in, outermost first.
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
    /// How many of the interrupts concern this thread no more.
    static SEEN: Cell<u32> = const { Cell::new(0) };
    /// Whether a call of this thread was told to stop.
    static TOLD: Cell<bool> = const { Cell::new(false) };
    /// What may stop this thread now.
    static STOPS: Cell<Stops> = const { Cell::new(Stops::All) };
    /// See [`fuse`].
    static FUSE: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// What a call may be stopped by.
#[derive(Clone, Copy, PartialEq)]
enum Stops {
    All,
    /// By SIGINT, but not because the process is to end: what is saved then is saved because of that.
    ByHand,
    Nothing,
}

/// A call under way.
struct Call {
    what: String,
    /// How far it is: done, of how many (0 where that is not known), of what.
    at: Option<(u64, u64, &'static str)>,
    /// What stays of it, and what to do.
    keeps: Option<String>,
}

/// Marks this thread as in a call until it is dropped.
pub(crate) struct Scope(());

impl Scope {
    /// `what` is the work that is being done, as an error may name it.
    pub(crate) fn enter(what: &str) -> Self {
        let outermost = CALLS.with_borrow_mut(|calls| {
            calls.push(Call { what: what.to_owned(), at: None, keeps: None });
            calls.len() == 1
        });
        if outermost {
            TOLD.set(false);
            signals::begun();
            match signals::before_this_cell() {
                // An interrupt of this cell holds until a call of it answers.
                Some(count) => SEEN.set(SEEN.get().max(count)),
                None if signals::now().saturating_sub(LATEST.load(SeqCst)) > HOLDS => SEEN.set(COUNT.load(SeqCst)),
                None => {}
            }
            // Last: a signal that comes before finds no call.
            RUNNING.fetch_add(1, SeqCst);
        }
        Self(())
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // A thread that is ending has no locals left.
        let outermost = CALLS.try_with(|calls| {
            let mut calls = calls.borrow_mut();
            calls.pop();
            calls.is_empty()
        });
        if outermost != Ok(true) {
            return;
        }
        RUNNING.fetch_sub(1, SeqCst);
        if TOLD.replace(false) {
            SEEN.set(COUNT.load(SeqCst));
            PENDING.store(false, SeqCst);
            // Whether it came while a call was running or before one.
            signals::answered();
        }
    }
}

/// Runs `f` as one call that can be interrupted: what it calls of this library stops with it. `what` names the work in the error's text.
///
/// # Errors
/// What `f` returns.
pub fn during<T>(what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _scope = Scope::enter(what);
    f()
}

/// Whether the call that is running is to stop. For loops that give what they have instead of an error; others use [`check`].
pub fn is_requested() -> bool {
    let stops = STOPS.get();
    if stops == Stops::Nothing {
        return false;
    }
    let ending = stops == Stops::All && ENDING.load(SeqCst) != 0;
    let fuse = FUSE.get();
    if fuse != u64::MAX {
        FUSE.set(fuse.saturating_sub(1));
    }
    let asked = fuse == 0 || ending || if within() { COUNT.load(SeqCst) != SEEN.get() } else { PENDING.load(SeqCst) };
    if asked {
        TOLD.set(true);
    }
    asked
}

/// Whether this thread is in a call.
fn within() -> bool {
    CALLS.with_borrow(|calls| !calls.is_empty())
}

/// An error if the call that is running is to stop: for the head of a loop's body.
///
/// # Errors
/// The call was interrupted; the text says what was running and how far it was.
pub fn check() -> Result<()> {
    if is_requested() { Err(interrupted()) } else { Ok(()) }
}

/// [`check`], and says how far the work is: `done` of `total` (0 where that is not known) `units`.
///
/// # Errors
/// As [`check`].
pub fn at(done: u64, total: u64, units: &'static str) -> Result<()> {
    count(done, total, units);
    check()
}

/// Says how far the call that is running is, and asks nothing.
pub(crate) fn count(done: u64, total: u64, units: &'static str) {
    CALLS.with_borrow_mut(|calls| calls.last_mut().map(|call| call.at = Some((done, total, units))));
}

/// Brings something short to its end whether or not the call is to stop: what puts away what there is.
pub(crate) fn undisturbed<T>(f: impl FnOnce() -> T) -> T {
    stopped_by(Stops::Nothing, f)
}

/// Saves something: a process that is to end may do that, and whoever interrupts it by hand leaves the files as they were.
pub(crate) fn saving<T>(f: impl FnOnce() -> T) -> T {
    if STOPS.get() == Stops::Nothing {
        return f();
    }
    stopped_by(Stops::ByHand, || {
        keeps("the files there are as they were");
        f()
    })
}

fn stopped_by<T>(stops: Stops, f: impl FnOnce() -> T) -> T {
    struct Before(Stops);
    impl Drop for Before {
        fn drop(&mut self) {
            STOPS.set(self.0);
        }
    }
    let _before = Before(STOPS.replace(stops));
    f()
}

/// [`check`] for readers and writers; [`Error::because`] finds it in their errors again.
pub(crate) fn io() -> std::io::Result<()> {
    check().map_err(std::io::Error::other)
}

/// Says what stays of the call that is running if it is interrupted, and how to go on.
pub(crate) fn keeps(what: impl Into<String>) {
    CALLS.with_borrow_mut(|calls| calls.last_mut().map(|call| call.keeps = Some(what.into())));
}

/// Asks the calls that are running to stop, as a signal does: for a button, a timer, or a handler of your own. It may be called from any thread and
/// from a signal handler. Where no call is running and none begins within a second it does nothing.
pub fn request() {
    LATEST.store(signals::now(), SeqCst);
    PENDING.store(RUNNING.load(SeqCst) > 0, SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

/// The number of the signal that asks this process to end, SIGTERM or another of [`listen_to`], if one has come: long calls stop from then on, and
/// the program is to save what it has and to end.
pub fn ending() -> Option<i32> {
    Some(ENDING.load(SeqCst)).filter(|signal| *signal != 0)
}

/// How a program that listens ends: what its `main` returns after `outcome`. An error is printed.
///
/// 0 if all went well and nothing was interrupted; 128 and the signal's number (130 after Ctrl-C, 143 after SIGTERM), as shells do, if a call was
/// interrupted; 1 after another error.
///
/// ```no_run
/// use ia2::interrupt;
/// use ia2::prelude::*;
/// use ia2::train::Stopped;
///
/// fn main() -> std::process::ExitCode {
///     interrupt::exit_code(interrupt::listen().and_then(|()| run()))
/// }
///
/// fn run() -> Result<()> {
///     let (model, split) = (Model::open("tiny-icl")?, Task::open("sentiment")?.few_shot(8, 0)?);
///     let trained = Training::new(Lora::rank(8), Sft::gold()).checkpoint("run.safetensors").run(&model, &split)?;
///     // Interrupted, it has the best so far; the same command goes on from the checkpoint.
///     if trained.stopped() != Stopped::Interrupted {
///         trained.save("adapter")?;
///     }
///     Ok(())
/// }
/// ```
pub fn exit_code<E: Into<Box<dyn std::error::Error>>>(outcome: std::result::Result<(), E>) -> ExitCode {
    let signal = ending().unwrap_or(ANSWERED.load(SeqCst)).clamp(0, 127) as u8;
    match outcome {
        Ok(()) if signal == 0 => return ExitCode::SUCCESS,
        Ok(()) => {}
        Err(error) => {
            let error = error.into();
            eprintln!("{error}");
            if signal == 0 || error::interrupt_in(error.as_ref()).is_none() {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::from(128 + signal)
}

/// Interrupts the call of this thread at the question after the next `asks` ones; returns how many were left of the setting before. For tests:
/// what a signal does at a moment of its own, this does at every one.
#[doc(hidden)]
pub fn fuse(asks: u64) -> u64 {
    FUSE.replace(asks)
}

/// The error of the call that this thread is in.
fn interrupted() -> Error {
    let by = ending().map_or(String::new(), |signal| format!(" by {}", signals::name(signal)));
    let (mut path, mut keeps) = (Vec::new(), None);
    CALLS.with_borrow(|calls| {
        for call in calls {
            let at = call.at.map(|(done, total, units)| match total {
                0 => format!(" ({done} {units})"),
                _ => format!(" ({done} of {total} {units})"),
            });
            let part = format!("{}{}", call.what, at.unwrap_or_default());
            // A call that hands its work on under the same name is one to the reader.
            if path.last() != Some(&part) {
                path.push(part);
            }
            keeps = keeps.take().or_else(|| call.keeps.clone());
        }
    });
    let variables = if signals::in_kernel() { "all variables are kept; " } else { "" };
    let keeps = keeps.unwrap_or_else(|| "nothing was changed: the same call begins anew".to_owned());
    let what = if path.is_empty() { String::new() } else { format!(": {}", path.join(", ")) };
    Error::interrupted(format!("interrupted{by}{what}\n  {variables}{keeps}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_was_running_how_far_it_was_and_what_stays() {
        let error = during("a grid", || {
            at(3, 40, "runs")?;
            during("a training", || {
                at(7, 0, "steps")?;
                fuse(0);
                check()
            })
        });
        fuse(u64::MAX);
        let error = error.unwrap_err();
        assert!(error.is_interrupted() && !error.is_input());
        assert_eq!(
            error.to_string(),
            "interrupted: a grid (3 of 40 runs), a training (7 steps)\n  nothing was changed: the same call begins anew"
        );
        let error = during("a collection", || {
            keeps("2 files are there");
            fuse(0);
            during("a collection", check)
        });
        fuse(u64::MAX);
        assert_eq!(error.unwrap_err().to_string(), "interrupted: a collection\n  2 files are there");
    }

    #[test]
    fn the_fuse_counts_questions() {
        fuse(2);
        let asked: Vec<bool> = (0..4).map(|_| is_requested()).collect();
        assert_eq!((asked, fuse(u64::MAX)), (vec![false, false, true, true], 0));
    }
}
