//! What the loops written by hand have in common: bytes to lines, and the replies.

use std::io::{self, ErrorKind, Write};

use memchr::memchr_iter;

/// The state of one connection. It looks at each byte once, and copies a line only to its reply,
/// unless the line was cut.
#[derive(Default)]
pub struct Echo {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    replies: Vec<u8>,
    /// How much of the replies is sent.
    sent: usize,
}

impl Echo {
    /// Replies to every line that ends in this input.
    pub fn receive(&mut self, input: &[u8]) -> io::Result<()> {
        let mut start = 0;
        for end in memchr_iter(b'\n', input) {
            let before = match end {
                0 => self.begun.last(),
                _ => input.get(end - 1),
            };
            if before != Some(&b'\r') {
                continue;
            }
            let mut line = &input[start..=end];
            if !self.begun.is_empty() {
                self.begun.extend_from_slice(line);
                line = &self.begun;
            }
            found_line(&mut self.replies, &line[..line.len() - 2]);
            self.begun.clear();
            start = end + 1;
        }
        self.begun.extend_from_slice(&input[start..]);
        if self.begun.len() > super::MAX_LINE {
            return Err(io::Error::new(ErrorKind::InvalidData, "a line too long"));
        }
        Ok(())
    }

    /// Sends the replies. False if the socket did not take all of them.
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

/// What a protocol would do with a line.
fn found_line(replies: &mut Vec<u8>, line: &[u8]) {
    replies.extend_from_slice(line);
    replies.extend_from_slice(b"\r\n");
}
