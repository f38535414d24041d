//! Messages over TCP, framed in either way of RFC 6587.

use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Eof, Result, Terminator};

use crate::collector::Collector;
use crate::message::LONGEST;

/// The most digits of a count. A larger number is not believed: if it began a line by accident, the
/// messages that follow would be skipped as a part of it.
const DIGITS: usize = 6;

/// A stream of messages, each either counted (`11 <13>a message`) or on a line.
///
/// The first bytes of each message decide its framing. After a message with a wrong count the stream
/// is in sync from the next line end on, at the latest. Without a line end its record deadline closes it,
/// and its sender connects anew.
pub(crate) struct Stream {
    chat: Chat,
    collector: Rc<Collector>,
    framing: Framing,
    /// What has been received of the message, at most its first [`LONGEST`] bytes.
    message: Vec<u8>,
    /// How many bytes of the message were received beyond that.
    left_out: usize,
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
            left_out: 0,
        };
        stream.chat.set_terminator(Terminator::count(1));
        stream
    }

    /// One more byte has been received of a message whose framing is not known yet.
    fn decide(&mut self) {
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

    /// The message is complete, and the next begins.
    fn end(&mut self) {
        if self.left_out > 0 {
            let length = self.message.len() + self.left_out;
            tracing::warn!(length, LONGEST, "a message is too long, and was cut");
        }
        self.collector.collect(&self.message);
        self.message = Vec::new();
        self.left_out = 0;
        self.framing = Framing::Undecided;
        self.chat.set_terminator(Terminator::count(1));
    }
}

/// How a message is framed that begins like this. RFC 6587 section 3.4.1: a count has no leading
/// zero, then comes a space, then the message, and that begins with `<`. All else is a line
/// (section 3.4.2), also one that begins with a digit.
fn framing(head: &[u8]) -> Framing {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let (digits, rest) = head.split_at(head.iter().take_while(|byte| is_digit(byte)).count());
    if digits.len() > DIGITS || !matches!(digits, [b'1'..=b'9', ..]) {
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
        let room = LONGEST.saturating_sub(self.message.len());
        let (chunk, left_out) = chunk.split_at(chunk.len().min(room));
        self.message.extend(chunk);
        self.left_out += left_out.len();
        Ok(())
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        if self.framing == Framing::Undecided {
            self.message.extend(record);
            self.decide();
        } else {
            self.end();
        }
        Ok(())
    }

    fn handle_eof(&mut self, partial: &[u8]) -> Result<Eof> {
        self.collect_incoming_data(partial)?;
        Ok(Eof::CloseWhenDone)
    }

    /// What was received of an unfinished message is written too. Only a last line without its end is
    /// no fault.
    fn handle_close(&mut self, why: &Close) {
        if self.message.is_empty() {
            return;
        }
        let received = self.message.len() + self.left_out;
        match (self.framing, why) {
            (Framing::Counted(expected), _) => {
                tracing::warn!(received, expected, %why, "a message is not complete");
            }
            (_, Close::Eof) => {}
            _ => tracing::warn!(received, %why, "a message is not complete"),
        }
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_framing() {
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
