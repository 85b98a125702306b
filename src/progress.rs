//! Progress that a notebook can show: whole lines, few of them, with rate and time left.
//!
//! A notebook cell forwards output line by line, so a bar redrawn in place with carriage returns never appears there.
//! indicatif would bring nothing here: its part is redrawing bars, and lines through its `TermLike` would still need the pauses, the bound on
//! their number and the rate below; and it hides itself where there is no terminal, as in a cell.
//! Lines go to stdout: whatever a cell writes to stderr looks like a failure, to people and to notebook tests.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

/// No line before this much time has passed, and none sooner after the one before.
const PAUSE: Duration = Duration::from_secs(2);
/// The same for work within other work that is announced: its lines are for long waits only.
const PAUSE_WITHIN: Duration = Duration::from_secs(60);
/// The most lines of one run, the last included.
const LINES: u64 = 50;

thread_local! {
    /// How many pieces of work are announced now.
    static UNDER_WAY: Cell<usize> = const { Cell::new(0) };
}

/// Announces how far a long piece of work has come.
///
/// Nothing is printed for the first two seconds, so quick work stays silent; then at most one line every two seconds
/// and 50 in all: `training  120/600  20 %  12.3/s  39 s left  loss 0.412`. Work within other work (a training of an experiment) has at most one
/// a minute.
#[derive(Debug)]
pub struct Progress {
    name: String,
    total: u64,
    done: u64,
    /// Units done before this work began.
    before: u64,
    begun: Instant,
    lines: u64,
    /// When and where the last line was printed.
    last: (Duration, u64),
    /// Units per second over the recent past; the mean since the start would hide a slow beginning for long.
    rate: Option<f64>,
    extra: String,
    pause: Duration,
}

impl Progress {
    /// Work called `name` of `total` units; 0 where the total is not known.
    pub fn new(name: &str, total: u64) -> Self {
        let within = UNDER_WAY.replace(UNDER_WAY.get() + 1) > 0;
        Self {
            name: name.to_owned(),
            total,
            done: 0,
            before: 0,
            begun: Instant::now(),
            lines: 0,
            last: (Duration::ZERO, 0),
            rate: None,
            extra: String::new(),
            pause: if within { PAUSE_WITHIN } else { PAUSE },
        }
    }

    /// Work of which `done` units were done before: they count as done, and not for the rate.
    pub fn resumed(mut self, done: u64) -> Self {
        (self.done, self.before, self.last.1) = (done, done, done);
        self
    }

    /// `more` units are done; `extra` is shown at the line's end (a loss, a file name), and may be empty.
    pub fn tick(&mut self, more: u64, extra: &str) {
        if let Some(line) = self.advance(self.begun.elapsed(), more, extra) {
            print_line(&line);
        }
    }

    /// All is done: one last line, if any was printed before.
    pub fn finish(self) {
        let elapsed = self.begun.elapsed();
        if let Some(line) = self.last_line(elapsed) {
            print_line(&line);
        }
    }

    /// The line that is due after `elapsed`, if one is; apart from the clock, so that tests need not wait.
    fn advance(&mut self, elapsed: Duration, more: u64, extra: &str) -> Option<String> {
        self.done += more;
        if self.extra != extra {
            extra.clone_into(&mut self.extra);
        }
        let since = elapsed.saturating_sub(self.last.0);
        let units = self.done - self.last.1;
        // 1/48 of the work or of the time so far between lines keeps the number of lines bounded.
        let far_enough = match self.total {
            0 => since >= elapsed / 24,
            total => self.lines == 0 || units * (LINES - 2) >= total,
        };
        if since < self.pause || units == 0 || !far_enough || self.lines + 1 >= LINES {
            return None;
        }
        let recent = units as f64 / since.as_secs_f64();
        let rate = self.rate.map_or(recent, |rate| 0.5 * rate + 0.5 * recent);
        self.rate = Some(rate);
        self.last = (elapsed, self.done);
        self.lines += 1;
        let mut parts = vec![self.name.clone(), self.count()];
        if self.total > 0 {
            parts.push(format!("{:.0} %", 100.0 * self.done as f64 / self.total as f64));
        }
        parts.push(speed(rate));
        let left = self.total.saturating_sub(self.done);
        if left > 0 && rate > 0.0 {
            parts.push(format!("{} left", span(left as f64 / rate)));
        }
        Some(self.join(parts))
    }

