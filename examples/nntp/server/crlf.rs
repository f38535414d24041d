//! The form of text in NNTP: CR and LF occur only as CRLF at the end of a line,
//! and NUL does not occur (RFC 3977, section 3.1.1; RFC 5536, section 2.2).
//!
//! Many clients also end a line at a bare LF, some at a bare CR or a NUL. An
//! article with such a *stray* octet could forge header fields, replies and
//! articles for them. So text from a client is refused if it has a stray octet
//! ([`Check`]), and text from other sources is cleaned ([`Cleaned`]).

use std::io;

use asynchat::{More, Producer};
use bytes::{Bytes, BytesMut};

/// Checks text that arrives in pieces of any size.
#[derive(Default)]
pub struct Check {
    after_cr: bool,
}

impl Check {
    /// Checks the next piece. The error is a description for the client.
    pub fn piece(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        let from = match (self.after_cr, piece) {
            (_, []) => return Ok(()),
            (true, [b'\n', ..]) => 1,
            (true, _) => return Err("the article has a bare CR"),
            (false, _) => 0,
        };
        self.after_cr = piece.ends_with(b"\r");
        match stray(piece, from).map(|at| piece[at]) {
            None => Ok(()),
            Some(b'\r') => Err("the article has a bare CR"),
            Some(b'\n') => Err("the article has a bare LF"),
            Some(_) => Err("the article has a NUL"),
        }
    }
}

/// Replaces each stray octet by a space. The length does not change.
pub fn clean(text: &mut [u8]) {
    clean_from(text, 0);
    if let [.., last @ b'\r'] = text {
        *last = b' ';
    }
}

/// Cleans the text, except a CR at its end, which an LF may follow.
fn clean_from(text: &mut [u8], mut from: usize) {
    while let Some(at) = stray(text, from) {
        text[at] = b' ';
        from = at + 1;
    }
}

/// The position of the first stray octet at or after `from`. A CR at the end of
/// the text does not count, because an LF may follow.
fn stray(text: &[u8], from: usize) -> Option<usize> {
    memchr::memchr3_iter(b'\r', b'\n', 0, &text[from..])
        .map(|at| from + at)
        .find(|&at| match text[at] {
            b'\r' => text.get(at + 1).is_some_and(|&next| next != b'\n'),
            b'\n' => at == 0 || text[at - 1] != b'\r',
            _ => true,
        })
}

/// A producer whose text is cleaned. A clean chunk is passed on without a copy.
pub struct Cleaned<P> {
    producer: P,
    /// The last chunk ended with a CR, which is prepended to the next chunk.
    after_cr: bool,
}

impl<P: Producer> Cleaned<P> {
    pub fn new(producer: P) -> Cleaned<P> {
        Cleaned {
            producer,
            after_cr: false,
        }
    }

    /// Cleans the next chunk. The result is empty if the chunk is a single CR.
    fn next(&mut self, mut chunk: Bytes) -> Bytes {
        if chunk.is_empty() {
            return chunk;
        }
        let after_cr = std::mem::replace(&mut self.after_cr, chunk.ends_with(b"\r"));
        if self.after_cr {
            chunk.truncate(chunk.len() - 1);
        }
        // If two CRs end the chunk, the first one is stray.
        let doubled = self.after_cr && chunk.ends_with(b"\r");
        if !after_cr && !doubled && stray(&chunk, 0).is_none() {
            return chunk;
        }
        let mut text = BytesMut::with_capacity(chunk.len() + 1);
        if after_cr {
            text.extend_from_slice(b"\r");
        }
        text.extend_from_slice(&chunk);
        if self.after_cr {
            clean(&mut text);
        } else {
            clean_from(&mut text, 0);
        }
        text.freeze()
    }
}

impl<P: Producer> Producer for Cleaned<P> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        loop {
            match self.producer.more(budget)? {
                More::Chunk(chunk) => {
                    let text = self.next(chunk);
                    // An empty chunk would end this turn's output.
                    if !text.is_empty() {
                        return Ok(More::Chunk(text));
                    }
                }
                More::Done if std::mem::take(&mut self.after_cr) => {
                    return Ok(More::Chunk(Bytes::from_static(b" ")));
                }
                other => return Ok(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use asynchat::IterProducer;

    use super::*;

    /// All texts of `length` octets over an alphabet of CR, LF, NUL and one letter.
    fn texts(length: u32) -> impl Iterator<Item = Vec<u8>> {
        let octets = b"\r\n\0a";
        (0..4_usize.pow(length)).map(move |mut n| {
            let next = |_| {
                let octet = octets[n % 4];
                n /= 4;
                octet
            };
            (0..length).map(next).collect()
        })
    }

    fn is_clean(text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text).replace("\r\n", "");
        !text.contains(['\r', '\n', '\0'])
    }

    #[test]
    fn check_finds_stray_octets_under_every_segmentation() {
        for text in texts(5).filter(|text| !text.ends_with(b"\r")) {
            for cut in 0..=text.len() {
                let mut check = Check::default();
                let (a, b) = text.split_at(cut);
                let outcome = check.piece(a).and_then(|()| check.piece(b));
                assert_eq!(outcome.is_ok(), is_clean(&text), "{text:?} at {cut}");
            }
        }
    }

    #[test]
    fn cleaned_text_does_not_depend_on_the_chunk_size() {
        for text in texts(5) {
            let mut expected = text.clone();
            clean(&mut expected);
            assert!(is_clean(&expected), "{text:?}");
            assert_eq!(expected == text, is_clean(&text), "{text:?}");
            for size in 1..=text.len() {
                let chunks: Vec<Bytes> = text.chunks(size).map(Bytes::copy_from_slice).collect();
                let mut cleaned = Cleaned::new(IterProducer::new(chunks));
                let mut all = Vec::new();
                while let More::Chunk(chunk) = cleaned.more(100).unwrap() {
                    assert!(!chunk.is_empty());
                    all.extend_from_slice(&chunk);
                }
                assert_eq!(all, expected, "{text:?} by {size}");
            }
        }
    }
}
