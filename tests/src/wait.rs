//! Waiting for a condition, never longer than a deadline, and saying what was awaited.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Calls `check` until it returns `Some`, with short and growing pauses in between.
///
/// An error of `check` does not end the wait (what is not up yet refuses connections); the last one is
/// part of the message when `deadline` passes.
pub fn until<T>(what: &str, deadline: Duration, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let outcome = check();
        if let Ok(Some(value)) = outcome {
            return Ok(value);
        }
        if start.elapsed() >= deadline {
            let message = format!("waited {deadline:?} in vain for {what}");
            return match outcome {
                Err(last) => Err(last).context(message),
                Ok(_) => bail!(message),
            };
        }
        std::thread::sleep(pause.min(deadline.saturating_sub(start.elapsed())));
        pause = (pause * 3 / 2).min(Duration::from_millis(150));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_in_vain_says_what_for_and_why() {
        let error = until("a bus", Duration::from_millis(20), || -> Result<Option<()>> { bail!("strike") });
        let message = format!("{:#}", error.expect_err("nothing came"));
        assert_eq!(message, "waited 20ms in vain for a bus: strike");
    }
}
