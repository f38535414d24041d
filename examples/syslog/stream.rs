//! Receives messages over TCP, with both framings of RFC 6587.

use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Eof, Result, Terminator};

use crate::collector::Collector;
use crate::message::MAX_MESSAGE;

/// The maximum number of digits in a count. A line that begins with a larger number is not a counted message:
/// otherwise many messages after it would be taken as a part of it.
const MAX_DIGITS: usize = 6;

/// A stream of messages. Each is either counted (`11 <13>a message`) or a line.
///
/// The first bytes of each message determine its framing. After a message with a wrong count, the stream is
/// in sync again at the next line end or before. If no line end arrives, the record deadline closes the
/// connection, and the sender reconnects.
pub(crate) struct Stream {
    chat: Chat,
    collector: Rc<Collector>,
    framing: Framing,
    /// The received part of the message, at most [`MAX_MESSAGE`] bytes.
    message: Vec<u8>,
    /// How many bytes of the message were received and discarded beyond that.
    excess: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Undecided,
    Counted(usize),
    Line,
}

impl Stream {
    pub(crate) fn new(chat: Chat, collector: Rc<Collector>) -> Self {
        let stream = Stream {
            chat,
            collector,
            framing: Framing::Undecided,
            message: Vec::new(),
            excess: 0,
        };
        stream.chat.set_terminator(Terminator::count(1));
        stream
    }

    /// Determines the framing of a message after each of its first bytes.
    fn determine_framing(&mut self) {
        if matches!(*self.message, [b'\r' | b'\n']) {
            // Blank lines between messages are skipped.
            self.message.clear();
            return;
        }
        self.framing = framing(&self.message);
        match self.framing {
            Framing::Undecided => {}
            Framing::Counted(count) => {
                self.message.drain(..self.message.len() - 1);
                let rest = count as u64 - 1;
                self.chat.set_terminator(Terminator::count(rest).streamed());
            }
            Framing::Line if self.message.ends_with(b"\n") => self.end(),
            Framing::Line => self.chat.set_terminator(Terminator::line().streamed()),
        }
    }

    /// Ends the message, and prepares for the next.
    fn end(&mut self) {
        if self.excess > 0 {
            let length = self.message.len() + self.excess;
            tracing::warn!(
                length,
                MAX_MESSAGE,
                "a message is too long and was truncated"
            );
        }
        self.collector.collect(&self.message);
        self.message = Vec::new();
        self.excess = 0;
        self.framing = Framing::Undecided;
        self.chat.set_terminator(Terminator::count(1));
    }
}

/// The framing of a message that begins with these bytes. A counted message begins with a number without a
/// leading zero, a space, and the `<` of the message (RFC 6587 section 3.4.1). Any other text is a line
/// (section 3.4.2), even if it begins with a digit.
fn framing(head: &[u8]) -> Framing {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let (digits, rest) = head.split_at(head.iter().take_while(|byte| is_digit(byte)).count());
    if digits.len() > MAX_DIGITS || !matches!(digits, [b'1'..=b'9', ..]) {
        return Framing::Line;
    }
    match rest {
        b"" | b" " => Framing::Undecided,
        b" <" => Framing::Counted(
            digits
                .iter()
                .fold(0, |count, digit| count * 10 + usize::from(digit - b'0')),
        ),
        _ => Framing::Line,
    }
}

impl AsyncChat for Stream {
    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        let room = MAX_MESSAGE.saturating_sub(self.message.len());
        let (chunk, excess) = chunk.split_at(chunk.len().min(room));
        self.message.extend(chunk);
        self.excess += excess.len();
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        if self.framing == Framing::Undecided {
            self.message.extend(record);
            self.determine_framing();
        } else {
            self.end();
        }
        Ok(())
    }

    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        self.collect_incoming_data(partial)?;
        Ok(Eof::CloseWhenDone)
    }

    /// Writes the received part of an incomplete message. A last line without a line end is complete.
    fn handle_close(&mut self, why: &Close) {
        if self.message.is_empty() {
            return;
        }
        let received = self.message.len() + self.excess;
        match (self.framing, why) {
            (Framing::Counted(expected), _) => {
                tracing::warn!(received, expected, %why, "a message is incomplete");
            }
            (_, Close::Eof) => {}
            _ => tracing::warn!(received, %why, "a message is incomplete"),
        }
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_determine_the_framing() {
        for (head, expected) in [
            (b"1".as_slice(), Framing::Undecided),
            (b"12", Framing::Undecided),
            (b"12 ", Framing::Undecided),
            (b"12 <", Framing::Counted(12)),
            (b"999999 <", Framing::Counted(999_999)),
            (b"1000000", Framing::Line),
            (b"12 x", Framing::Line),
            (b"12x", Framing::Line),
            (b"12\n", Framing::Line),
            (b"0", Framing::Line),
            (b"<", Framing::Line),
            (b"x", Framing::Line),
        ] {
            assert_eq!(framing(head), expected, "{}", head.escape_ascii());
        }
    }
}
