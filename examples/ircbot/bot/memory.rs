//! The state that remains when a connection ends: when the bot was started, and when each user was last
//! seen.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::message::folded;

/// How many nicknames are remembered, so that users cannot fill the memory.
const MAX_NICKS: usize = 10_000;

pub struct Memory {
    started: Instant,
    seen: HashMap<String, Sighting>,
    /// Why the server refuses the bot permanently.
    pub refusal: Option<String>,
}

struct Sighting {
    nick: String,
    what: String,
    when: Instant,
}

impl Memory {
    pub fn new() -> Self {
        Memory {
            started: Instant::now(),
            seen: HashMap::new(),
            refusal: None,
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Records that a user did something.
    pub fn record(&mut self, nick: &str, what: String) {
        let key = folded(nick);
        if self.seen.len() >= MAX_NICKS && !self.seen.contains_key(&key) {
            self.forget_half();
        }
        let sighting = Sighting {
            nick: nick.to_owned(),
            what,
            when: Instant::now(),
        };
        self.seen.insert(key, sighting);
    }

    /// When this user was last seen, as a sentence.
    pub fn last_seen(&self, nick: &str) -> String {
        match self.seen.get(&folded(nick)) {
            Some(sighting) => {
                let ago = words(sighting.when.elapsed());
                format!("{} was {} {ago} ago", sighting.nick, sighting.what)
            }
            None => format!("I have not seen {nick}"),
        }
    }

    /// Removes the half of the users that were seen longest ago.
    fn forget_half(&mut self) {
        let mut times: Vec<Instant> = self.seen.values().map(|sighting| sighting.when).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.seen.retain(|_, sighting| sighting.when > median);
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

/// A duration in its two largest units: `2 d 3 h`, `4 min 5 s`.
pub fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let parts: Vec<String> = units[first..]
        .iter()
        .take(2)
        .map(|(n, unit)| format!("{n} {unit}"))
        .collect();
    parts.join(" ")
}
