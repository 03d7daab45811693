//! The only caller of the system's clocks, and the one spelling of times: RFC 3339 in UTC with
//! milliseconds. Everything else is handed a `Time` or an `Instant`.

use crate::commit::Time;
use crate::error::{Error, Result, Status};
use crate::units;
use jiff::Timestamp;
use jiff::civil;
use jiff::fmt::rfc2822;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static STAND_IN: OnceLock<fn() -> Time> = OnceLock::new();

/// Has another clock stand in for the system's, for as long as the process lives. No argument, setting
/// or variable of the program leads here: the harness does, which runs it on clocks that are wrong.
pub fn stand_in(clock: fn() -> Time) {
    STAND_IN.get_or_init(|| clock);
}

/// The time of day.
pub fn now() -> Time {
    STAND_IN.get().map_or_else(system, |clock| clock())
}

/// A clock set before 1970 reads as 1970.
pub fn system() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).map_or(Time::MAX, Time).min(Time::MAX)
}

/// The steady clock, for how long something took.
pub fn instant() -> Instant {
    Instant::now()
}

/// How long the machine has been up, as the system counts it for others to compare.
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// The same, as moments that can be told apart whoever sets the time of day meanwhile.
pub fn uptime() -> Time {
    Time(u64::try_from(monotonic().as_millis()).unwrap_or(u64::MAX))
}

/// How long ago it was `uptime`; nobody knows, if that was before the machine was started again.
pub fn passed_since(uptime_ms: u64) -> Option<Duration> {
    uptime().0.checked_sub(uptime_ms).map(Duration::from_millis)
}

/// `2025-11-23T14:00:00.123Z`. A time past the year 9999 shows as that year's end.
pub fn format(time: Time) -> String {
    let shown = i64::try_from(time.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", shown.unwrap_or(Timestamp::MAX))
}

/// What a person means by `--at`: an RFC 3339 time, or an age such as `90m`.
pub fn parse_target(text: &str, now: Time) -> Result<Time> {
    match units::duration(text) {
        Some(age) => {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let then = now.0.checked_sub(age).map(Time);
            then.ok_or_else(|| refuse(text, "an age that reaches back past 1970"))
        }
        None => parse_time(text),
    }
}

/// A time as the headers of HTTP have it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn parse_http(text: &str) -> Option<Time> {
    let stamp = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(stamp.as_millisecond()).ok().map(Time)
}

fn parse_time(text: &str) -> Result<Time> {
    let Ok(stamp) = text.parse::<Timestamp>() else {
        return Err(match text.parse::<civil::DateTime>() {
            Ok(_) => refuse(text, "a time without its zone")
                .hint(format!("add Z for UTC or an offset such as +01:00: {}", zoned(text))),
            Err(_) => refuse(text, "neither a time nor an age"),
        });
    };
    let ms = u64::try_from(stamp.as_millisecond());
    ms.map(Time).map_err(|_| refuse(text, "a time before 1970"))
}

fn zoned(text: &str) -> String {
    if text.len() > 10 { format!("{text}Z") } else { format!("{text}T00:00:00Z") }
}

fn refuse(text: &str, cause: &str) -> Error {
    Error::new(Status::Usage, "time", text, cause)
        .hint("write RFC 3339, such as 2025-11-23T14:00:00Z, or an age, such as 90m or 2d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_shown() {
        for ms in [0, 1, 999, 1_763_906_400_123, 1_763_906_400_000] {
            let shown = format(Time(ms));
            assert_eq!(shown.len(), "2025-11-23T14:00:00.123Z".len(), "{shown}");
            assert_eq!(parse_target(&shown, Time(0)).unwrap(), Time(ms));
        }
        assert_eq!(format(Time(1_763_906_400_120)), "2025-11-23T14:00:00.120Z");
        assert!(format(Time::MAX).starts_with("9999-12-"));
    }

    #[test]
    fn targets_are_times_or_ages() {
        let now = Time(1_763_906_400_000);
        let check = |text, time| assert_eq!(parse_target(text, now).unwrap(), Time(time), "{text}");
        check("90m", now.0 - 5_400_000);
        check("0s", now.0);
        check("2025-11-23T14:00:00Z", now.0);
        check("2025-11-23T15:00:00+01:00", now.0);
        check("2025-11-23 14:00:00.5Z", now.0 + 500);
    }

    #[test]
    fn times_of_http_are_read() {
        let read = parse_http("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read, Some(Time(784_111_777_000)));
        assert_eq!(parse_http("yesterday"), None);
    }

    #[test]
    fn other_targets_are_refused_with_a_hint() {
        let check = |text, cause| {
            let error = parse_target(text, Time(1_763_906_400_000)).unwrap_err();
            assert_eq!(error.status, Status::Usage, "{text}");
            assert_eq!(error.message, format!("time: {text}: {cause}"));
            assert!(error.hint.is_some(), "{text}");
        };
        check("yesterday", "neither a time nor an age");
        check("", "neither a time nor an age");
        check("90", "neither a time nor an age");
        check("2025-13-01T00:00:00Z", "neither a time nor an age");
        check("2025-11-23T14:00:00", "a time without its zone");
        check("2025-11-23", "a time without its zone");
        check("1969-12-31T23:00:00Z", "a time before 1970");
        check("1000y", "an age that reaches back past 1970");
    }
}
