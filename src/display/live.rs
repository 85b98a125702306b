//! A place in a cell's output that changes while the cell runs.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Bundle, Show};

/// The variable in the environment by which the kernel of `cargo xtask setup` says that it understands lines that begin so
/// (`xtask/kernel/CHANGES.md`).
const LIVE_DISPLAY: &str = "EVCXR_LIVE_DISPLAY";

/// A place in the output of a notebook's cell where a value shows itself at once, and a later one takes its place.
///
/// Only what was shown last is saved in the notebook. This needs the kernel of `cargo xtask setup`: in an unchanged evcxr, and in a program,
/// every value is printed as text instead, one below the other ([`is_live`](Self::is_live)).
///
/// ```
/// use ia2::display::{Bundle, Live};
///
/// let place = Live::new();
/// for step in 1..=3 {
///     place.show(&Bundle::text(format!("step {step} of 3")));
/// }
/// ```
#[derive(Debug)]
pub struct Live {
    /// Jupyter's `display_id`, where the kernel takes one.
    id: Option<String>,
}

impl Live {
    /// A new place below all that the cell has shown; it comes to be with the first value.
    #[allow(clippy::new_without_default, reason = "two are never the same")]
    pub fn new() -> Self {
        let is_set = |variable: &str| std::env::var_os(variable).is_some();
        Self { id: (is_set("EVCXR_IS_RUNTIME") && is_set(LIVE_DISPLAY)).then(id) }
    }

    /// Whether values take each other's place here, and are not printed below each other.
    pub fn is_live(&self) -> bool {
        self.id.is_some()
    }

    /// Shows a value in place of the one before.
    pub fn show(&self, value: &impl Show) {
        let bundle = value.bundle();
        let text = match &self.id {
            Some(id) => line(id, &bundle),
            None => format!("{}\n", bundle.plain.trim_end()),
        };
        // One write under the lock, as for a cell's value.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

/// Another one in every process: the page may still have places of a process that has ended.
fn id() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("ia2-{}-{now}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The line that shows a value: JSON has no line breaks.
fn line(id: &str, bundle: &Bundle) -> String {
    let data: serde_json::Map<String, serde_json::Value> =
        bundle.forms().into_iter().map(|(mime, content)| (mime.to_owned(), content.into())).collect();
    format!("{LIVE_DISPLAY} {}\n", serde_json::json!({ "display_id": id, "data": data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line_whatever_it_holds() {
        let bundle = Bundle { html: Some("<b>a\nb</b>".into()), png: Some(b"xyz".to_vec()), ..Bundle::text("a\nEVCXR_END_CONTENT\r\n") };
        let line = line("here", &bundle);
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(line.strip_prefix("EVCXR_LIVE_DISPLAY ").unwrap()).unwrap();
        assert_eq!(value["display_id"], "here");
        assert_eq!(value["data"]["text/plain"], "a\nEVCXR_END_CONTENT\r\n");
        assert_eq!((&value["data"]["text/html"], &value["data"]["image/png"]), (&"<b>a\nb</b>".into(), &"eHl6".into()));
    }

    #[test]
    fn places_differ_and_are_none_outside_the_kernel() {
        assert_ne!(id(), id());
        assert!(!Live::new().is_live());
    }
}
