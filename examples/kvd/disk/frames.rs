//! The frames of the log: their bytes, both ways.
//!
//! ```text
//! frame  = BEGIN marker{8} number{8} durable{8} *record END digest{8}
//! record = (CLEAR | PUT | DELETE) length-of-name{8} length-of-content{8} name content
//! ```
//!
//! The numbers are little-endian. `durable` is the number of the last frame whose changes were certainly on disk before
//! this one was written. The digest is the beginning of the SHA-256 of what comes before it in the frame.
//!
//! Behind a frame that is not whole, the next one is searched for, also in the values that clients have stored. So frames
//! have a marker: a random number of the folder, which no client learns. Otherwise a value could contain a frame.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use asynchat::bytes::Bytes;
use memchr::memmem::Finder;
use ring::digest::{Context, SHA256, digest};

use super::rows::{Op, each_row};

const BEGIN: [u8; 4] = *b"kvd4";
const CLEAR: u8 = b'C';
const PUT: u8 = b'P';
const DELETE: u8 = b'D';
const END: u8 = b'E';

/// So many bytes are hashed and written with one call.
const BUFFER: usize = 64 * 1024;

/// How each frame of a folder begins.
#[derive(Clone, Copy)]
pub struct Beginning([u8; 12]);

impl Beginning {
    pub fn new(marker: u64) -> Beginning {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&BEGIN);
        bytes[4..].copy_from_slice(&marker.to_le_bytes());
        Beginning(bytes)
    }

    /// Whether a file begins with a frame of another folder.
    fn is_foreign(&self, data: &[u8]) -> bool {
        let begin = data.get(..self.0.len());
        begin.is_some_and(|it| it.starts_with(&BEGIN) && it != self.0)
    }
}

/// Returns the number of bytes.
pub fn write_frame(
    file: &File,
    beginning: Beginning,
    number: u64,
    durable: u64,
    ops: &[Op],
) -> io::Result<u64> {
    let mut frame = Output {
        file,
        buffer: Vec::with_capacity(BUFFER),
        digest: Context::new(&SHA256),
        len: 0,
    };
    frame.write(&beginning.0)?;
    frame.write(&number.to_le_bytes())?;
    frame.write(&durable.to_le_bytes())?;
    for op in ops {
        match op {
            Op::Clear(names) => frame.record(CLEAR, &names.start, &[&names.end])?,
            Op::Put(name, content) => frame.record(PUT, name, &[content])?,
            Op::PutWithHead(name, head, rest) => frame.record(PUT, name, &[head, rest])?,
            Op::PutElements(prefix, value, _) => {
                let mut outcome = Ok(());
                each_row(prefix, value, |name, head, content| {
                    if outcome.is_ok() {
                        outcome = frame.record(PUT, name, &[head, content]);
                    }
                });
                outcome?;
            }
            Op::DeleteElements(prefix, value, _) => {
                let mut outcome = Ok(());
                each_row(prefix, value, |name, _, _| {
                    if outcome.is_ok() {
                        outcome = frame.record(DELETE, name, &[]);
                    }
                });
                outcome?;
            }
            Op::Delete(name) => frame.record(DELETE, name, &[])?,
        }
    }
    frame.write(&[END])?;
    frame.finish()
}

struct Output<'a> {
    file: &'a File,
    /// What is neither hashed nor written yet.
    buffer: Vec<u8>,
    digest: Context,
    /// The bytes that are written.
    len: u64,
}

impl Output<'_> {
    fn record(&mut self, kind: u8, name: &[u8], content: &[&[u8]]) -> io::Result<()> {
        let len: usize = content.iter().map(|it| it.len()).sum();
        self.write(&[kind])?;
        self.write(&(name.len() as u64).to_le_bytes())?;
        self.write(&(len as u64).to_le_bytes())?;
        self.write(name)?;
        content.iter().try_for_each(|it| self.write(it))
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        if self.buffer.len() + data.len() > BUFFER {
            self.digest.update(&self.buffer);
            self.put_buffer()?;
        }
        if data.len() > BUFFER {
            self.digest.update(data);
            self.len += data.len() as u64;
            return self.file.write_all(data);
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    fn put_buffer(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Adds the digest. A small frame is written with one call.
    fn finish(mut self) -> io::Result<u64> {
        self.digest.update(&self.buffer);
        let digest = self.digest.clone().finish();
        self.buffer.extend_from_slice(&digest.as_ref()[..8]);
        self.put_buffer()?;
        Ok(self.len)
    }
}

pub struct Frame {
    pub number: u64,
    /// The number of the last frame whose changes were certainly on disk before.
    pub durable: u64,
    pub ops: Vec<Op>,
}

/// The frames in a file that are whole. What is none is skipped, also between them.
pub struct Frames {
    data: Bytes,
    beginning: Beginning,
    at: usize,
    /// How many bytes were skipped.
    pub skipped: usize,
}

impl Frames {
    pub fn new(data: Bytes, beginning: Beginning) -> Frames {
        Frames {
            data,
            beginning,
            at: 0,
            skipped: 0,
        }
    }

    /// Whether the file begins with a frame of another folder and has none of this one.
    pub fn are_foreign(&self) -> bool {
        self.skipped == self.data.len() && self.beginning.is_foreign(&self.data)
    }
}

impl Iterator for Frames {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let finder = Finder::new(&self.beginning.0);
        while self.at < self.data.len() {
            let rest = &self.data[self.at..];
            let skipped = finder.find(rest).unwrap_or(rest.len());
            self.skipped += skipped;
            self.at += skipped;
            let mut input = Input {
                data: &self.data,
                at: self.at,
            };
            if let Some(frame) = input.frame() {
                self.at = input.at;
                return Some(frame);
            }
            // Not whole: the next one is behind its beginning.
            let begun = self.beginning.0.len().min(self.data.len() - self.at);
            self.skipped += begun;
            self.at += begun;
        }
        None
    }
}

struct Input<'a> {
    data: &'a Bytes,
    at: usize,
}

impl Input<'_> {
    /// Reads a frame, whose beginning is right.
    fn frame(&mut self) -> Option<Frame> {
        let start = self.at;
        self.range(size_of::<Beginning>() as u64)?;
        let (number, durable) = (self.number()?, self.number()?);
        let mut ops = Vec::new();
        loop {
            let kind = self.byte()?;
            if kind == END {
                break;
            }
            let (name, content) = (self.number()?, self.number()?);
            let name = self.data[self.range(name)?].to_vec();
            let content = self.data.slice(self.range(content)?);
            ops.push(match kind {
                CLEAR => Op::Clear(name..content.to_vec()),
                PUT => Op::Put(name, content),
                DELETE => Op::Delete(name),
                _ => return None,
            });
        }
        let wanted = digest(&SHA256, &self.data[start..self.at]);
        let digest = self.range(8)?;
        (number > durable && self.data[digest] == wanted.as_ref()[..8]).then_some(Frame {
            number,
            durable,
            ops,
        })
    }

    fn byte(&mut self) -> Option<u8> {
        let at = self.range(1)?.start;
        Some(self.data[at])
    }

    fn number(&mut self) -> Option<u64> {
        let range = self.range(8)?;
        Some(u64::from_le_bytes(self.data[range].try_into().ok()?))
    }

    /// Where the next bytes are, if there are so many.
    fn range(&mut self, len: u64) -> Option<Range<usize>> {
        let start = self.at;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.at = end;
        (end <= self.data.len()).then_some(start..end)
    }
}
