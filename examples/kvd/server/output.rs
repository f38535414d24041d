//! The output that waits for a client, and its limits: `client-output-buffer-limit`.
//!
//! A client that has subscribed gets messages that it has not asked for, so it has a limit by default: without one, a
//! client that does not read would use up the memory. The replies to its requests do not count for it. A normal client
//! has no limit by default: while much output waits for it, its next request waits. If it has one, its replies count,
//! but for those that are made while they are sent. A client that has got invalidations has the limits of a subscriber.
//!
//! These limits are here and not in those of the library, which count a reply that is pushed in a later turn as if
//! others had caused it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asynchat::Chat;

use super::client::Client;
use super::config::memory;
use crate::resp::message::{Encoded, Messages};

/// Less output than this has no limit, and CLIENT LIST does not show it. In Redis it is the buffer that each client has.
const MUCH_OUTPUT: usize = 16 * 1024;

/// Replies that are pushed together and have more bytes than this do not count for the limits of messages. Shorter ones
/// are few: while so much is queued, the next request waits.
const LONG_REPLIES: usize = 256 * 1024;

/// So often the output above a soft limit is looked at.
const SOFT_INTERVAL: Duration = Duration::from_secs(1);

/// The limits of a class of clients, in bytes. 0 is for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    hard: usize,
    /// The client may exceed this for so many seconds.
    soft: usize,
    seconds: u64,
}

impl OutputLimit {
    /// The hard limit.
    pub fn most(self) -> usize {
        match self.hard {
            0 => usize::MAX,
            hard => hard,
        }
    }

    fn has_soft_below(self, output: usize) -> bool {
        self.soft > 0 && output > self.soft
    }
}

impl fmt::Display for OutputLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.hard, self.soft, self.seconds)
    }
}

/// The limits of all classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputLimits {
    normal: OutputLimit,
    /// There are no such clients.
    replica: OutputLimit,
    pub pubsub: OutputLimit,
}

impl Default for OutputLimits {
    fn default() -> Self {
        OutputLimits {
            normal: OutputLimit::default(),
            replica: OutputLimit::default(),
            pubsub: OutputLimit {
                hard: 32 << 20,
                ..OutputLimit::default()
            },
        }
    }
}

impl fmt::Display for OutputLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutputLimits {
            normal,
            replica,
            pubsub,
        } = self;
        write!(f, "normal {normal} slave {replica} pubsub {pubsub}")
    }
}

impl OutputLimits {
    /// Sets those of the classes that the text names: `class hard soft seconds`, as often as there are classes.
    pub fn set(&mut self, text: &str) -> Result<(), &'static str> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.");
        }
        for limit in words.chunks(4) {
            let class = match limit[0].to_ascii_lowercase().as_str() {
                "normal" => &mut self.normal,
                "slave" | "replica" => &mut self.replica,
                "pubsub" => &mut self.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration."),
            };
            let numbers = (memory(limit[1]), memory(limit[2]), limit[3].parse::<u32>());
            let (Some(hard), Some(soft), Ok(seconds)) = numbers else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
                );
            };
            *class = OutputLimit {
                hard,
                soft,
                seconds: seconds.into(),
            };
        }
        Ok(())
    }
}

impl Client {
    /// Notes replies that were just pushed. Before them, `before` bytes were queued.
    #[inline]
    pub fn note_replies(self: &Arc<Self>, chat: &Chat, before: usize) {
        let added = chat.queued().saturating_sub(before);
        if added > LONG_REPLIES {
            self.replies.fetch_add(added);
            let this = Arc::clone(self);
            chat.push_hook(move || {
                this.replies.fetch_sub(added);
            });
        }
        self.note_output(chat, 0);
    }

    /// Notes how much output waits, for other workers, and ends the client if it exceeds a limit. What was just pushed
    /// does not count if it is a message, of `message` bytes: one alone has no limit.
    #[inline]
    pub fn note_output(self: &Arc<Self>, chat: &Chat, message: usize) {
        let queued = chat.queued();
        if queued.max(self.promised.load()) > MUCH_OUTPUT {
            self.note_much_output(chat, queued, message);
        }
    }

