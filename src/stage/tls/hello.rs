//! Whether the first message of a client is complete.
//!
//! rustls could be asked each time that something arrives. But it would keep a copy of what has arrived, for each
//! connection whose message never ends.

use super::record_length;

/// The type of a record with a handshake message (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// Follows the records of the message. The work is linear in the bytes, however they arrive.
#[derive(Default)]
pub(super) struct Hello {
    /// Where the next record begins.
    next: usize,
    /// The first bytes of the message: its type, and its length in three bytes.
    header: [u8; 4],
    /// How many bytes of the message are in complete records.
    length: usize,
}

impl Hello {
    /// Whether the message, with which `input` begins, is complete, or has an error that rustls is to report.
    pub(super) fn is_complete(&mut self, input: &[u8]) -> bool {
        loop {
            let rest = input.get(self.next..).unwrap_or_default();
            if rest.first().is_some_and(|first| *first != HANDSHAKE) {
                return true;
            }
            let Some(end) = record_length(rest) else {
                return false;
            };
            let Some(content) = rest.get(5..end) else {
                return false;
            };
            let header = self.header.iter_mut().skip(self.length);
            for (to, from) in header.zip(content) {
                *to = *from;
            }
            self.length += content.len();
            self.next += end;
            let [_, high, middle, low] = self.header;
            let announced = 4 + u32::from_be_bytes([0, high, middle, low]) as usize;
            // rustls refuses a record without content.
            if content.is_empty() || (self.length >= 4 && self.length >= announced) {
                return true;
            }
        }
    }
}
