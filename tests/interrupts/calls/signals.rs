//! The same calls under signals at random moments.

use super::*;

/// Set in the child that runs all calls under signals.
const SIGNALS: &str = "IA2_TEST_SIGNALS";

/// What a call comes to when no signal is left for it, and how many there were: one that came too late holds for a second, and the system takes
/// its time to deliver it.
fn settled(call: &dyn Fn() -> Result<String>) -> (Result<String>, u32) {
    let outcomes = std::iter::repeat_with(call).take(3);
    let mut stopped = 0;
    for outcome in outcomes {
        match outcome {
            Err(error) if error.is_interrupted() => stopped += 1,
            outcome => return (outcome, stopped),
        }
    }
    (call(), stopped)
}

#[test]
#[ignore = "the child of `signals_at_random_moments_of_every_call_lose_nothing`"]
fn child_of_signals() -> Result<()> {
    if std::env::var_os(SIGNALS).is_none() {
        return Ok(());
    }
    let fixture = Fixture::new()?;
    let (mut sent, mut stopped) = (0, 0);
    for (name, call) in calls(&fixture) {
        let (expected, late) = settled(&call);
        stopped += late;
        let expected = expected?;
        let began = Instant::now();
        let took = settled(&call).0.map(|_| began.elapsed())?;
        for round in 1..=2 {
            let wait = took.mul_f64(f64::from(sent * 37 % 100) / 100.0);
            // What comes sooner after another is the same press.
            std::thread::sleep(Duration::from_millis(310));
            let signal = std::thread::spawn(move || {
                std::thread::sleep(wait);
                // SAFETY: a signal of this process to itself.
                unsafe { libc::kill(libc::getpid(), libc::SIGINT) }
            });
            let outcome = call();
            assert_eq!(signal.join().unwrap(), 0);
            sent += 1;
            match outcome {
                // It came too late, or in an operation that is one.
                Ok(value) => assert_eq!(value, expected, "{name}"),
                Err(error) => {
                    assert!(error.is_interrupted(), "{name}: {error}");
                    stopped += 1;
                }
            }
            let (again, late) = settled(&call);
            stopped += late;
            assert_eq!(again?, expected, "{name}, after interrupt {round}");
        }
    }
    println!("\nsent {sent}, stopped {stopped}");
    Ok(())
}

#[test]
fn signals_at_random_moments_of_every_call_lose_nothing() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "calls::signals::child_of_signals", "--ignored", "--nocapture"]).env(SIGNALS, "1");
    // As in a kernel: there a signal between two calls ends nothing.
    let output = child.env("EVCXR_IS_RUNTIME", "1").env("EVCXR_REPORTS_PANICS", "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}\n{err}", output.status);
    let told = out.lines().find_map(|line| line.strip_prefix("sent ")).unwrap_or_else(|| panic!("{out}"));
    let (sent, stopped) = told.split_once(", stopped ").unwrap();
    let [sent, stopped] = [sent, stopped].map(|count| count.parse::<u32>().unwrap());
    assert!(sent >= 100 && stopped > sent / 2, "{told}");
}
