//! Output at a pace that servers put up with: a burst, and then a line each so often.
//!
//! RFC 1459 section 8.10: a client may be ten seconds ahead, and each message costs two. What is
//! faster is held up by the server, or thrown out ("Excess Flood").

use std::collections::VecDeque;
use std::time::Duration;

use asynchat::{Chat, TimerId};

use super::message::line;

const BURST: u32 = 5;
const EVERY: Duration = Duration::from_secs(2);

/// How many lines may wait. To be asked for more than that is to be flooded; the rest is not answered.
const WAITING: usize = 50;

/// The lines that wait for their time.
pub struct Outbox {
    chat: Chat,
    /// How many lines may go at once. One comes back with each tick of the timer.
    left: u32,
    waiting: VecDeque<String>,
    timer: Option<TimerId>,
}

impl Outbox {
    pub fn new(chat: Chat) -> Self {
        Outbox {
            chat,
            left: BURST,
            waiting: VecDeque::new(),
            timer: None,
        }
    }

    /// Sends a line in its turn.
    pub fn say(&mut self, text: &str) {
        if self.waiting.len() >= WAITING {
            tracing::warn!(text, "too much to say");
            return;
        }
        self.waiting.push_back(line(text));
        self.send();
    }

    /// Sends a line at once: a PONG that waits may be the end.
    pub fn say_now(&mut self, text: &str) {
        self.waiting.push_front(line(text));
        self.left += 1;
        self.send();
    }

    /// Whether the timer that has fired is the one of the pace.
    pub fn tick(&mut self, timer: TimerId) -> bool {
        if self.timer != Some(timer) {
            return false;
        }
        self.timer = None;
        self.left += 1;
        self.send();
        true
    }

    fn send(&mut self) {
        while self.left > 0
            && let Some(line) = self.waiting.pop_front()
        {
            self.left -= 1;
            tracing::debug!("> {}", line.trim_end());
            self.chat.push(line);
        }
        if self.left < BURST && self.timer.is_none() {
            self.timer = Some(self.chat.call_later(EVERY));
        }
    }
}
