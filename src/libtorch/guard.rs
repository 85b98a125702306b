//! The guard between plain tensor code, which panics when libtorch refuses, and callers, who get an `Err`.

use super::operations;
use crate::error::{Error, Result};
use crate::interrupt::Scope;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::Path;
use std::sync::Once;

thread_local! {
    /// How many guarded calls this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the last panic in a guarded call of this thread came from.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`, and turns a panic in it into an error that begins with `what`, the work that was being done, such as `"a forward pass"`.
///
/// A panic of tch, whose plain methods unwrap, becomes a torch error with the first line of libtorch's message. A panic in the caller's own code
/// becomes an input error with its place in the source, and any other is a bug of this library and becomes an internal one.
/// Nothing is printed: while a thread is in a guarded call, its panics do not reach the panic hook; those of other threads, and later ones, do. Whether gradients are recorded is put back as it
/// was, because `tch::no_grad` does not do so when it is unwound. An `Err` of `f` is handed on unchanged. Guarded calls may be nested. The work is one call
/// that can be [interrupted](crate::interrupt).
///
/// Nothing is done, and a torch error says so, where the process holds another copy of this library.
pub fn guarded<T>(what: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    super::copies::check()?;
    let _scope = Scope::enter(what);
    super::let_threads_sleep();
    let outcome = catch_panics(f);
    if DEPTH.get() == 0 {
        crate::memory::give_back();
    }
    // What is compiled together with this library has a relative path, as a cell of a notebook has; dependencies have absolute ones.
    outcome.unwrap_or_else(|panic| Err(explain(what, &panic, |place| !Path::new(place).is_absolute())))
}

/// Runs code that is not this library's while the library is at work: a hook, an objective. `whose` names it, such as "the hook at `lm_head`".
///
/// As [`guarded`], but a panic from outside this library's own sources is the user's, and becomes an input error that says so.
pub(crate) fn user_code<T>(whose: impl FnOnce() -> String, f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_panics(f).unwrap_or_else(|panic| Err(explain(&whose(), &panic, |_| true)))
}

/// A panic: its text, and its place in a source.
struct Panic {
    text: String,
    place: Option<String>,
}

/// Runs `f` with panics caught and not printed. Whether gradients are recorded is put back after one.
fn catch_panics<T>(f: impl FnOnce() -> Result<T>) -> std::result::Result<Result<T>, Panic> {
    let recorded = operations::gradients();
    quietly(f).inspect_err(|_| operations::set_gradients(recorded))
}

fn quietly<T>(f: impl FnOnce() -> T) -> std::result::Result<T, Panic> {
    silence_hook();
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    outcome.map_err(|payload| Panic { text: said(payload.as_ref()).to_owned(), place: PLACE.take() })
}

/// Runs `f`, which hands a library of others what it may panic on, a damaged file above all; a panic becomes the first line it said.
///
/// Nothing is printed, as in [`guarded`]; libtorch is not involved.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> std::result::Result<T, String> {
    quietly(f).map_err(|panic| panic.text.lines().next().unwrap_or_default().to_owned())
}

/// Puts a hook before the present one, once: it is silent inside a guarded call and passes every other panic on.
fn silence_hook() {
    static INSTALL: Once = Once::new();
    // The hook cannot be changed by a panicking thread, which may come by here in a destructor.
    if std::thread::panicking() {
        return;
    }
    INSTALL.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            // A thread that is ending has no locals left, and is in no guarded call.
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                return previous(info);
            }
            let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
            let _ = PLACE.try_with(|slot| slot.replace(place));
        }));
    });
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message")
}

/// The error for a panic; `theirs` says whether one from elsewhere than this library's sources is the caller's.
fn explain(what: &str, Panic { text, place }: &Panic, theirs: impl Fn(&str) -> bool) -> Error {
    if let Some(message) = libtorch_message(text) {
        return Error::torch(format!("{what}: libtorch refused an operation: {message}"));
    }
    let line = text.lines().next().unwrap_or_default();
    match place {
        Some(place) if !is_own(place) && theirs(place) => Error::input(format!("{what}: a panic in code of your own, at {place}: {line}")),
        Some(place) => Error::internal(format!("{what}: {line} at {place}")),
        None => Error::internal(format!("{what}: {line}")),
    }
}

/// Whether a place in a source, as the compiler spells it, is in this library's.
fn is_own(place: &str) -> bool {
    file!().strip_suffix("libtorch/guard.rs").is_some_and(|sources| place.starts_with(sources))
}

