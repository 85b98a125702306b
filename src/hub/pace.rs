//! Bytes that keep coming.

use std::io::{Error, ErrorKind, Read, Result};
use std::time::{Duration, Instant};

/// What must arrive within the time that silence is borne: a connection slower than this is as good as broken, and one that gives a byte now
/// and then would never end.
const LEAST: u64 = 4096;

/// A reader that gives up where less than [`LEAST`] bytes come in `patience`.
pub(super) struct Paced<R> {
    inner: R,
    patience: Duration,
    begun: Instant,
    /// Since then.
    bytes: u64,
}

impl<R: Read> Paced<R> {
    pub(super) fn new(inner: R, patience: Duration) -> Self {
        Self { inner, patience, begun: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        let since = self.begun.elapsed();
        if read > 0 && since >= self.patience {
            if self.bytes < LEAST {
                let why = format!("only {} bytes came in {:.0} s", self.bytes, since.as_secs_f64());
                return Err(Error::new(ErrorKind::TimedOut, why));
            }
            (self.begun, self.bytes) = (Instant::now(), 0);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `bytes` at each reading, `pause` after it was asked.
    struct Slow(usize, Duration, usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            std::thread::sleep(self.1);
            let read = self.0.min(self.2).min(buffer.len());
            self.2 -= read;
            Ok(read)
        }
    }

    #[test]
    fn a_drip_is_no_stream() {
        let read = |bytes, whole| {
            let mut content = Vec::new();
            let pause = Duration::from_millis(2);
            Paced::new(Slow(bytes, pause, whole), Duration::from_millis(20)).read_to_end(&mut content).map(|read| (read, content.len()))
        };
        let error = read(1, 1000).unwrap_err();
        assert!(error.kind() == ErrorKind::TimedOut && error.to_string().contains("bytes came in"), "{error}");
        assert_eq!(read(4096, 100_000).unwrap(), (100_000, 100_000));
        // What is short may be slow.
        assert_eq!(read(3, 9).unwrap(), (9, 9));
        let at_once = Slow(10, Duration::ZERO, 10);
        assert_eq!(Paced::new(at_once, Duration::ZERO).read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
