//! Limits the rate of the output: a burst of lines, then one line in each interval.
//!
//! RFC 1459 section 8.10: a client may be ten seconds ahead, and each message counts as two seconds. A server
//! delays a faster client, or disconnects it ("Excess Flood").

use std::collections::VecDeque;
use std::time::Duration;

use asynchat::{Chat, TimerId};

use super::message::line;

const BURST: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(2);

/// How many lines may be queued. Users who request more are flooding the bot, and further lines are
/// discarded.
const MAX_QUEUED: usize = 50;

/// A queue of lines with a rate limit.
pub struct Outbox {
    chat: Chat,
    /// How many lines may be sent now. Each tick of the timer adds one.
    allowance: u32,
    queue: VecDeque<String>,
    timer: Option<TimerId>,
}

impl Outbox {
    pub fn new(chat: Chat) -> Self {
        Outbox {
            chat,
            allowance: BURST,
            queue: VecDeque::new(),
            timer: None,
        }
    }

    /// Queues a line.
    pub fn send(&mut self, text: &str) {
        if self.queue.len() >= MAX_QUEUED {
            tracing::warn!(text, "the queue is full: a line was discarded");
            return;
        }
        self.queue.push_back(line(text));
        self.flush();
    }

    /// Sends a line at once, for a PONG: a server disconnects a client whose PONG is late.
    pub fn send_now(&mut self, text: &str) {
        self.queue.push_front(line(text));
        self.allowance += 1;
        self.flush();
    }

    /// Handles the outbox's timer. Returns false if `timer` is another one.
    pub fn tick(&mut self, timer: TimerId) -> bool {
        if self.timer != Some(timer) {
            return false;
        }
        self.timer = None;
        self.allowance += 1;
        self.flush();
        true
    }

    fn flush(&mut self) {
        while self.allowance > 0
            && let Some(line) = self.queue.pop_front()
        {
            self.allowance -= 1;
            tracing::debug!("> {}", line.trim_end());
            self.chat.push(line);
        }
        if self.allowance < BURST && self.timer.is_none() {
            self.timer = Some(self.chat.call_later(INTERVAL));
        }
    }
}
