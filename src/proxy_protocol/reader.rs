//! Reads a header. Sans-IO.
//!
//! The bytes behind a header belong to TLS or to the session, and must not be received with it. So the reader says
//! how many bytes certainly belong to the header, and gets no more. A header of version 2 takes two or three steps. The
//! line of version 1 has no length: it takes about six, because each field that is still missing has a least length.

use std::io;

use super::header::Header;
use super::{FIXED, LONGEST_V1, LONGEST_V2, SIGNATURE, decode};
use crate::error::Error;

/// What each header of version 1 begins with, and the shortest one.
const PREFIX: &[u8] = b"PROXY ";
const SHORTEST_V1: usize = b"PROXY UNKNOWN\r\n".len();

/// How many bytes of what is no header an error shows.
const SHOWN: usize = 24;

/// How many bytes [`Reader::receive`] asks for at most.
const MOST_WANTED: usize = 512;

/// Reads the header of a connection, and no byte behind it. For a [`Dispatcher`](crate::Dispatcher), and for anything else
/// that receives by itself: a [`Server`](crate::Server) reads headers with
/// [`proxy_protocol`](crate::Server::proxy_protocol).
///
/// It does not know who has connected. Whoever uses it has to check first that the peer is a proxy
/// ([`Network::contains`](super::Network::contains)), and to set a deadline.
///
/// ```
/// use asynchat::proxy_protocol::Reader;
/// # fn main() -> asynchat::Result {
/// let mut stream = &b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 119\r\nQUIT\r\n"[..];
/// let header = Reader::default().receive(|buffer| std::io::Read::read(&mut stream, buffer))?;
/// assert_eq!(header.source().map(|it| it.to_string()).as_deref(), Some("192.0.2.1:40000"));
/// assert_eq!(stream, b"QUIT\r\n");
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Reader {
    received: Vec<u8>,
}

impl Reader {
    /// Receives with `recv`, for example with [`Channel::recv`](crate::Channel::recv), what belongs to the header, and
    /// returns the header when it is complete. The next byte is the first one of TLS or of the protocol.
    ///
    /// # Errors
    /// `WouldBlock` when the header is not complete: call again when there is more. [`handle_read`] may return it with
    /// `?`, which closes nothing. `UnexpectedEof` when the connection has ended before. `InvalidData` when it does not
    /// begin with a header; the [`Error`] in it says why. Others are those of `recv`.
    ///
    /// [`handle_read`]: crate::Dispatcher::handle_read
    pub fn receive(
        &mut self,
        mut recv: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Header> {
        let mut buffer = [0; MOST_WANTED];
        loop {
            let wanted = self.wanted().min(buffer.len());
            let count = recv(buffer.get_mut(..wanted).unwrap_or_default())?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let received = buffer.get(..count).unwrap_or_default();
            let taken = self.take(received);
            let taken = taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if let Some(header) = taken {
                return Ok(header);
            }
            if count < wanted {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    /// Whether nothing was received.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// How many of the bytes that follow belong to the header, at least. Never zero.
    pub fn wanted(&self) -> usize {
        let received = self.received.len();
        match self.received.first() {
            Some(b'\r') if received < FIXED => FIXED - received,
            Some(b'\r') => (FIXED + self.announced()).saturating_sub(received).max(1),
            _ if received < SHORTEST_V1 => SHORTEST_V1 - received,
            _ => least_rest(&self.received)
                .min(LONGEST_V1.saturating_sub(received))
                .max(1),
        }
    }

    /// Takes the bytes that follow, at most as many as are [`wanted`](Reader::wanted). Returns the header if it is
    /// complete.
    ///
    /// # Errors
    /// When what was received is not the beginning of a header. The error says why.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Header>, Error> {
        self.received.extend_from_slice(bytes);
        let received = &self.received[..];
        match received.first() {
            None => Ok(None),
            Some(b'\r') if begins_like(received, SIGNATURE) => self.take_v2(),
            Some(b'P') if begins_like(received, PREFIX) => self.take_v1(),
            Some(_) => {
                let shown = received.get(..SHOWN).unwrap_or(received).escape_ascii();
                Err(Error::new(format!(
                    "the connection begins with \"{shown}\", not with a PROXY header"
                )))
            }
        }
    }

    fn take_v1(&self) -> Result<Option<Header>, Error> {
        let received = &self.received[..];
        let line_ends = received.iter().position(|&byte| byte == b'\n');
        // Section 2.1: neither a CR nor an LF alone ends the line.
        let is_lone = |pair: &[u8]| matches!(pair, [b'\r', byte] if *byte != b'\n');
        let has_lone_cr = received.windows(2).any(is_lone);
        let is_complete = received.ends_with(b"\r\n") && received.len() >= SHORTEST_V1;
        if has_lone_cr || line_ends.is_some_and(|at| !is_complete || at + 1 < received.len()) {
            return Err(Error::new(format!(
                "the line \"{}\" is no PROXY header",
                received.escape_ascii()
            )));
        }
        if is_complete {
            return decode::version_1(received).map(Some);
        }
        if received.len() >= LONGEST_V1 {
            return Err(Error::new(format!(
                "the PROXY header has no line ending in its first {LONGEST_V1} bytes"
            )));
        }
        Ok(None)
    }

    fn take_v2(&self) -> Result<Option<Header>, Error> {
        let received = self.received.len();
        if received < FIXED {
            return Ok(None);
        }
        let length = FIXED + self.announced();
        if length > LONGEST_V2 {
            return Err(Error::new(format!(
                "the PROXY header announces {length} bytes, and the limit is {LONGEST_V2}"
            )));
        }
        if received < length {
            Ok(None)
        } else {
            decode::version_2(&self.received).map(Some)
        }
    }

    /// How many bytes follow the fixed part of a header of version 2.
    fn announced(&self) -> usize {
        match self.received.get(FIXED - 2..FIXED) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]).into(),
            _ => 0,
        }
    }
}

/// Whether the two are equal, as far as there are bytes of both.
fn begins_like(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(a, b)| a == b)
}

/// How many bytes a line of version 1 still has, at least.
fn least_rest(line: &[u8]) -> usize {
    let line_end = match line.last() {
        Some(b'\r') => 1,
        _ => 2,
    };
    let mut fields = line.split(|&byte| byte == b' ');
    // `PROXY`, the protocol, two addresses, two ports.
    let least_address = match fields.nth(1) {
        Some(b"TCP4") => b"0.0.0.0".len(),
        Some(b"TCP6") => b"::".len(),
        _ => return line_end,
    };
    let mut rest = line_end;
    for least in [least_address, least_address, 1, 1] {
        rest += match fields.next() {
            Some(field) => least.saturating_sub(field.len()),
            None => 1 + least,
        };
    }
    rest
}
