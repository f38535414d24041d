//! Dates of the calendar, in UTC, and as HTTP writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::digits::two_digits;

pub const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

pub const DAY: u64 = 24 * 60 * 60;

pub struct Date {
    pub year: u64,
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    /// From 0 for Sunday.
    pub weekday: u64,
}

impl Date {
    /// The date of a time from 1970 to 9999, or the nearest one.
    pub fn of(time: SystemTime) -> Date {
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
            // The first day of 1970 was a Thursday.
            weekday: (seconds / DAY + 4) % 7,
        }
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7). Each reply has two, and `core::fmt` takes 1,300 instructions
/// for one.
pub fn http_date(time: SystemTime) -> String {
    let date = Date::of(time);
    let mut text = String::with_capacity(29);
    text.extend([
        WEEKDAYS[date.weekday as usize],
        ", ",
        two_digits(date.day),
        " ",
        MONTHS[date.month as usize - 1],
        " ",
        two_digits(date.year / 100),
        two_digits(date.year % 100),
        " ",
        two_digits(date.hour),
        ":",
        two_digits(date.minute),
        ":",
        two_digits(date.second),
        " GMT",
    ]);
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_httpdate() {
        // Each day of eight years, with another time of the day each, and of the years around 2100, which is no leap year.
        let days = (0..8 * 366).chain(47_100..47_900).chain([2_932_896]);
        for day in days {
            let time = UNIX_EPOCH + Duration::from_secs(day * DAY + day * 7919 % DAY);
            assert_eq!(http_date(time), httpdate::fmt_http_date(time));
        }
        let late = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        assert_eq!(http_date(late), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