    fn last_line(&self, elapsed: Duration) -> Option<String> {
        if self.lines == 0 {
            return None;
        }
        let seconds = elapsed.as_secs_f64();
        Some(self.join(vec![
            self.name.clone(),
            self.count(),
            format!("done in {}", span(seconds)),
            speed((self.done - self.before) as f64 / seconds),
        ]))
    }

    fn count(&self) -> String {
        if self.total > 0 { format!("{}/{}", self.done, self.total) } else { self.done.to_string() }
    }

    fn join(&self, mut parts: Vec<String>) -> String {
        if !self.extra.is_empty() {
            // A line break inside would make two lines of one.
            parts.push(self.extra.replace(['\n', '\r'], " "));
        }
        parts.join("  ")
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        UNDER_WAY.set(UNDER_WAY.get().saturating_sub(1));
    }
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

/// A time span for people: `8 s`, `2 min 05 s`, `1 h 20 min`.
fn span(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
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

    /// Ticks `total` units, `each` apart, and returns every line.
    fn lines(total: u64, known: bool, each: Duration) -> Vec<String> {
        let mut progress = Progress::new("training", if known { total } else { 0 });
        let mut lines: Vec<String> = (1..=total).filter_map(|unit| progress.advance(each * unit as u32, 1, "loss 0.4")).collect();
        lines.extend(progress.last_line(each * total as u32));
        lines
    }

    #[test]
    fn quick_work_is_silent() {
        assert_eq!(lines(100, true, Duration::from_millis(19)), Vec::<String>::new());
    }

    #[test]
    fn work_within_other_work_speaks_once_a_minute() {
        let first_line = |progress: &mut Progress| (1..=200).find(|second| progress.advance(Duration::from_secs(*second), 1, "").is_some());
        let mut outer = Progress::new("experiment", 200);
        assert_eq!(first_line(&mut Progress::new("training", 200)), Some(60));
        assert_eq!(first_line(&mut outer), Some(2));
        drop(outer);
        assert_eq!(first_line(&mut Progress::new("training", 200)), Some(2));
    }

    #[test]
    fn lines_say_how_far_how_fast_and_how_long() {
        let lines = lines(600, true, Duration::from_millis(100));
        assert_eq!(lines[0], "training  20/600  3 %  10.0/s  58 s left  loss 0.4");
        assert_eq!(lines.last().unwrap(), "training  600/600  done in 1 min 00 s  10.0/s  loss 0.4");
    }

    #[test]
    fn resumed_work_counts_from_where_it_was() {
        let mut progress = Progress::new("training", 600).resumed(500);
        let lines: Vec<String> = (1..=100).filter_map(|unit| progress.advance(Duration::from_millis(100 * unit), 1, "")).collect();
        assert_eq!(lines[0], "training  520/600  87 %  10.0/s  8 s left");
        assert_eq!(progress.last_line(Duration::from_secs(10)).unwrap(), "training  600/600  done in 10 s  10.0/s");
    }

    #[test]
    fn lines_are_few_however_long_the_work() {
        for known in [true, false] {
            for each in [Duration::from_millis(1), Duration::from_millis(50), Duration::from_secs(30)] {
                let lines = lines(20_000, known, each);
                assert!(lines.len() as u64 <= LINES, "{} lines", lines.len());
                assert!(lines.len() >= 5, "{} lines in {:?}", lines.len(), each * 20_000);
            }
        }
    }

    #[test]
    fn lines_keep_two_seconds_apart_and_whole() {
        let mut progress = Progress::new("capture", 1000);
        let mut last = Duration::ZERO;
        for unit in 1..=1000 {
            let now = Duration::from_millis(300 * unit);
            if let Some(line) = progress.advance(now, 1, "a\nb\r") {
                assert!(now - last >= PAUSE);
                assert!(!line.contains(['\n', '\r']), "{line:?}");
                last = now;
            }
        }
    }

    #[test]
    fn spans_and_speeds_read_well() {
        assert_eq!([span(7.6), span(125.0), span(4800.0)], ["8 s", "2 min 05 s", "1 h 20 min"]);
        assert_eq!([speed(1234.0), speed(12.34), speed(0.4), speed(0.0)], ["1234/s", "12.3/s", "2.5 s each", "0/s"]);
    }
}
