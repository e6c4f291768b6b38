//! Times of the calendar, as a log and a table show them.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A time in milliseconds since 1970, as date and time in UTC.
pub fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A length of time in its largest unit.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..DAY => (seconds / 3600, "hour"),
        _ => (seconds / DAY, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

/// Year, month and day of the Gregorian calendar, from the days since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // Whole periods of 400 years are of one length.
    const PERIOD: u64 = 146_097;
    let mut year = 1970 + days / PERIOD * 400;
    let mut rest = days % PERIOD;
    let mut length = 365;
    while rest >= length {
        rest -= length;
        year += 1;
        length = if is_leap(year) { 366 } else { 365 };
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_636_800_000), "2026-11-25 20:00:00 UTC");
        assert_eq!(utc(4_102_444_800_000), "2100-01-01 00:00:00 UTC");
        assert_eq!(utc(13_574_563_200_000), "2400-02-29 00:00:00 UTC");
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        let ages = [999, 1_000, 59_999, 60_000, 7_200_000, 86_400_000, 200_000_000].map(age);
        assert_eq!(
            ages,
            [
                "0 seconds",
                "1 second",
                "59 seconds",
                "1 minute",
                "2 hours",
                "1 day",
                "2 days"
            ]
        );
    }
}