/// The first line of libtorch's message, if this panic is tch's `unwrap` of its own error.
fn libtorch_message(panic: &str) -> Option<String> {
    let error = panic.split_once("on an `Err` value: ")?.1;
    // The variants of `tch::TchError` that hold a text, as its `Debug` writes them.
    let variants = ["Torch", "Convert", "FileFormat", "Kind", "Shape", "MissingImage"];
    let quoted = variants.iter().find_map(|variant| error.strip_prefix(variant)?.strip_prefix("(\""))?;
    // `Debug` escapes; the line ends at an escaped newline or at the closing quote.
    let mut line = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => match characters.next() {
                Some('n') | None => break,
                Some(escaped) => line.push(escaped),
            },
            other => line.push(other),
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    fn zeros(shape: &[i64]) -> Tensor {
        Tensor::zeros(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn a_value_and_an_error_pass_unchanged() {
        assert_eq!(guarded("counting", || Ok(7)).unwrap(), 7);
        let error = guarded("counting", || Err::<(), _>(Error::input("too many"))).unwrap_err();
        assert!(error.is_input() && error.to_string() == "too many");
    }

    #[test]
    fn a_refusal_of_libtorch_becomes_its_first_line() {
        let error = guarded("a product", || Ok(zeros(&[2, 3]).matmul(&zeros(&[2, 3])))).unwrap_err();
        assert!(error.is_torch());
        assert_eq!(error.to_string(), "a product: libtorch refused an operation: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)");
        // A quote in the message is escaped in the panic's text.
        assert_eq!(libtorch_message(r#"x on an `Err` value: Torch("no \"a\" here\nframe")"#).unwrap(), r#"no "a" here"#);
    }

    #[test]
    fn a_panic_of_ours_is_internal_and_says_where() {
        let error = guarded("a sum", || -> Result<()> { panic!("lost count\nsecond line") }).unwrap_err();
        assert!(error.is_internal());
        let text = error.to_string();
        assert!(text.starts_with("a sum: lost count at src/libtorch/guard.rs:") && text.contains("this is a bug in ia2"), "{text}");
        // The same in code that is not this library's, which here is nowhere: see `tests/bad_input`.
        let error = user_code(|| "the hook at `a`".into(), || -> Result<()> { panic!("lost count") }).unwrap_err();
        assert!(error.is_internal() && error.to_string().starts_with("the hook at `a`: lost count at src/libtorch/guard.rs:"), "{error}");
        let error = |place: &str| explain("a sum", &Panic { text: "oh\nno".into(), place: Some(place.into()) }, |_| true);
        assert!(error("src/lib.rs:3").is_internal() && error("tests/a.rs:3").is_input() && error("/x/.cargo/polars/a.rs:1").is_input());
        assert_eq!(error("tests/a.rs:3").to_string(), "a sum: a panic in code of your own, at tests/a.rs:3: oh");
        // An unwrap of another library's error is not libtorch's.
        let error = guarded("a parse", || Ok("x".parse::<i64>().unwrap())).unwrap_err();
        assert!(error.is_internal(), "{error}");
    }

    #[test]
    fn doors_nest_and_gradients_are_put_back() {
        assert!(operations::gradients());
        let outer = guarded("outer", || {
            let inner = guarded("inner", || -> Result<()> { tch::no_grad(|| panic!("inside")) });
            assert!(inner.unwrap_err().is_internal());
            assert!(operations::gradients());
            tch::no_grad(|| {
                let inner = guarded("inner", || -> Result<()> { tch::with_grad(|| panic!("inside")) });
                assert!(inner.is_err() && !operations::gradients());
            });
            Ok(())
        });
        outer.unwrap();
        assert!(operations::gradients());
        assert_eq!(DEPTH.get(), 0);
    }

    /// Run alone by the next test, so that what it prints can be seen.
    #[test]
    #[ignore = "the child of `nothing_is_printed_behind_the_door_and_all_before_it`"]
    fn child() {
        guarded("a product", || Ok(zeros(&[2, 3]).matmul(&zeros(&[2, 3])))).unwrap_err();
        std::thread::spawn(|| panic!("out in the open")).join().unwrap_err();
    }

    #[test]
    fn nothing_is_printed_behind_the_door_and_all_before_it() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", "libtorch::guard::tests::child", "--ignored", "--nocapture"]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && text.contains("out in the open"), "{text}");
        assert!(!text.contains("matmul") && !text.contains("mat1"), "{text}");
        assert_eq!(text.matches("panicked").count(), 1, "{text}");
    }
}