    #[cold]
    fn note_much_output(self: &Arc<Self>, chat: &Chat, queued: usize, message: usize) {
        if queued > MUCH_OUTPUT && self.output.swap(queued) == 0 {
            let this = Arc::clone(self);
            chat.push_hook(move || this.output.store(0));
        }
        let limit = self.output_limit();
        let output = self.limited_output(queued.saturating_sub(message));
        if output > limit.most() {
            self.end_for_output(chat, output);
        } else if limit.has_soft_below(output) && !self.exceeds_soft_limit.swap(true) {
            self.watch_output(chat, asynchat::now());
        }
    }

    /// Adds a message of the client to itself, which follows the reply of EXEC. Its limit is that of a message that is
    /// pushed at once: if what waits before it exceeds that, the client is ended, and these messages are dropped.
    pub fn deliver_behind(&self, chat: &Chat, behind: &mut Messages, message: &Encoded) {
        let output = self.limited_output(chat.queued()) + behind.size();
        if output > self.output_limit().most() {
            behind.take();
            return self.end_for_output(chat, output);
        }
        behind.push(message.clone());
    }

    /// Ends the client if it would exceed its hard limit with a reply of so many bytes, which is being made. Returns
    /// whether it did. The replies of a subscriber have no limit.
    pub fn ends_for_reply(&self, chat: &Chat, reply: usize) -> bool {
        let output = self.limited_output(chat.queued()) + reply;
        let exceeds = !self.gets_messages() && output > self.output_limit().most();
        if exceeds {
            self.end_for_output(chat, output);
        }
        exceeds
    }

    fn output_limit(&self) -> OutputLimit {
        let limits = self.output_limits.load();
        if self.gets_messages() {
            limits.pubsub
        } else {
            limits.normal
        }
    }

    /// Whether it gets what answers none of its requests.
    fn gets_messages(&self) -> bool {
        self.subscription_count.load() > 0 || self.gets_invalidations.load()
    }

    /// How much of the output has a limit.
    fn limited_output(&self, queued: usize) -> usize {
        let promised = self.promised.load();
        if self.gets_messages() {
            queued.saturating_sub(self.replies.load() + promised)
        } else {
            queued.max(promised)
        }
    }

    /// Ends the client when its output has exceeded the soft limit for its time, unless it falls below before.
    fn watch_output(self: &Arc<Self>, chat: &Chat, since: Instant) {
        let (this, chat) = (Arc::clone(self), chat.clone());
        asynchat::call_later(SOFT_INTERVAL, move || {
            let limit = this.output_limit();
            let output = this.limited_output(chat.queued());
            if !limit.has_soft_below(output) {
                return this.exceeds_soft_limit.store(false);
            }
            let elapsed = asynchat::now().saturating_duration_since(since);
            if elapsed > Duration::from_secs(limit.seconds) {
                this.end_for_output(&chat, output);
            } else {
                this.watch_output(&chat, since);
            }
        });
    }

    /// Ends the connection at once.
    fn end_for_output(&self, chat: &Chat, output: usize) {
        // The flag first: another worker may have an element for the client.
        let was_ended = self.closes.swap(true);
        chat.abort();
        if was_ended {
            return;
        }
        let (client, addr) = (self.id, self.addr.clone());
        // Logging may block, and nobody is to wait for that.
        asynchat::call_soon(move || {
            tracing::warn!(
                client,
                addr,
                output,
                "a client has exceeded client-output-buffer-limit"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_own_limits() {
        let mut limits = OutputLimits::default();
        assert_eq!(
            limits.to_string(),
            "normal 0 0 0 slave 0 0 0 pubsub 33554432 0 0"
        );
        assert!(limits.set("pubsub 8mb 4mb 60 normal 1k 0 0").is_ok());
        assert!(limits.set("REPLICA 3 2 1").is_ok());
        assert_eq!(
            limits.to_string(),
            "normal 1000 0 0 slave 3 2 1 pubsub 8388608 4194304 60"
        );
        for text in [
            "",
            "normal 1 0",
            "other 1 0 0",
            "normal x 0 0",
            "normal 0 0 -1",
        ] {
            assert!(limits.set(text).is_err(), "{text}");
        }
    }
}
