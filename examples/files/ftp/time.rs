//! Times as FTP writes them, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::date::{DAY, Date, MONTHS};

/// `19941106084937` (RFC 3659 section 2.3).
pub fn time_val(time: SystemTime) -> String {
    let Date {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = Date::of(time);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// The other way round. A fraction of a second is left out, and a leap second is the second before it, since system times have
/// none. `None` if there is no such time, or if it is before 1970.
pub fn parse_time_val(text: &str) -> Option<SystemTime> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let number = |at: std::ops::Range<usize>| whole[at].parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    // As in `Date::of`. What is not in the calendar is found below.
    let year = if month > 2 {
        year
    } else {
        year.checked_sub(1)?
    };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    let second = number(12..14).filter(|second| *second <= 60)?.min(59);
    let seconds = number(8..10)? * 3600 + number(10..12)? * 60 + second;
    let seconds = days.checked_sub(719_468)? * DAY + seconds;
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    (time_val(time)[..12] == whole[..12]).then_some(time)
}

/// As `ls -l` has it: `Nov  6 08:49`, and `Nov  6  1994` for what is older than half a year.
pub fn ls_time(time: SystemTime, now: SystemTime) -> String {
    let Date {
        year,
        month,
        day,
        hour,
        minute,
        ..
    } = Date::of(time);
    let month = MONTHS[month as usize - 1];
    let is_recent = now
        .duration_since(time)
        .is_ok_and(|age| age < Duration::from_secs(180 * DAY));
    if is_recent {
        format!("{month} {day:2} {hour:02}:{minute:02}")
    } else {
        format!("{month} {day:2}  {year:4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101000000"),
            (784_111_777, "19941106084937"),
            (951_782_399, "20000228235959"),
            (951_782_400, "20000229000000"),
            (951_868_800, "20000301000000"),
            (1_704_067_199, "20231231235959"),
            (4_107_542_399, "21000228235959"),
            (4_107_542_400, "21000301000000"),
            (253_402_300_799, "99991231235959"),
            // The last year that has four digits.
            (253_402_300_800, "99991231235959"),
        ] {
            let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            assert_eq!(time_val(time.unwrap()), expected);
            if seconds <= 253_402_300_799 {
                assert_eq!(parse_time_val(expected), time);
                assert_eq!(parse_time_val(&format!("{expected}.5")), time);
            }
        }
        let before = parse_time_val("20161231235959");
        assert!(before.is_some());
        assert_eq!(parse_time_val("20161231235960"), before);
        for wrong in [
            "",
            "1994110608493",
            "199411060849370",
            "1994110608493x",
            "19941106084937.",
            "19941106084937.x",
            "19690101000000",
            "00000000000000",
            "19940006084937",
            "19941306084937",
            "19940229084937",
            "19941100084937",
            "19941131084937",
            "19941106244937",
            "19941106086037",
            "19941106084961",
            "99999999999999",
            "\u{0661}994110608493",
        ] {
            assert_eq!(parse_time_val(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn old_files_have_their_year_in_a_listing() {
        let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let day = Duration::from_secs(DAY);
        assert_eq!(ls_time(time, time + 100 * day), "Nov  6 08:49");
        assert_eq!(ls_time(time, time + 200 * day), "Nov  6  1994");
        assert_eq!(ls_time(time, time - day), "Nov  6  1994");
    }
}
