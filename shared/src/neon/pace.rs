//! Keeps this process below the API's limits, which are the account's: 700 requests a minute,
//! and 40 at once.
//!
//! At night [`PROCESSES`] functions ask at the same time (four databases of a backup run, four
//! of the branches' run): each gets an eighth of both. Where somebody else asks meanwhile, a
//! drill, a recovery, a rehearsal or tools that are not ours, one of all may be told 429, and
//! asks again later.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

const PROCESSES: u64 = 8;
/// One more follows within the same second.
const AT_ONCE: u32 = 4;
/// The first ones count in the minute that they begin.
const PER_MINUTE: u64 = 700 / PROCESSES - 4;
const INTERVAL: Duration = Duration::from_millis(60_000 / PER_MINUTE + 1);

/// When the next request would be due if they had always come evenly.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Returns when the next request may be sent.
    pub(super) async fn wait(&self) {
        let mut due = self.0.lock().await;
        let (next, pause) = step(*due, Instant::now());
        *due = Some(next);
        // Still holding the turn: whoever comes later goes later.
        tokio::time::sleep(pause).await;
    }
}

/// The next due time, and how long to wait for this request's turn.
fn step(due: Option<Instant>, now: Instant) -> (Instant, Duration) {
    let credit = INTERVAL * (AT_ONCE - 1);
    let own = due.unwrap_or(now).max(now);
    let earliest = own.checked_sub(credit).unwrap_or(now);
    (own + INTERVAL, earliest.saturating_duration_since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_processes_stay_below_the_limits_of_the_account() {
        let begin = Instant::now();
        let (mut due, mut now) = (None, begin);
        let mut sent = Vec::new();
        while now < begin + Duration::from_secs(120) {
            let (next, pause) = step(due, now);
            due = Some(next);
            now += pause;
            sent.push(now);
        }
        let within = |from: Instant, span: Duration| {
            let during = sent.iter().filter(|it| **it >= from && **it < from + span);
            during.count() as u64
        };
        for from in &sent {
            let minute = within(*from, Duration::from_secs(60)) * PROCESSES;
            let second = within(*from, Duration::from_secs(1)) * PROCESSES;
            assert!(minute <= 700, "{minute} in a minute");
            assert!(second <= 40, "{second} in a second");
        }
        assert_eq!(within(begin, Duration::from_millis(1)), u64::from(AT_ONCE));
    }
}
