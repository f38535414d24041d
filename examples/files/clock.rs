//! The time as text, which is made once a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::date::http_date;

pub struct Clock {
    now: fn() -> SystemTime,
    second: u64,
    date: String,
    log_date: String,
}

impl Clock {
    pub fn new(now: fn() -> SystemTime) -> Clock {
        Clock {
            now,
            second: u64::MAX,
            date: String::new(),
            log_date: String::new(),
        }
    }

    pub fn now(&self) -> SystemTime {
        (self.now)()
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
    pub fn date(&mut self) -> &str {
        self.update();
        &self.date
    }

    /// `06/Nov/1994:08:49:37 +0000`, as logs have it.
    pub fn log_date(&mut self) -> &str {
        self.update();
        &self.log_date
    }

    fn update(&mut self) {
        let since = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second == since.as_secs() {
            return;
        }
        self.second = since.as_secs();
        self.date = http_date(UNIX_EPOCH + Duration::from_secs(self.second));
        self.log_date = match self.date.split(' ').collect::<Vec<_>>()[..] {
            [_, day, month, year, time, _] => format!("{day}/{month}/{year}:{time} +0000"),
            _ => String::new(),
        };
    }
}
