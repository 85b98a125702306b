//! The one element of a cell's output in which all work that is under way shows how far it is.
//!
//! The outermost work owns it; work within has a part below, as long as it lasts.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::display::{Bundle, Live, escape};

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Stage {
    place: Live,
    /// Outermost first.
    parts: Vec<(u64, State)>,
    /// Parts there were.
    count: u64,
    begun: Instant,
    /// When it was shown last, from its beginning on.
    shown: Option<Duration>,
}

/// What work shows of itself.
#[derive(Debug, Default)]
pub(super) struct State {
    pub line: String,
    /// Done and total, while it is under way and the total is known.
    pub bar: Option<(u64, u64)>,
    pub below: Option<Bundle>,
}

/// The part of one piece of work.
#[derive(Debug)]
pub(super) struct Role(u64);

impl Role {
    /// Work begins; `None` where the kernel shows nothing live. `outermost` work sets up a stage of its own.
    pub(super) fn enter(state: State, outermost: bool) -> Option<Self> {
        STAGE.with_borrow_mut(|stage| {
            if outermost {
                let place = Live::new();
                *stage = place.is_live().then(|| Stage::new(place));
            }
            stage.as_mut().map(|stage| stage.enter(state))
        })
    }

    /// Whether it is time to show how far all work is, `pause` after the last time.
    pub(super) fn is_due(&self, pause: Duration) -> bool {
        STAGE.with_borrow(|stage| stage.as_ref().is_some_and(|stage| stage.is_due(stage.begun.elapsed(), pause)))
    }

    /// Whether anything was shown yet.
    pub(super) fn is_shown(&self) -> bool {
        STAGE.with_borrow(|stage| stage.as_ref().is_some_and(|stage| stage.shown.is_some()))
    }

    pub(super) fn is_outermost(&self) -> bool {
        STAGE.with_borrow(|stage| stage.as_ref().is_some_and(|stage| stage.is_outermost(self)))
    }

    /// Says how far this work is.
    pub(super) fn note(&self, state: State) {
        STAGE.with_borrow_mut(|stage| {
            if let Some(stage) = stage {
                stage.set(self, state);
            }
        });
    }

    /// The work is over: the outermost leaves its last state, if anything was shown; work within leaves nothing.
    pub(super) fn leave(&self, state: State) {
        STAGE.with_borrow_mut(|kept| {
            let Some(stage) = kept else { return };
            if !stage.is_outermost(self) {
                return stage.parts.retain(|(number, _)| *number != self.0);
            }
            if stage.shown.is_some() {
                stage.parts.truncate(1);
                stage.set(self, state);
                stage.place.show(&stage.bundle());
            }
            *kept = None;
        });
    }
}

/// Shows how far all work is.
pub(super) fn show() {
    STAGE.with_borrow_mut(|stage| {
        if let Some(stage) = stage {
            stage.shown = Some(stage.begun.elapsed());
            stage.place.show(&stage.bundle());
        }
    });
}

impl Stage {
    fn new(place: Live) -> Self {
        Self { place, parts: Vec::new(), count: 0, begun: Instant::now(), shown: None }
    }

    fn enter(&mut self, state: State) -> Role {
        self.count += 1;
        self.parts.push((self.count, state));
        Role(self.count)
    }

    fn is_outermost(&self, role: &Role) -> bool {
        self.parts.first().is_some_and(|(number, _)| *number == role.0)
    }

    /// Quick work stays silent. Apart from the clock, so that tests need not wait.
    fn is_due(&self, now: Duration, pause: Duration) -> bool {
        now.saturating_sub(self.shown.unwrap_or_default()) >= pause
    }

    fn set(&mut self, role: &Role, state: State) {
        if let Some((_, old)) = self.parts.iter_mut().find(|(number, _)| *number == role.0) {
            *old = state;
        }
    }

    fn bundle(&self) -> Bundle {
        let lines: Vec<&str> = self.parts.iter().map(|(_, state)| state.line.as_str()).collect();
        let html: Vec<String> = self.parts.iter().map(|(_, state)| state.html()).collect();
        Bundle { html: Some(html.join("\n")), ..Bundle::text(lines.join("\n")) }
    }
}

impl State {
    fn html(&self) -> String {
        let bar = self.bar.map(|(done, total)| format!("<progress value=\"{done}\" max=\"{total}\"></progress> ")).unwrap_or_default();
        let below = self.below.as_ref().map(|below| format!("\n<div>{}</div>", below.as_html())).unwrap_or_default();
        format!("<div>{bar}{}</div>{below}", escape(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(line: &str, bar: Option<(u64, u64)>) -> State {
        State { line: line.into(), bar, below: None }
    }

    #[test]
    fn it_is_due_after_the_first_pause_and_after_each_one() {
        let mut stage = Stage::new(Live::new());
        let seconds = Duration::from_secs_f64;
        assert!(!stage.is_due(seconds(1.9), seconds(2.0)) && stage.is_due(seconds(2.1), seconds(2.0)));
        stage.shown = Some(seconds(2.1));
        assert!(!stage.is_due(seconds(4.0), seconds(2.0)) && stage.is_due(seconds(4.2), seconds(2.0)));
    }

    #[test]
    fn work_within_has_a_part_below_until_it_leaves() {
        let mut stage = Stage::new(Live::new());
        let outer = stage.enter(state("grid  1/4", Some((1, 4))));
        let inner = stage.enter(state("", None));
        let below = Bundle { html: Some("<img>".into()), ..Bundle::text("curve") };
        stage.set(&inner, State { below: Some(below), ..state("training <SFT>", Some((5, 9))) });
        let both = stage.bundle();
        assert_eq!(both.plain, "grid  1/4\ntraining <SFT>");
        let html = "<div><progress value=\"1\" max=\"4\"></progress> grid  1/4</div>\n\
                    <div><progress value=\"5\" max=\"9\"></progress> training &lt;SFT&gt;</div>\n<div><img></div>";
        assert_eq!(both.html.unwrap(), html);
        assert!(stage.is_outermost(&outer) && !stage.is_outermost(&inner));
        STAGE.set(Some(stage));
        inner.leave(State::default());
        STAGE.with_borrow(|stage| assert_eq!(stage.as_ref().unwrap().bundle().plain, "grid  1/4"));
        outer.leave(State::default());
        STAGE.with_borrow(|stage| assert!(stage.is_none()));
    }
}
