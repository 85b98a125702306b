//! Progress: one element that changes in a notebook, a bar at a terminal, whole lines elsewhere, silence where work is quick.
//!
//! A notebook cell forwards output line by line, so a bar redrawn in place with carriage returns never appears there. The kernel of
//! `cargo xtask setup` can show a value in place of an earlier one, and gets a bar, numbers, a training's loss curve and a grid's table so far, of which
//! the notebook keeps the last state. An unchanged evcxr gets lines. indicatif measures the rate and the time left in all cases, and draws
//! the bar of a terminal; when something is due is decided here.
//! Lines go to stdout: whatever a cell writes to stderr looks like a failure, to people and to notebook tests.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stage::{Role, State};

use crate::display::Bundle;

mod stage;

crate::display::show_as_text!(Progress);

/// No line before this much time has passed, and none sooner after the one before.
const PAUSE: Duration = Duration::from_secs(2);
/// The same for work within other work that is announced: its lines are for long waits only.
const PAUSE_WITHIN: Duration = Duration::from_secs(60);
/// The most lines of one run, the last included.
const LINES: u64 = 25;

thread_local! {
    /// How many pieces of work are announced now.
    static UNDER_WAY: Cell<usize> = const { Cell::new(0) };
}

/// Announces how far a long piece of work has come.
///
/// Nothing is printed for the first two seconds, so quick work stays silent; then at most one line every two seconds
/// and 25 in all: `training  120/600  20 %  12.3/s  39 s left  loss 0.412`. Work within other work (a training of an experiment) has at most one
/// a minute. At a terminal one bar takes the place of the lines.
///
/// In a notebook with the kernel of `cargo xtask setup` one element takes their place, with a bar and work within other work below it, renewed
/// every two seconds.
#[derive(Debug)]
pub struct Progress {
    name: String,
    /// Counts, measures, and draws at a terminal. Hidden until the first pause is over.
    bar: ProgressBar,
    /// Units done before this work began.
    before: u64,
    pause: Duration,
    terminal: bool,
    due: Due,
    /// Its part in the element of the cell's output that changes, if there is one.
    role: Option<Role>,
    /// What is shown below the line there, and how long it took to make.
    below: Option<Bundle>,
    effort: Duration,
    renewed: Instant,
    /// What is to stay there.
    leaving: Option<Bundle>,
}

/// When lines were printed.
#[derive(Debug, Default)]
struct Due {
    lines: u64,
    /// When and where the last line was printed.
    last: (Duration, u64),
}

impl Progress {
    /// Work called `name` of `total` units; 0 where the total is not known. Other work counts as within it until it is finished or dropped.
    pub fn new(name: &str, total: u64) -> Self {
        let within = UNDER_WAY.replace(UNDER_WAY.get() + 1) > 0;
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::hidden()).with_prefix(name.to_owned());
        let template = match total {
            0 => "{prefix}  {pos}  {per_sec}  {wide_msg}",
            _ => "{prefix}  {bar:30}  {pos}/{len}  {per_sec}  {eta} left  {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let pause = if within { PAUSE_WITHIN } else { PAUSE };
        let terminal = !within && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let role = Role::enter(begun(name, 0, total), !within);
        let (below, effort, renewed, leaving) = (None, Duration::ZERO, Instant::now(), None);
        Self { name: name.to_owned(), bar, before: 0, pause, terminal, due: Due::default(), role, below, effort, renewed, leaving }
    }

    /// Work of which `done` units were done before: they count as done, and not for the rate.
    pub fn resumed(mut self, done: u64) -> Self {
        self.bar.set_position(done);
        self.bar.reset_eta();
        (self.before, self.due.last.1) = (done, done);
        if let Some(role) = &self.role {
            role.note(begun(&self.name, done, self.bar.length().unwrap_or(0)));
        }
        self
    }

    /// `more` units are done; `extra` is shown at the line's end (a loss, a file name), and may be empty.
    pub fn tick(&mut self, more: u64, extra: &str) {
        self.tick_above(more, extra, || None);
    }

