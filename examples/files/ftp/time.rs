//! Times as FTP writes them, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

struct Date {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    fn of(time: SystemTime) -> Date {
        // A year has four digits.
        const LAST: u64 = 253_402_300_799;
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs().min(LAST);
        // Years begin in March here, so that the day of a leap year is the last one. An era has 400 years.
        let days = seconds / DAY + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        Date {
            year: era * 400 + year + u64::from(month >= 10),
            month: if month < 10 { month + 3 } else { month - 9 },
            day: day_of_year - (153 * month + 2) / 5 + 1,
            hour: seconds % DAY / 3600,
            minute: seconds % 3600 / 60,
            second: seconds % 60,
        }
    }
}

/// `19941106084937` (RFC 3659 section 2.3).
pub fn time_val(time: SystemTime) -> String {
    let Date {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = Date::of(time);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// As `ls -l` has it: `Nov  6 08:49`, and `Nov  6  1994` for what is older than half a year.
pub fn ls_time(time: SystemTime, now: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let Date {
        year,
        month,
        day,
        hour,
        minute,
        ..
    } = Date::of(time);
    let month = MONTHS[(month - 1) as usize % 12];
    let is_recent = now
        .duration_since(time)
        .is_ok_and(|age| age < Duration::from_secs(180 * DAY));
    match is_recent {
        true => format!("{month} {day:2} {hour:02}:{minute:02}"),
        false => format!("{month} {day:2}  {year:4}"),
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
