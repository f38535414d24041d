//! Dates. The program stores seconds of Unix time, and the protocol uses
//! `yyyymmdd hhmmss` (RFC 3977, section 7.3). mail-parser does the conversion.

use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use mail_parser::DateTime;

/// The current time in seconds of Unix time.
pub fn now() -> i64 {
    unix(SystemTime::now())
}

/// Seconds of Unix time; 0 for times before 1970.
pub fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `yyyymmddhhmmss`, as the reply to DATE has it.
pub fn compact(time: i64) -> String {
    let t = DateTime::from_timestamp(time);
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        t.year, t.month, t.day, t.hour, t.minute, t.second
    )
}

/// The value of a Date header. The year has four digits.
pub fn rfc5322(time: i64) -> String {
    const LAST: i64 = 253_402_300_799;
    DateTime::from_timestamp(time.clamp(0, LAST)).to_rfc822()
}

/// Whether a date has the format of RFC 5322, section 3.3, with a zone in digits or
/// GMT. mail-parser also accepts many other formats, which news servers refuse.
pub fn is_rfc5322(text: &str) -> bool {
    let digits = |text: &str, count: RangeInclusive<usize>| {
        count.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    // A comment may follow.
    let text = text.split(" (").next().unwrap_or_default();
    let text = match text.split_once(',') {
        Some((day, rest)) if DAYS.contains(&day.trim()) => rest,
        Some(_) => return false,
        None => text,
    };
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[day, month, year, time, zone] = &words[..] else {
        return false;
    };
    let offset = zone.strip_prefix(['+', '-']);
    let parts = time.split(':').count();
    digits(day, 1..=2)
        && MONTHS.contains(&month)
        && digits(year, 4..=4)
        && (2..=3).contains(&parts)
        && time.split(':').all(|part| digits(part, 2..=2))
        && (zone == "GMT" || offset.is_some_and(|offset| digits(offset, 4..=4)))
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Parses the date and time arguments of NEWGROUPS and NEWNEWS. A year of two
/// digits is in this century, or in the last one if it would be in the future
/// (section 7.3.2).
pub fn parse(date: &str, time: &str, now: i64) -> Option<i64> {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(date) || !digits(time) || time.len() != 6 {
        return None;
    }
    let year = match date.len() {
        8 => date[..4].parse().ok()?,
        6 => {
            let this = DateTime::from_timestamp(now).year;
            let short: u16 = date[..2].parse().ok()?;
            let year = this - this % 100 + short;
            if year > this { year - 100 } else { year }
        }
        _ => return None,
    };
    let day = &date[date.len() - 4..];
    let two = |text: &str, at: usize| text[at..at + 2].parse().ok();
    let parsed = DateTime {
        year,
        month: two(day, 0)?,
        day: two(day, 2)?,
        hour: two(time, 0)?,
        minute: two(time, 2)?,
        // The protocol allows a leap second, but Unix time has none.
        second: two(time, 4).map(|second: u8| if second == 60 { 59 } else { second })?,
        tz_before_gmt: false,
        tz_hour: 0,
        tz_minute: 0,
    };
    let time = parsed.is_valid().then(|| parsed.to_timestamp())?;
    // The conversion turns 31 February into a day in March.
    (DateTime::from_timestamp(time).day == parsed.day).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 15 June 2026, noon.
    const NOW: i64 = 1_781_524_800;

    #[test]
    fn dates_are_written_and_parsed() {
        assert_eq!(compact(NOW), "20260615120000");
        assert_eq!(parse("20260615", "120000", NOW), Some(NOW));
        assert_eq!(rfc5322(NOW), "Mon, 15 Jun 2026 12:00:00 +0000");
    }

    #[test]
    fn years_of_two_digits() {
        let year = |date| compact(parse(date, "000000", NOW).unwrap())[..4].to_owned();
        assert_eq!(year("260101"), "2026");
        assert_eq!(year("000101"), "2000");
        assert_eq!(year("270101"), "1927");
        assert_eq!(year("990101"), "1999");
    }

    #[test]
    fn rfc_5322_dates_are_recognized() {
        assert!(is_rfc5322(&rfc5322(NOW)));
        assert_eq!(rfc5322(i64::MAX), "Fri, 31 Dec 9999 23:59:59 +0000");
        for good in [
            "1 Jan 2001 10:00 GMT",
            "Mon, 01 Jan 2001 10:00:00 -0800 (PST)",
        ] {
            assert!(is_rfc5322(good), "{good}");
        }
        for bad in [
            "",
            "2001-01-01 10:00:00",
            "Mon, 1 Jan 01 10:00:00 +0000",
            "Monday, 1 Jan 2001 10:00:00 +0000",
            "Mon, 1 January 2001 10:00:00 +0000",
            "Mon, 1 Jan 2001 10:00:00",
            "Mon, 1 Jan 2001 10:00:00 Europe/Berlin",
            "Mon Jan 1 10:00:00 2001",
        ] {
            assert!(!is_rfc5322(bad), "{bad}");
        }
    }

    #[test]
    fn malformed_dates_are_refused() {
        for (date, time) in [
            ("2026061", "000000"),
            ("20261301", "000000"),
            ("20260231", "000000"),
            ("20260615", "240000"),
            ("20260615", "12000"),
            ("2026-6-1", "000000"),
            ("", "000000"),
        ] {
            assert_eq!(parse(date, time, NOW), None, "{date:?} {time:?}");
        }
    }
}
