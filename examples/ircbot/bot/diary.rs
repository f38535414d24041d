//! What outlives a connection: when the bot was started, and who was seen when.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::message::folded;

/// How many are remembered. A channel full of strangers must not fill the memory.
const MOST: usize = 10_000;

pub struct Diary {
    started: Instant,
    seen: HashMap<String, Sight>,
    /// Why the server does not want it, ever.
    pub unwelcome: Option<String>,
}

struct Sight {
    nick: String,
    what: String,
    when: Instant,
}

impl Diary {
    pub fn new() -> Self {
        Diary {
            started: Instant::now(),
            seen: HashMap::new(),
            unwelcome: None,
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Somebody did something.
    pub fn note(&mut self, nick: &str, what: String) {
        let key = folded(nick);
        if self.seen.len() >= MOST && !self.seen.contains_key(&key) {
            self.forget_half();
        }
        let sight = Sight {
            nick: nick.to_owned(),
            what,
            when: Instant::now(),
        };
        self.seen.insert(key, sight);
    }

    /// When this one was seen last, in words.
    pub fn recall(&self, nick: &str) -> String {
        match self.seen.get(&folded(nick)) {
            Some(sight) => {
                let ago = words(sight.when.elapsed());
                format!("{} was {} {ago} ago", sight.nick, sight.what)
            }
            None => format!("I have not seen {nick}"),
        }
    }

    /// The half that was seen longest ago.
    fn forget_half(&mut self) {
        let mut times: Vec<Instant> = self.seen.values().map(|sight| sight.when).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.seen.retain(|_, sight| sight.when > median);
    }
}

impl Default for Diary {
    fn default() -> Self {
        Diary::new()
    }
}

/// `2 d 3 h`, `4 min 5 s`: the two largest units.
pub fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let said: Vec<String> = units[first..]
        .iter()
        .take(2)
        .map(|(n, unit)| format!("{n} {unit}"))
        .collect();
    said.join(" ")
}
