//! Which request may be sent again, and when. Pure.
//!
//! 423, 429 and 503 are answers of the gate: the request did not get in, so any request may be
//! sent again. After everything else that is no answer, a read may be, and a change may not:
//! nobody knows whether it happened.

use std::time::Duration;

/// What a request does when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Changes,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Status {
        status: u16,
        /// The body is what the API documents: JSON, or nothing where nothing is due.
        is_readable: bool,
        /// The API says in words that it is only a matter of time.
        is_not_ready: bool,
    },
    /// No answer, or one that broke off.
    Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is an answer, good or bad.
    Take,
    /// The project is at work; as long as there is time.
    AgainWhileLocked,
    /// As often as [`TRIES_MAX`] allows.
    Again,
    /// A change may or may not have happened.
    Unknown,
}

/// Of one request, the first included.
pub(super) const TRIES_MAX: u32 = 6;
/// Another operation of a project takes no longer.
pub(super) const LOCKED_MAX: Duration = Duration::from_secs(300);
/// Who is told to wait longer than this gives up; the state machine comes back later.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

pub(super) fn judge(effect: Effect, heard: Heard) -> Next {
    match (heard, effect) {
        (Heard::Status { status: 423, .. }, _) => Next::AgainWhileLocked,
        (
            Heard::Status {
                is_not_ready: true, ..
            },
            _,
        ) => Next::AgainWhileLocked,
        (
            Heard::Status {
                status: 429 | 503, ..
            },
            _,
        ) => Next::Again,
        (
            Heard::Status {
                status: 200..=299,
                is_readable: true,
                ..
            }
            | Heard::Status {
                status: 300..=499, ..
            },
            _,
        ) => Next::Take,
        (Heard::Status { .. } | Heard::Silence, Effect::Reads) => Next::Again,
        (Heard::Status { .. } | Heard::Silence, Effect::Changes) => Next::Unknown,
    }
}

/// Exponential with full jitter, and never less than the API asked for. `luck` is 0 to 1.
pub(super) fn pause(tries: u32, luck: f64, retry_after: Option<Duration>) -> Duration {
    let most = PAUSE_FIRST
        .saturating_mul(1 << tries.min(10))
        .min(PAUSE_MAX);
    let jittered = most.mul_f64(luck.clamp(0.1, 1.0));
    jittered.max(retry_after.unwrap_or_default())
}

/// `Retry-After`: seconds, or a moment, which is compared with the answer's own `Date`.
pub(super) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = |text: &str| jiff::fmt::rfc2822::parse(text).ok();
    let wait = moment(value)?
        .timestamp()
        .duration_since(moment(date?)?.timestamp());
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, is_readable: bool) -> Heard {
        Heard::Status {
            status,
            is_readable,
            is_not_ready: false,
        }
    }

    #[test]
    fn a_change_is_sent_again_only_where_it_did_not_get_in() {
        for (heard, expected) in [
            (status(200, true), Next::Take),
            (status(201, true), Next::Take),
            (status(204, true), Next::Take),
            (status(404, false), Next::Take),
            (status(409, true), Next::Take),
            (status(422, true), Next::Take),
            (status(423, true), Next::AgainWhileLocked),
            (status(429, true), Next::Again),
            (status(503, false), Next::Again),
            (status(200, false), Next::Unknown),
            (status(500, true), Next::Unknown),
            (status(502, false), Next::Unknown),
            (status(504, false), Next::Unknown),
            (status(524, false), Next::Unknown),
            (Heard::Silence, Next::Unknown),
        ] {
            assert_eq!(judge(Effect::Changes, heard), expected, "{heard:?}");
        }
    }

    #[test]
    fn a_read_is_sent_again_after_anything_that_is_no_answer() {
        for heard in [
            status(200, false),
            status(500, true),
            status(524, false),
            status(503, true),
            Heard::Silence,
        ] {
            assert_eq!(judge(Effect::Reads, heard), Next::Again, "{heard:?}");
        }
        assert_eq!(judge(Effect::Reads, status(404, true)), Next::Take);
    }

    #[test]
    fn a_branch_that_is_not_ready_yet_is_waited_for() {
        let heard = Heard::Status {
            status: 422,
            is_readable: true,
            is_not_ready: true,
        };
        assert_eq!(judge(Effect::Changes, heard), Next::AgainWhileLocked);
    }

    #[test]
    fn pauses_grow_are_bounded_and_never_shorter_than_asked_for() {
        let ms = |tries, luck| pause(tries, luck, None).as_millis();
        assert_eq!([ms(0, 1.0), ms(1, 1.0), ms(3, 1.0)], [250, 500, 2000]);
        assert_eq!([ms(30, 1.0), ms(0, 0.0), ms(0, 0.5)], [10_000, 25, 125]);
        let asked = Some(Duration::from_secs(3));
        assert_eq!(pause(0, 1.0, asked), Duration::from_secs(3));
    }

    #[test]
    fn retry_after_is_seconds_or_a_moment() {
        let date = Some("Sat, 21 Nov 2026 01:00:00 GMT");
        for (value, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sat, 21 Nov 2026 01:00:09 GMT", Some(9)),
            ("Sat, 21 Nov 2026 00:59:09 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let seconds = retry_after(value, date).map(|it| it.as_secs());
            assert_eq!(seconds, expected, "{value}");
        }
    }
}
