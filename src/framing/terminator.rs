//! What ends a record: the [`Terminator`] and its parts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem::Finder;

use crate::Result;

/// How long a delimiter may be: every connection keeps how much of it has been seen.
const LONGEST: u64 = u32::MAX as u64;

/// What ends a record of the input: a delimiter, a length, a final dot line, silence, or nothing.
///
/// It is asynchat's *terminator*, set with `Chat::set_terminator`; the default is
/// [`crlf`](Terminator::crlf). A new one holds from the very next byte, also for bytes already
/// read from the socket, so a protocol that announces "and now 5,000 bytes" sets
/// [`count(5000)`](Terminator::count) inside `found_terminator` and sets its line terminator
/// again when they are in.
///
/// | | ends a record | Python's asynchat |
/// |---|---|---|
/// | [`crlf`](Terminator::crlf) | CR LF, strictly | `b"\r\n"` |
/// | [`line`](Terminator::line) | LF, or CR LF | none |
/// | [`bytes`](Terminator::bytes), [`try_bytes`](Terminator::try_bytes) | these bytes | any `bytes` |
/// | [`count`](Terminator::count) | so many bytes | an `int` |
/// | [`dot_block`](Terminator::dot_block) | a line that is a single dot | `b"\r\n.\r\n"`, wrongly |
/// | [`idle_gap`](Terminator::idle_gap) | silence | none |
/// | [`none`](Terminator::none) | the end of the stream | `None` |
///
/// # Whole records and streamed ones
///
/// By default a record is delivered whole to `found_terminator`, without its terminator. A record
/// too big to hold is [`streamed`](Terminator::streamed): its bytes go to
/// `collect_incoming_data` as they come, and `found_terminator(b"")` tells that it is complete.
/// The chunks are cut where the network cut them; only their concatenation means something.
/// A record without a byte in it still fires.
///
/// # Limits
///
/// A record may not grow without bound in memory, so a whole record has a limit: the
/// connection's `Limits::record` (8 KiB by default), or what [`limit`](Terminator::limit) says.
/// A streamed record holds no memory and has none unless [`limit`](Terminator::limit) says so.
///
/// The limit counts bytes as they are delivered: without the terminator, and after a dot block's
/// dots are removed. A record of exactly the limit is fine. One byte more raises
/// `handle_overflow` once, at the same place however the bytes were cut on their way;
/// `found_terminator` is not called for that record. A streamed record has had exactly its
/// limit delivered in chunks by then. A [`count`](Terminator::count) over its limit overflows at
/// once, before its first byte is awaited.
///
/// # Examples
///
/// ```
/// use asynchat::Terminator;
///
/// // SMTP: command lines of at most 512 bytes with their CR LF, then a message of any size.
/// let command = Terminator::crlf().limit(510);
/// let message = Terminator::dot_block().streamed();
/// assert_ne!(command, message);
/// assert_eq!(format!("{command:?}"), "crlf().limit(510)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Terminator {
    kind: Kind,
    limit: Limit,
    streamed: bool,
}

impl Terminator {
    /// CR LF, strictly: a lone CR or a lone LF is part of the record.
    ///
    /// The default, and what RFC 5321, RFC 3977 and their relatives ask for: a peer that takes
    /// another line ending than its neighbour does can be made to see another message
    /// (CVE-2023-51764). [`line`](Terminator::line) is the lenient one.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// assert_eq!(Terminator::crlf(), Terminator::default());
    /// ```
    pub const fn crlf() -> Self {
        Self::of(Kind::Crlf)
    }

    /// LF, and one CR before it, if there is one, is not part of the record.
    ///
    /// For protocols typed by hand, and for files with either line ending.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let lenient = Terminator::line().limit(1024);
    /// # assert_ne!(lenient, Terminator::crlf());
    /// ```
    pub const fn line() -> Self {
        Self::of(Kind::Line)
    }

    /// The given bytes, one or more. The leftmost match ends the record, and matches do not
    /// overlap: `b"qqq"` in `qqqq` ends an empty record and leaves one `q`.
    ///
    /// The bytes are copied once, here; clones share them, so a terminator used again and again
    /// is best made once and cloned.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let end_of_headers = Terminator::bytes(b"\r\n\r\n");
    /// # assert_eq!(format!("{end_of_headers:?}"), r#"bytes(b"\r\n\r\n")"#);
    /// ```
    ///
    /// No bytes at all would end a record everywhere and nowhere, and do not compile:
    ///
    /// ```compile_fail
    /// asynchat::Terminator::bytes(b"");
    /// ```
    pub fn bytes<const N: usize>(needle: &[u8; N]) -> Self {
        const { assert!(N > 0, "a terminator needs at least one byte") }
        const { assert!(N as u64 <= LONGEST, "a terminator of 4 GiB or more") }
        Self::of(Kind::needle(needle))
    }

