//! Until when an answer is of use.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use crate::config::Deadlines;

const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("grpc-timeout");
/// How much earlier than the caller's own deadline we answer, so that the
/// answer with its reason arrives.
const MARGIN: Duration = Duration::from_millis(5);
/// The same for a stream, whose last word holds a cursor: a twentieth of what the
/// caller asked for, and at most this. Nobody minds a watch that ends early.
const STREAM_MARGIN_MAX: Duration = Duration::from_millis(250);

/// Until when an answer is of use.
#[derive(Clone, Copy)]
pub(super) struct Deadline(pub Instant);

/// Until when the caller itself is ready to wait. It ends a stream too, which
/// otherwise goes on after its first answer was in time.
#[derive(Clone, Copy)]
pub(super) struct Patience(pub Option<Instant>);

/// Reads them off a call that came at `start`. `None` if there is no time to do
/// anything in: then nothing may be begun.
pub(super) fn read(
    headers: &HeaderMap,
    start: Instant,
    deadlines: &Deadlines,
    calls_threads: bool,
) -> Option<(Deadline, Patience)> {
    let (usual, max) = if calls_threads {
        (deadlines.provider, deadlines.provider_max)
    } else {
        (deadlines.usual, deadlines.max)
    };
    let Some(asked) = asked_timeout(headers) else { return Some((Deadline(start + usual), Patience(None))) };
    let asked = asked.checked_sub(MARGIN).filter(|left| !left.is_zero())?;
    let watched = asked.saturating_sub((asked / 20).min(STREAM_MARGIN_MAX));
    Some((Deadline(start + asked.min(max)), Patience(start.checked_add(watched))))
}

/// `grpc-timeout`: up to eight digits and a unit, by the gRPC protocol's
/// specification. What does not read so is ignored.
fn asked_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let unit = text.len().checked_sub(1).filter(|at| (1..=8).contains(at) && text.is_char_boundary(*at))?;
    let (digits, unit) = text.split_at(unit);
    let number: u64 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(TIMEOUT_HEADER, value.parse().unwrap())])
    }

    #[test]
    fn timeouts_read_as_the_protocol_writes_them() {
        let read = |text: &str| asked_timeout(&headers(text));
        assert_eq!(read("1S"), Some(Duration::from_secs(1)));
        assert_eq!(read("99999999H"), Some(Duration::from_hours(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "1", "999999999S", "-1S", "1s", "1.5S", "+1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_deadline_is_the_callers_within_our_limits_and_ours_without() {
        let start = Instant::now();
        let deadlines = Deadlines {
            usual: Duration::from_secs(2),
            max: Duration::from_secs(4),
            provider: Duration::from_secs(20),
            provider_max: Duration::from_secs(40),
        };
        let lasts = |text: &str, calls_threads: bool| {
            read(&headers(text), start, &deadlines, calls_threads).map(|(Deadline(at), _)| at - start)
        };
        for (text, own, provider) in
            [("", 2000, 20_000), ("nonsense", 2000, 20_000), ("3S", 2995, 2995), ("99999999H", 4000, 40_000)]
        {
            assert_eq!(lasts(text, false), Some(Duration::from_millis(own)), "{text}");
            assert_eq!(lasts(text, true), Some(Duration::from_millis(provider)), "{text}");
        }
        for nothing in ["0S", "0n", "1n", "999u", "1m", "5m"] {
            assert_eq!(lasts(nothing, false), None, "{nothing}");
        }
        assert!(lasts("6m", false).is_some());
    }
}
