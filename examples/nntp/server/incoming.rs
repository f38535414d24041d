//! Receives an article. The header is collected in memory. The body is written to
//! a temporary file, or to memory while it is small. Both have a limit. The result
//! is well-formed according to RFC 3977, section 3.1.1, and RFC 5536, section 2.2.

use std::io::{self, Write};

use memchr::memmem;
use tempfile::SpooledTempFile;

use super::article::Size;
use super::crlf::Check;
use super::head::Head;

/// The maximum length of a header, which exceeds what newsreaders send and what
/// most servers accept.
const MAX_HEAD: usize = 32 * 1024;

/// A longer body is written to a file.
const IN_MEMORY: usize = 64 * 1024;

/// The part of an article that has arrived. After a fault the rest is discarded,
/// because the reply can only be sent after the end of the article.
pub struct Incoming {
    head: Vec<u8>,
    head_ended: bool,
    body: SpooledTempFile,
    size: Size,
    limit: usize,
    check: Check,
    fault: Option<Fault>,
}

/// Why an article could not be received.
#[derive(Debug)]
pub enum Fault {
    /// The article is bad. Sending it again would not help.
    Article(&'static str),
    /// The server's disk failed.
    Storage(io::Error),
}

impl Incoming {
    /// Prepares to receive an article of at most `limit` octets.
    pub fn new(limit: usize) -> Incoming {
        Incoming {
            head: Vec::new(),
            head_ended: false,
            body: SpooledTempFile::new(IN_MEMORY),
            size: Size::default(),
            limit,
            check: Check::default(),
            fault: None,
        }
    }

    /// Adds the next piece.
    pub fn collect(&mut self, chunk: &[u8]) {
        if self.fault.is_none() {
            self.fault = self.take(chunk).err();
        }
    }

    /// Returns the header and the body after the last piece.
    pub fn finish(self) -> Result<(Head, SpooledTempFile, Size), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if !self.head_ended {
            return Err(Fault::Article("no empty line ends the header"));
        }
        let head = Head::parse(&self.head).map_err(Fault::Article)?;
        Ok((head, self.body, self.size))
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        self.check.piece(chunk).map_err(Fault::Article)?;
        if self.head_ended {
            return self.take_body(chunk);
        }
        // The end of the header may be split between two chunks, so the search begins three octets
        // before the new chunk.
        let searched = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(chunk);
        let end = if self.head.starts_with(b"\r\n") {
            Some(0)
        } else {
            memmem::find(&self.head[searched..], b"\r\n\r\n").map(|at| searched + at + 2)
        };
        match end {
            Some(end) => {
                let body = self.head.split_off(end);
                self.head_ended = true;
                self.check_head()?;
                self.take_body(&body[2..])
            }
            None => self.check_head(),
        }
    }

    fn check_head(&self) -> Result<(), Fault> {
        if self.head.len() > MAX_HEAD {
            return Err(Fault::Article("header too long"));
        }
        Ok(())
    }

    fn take_body(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        self.size.add(chunk);
        if self.head.len() as u64 + self.size.bytes > self.limit as u64 {
            return Err(Fault::Article("article too long"));
        }
        self.body.write_all(chunk).map_err(Fault::Storage)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    fn collect(text: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>, Size), Fault> {
        let mut incoming = Incoming::new(100_000);
        text.chunks(size).for_each(|chunk| incoming.collect(chunk));
        let (head, mut file, size) = incoming.finish()?;
        let mut body = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut body).unwrap();
        Ok((head.as_bytes().to_vec(), body, size))
    }

    #[test]
    fn the_result_does_not_depend_on_the_segmentation() {
        let text = b"A: b\r\nC: d\r\n\r\none\r\n\r\ntwo\r\n";
        for size in 1..=text.len() {
            let (head, body, counted) = collect(text, size).unwrap();
            assert_eq!(head, b"A: b\r\nC: d\r\n");
            assert_eq!(body, b"one\r\n\r\ntwo\r\n");
            assert_eq!(
                counted,
                Size {
                    bytes: 12,
                    lines: 3
                }
            );
        }
    }

    #[test]
    fn empty_headers_and_bodies() {
        assert_eq!(collect(b"\r\nbody\r\n", 1).unwrap().0, b"");
        assert_eq!(collect(b"A: b\r\n\r\n", 1).unwrap().1, b"");
        assert!(collect(b"A: b\r\n", 1).is_err());
        assert!(collect(b"", 1).is_err());
    }

    #[test]
    fn long_headers_and_bodies_are_refused() {
        let long = [&b"A: "[..], &[b'x'; MAX_HEAD], b"\r\n\r\n"].concat();
        assert!(collect(&long, 1000).is_err());
        assert!(collect(&long, long.len()).is_err());
        let long = [&b"A: b\r\n\r\n"[..], &[b'x'; 100_000]].concat();
        assert!(collect(&long, 1000).is_err());
    }
}