    /// The given bytes, as [`bytes`](Terminator::bytes), where they are known only at run time:
    /// a MIME boundary, a separator from a configuration.
    ///
    /// # Errors
    ///
    /// When `needle` is empty, or 4 GiB long or longer.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let boundary = String::from("--frontier");
    /// assert!(Terminator::try_bytes(boundary.as_bytes()).is_ok());
    /// assert!(Terminator::try_bytes(b"").is_err());
    /// ```
    pub fn try_bytes(needle: &[u8]) -> Result<Terminator> {
        if needle.is_empty() {
            return Err("a terminator needs at least one byte".into());
        }
        if needle.len() as u64 > LONGEST {
            return Err("a terminator has to be shorter than 4 GiB".into());
        }
        Ok(Self::of(Kind::needle(needle)))
    }

    /// Every `n` bytes are a record, until another terminator is set.
    ///
    /// `count(0)` fires at once, with an empty record and without waiting for input: a body
    /// announced as empty needs no special case. It fires once; a byte that arrives while it is
    /// still set has no record to belong to and ends the connection with an error.
    ///
    /// asynchat counted down in the terminator itself and left 0 there. This one is not
    /// changed by what arrives.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let announced = "5000".parse().unwrap();
    /// let body = Terminator::count(announced).streamed();
    /// # assert_eq!(format!("{body:?}"), "count(5000).streamed()");
    /// ```
    pub const fn count(n: u64) -> Self {
        Self::of(Kind::Count(n))
    }

    /// Nothing: every byte goes to `collect_incoming_data` until the end of the stream or until
    /// another terminator is set. `found_terminator` is not called.
    ///
    /// Always streamed. With a [`limit`](Terminator::limit), `Overflow::Discard` throws away what
    /// comes until another terminator is set.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// assert_eq!(Terminator::none(), Terminator::none().streamed());
    /// ```
    pub const fn none() -> Self {
        Self::of(Kind::Everything).streamed()
    }

    /// The body of a multi-line block as in NNTP, SMTP and POP3 (RFC 3977 section 3.1.1,
    /// RFC 5321 section 4.5.2, RFC 1939 section 3): lines up to one that is a single dot.
    ///
    /// The record is the lines with their CR LFs, without the final dot line, and with the dot
    /// removed that the sender put before every line that began with one. The block begins at the
    /// start of a line, so an empty body is the single line `.`: the idiom `b"\r\n.\r\n"` waits
    /// for ever there. Only CR LF ends a line. `\n.\n`, `\r\n.\n`, `\n.\r\n` and the like are
    /// content, or else two servers may see two different messages (SMTP smuggling,
    /// CVE-2023-51764).
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let article = Terminator::dot_block().limit(1 << 20);
    /// # assert_eq!(format!("{article:?}"), "dot_block().limit(1048576)");
    /// ```
    pub const fn dot_block() -> Self {
        Self::of(Kind::DotBlock)
    }

    /// Silence: the record ends when nothing has arrived for `gap` after its last byte. For
    /// serial devices behind a terminal server, and other peers that do not delimit.
    ///
    /// Silence without any byte before it is not a record. What the network delays for longer
    /// than `gap` is cut in two, so choose it well over the jitter.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// use std::time::Duration;
    /// let reading = Terminator::idle_gap(Duration::from_millis(50));
    /// # assert_eq!(format!("{reading:?}"), "idle_gap(50ms)");
    /// ```
    pub const fn idle_gap(gap: Duration) -> Self {
        Self::of(Kind::IdleGap(gap))
    }

    /// Limits a record to `n` bytes as delivered, whole or streamed, in place of the
    /// connection's default. See [Limits](Terminator#limits).
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let upload = Terminator::dot_block().streamed().limit(10 << 20);
    /// # assert_ne!(upload, Terminator::dot_block().streamed());
    /// ```
    pub const fn limit(mut self, n: usize) -> Self {
        self.limit = Limit::at(n);
        self
    }

    /// Takes the limit away: whole records of any size. The peer then decides how much memory
    /// the connection uses.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let from_a_trusted_peer = Terminator::crlf().unlimited();
    /// # assert_ne!(from_a_trusted_peer, Terminator::crlf());
    /// ```
    pub const fn unlimited(mut self) -> Self {
        self.limit = Limit::UNLIMITED;
        self
    }

