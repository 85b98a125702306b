//! Bytes that keep coming.

use std::io::{Error, ErrorKind, Read, Result};
use std::time::{Duration, Instant};

/// What must arrive within the time that silence is borne: a connection slower than this is as good as broken, and one that gives a byte now
/// and then would never end.
const LEAST: u64 = 4096;

/// A reader that gives up where less than [`LEAST`] bytes come in `patience`.
pub(super) struct Paced<R> {
    inner: R,
    clock: Instant,
    pace: Pace,
}

/// What came lately. Apart from the clock, so that tests need not wait.
struct Pace {
    patience: Duration,
    begun: Duration,
    /// Since then.
    bytes: u64,
}

impl Pace {
    /// Notes that `bytes` came at the time `now`.
    fn note(&mut self, bytes: usize, now: Duration) -> Result<()> {
        self.bytes += bytes as u64;
        let since = now.saturating_sub(self.begun);
        if since < self.patience {
            return Ok(());
        }
        if self.bytes < LEAST {
            let why = format!("only {} bytes came in {:.0} s", self.bytes, since.as_secs_f64());
            return Err(Error::new(ErrorKind::TimedOut, why));
        }
        (self.begun, self.bytes) = (now, 0);
        Ok(())
    }
}

impl<R: Read> Paced<R> {
    pub(super) fn new(inner: R, patience: Duration) -> Self {
        Self { inner, clock: Instant::now(), pace: Pace { patience, begun: Duration::ZERO, bytes: 0 } }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(buffer)?;
        // The end is no matter of pace.
        if read > 0 {
            self.pace.note(read, self.clock.elapsed())?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second at which a stream of `bytes` every `every` seconds is given up, within an hour.
    fn given_up(bytes: usize, every: u64) -> Option<u64> {
        let mut pace = Pace { patience: Duration::from_secs(30), begun: Duration::ZERO, bytes: 0 };
        (1..=3600 / every).map(|count| count * every).find(|&second| pace.note(bytes, Duration::from_secs(second)).is_err())
    }

    #[test]
    fn a_drip_is_no_stream() {
        assert_eq!((given_up(1, 2), given_up(1, 7), given_up(100, 1)), (Some(30), Some(35), Some(30)));
        assert_eq!((given_up(200, 1), given_up(4096, 29), given_up(1 << 20, 600)), (None, None, None));
        // It may slow down later.
        let mut pace = Pace { patience: Duration::from_secs(30), begun: Duration::ZERO, bytes: 0 };
        pace.note(1 << 20, Duration::from_secs(31)).unwrap();
        pace.note(9, Duration::from_secs(60)).unwrap();
        let error = pace.note(1, Duration::from_secs(61)).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::TimedOut, "only 10 bytes came in 30 s"));
        // Silence is the timeout's affair, and the end no drip.
        assert_eq!(Paced::new(&b""[..], Duration::ZERO).read(&mut [0; 5]).unwrap(), 0);
        assert_eq!(Paced::new(&b"short"[..], Duration::ZERO).read(&mut [0; 5]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