    /// The same; where an element changes, what `below` makes is shown below the line. That is called seldom, and may take some time.
    pub(crate) fn tick_above(&mut self, more: u64, extra: &str, below: impl FnOnce() -> Option<Bundle>) {
        // With every tick, not only where a line is due: the last line shows the last of it. A line break inside would make two lines of one.
        self.bar.set_message(extra.replace(['\n', '\r'], " "));
        self.bar.inc(more);
        let total = self.bar.length().unwrap_or(0);
        if let Some(role) = &self.role {
            let is_due = role.is_due(PAUSE);
            // Work within may be the one that shows both.
            if !is_due && !role.is_outermost() {
                return;
            }
            // At most a twentieth of the time for pictures and tables.
            let old = self.renewed.elapsed();
            if (is_due || old >= PAUSE) && old >= self.effort * 20 {
                let begun = Instant::now();
                self.below = below();
                (self.effort, self.renewed) = (begun.elapsed(), Instant::now());
            }
            let line = self.line(&under_way(self.bar.position(), total, self.bar.per_sec(), self.bar.eta()));
            role.note(State { line, bar: (total > 0).then_some((self.bar.position(), total)), below: self.below.clone() });
            if is_due {
                stage::show();
            }
            return;
        }
        if !self.due.now(self.bar.elapsed(), self.bar.position(), total, self.pause) {
            return;
        }
        if !self.terminal {
            print_line(&self.line(&under_way(self.bar.position(), total, self.bar.per_sec(), self.bar.eta())));
        } else if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// What stays below the last line where an element changes. Without it nothing does.
    pub(crate) fn leaving(mut self, below: impl FnOnce() -> Option<Bundle>) -> Self {
        let is_shown = self.role.as_ref().is_some_and(Role::is_shown);
        self.leaving = if is_shown { below() } else { None };
        self
    }

    /// All is done: one last line, if any was printed before.
    pub fn finish(self) {
        self.end("");
    }

    /// The work ends here, whether all is done or not: the last line says `why`.
    pub fn finish_early(self, why: &str) {
        self.end(why);
    }

    fn end(mut self, why: &str) {
        let line = self.last_line(why);
        self.bar.finish_and_clear();
        if let Some(role) = self.role.take() {
            role.leave(State { line, bar: None, below: self.leaving.take() });
        } else if self.due.lines > 0 {
            print_line(&line);
        }
    }

    fn last_line(&self, why: &str) -> String {
        self.line(&over(self.bar.position(), self.bar.length().unwrap_or(0), self.before, self.bar.elapsed(), why))
    }

    fn line(&self, numbers: &str) -> String {
        let extra = self.bar.message();
        if extra.is_empty() { format!("{}  {numbers}", self.name) } else { format!("{}  {numbers}  {extra}", self.name) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        UNDER_WAY.set(UNDER_WAY.get().saturating_sub(1));
        // Work that ended with an error leaves no bar behind.
        if let Some(role) = self.role.take() {
            role.leave(State { line: self.last_line(""), bar: None, below: self.below.take() });
        }
        self.bar.finish_and_clear();
    }
}

impl Due {
    /// Whether a line is due, `elapsed` after the start with `done` of `total` units; remembers that it was. Apart from the clock, so that tests
    /// need not wait.
    fn now(&mut self, elapsed: Duration, done: u64, total: u64, pause: Duration) -> bool {
        let since = elapsed.saturating_sub(self.last.0);
        let units = done.saturating_sub(self.last.1);
        // 1/23 of the work between lines, or, where its total is not known, half as much time again as before the last one.
        let far_enough = match total {
            0 => since >= elapsed / 3,
            total => self.lines == 0 || units.saturating_mul(LINES - 2) >= total,
        };
        let due = since >= pause && units > 0 && far_enough && self.lines + 1 < LINES;
        if due {
            *self = Self { lines: self.lines + 1, last: (elapsed, done) };
        }
        due
    }
}

/// What is known before the first tick.
fn begun(name: &str, done: u64, total: u64) -> State {
    let line = if total > 0 { format!("{name}  {done}/{total}") } else { name.to_owned() };
    State { line, bar: (total > 0).then_some((done, total)), below: None }
}

/// `120/600  20 %  12.3/s  39 s left`.
fn under_way(done: u64, total: u64, rate: f64, left: Duration) -> String {
    if total == 0 {
        return format!("{done}  {}", speed(rate));
    }
    let shown = format!("{done}/{total}  {:.0} %  {}", 100.0 * done as f64 / total as f64, speed(rate));
    if done < total && rate > 0.0 { format!("{shown}  {} left", span(left)) } else { shown }
}

/// `600/600  done in 1 min 00 s  10.0/s`; `62/100  ended early in 5 s (dev loss stopped improving)  12.4/s` where something is left.
fn over(done: u64, total: u64, before: u64, elapsed: Duration, why: &str) -> String {
    let count = if total > 0 { format!("{done}/{total}") } else { done.to_string() };
    let ended = if done < total { "ended early" } else { "done" };
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    format!("{count}  {ended} in {}{why}  {}", span(elapsed), speed((done - before.min(done)) as f64 / elapsed.as_secs_f64()))
}

/// Units per second, or seconds per unit where that reads better.
fn speed(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => format!("{rate:.0}/s"),
        rate if rate >= 1.0 => format!("{rate:.1}/s"),
        rate if rate > 0.0 => format!("{:.1} s each", 1.0 / rate),
        _ => "0/s".to_owned(),
    }
}

/// A time span for people: `8 s`, `2 min 05 s`, `1 h 20 min`. indicatif's own forms are rounder (`2 minutes`) or longer.
fn span(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// One write per line under the lock, so that no other thread's text lands inside. A closed stdout must not end the work.
fn print_line(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When lines come in a run of `units` units, `each` apart.
    fn lines(units: u64, known: bool, each: Duration, pause: Duration) -> Vec<Duration> {
        let mut due = Due::default();
        let total = if known { units } else { 0 };
        (1..=units)
            .map(|unit| (unit, each * unit as u32))
            .filter(|(unit, now)| due.now(*now, *unit, total, pause))
            .map(|(_, now)| now)
            .collect()
    }

    #[test]
    fn quick_work_is_silent() {
        assert_eq!(lines(100, true, Duration::from_millis(19), PAUSE), Vec::<Duration>::new());
    }

    #[test]
    fn lines_are_few_and_apart_however_long_the_work() {
        for known in [true, false] {
            for each in [Duration::from_millis(1), Duration::from_millis(50), Duration::from_secs(30)] {
                let lines = lines(20_000, known, each, PAUSE);
                assert!((4..LINES).contains(&(lines.len() as u64)), "{} lines in {:?}", lines.len(), each * 20_000);
                assert!(lines[0] >= PAUSE && lines.windows(2).all(|two| two[1] - two[0] >= PAUSE), "{lines:?}");
            }
        }
    }

    #[test]
    fn work_within_other_work_speaks_once_a_minute() {
        let outer = Progress::new("experiment", 200);
        assert_eq!((outer.pause, Progress::new("training", 200).pause), (PAUSE, PAUSE_WITHIN));
        drop(outer);
        assert_eq!(Progress::new("training", 200).pause, PAUSE);
    }

    #[test]
    fn resumed_work_counts_from_where_it_was() {
        let mut progress = Progress::new("training", 600).resumed(500);
        std::thread::sleep(Duration::from_millis(50));
        progress.tick(1, "");
        assert_eq!((progress.bar.position(), progress.bar.length()), (501, Some(600)));
        // 501 units in 50 ms would be 10,000 a second.
        assert!((0.0..100.0).contains(&progress.bar.per_sec()), "{}", progress.bar.per_sec());
        assert_eq!(over(600, 600, 500, Duration::from_secs(10), ""), "600/600  done in 10 s  10.0/s");
    }

    #[test]
    fn lines_say_how_far_how_fast_and_how_long() {
        assert_eq!(under_way(20, 600, 10.0, Duration::from_secs(58)), "20/600  3 %  10.0/s  58 s left");
        assert_eq!(under_way(20, 0, 10.0, Duration::ZERO), "20  10.0/s");
        assert_eq!(over(600, 600, 0, Duration::from_secs(60), ""), "600/600  done in 1 min 00 s  10.0/s");
        let early = over(62, 100, 0, Duration::from_secs(5), "dev loss stopped improving");
        assert_eq!(early, "62/100  ended early in 5 s (dev loss stopped improving)  12.4/s");
        assert_eq!(over(62, 100, 0, Duration::from_secs(5), ""), "62/100  ended early in 5 s  12.4/s");
        let mut progress = Progress::new("capture", 10);
        progress.due.last.0 = Duration::ZERO;
        progress.bar = progress.bar.clone().with_elapsed(Duration::from_secs(3));
        progress.tick(1, "a\nb\r");
        assert_eq!(progress.line("1/10"), "capture  1/10  a b ");
        // No line is due so soon after: the last one has the last of it all the same.
        progress.tick(1, "c");
        assert_eq!((progress.due.lines, progress.line("2/10").as_str()), (1, "capture  2/10  c"));
    }

    #[test]
    fn spans_and_speeds_read_well() {
        assert_eq!([7.6, 125.0, 4800.0].map(|s| span(Duration::from_secs_f64(s))), ["8 s", "2 min 05 s", "1 h 20 min"]);
        assert_eq!([speed(1234.0), speed(12.34), speed(0.4), speed(0.0)], ["1234/s", "12.3/s", "2.5 s each", "0/s"]);
    }
}