    /// Delivers the record in chunks to `collect_incoming_data` as they arrive, and then
    /// `found_terminator(b"")`. Nothing is kept but what may yet turn out to be the terminator.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let file = Terminator::count(1 << 30).streamed();
    /// # assert_ne!(file, Terminator::count(1 << 30));
    /// ```
    pub const fn streamed(mut self) -> Self {
        self.streamed = true;
        self
    }

    #[inline]
    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    #[inline]
    pub(crate) fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// The most bytes of a record under this terminator, where `default` holds for whole records
    /// that say nothing of their own.
    #[inline]
    pub(crate) fn limit_or(&self, default: usize) -> u64 {
        match self.limit {
            Limit::DEFAULT if self.streamed => u64::MAX,
            Limit::DEFAULT => default as u64,
            Limit(n) => n,
        }
    }

    const fn of(kind: Kind) -> Self {
        Self {
            kind,
            limit: Limit::DEFAULT,
            streamed: false,
        }
    }
}

impl Default for Terminator {
    fn default() -> Self {
        Self::crlf()
    }
}

/// Written as the calls that make it, without the type's name.
impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Crlf => f.write_str("crlf()")?,
            Kind::Line => f.write_str("line()")?,
            Kind::Bytes(needle) => write!(f, "bytes(b\"{}\")", needle.bytes().escape_ascii())?,
            Kind::Count(n) => write!(f, "count({n})")?,
            Kind::Everything => f.write_str("none()")?,
            Kind::DotBlock => f.write_str("dot_block()")?,
            Kind::IdleGap(gap) => write!(f, "idle_gap({gap:?})")?,
        }
        match self.limit {
            Limit::DEFAULT => {}
            Limit::UNLIMITED => f.write_str(".unlimited()")?,
            Limit(n) => write!(f, ".limit({n})")?,
        }
        if self.streamed && self.kind != Kind::Everything {
            f.write_str(".streamed()")?;
        }
        Ok(())
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Crlf,
    Line,
    /// Never CR LF alone: that is `Crlf`, which is faster.
    Bytes(Arc<Needle>),
    Count(u64),
    Everything,
    DotBlock,
    IdleGap(Duration),
}

impl Kind {
    fn needle(bytes: &[u8]) -> Self {
        match bytes {
            b"\r\n" => Kind::Crlf,
            _ => Kind::Bytes(Arc::new(Needle::new(bytes))),
        }
    }
}

/// In one word: every connection keeps a terminator. No record gets near the two that are special.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Limit(u64);

impl Limit {
    /// That of the connection.
    const DEFAULT: Limit = Limit(u64::MAX - 1);
    const UNLIMITED: Limit = Limit(u64::MAX);

    const fn at(bytes: usize) -> Self {
        match bytes as u64 {
            bytes if bytes < Limit::DEFAULT.0 => Limit(bytes),
            _ => Limit::UNLIMITED,
        }
    }
}

/// The bytes to look for, prepared: for `memmem` inside a segment of input, and for Knuth, Morris
/// and Pratt across the boundary of two.
pub(crate) struct Needle {
    finder: Finder<'static>,
    /// At `i`: how many of the first `i` bytes, fewer than all, are both their beginning and
    /// their end.
    borders: Box<[usize]>,
}

impl Needle {
    fn new(bytes: &[u8]) -> Self {
        let mut borders = vec![0, 0];
        let mut matched = 0;
        for &byte in bytes.iter().skip(1) {
            matched = extend(bytes, &borders, matched, byte);
            borders.push(matched);
        }
        Self {
            finder: Finder::new(bytes).into_owned(),
            borders: borders.into(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// Where the leftmost match in `hay` begins.
    pub(crate) fn find(&self, hay: &[u8]) -> Option<usize> {
        self.finder.find(hay)
    }

    /// After a mismatch: how many of `matched` matched bytes may still begin a match.
    pub(crate) fn border(&self, matched: usize) -> usize {
        self.borders.get(matched).copied().unwrap_or(0)
    }

    /// How many bytes at the end of `hay`, which has no match, may begin one.
    pub(crate) fn begun(&self, hay: &[u8]) -> usize {
        let most = self.bytes().len().saturating_sub(1);
        let tail = hay.get(hay.len().saturating_sub(most)..).unwrap_or(hay);
        tail.iter().fold(0, |matched, &byte| {
            extend(self.bytes(), &self.borders, matched, byte)
        })
    }
}

impl PartialEq for Needle {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Needle {}

/// One step of Knuth, Morris and Pratt: how much of `needle` is matched after `byte`, if
/// `matched` was before it.
fn extend(needle: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    loop {
        if needle.get(matched) == Some(&byte) {
            return matched + 1;
        }
        if matched == 0 {
            return 0;
        }
        matched = borders.get(matched).copied().unwrap_or(0);
    }
}
