//! Whether the first message of a client is complete.
//!
//! rustls could be asked each time that something arrives. But it would keep a copy of what has arrived, for each
//! connection whose message never ends.

use super::run::record_length;

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

/// What has arrived of the message.
pub(super) enum Progress {
    Incomplete,
    /// It is complete, or has an error that rustls is to report.
    Complete,
    /// A record of another type, which begins with this byte.
    Other(u8),
}

impl Hello {
    /// Looks at what is new in `input`, which begins with the message.
    pub(super) fn progress(&mut self, input: &[u8]) -> Progress {
        loop {
            let rest = input.get(self.next..).unwrap_or_default();
            if let Some(first) = rest.first().filter(|first| **first != HANDSHAKE) {
                return Progress::Other(*first);
            }
            let Some(end) = record_length(rest) else {
                return Progress::Incomplete;
            };
            let Some(content) = rest.get(5..end) else {
                return Progress::Incomplete;
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
                return Progress::Complete;
            }
        }
    }
}
