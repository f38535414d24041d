//! The chunked transfer coding (RFC 9112 section 7.1).

use asynchat::Chat;

use super::fields::{is_token, is_value};
use super::status::Rejected;

/// The longest line before a chunk: its length, and extensions, which have no use and are ignored.
pub const LONGEST_LINE: u64 = 256;

/// How many bytes of such lines and of trailer fields a body may have, beyond 16 for each chunk and twice its length.
/// Otherwise a body of tiny chunks with long extensions takes much work for nothing (CVE-2023-39326, Go has this limit).
pub const MOST_OVERHEAD: u64 = 16 << 10;

/// The longest trailer field.
pub const LONGEST_TRAILER: u64 = 8 << 10;

/// The digits of a length, which are enough for any `u64`.
const MOST_DIGITS: usize = 16;

/// The end of a body without trailer fields.
pub const LAST_CHUNK: &str = "0\r\n\r\n";

/// Pushes a piece of a body as one chunk. An empty piece is none: it would end the body.
///
/// `asynchat::ChunkedProducer` does the same for the output of a producer.
pub fn push_chunk(chat: &Chat, piece: &[u8]) {
    if piece.is_empty() {
        return;
    }
    write!(chat, "{:x}\r\n", piece.len());
    chat.push_slices(&[piece, b"\r\n"]);
}

/// The length that the line before a chunk has, without its CRLF. 0 is the last chunk.
///
/// The digits are at the start of the line, without a sign, `0x` or whitespace. Extensions are separated by a
/// semicolon and have no control characters, not even a bare LF (CVE-2025-55315).
pub fn length(line: &[u8]) -> Result<u64, Rejected> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
    let (digits, rest) = line.split_at(end.unwrap_or(line.len()));
    let has_extensions = || rest.trim_ascii_start().starts_with(b";") && is_value(rest);
    if !(1..=MOST_DIGITS).contains(&digits.len()) || !(rest.is_empty() || has_extensions()) {
        return Err(Rejected::bad("the length of a chunk is invalid"));
    }
    let value = |byte: &u8| u64::from((*byte as char).to_digit(16).unwrap_or_default());
    Ok(digits.iter().fold(0, |sum, digit| sum << 4 | value(digit)))
}

/// A line behind the last chunk, without its CRLF.
pub fn check_trailer(line: &[u8]) -> Result<(), Rejected> {
    let colon = memchr::memchr(b':', line).filter(|&colon| is_token(&line[..colon]));
    match colon {
        Some(colon) if is_value(&line[colon..]) => Ok(()),
        _ => Err(Rejected::bad("a trailer field is invalid")),
    }
}
