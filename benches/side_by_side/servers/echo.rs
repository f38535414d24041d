//! The code that the hand-written loops share: it splits the input into lines and queues the replies.

use std::io::{self, ErrorKind, Write};

use memchr::memchr_iter;

/// The state of one connection. It examines each byte once. It copies a line only to its reply, unless the
/// line arrives in parts.
#[derive(Default)]
pub struct Echo {
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    replies: Vec<u8>,
    /// How many bytes of the replies have been sent.
    sent: usize,
}

impl Echo {
    /// Replies to every line that ends in this input.
    pub fn receive(&mut self, input: &[u8]) -> io::Result<()> {
        let mut start = 0;
        for end in memchr_iter(b'\n', input) {
            let before = match end {
                0 => self.partial.last(),
                _ => input.get(end - 1),
            };
            if before != Some(&b'\r') {
                continue;
            }
            let mut line = &input[start..=end];
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(line);
                line = &self.partial;
            }
            found_line(&mut self.replies, &line[..line.len() - 2]);
            self.partial.clear();
            start = end + 1;
        }
        self.partial.extend_from_slice(&input[start..]);
        if self.partial.len() > super::MAX_LINE {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the line is too long",
            ));
        }
        Ok(())
    }

    /// Sends the replies. Returns false if the socket did not accept all of them.
    pub fn send(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.sent < self.replies.len() {
            match socket.write(&self.replies[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.replies.clear();
        self.sent = 0;
        Ok(true)
    }
}

/// Queues the reply to a line. A protocol would handle the line here.
fn found_line(replies: &mut Vec<u8>, line: &[u8]) {
    replies.extend_from_slice(line);
    replies.extend_from_slice(b"\r\n");
}
