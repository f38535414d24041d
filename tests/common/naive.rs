//! A slow and obvious reader of records, the oracle of the splitter's tests and fuzzers. It reads all
//! bytes of a record each time.

use std::time::Duration;

use asynchat::Terminator;

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Crlf,
    Line,
    Bytes(Vec<u8>),
    Count(usize),
    None,
    DotBlock,
    IdleGap,
}

/// A terminator whose properties are visible.
#[derive(Clone, Debug)]
pub struct Spec {
    pub kind: Kind,
    pub limit: Option<usize>,
    pub streamed: bool,
    pub owned: bool,
    pub inclusive: bool,
}

pub const UNLIMITED: usize = usize::MAX;

impl Spec {
    /// A whole, borrowed record without its terminator, under the default limit.
    pub fn plain(kind: Kind) -> Self {
        Spec {
            kind,
            limit: None,
            streamed: false,
            owned: false,
            inclusive: false,
        }
    }

    pub fn terminator(&self) -> Terminator {
        let terminator = match &self.kind {
            Kind::Crlf => Terminator::crlf(),
            Kind::Line => Terminator::line(),
            Kind::Bytes(needle) => Terminator::try_bytes(needle).expect("a needle is not empty"),
            Kind::Count(n) => Terminator::count(*n as u64),
            Kind::None => Terminator::none(),
            Kind::DotBlock => Terminator::dot_block(),
            Kind::IdleGap => Terminator::idle_gap(Duration::from_secs(1)),
        };
        let terminator = match self.limit {
            None => terminator,
            Some(UNLIMITED) => terminator.unlimited(),
            Some(n) => terminator.limit(n as u64),
        };
        let terminator = if self.inclusive {
            terminator.inclusive()
        } else {
            terminator
        };
        match (self.owned, self.streamed) {
            (_, true) => terminator.streamed(),
            (true, false) => terminator.owned(),
            (false, false) => terminator,
        }
    }

    pub fn is_streamed(&self) -> bool {
        self.streamed || self.kind == Kind::None
    }

    /// Reads the record at the front of `bytes`.
    pub fn read(&self, bytes: &[u8]) -> Naive {
        let record = read(&self.kind, bytes);
        if self.inclusive {
            Naive {
                content: bytes[..record.next.unwrap_or(bytes.len())].to_vec(),
                pending: vec![],
                next: record.next,
            }
        } else {
            record
        }
    }

    pub fn limit(&self, default: usize) -> usize {
        match self.limit {
            Some(n) => n,
            None if self.is_streamed() => UNLIMITED,
            None => default,
        }
    }
}

/// The record at the front of some bytes.
#[derive(Debug, PartialEq)]
pub struct Naive {
    /// The bytes that are content whatever follows.
    pub content: Vec<u8>,
    /// The last bytes, which may begin the terminator.
    pub pending: Vec<u8>,
    /// Where the next record begins, if this one is complete.
    pub next: Option<usize>,
}

/// Reads the record at the front of `bytes`.
pub fn read(kind: &Kind, bytes: &[u8]) -> Naive {
    match kind {
        Kind::Crlf => read_to(b"\r\n", bytes),
        Kind::Bytes(needle) => read_to(needle, bytes),
        Kind::Line => read_line(bytes),
        Kind::Count(n) if bytes.len() >= *n => complete(&bytes[..*n], *n),
        Kind::Count(_) | Kind::None | Kind::IdleGap => incomplete(bytes, b""),
        Kind::DotBlock => read_block(bytes),
    }
}

fn complete(content: &[u8], next: usize) -> Naive {
    Naive {
        content: content.to_vec(),
        pending: vec![],
        next: Some(next),
    }
}

fn incomplete(content: &[u8], pending: &[u8]) -> Naive {
    Naive {
        content: content.to_vec(),
        pending: pending.to_vec(),
        next: None,
    }
}

/// Returns the start of the first `needle` in `bytes`.
pub fn find(needle: &[u8], bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

fn read_to(needle: &[u8], bytes: &[u8]) -> Naive {
    if let Some(at) = find(needle, bytes) {
        return complete(&bytes[..at], at + needle.len());
    }
    let (mut content, mut pending) = (bytes, &b""[..]);
    for at in (0..bytes.len()).rev() {
        if needle.starts_with(&bytes[at..]) {
            (content, pending) = bytes.split_at(at);
        }
    }
    incomplete(content, pending)
}

fn read_line(bytes: &[u8]) -> Naive {
    match find(b"\n", bytes) {
        Some(lf) => complete(
            bytes[..lf].strip_suffix(b"\r").unwrap_or(&bytes[..lf]),
            lf + 1,
        ),
        None => match bytes.strip_suffix(b"\r") {
            Some(content) => incomplete(content, b"\r"),
            None => incomplete(bytes, b""),
        },
    }
}

/// RFC 3977 section 3.1.1: lines end with CR LF only. A line that is a single dot ends the block. If
/// another line begins with a dot, that dot is not content.
fn read_block(bytes: &[u8]) -> Naive {
    let mut content = vec![];
    let mut rest = bytes;
    while let Some(len) = find(b"\r\n", rest) {
        let line = &rest[..len + 2];
        rest = &rest[len + 2..];
        if line == b".\r\n" {
            return complete(&content, bytes.len() - rest.len());
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    if rest == b"." || rest == b".\r" {
        return incomplete(&content, rest);
    }
    content.extend_from_slice(rest.strip_prefix(b".").unwrap_or(rest));
    incomplete(&content, b"")
}
