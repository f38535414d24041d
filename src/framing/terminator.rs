//! What ends a record: the [`Terminator`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::needle::Needle;
use crate::{Error, Result};

/// The longest delimiter, in bytes. Each connection stores in a `u32` how much of its delimiter has
/// been matched.
const LONGEST: u64 = u32::MAX as u64;

/// How many bytes of a delimiter its `Debug` output shows.
const SHOWN: usize = 64;

/// What ends a record of the input: a delimiter, a length, a final dot line, silence, or nothing.
///
/// This is asynchat's *terminator*, set with [`Chat::set_terminator`](crate::Chat::set_terminator).
/// The default is [`crlf`](Terminator::crlf). A new terminator applies from the very next byte, also
/// to bytes that have already been read from the socket. A protocol that announces "5,000 bytes
/// follow" therefore sets [`count(5000)`](Terminator::count) in `found_terminator`, and sets its
/// line terminator again when those bytes have arrived.
///
/// | Terminator | A record ends with | Python's asynchat |
/// |---|---|---|
/// | [`crlf`](Terminator::crlf) | CR LF, strictly | `b"\r\n"` |
/// | [`line`](Terminator::line) | LF or CR LF | none |
/// | [`bytes`](Terminator::bytes), [`try_bytes`](Terminator::try_bytes) | the given bytes | any `bytes` |
/// | [`count`](Terminator::count) | its `n`th byte | an `int` |
/// | [`dot_block`](Terminator::dot_block) | a line that is a single dot | `b"\r\n.\r\n"`, which misses an empty block |
/// | [`idle_gap`](Terminator::idle_gap) | silence | none |
/// | [`none`](Terminator::none) | the end of the stream | `None` |
///
/// # Whole and streamed records
///
/// By default a record is delivered whole to `found_terminator`, without its terminator. A record
/// that is too large for memory can be [`streamed`](Terminator::streamed): its bytes go to
/// `collect_incoming_data` as they arrive, and `found_terminator(b"")` then reports that the record
/// is complete. The network decides where a chunk ends; only the concatenation of the chunks is
/// meaningful. `found_terminator` is called for an empty record too.
///
/// A session that keeps large records takes them [`owned`](Terminator::owned): `found_record` receives
/// each as [`Bytes`](bytes::Bytes), which it can store or push without another copy. One that stores or
/// forwards the stream as it is takes its records [`inclusive`](Terminator::inclusive) of their
/// terminators.
///
/// # Limits
///
/// The size of a whole record is limited, because the record is held in memory. The limit is
/// [`Limits::record`](crate::Limits#structfield.record) of the connection (8 KiB by default) unless
/// the terminator sets its own with [`limit`](Terminator::limit). A streamed record is not held in
/// memory and has no limit unless its terminator sets one.
///
/// The limit counts delivered bytes: the terminator is not counted, nor are the dots that
/// [`dot_block`](Terminator::dot_block) removes. Both are counted if the record is
/// [`inclusive`](Terminator::inclusive). A record may be exactly as long as its limit. One
/// byte more calls `handle_overflow` once, after the same byte under every segmentation of the
/// input, and `found_terminator` is not called for that record. If the record is streamed, exactly
/// `limit` bytes of it have been delivered in chunks before that call. A
/// [`count`](Terminator::count) above its limit overflows at once, before its first byte arrives. A
/// body of more than 8 KiB therefore needs `count(n).limit(m)`, or is streamed. `m` is the most that
/// this side accepts: a peer must not choose its own limit.
///
/// The memory of a record grows with the bytes that arrive. A peer that announces a gigabyte and sends
/// a kilobyte occupies about a kilobyte.
///
/// # Examples
///
/// ```
/// use asynchat::Terminator;
///
/// // SMTP: a command line has at most 512 bytes including CR LF (RFC 5321 section 4.5.3.1.4).
/// let command = Terminator::crlf().limit(510);
/// // A message has any size.
/// let message = Terminator::dot_block().streamed();
/// assert_ne!(command, message);
/// assert_eq!(format!("{command:?}"), "crlf().limit(510)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Terminator {
    kind: Kind,
    limit: Limit,
    delivery: Delivery,
    inclusive: bool,
}

/// How a record is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Whole, borrowed.
    Borrowed,
    /// Whole, as `Bytes`.
    Owned,
    /// In chunks.
    Streamed,
}

impl Terminator {
    /// A record ends with CR LF, strictly: a lone CR or a lone LF is part of the record.
    ///
    /// This is the default. RFC 5321 section 2.3.8 and RFC 3977 section 3.1 require it. If two
    /// servers on the path of a message accept different line endings, an attacker can make them see
    /// different messages (SMTP smuggling, CVE-2023-51764). [`line`](Terminator::line) is the lenient
    /// form.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// assert_eq!(Terminator::crlf(), Terminator::default());
    /// ```
    #[must_use]
    pub const fn crlf() -> Self {
        Self::of(Kind::Crlf)
    }

    /// A record ends with LF or CR LF. Of several CRs before the LF, only the last one belongs to the
    /// terminator.
    ///
    /// Use it for protocols that people type by hand, and for files with either line ending.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let lenient = Terminator::line().limit(1024);
    /// # assert_ne!(lenient, Terminator::crlf());
    /// ```
    #[must_use]
    pub const fn line() -> Self {
        Self::of(Kind::Line)
    }

    /// A record ends with the given bytes, at least one. The leftmost match ends the record, and
    /// matches do not overlap: with `b"qqq"`, the input `qqqq` is an empty record followed by `q`.
    ///
    /// This call copies the bytes and prepares the search. Clones share the copy, so create a
    /// terminator that is used often once and clone it.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let end_of_headers = Terminator::bytes(b"\r\n\r\n");
    /// # assert_eq!(format!("{end_of_headers:?}"), r#"bytes(b"\r\n\r\n")"#);
    /// ```
    ///
    /// An empty delimiter does not compile:
    ///
    /// ```compile_fail
    /// asynchat::Terminator::bytes(b"");
    /// ```
    #[must_use]
    pub fn bytes<const N: usize>(needle: &[u8; N]) -> Self {
        const { assert!(N > 0, "a terminator needs at least one byte") }
        const {
            assert!(
                N as u64 <= LONGEST,
                "a terminator must be shorter than 4 GiB"
            );
        }
        Self::of(Kind::needle(needle))
    }

    /// Like [`bytes`](Terminator::bytes), for a delimiter that is only known at run time, such as a
    /// MIME boundary or a separator from a configuration file.
    ///
    /// # Errors
    ///
    /// Fails if `needle` is empty, or 4 GiB or longer.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let boundary = String::from("--frontier");
    /// assert!(Terminator::try_bytes(boundary.as_bytes()).is_ok());
    /// assert!(Terminator::try_bytes(b"").is_err());
    /// ```
    pub fn try_bytes(needle: &[u8]) -> Result<Terminator, Error> {
        if needle.is_empty() {
            return Err("a terminator needs at least one byte".into());
        }
        if needle.len() as u64 > LONGEST {
            return Err("a terminator must be shorter than 4 GiB".into());
        }
        Ok(Self::of(Kind::needle(needle)))
    }

    /// A record has exactly `n` bytes. The next `n` bytes are the next record, until another
    /// terminator is set.
    ///
    /// `count(0)` delivers an empty record at once, without waiting for input, so an announced length
    /// of 0 needs no special case. It delivers one record only. A byte that arrives while `count(0)`
    /// is still set belongs to no record and ends the connection with an error.
    ///
    /// Python's asynchat decrements the number itself and leaves 0 as the terminator. Here the
    /// terminator does not change.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let announced = "5000".parse().unwrap();
    /// // At most a megabyte is accepted. Without `limit`, the connection's limit of 8 KiB applies.
    /// let body = Terminator::count(announced).limit(1 << 20);
    /// # assert_eq!(format!("{body:?}"), "count(5000).limit(1048576)");
    /// ```
    #[must_use]
    pub const fn count(n: u64) -> Self {
        Self::of(Kind::Count(n))
    }

    /// No record ends: all input goes to `collect_incoming_data` until the end of the stream or until
    /// another terminator is set. `found_terminator` is not called.
    ///
    /// It is always streamed. If it has a [`limit`](Terminator::limit) and `handle_overflow` returns
    /// [`Overflow::Discard`](crate::Overflow::Discard), all input is dropped until another terminator
    /// is set.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// assert_eq!(Terminator::none(), Terminator::none().streamed());
    /// ```
    #[must_use]
    pub const fn none() -> Self {
        Self::of(Kind::Everything).streamed()
    }

    /// A multi-line block of NNTP, SMTP or POP3 (RFC 3977 section 3.1.1, RFC 5321 section 4.5.2,
    /// RFC 1939 section 3): a record is a sequence of lines and ends with the line `.`.
    ///
    /// The record contains the lines with their CR LFs and without the final dot line. If a line
    /// begins with a dot, that dot is removed: the sender has inserted it (dot-stuffing).
    ///
    /// The block begins at the start of a line, so the single line `.` is an empty block. The idiom
    /// `b"\r\n.\r\n"` of Python programs misses it and waits for ever. Only CR LF ends a line:
    /// `\n.\n`, `\r\n.\n`, `\n.\r\n` and the like are content. Otherwise two servers could see
    /// different messages in the same bytes (SMTP smuggling, CVE-2023-51764).
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let article = Terminator::dot_block().limit(1 << 20);
    /// # assert_eq!(format!("{article:?}"), "dot_block().limit(1048576)");
    /// ```
    #[must_use]
    pub const fn dot_block() -> Self {
        Self::of(Kind::DotBlock)
    }

    /// A record ends when no byte has arrived for the duration `gap` after its last byte. Use it for
    /// serial devices behind a terminal server and other peers that send no delimiter.
    ///
    /// Silence before the first byte does not end a record. If the network delays part of a record by
    /// more than `gap`, that record is delivered as two, so choose `gap` well above the network's
    /// jitter.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// use std::time::Duration;
    /// let reading = Terminator::idle_gap(Duration::from_millis(50));
    /// # assert_eq!(format!("{reading:?}"), "idle_gap(50ms)");
    /// ```
    #[must_use]
    pub const fn idle_gap(gap: Duration) -> Self {
        Self::of(Kind::IdleGap(gap))
    }

    /// Limits a record, whole or streamed, to `n` delivered bytes, instead of the connection's
    /// default. See [Limits](Terminator#limits). The largest two numbers are no limit.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let upload = Terminator::dot_block().streamed().limit(10 << 20);
    /// # assert_ne!(upload, Terminator::dot_block().streamed());
    /// ```
    #[must_use]
    pub const fn limit(mut self, n: u64) -> Self {
        self.limit = Limit::at(n);
        self
    }

    /// Removes the limit. The peer then decides how much memory a whole record uses.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let from_a_trusted_peer = Terminator::crlf().unlimited();
    /// # assert_ne!(from_a_trusted_peer, Terminator::crlf());
    /// ```
    #[must_use]
    pub const fn unlimited(mut self) -> Self {
        self.limit = Limit::UNLIMITED;
        self
    }

    /// Delivers the bytes of a record to `collect_incoming_data` as they arrive, and then calls
    /// `found_terminator(b"")`. The connection stores none of them, except how much of a possible
    /// terminator has been matched. An earlier [`owned`](Terminator::owned) has no effect.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// let file = Terminator::count(1 << 30).streamed();
    /// # assert_ne!(file, Terminator::count(1 << 30));
    /// ```
    #[must_use]
    pub const fn streamed(mut self) -> Self {
        self.delivery = Delivery::Streamed;
        self
    }

    /// Delivers a record whole, as [`Bytes`](bytes::Bytes), to
    /// [`found_record`](crate::AsyncChat::found_record). The session can store it, push it to several
    /// connections or send it to another thread without another copy. Use it for large records: each one
    /// takes an allocation, and one copy from the loop's read buffer.
    ///
    /// A record that arrives in one read has exactly its own memory, and so has a [`count`](Terminator::count). A
    /// longer one may occupy up to a quarter more than its length. Its buffer has doubled as it grew, and a larger
    /// unused part is given back: the allocator shortens a large block in its place, and may copy a small one.
    ///
    /// The last of `owned` and `streamed` applies. [`none`](Terminator::none) has no whole records, so
    /// it remains streamed.
    ///
    /// ```
    /// use asynchat::bytes::Bytes;
    /// use asynchat::{AsyncChat, Chat, Result, Terminator};
    ///
    /// /// Stores each upload: a length in a line, then the bytes.
    /// struct Uploads { chat: Chat, stored: Vec<Bytes> }
    ///
    /// impl AsyncChat for Uploads {
    ///     fn found_terminator(&mut self, line: &[u8]) -> Result {
    ///         let length = std::str::from_utf8(line)?.parse()?;
    ///         self.chat.set_terminator(Terminator::count(length).limit(1 << 30).owned());
    ///         Ok(())
    ///     }
    ///     fn found_record(&mut self, upload: Bytes) -> Result {
    ///         self.stored.push(upload); // not a copy
    ///         self.chat.set_terminator(Terminator::crlf());
    ///         Ok(())
    ///     }
    /// }
    /// ```
    #[must_use]
    pub const fn owned(mut self) -> Self {
        if !matches!(self.kind, Kind::Everything) {
            self.delivery = Delivery::Owned;
        }
        self
    }

    /// Delivers a record with its terminator, exactly as it was received: the concatenation of the records
    /// is the stream. Use it to store or forward what was received. If the record is streamed, the
    /// terminator is part of the last chunks.
    ///
    /// | Terminator | What an inclusive record contains |
    /// |---|---|
    /// | [`crlf`](Terminator::crlf), [`bytes`](Terminator::bytes) | the delimiter at its end |
    /// | [`line`](Terminator::line) | the ending that it had, LF or CR LF |
    /// | [`dot_block`](Terminator::dot_block) | the final dot line, and the dots that the sender has inserted: the wire format, which can be pushed as it is |
    /// | [`count`](Terminator::count), [`idle_gap`](Terminator::idle_gap), [`none`](Terminator::none) | no more than otherwise, because the end of the record has no bytes |
    ///
    /// The partial record at the end of the stream, which `handle_eof` receives, is the same with and
    /// without it, apart from the inserted dots of a block.
    ///
    /// ```
    /// use asynchat::Terminator;
    /// // SMTP limits a command line with its CR LF (RFC 5321 section 4.5.3.1.4).
    /// let command = Terminator::crlf().inclusive().limit(512);
    /// // What this receives can be pushed to the next server.
    /// let forwarded = Terminator::dot_block().inclusive().streamed();
    /// assert_eq!(Terminator::count(5).inclusive(), Terminator::count(5));
    /// # assert_eq!(format!("{command:?}"), "crlf().limit(512).inclusive()");
    /// # assert_ne!(forwarded, Terminator::dot_block().streamed());
    /// ```
    #[must_use]
    pub const fn inclusive(mut self) -> Self {
        self.inclusive = match self.kind {
            Kind::Crlf | Kind::Line | Kind::Bytes(_) | Kind::DotBlock => true,
            Kind::Count(_) | Kind::Everything | Kind::IdleGap(_) => false,
        };
        self
    }

    /// Whether it is [`crlf`](Terminator::crlf), and nothing else is set.
    #[inline]
    pub(crate) fn is_default(&self) -> bool {
        matches!(self.kind, Kind::Crlf)
            && self.limit == Limit::DEFAULT
            && self.delivery == Delivery::Borrowed
            && !self.inclusive
    }

    #[inline]
    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    #[inline]
    pub(crate) fn delivery(&self) -> Delivery {
        self.delivery
    }

    #[inline]
    pub(crate) fn is_streamed(&self) -> bool {
        self.delivery == Delivery::Streamed
    }

    #[inline]
    pub(crate) fn is_inclusive(&self) -> bool {
        self.inclusive
    }

    /// Returns whether the terminator sets the limit itself.
    pub(crate) fn has_limit(&self) -> bool {
        self.limit != Limit::DEFAULT
    }

    /// Returns the limit of a record in bytes. `default` applies to a whole record whose terminator
    /// sets no limit.
    #[inline]
    pub(crate) fn limit_or(&self, default: usize) -> u64 {
        match self.limit {
            Limit::DEFAULT if self.is_streamed() => u64::MAX,
            Limit::DEFAULT => default as u64,
            Limit(n) => n,
        }
    }

    const fn of(kind: Kind) -> Self {
        Self {
            kind,
            limit: Limit::DEFAULT,
            delivery: Delivery::Borrowed,
            inclusive: false,
        }
    }
}

impl Default for Terminator {
    fn default() -> Self {
        Self::crlf()
    }
}

/// Shows the calls that create the terminator, without the name of the type.
impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Crlf => f.write_str("crlf()")?,
            Kind::Line => f.write_str("line()")?,
            Kind::Bytes(needle) => match needle.bytes().get(..SHOWN) {
                Some(start) if needle.bytes().len() > SHOWN => {
                    let (start, len) = (start.escape_ascii(), needle.bytes().len());
                    write!(f, "bytes(b\"{start}\"..., {len} bytes)")?;
                }
                _ => write!(f, "bytes(b\"{}\")", needle.bytes().escape_ascii())?,
            },
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
        if self.inclusive {
            f.write_str(".inclusive()")?;
        }
        match self.delivery {
            Delivery::Borrowed => Ok(()),
            Delivery::Owned => f.write_str(".owned()"),
            Delivery::Streamed if self.kind == Kind::Everything => Ok(()),
            Delivery::Streamed => f.write_str(".streamed()"),
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Crlf,
    Line,
    /// Never CR LF: [`Kind::needle`] makes that a `Crlf`, which is faster.
    Bytes(Arc<Needle>),
    Count(u64),
    /// [`Terminator::none`].
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

/// A limit in bytes. The two largest numbers have a special meaning, so that the terminator that each
/// connection stores is one word smaller than with an `Option` or an enum.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Limit(u64);

impl Limit {
    /// The connection's limit applies.
    const DEFAULT: Limit = Limit(u64::MAX - 1);
    const UNLIMITED: Limit = Limit(u64::MAX);

    const fn at(bytes: u64) -> Self {
        match bytes {
            bytes if bytes < Limit::DEFAULT.0 => Limit(bytes),
            _ => Limit::UNLIMITED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_the_calls_that_create_the_terminator() {
        for (terminator, expected) in [
            (Terminator::crlf(), "crlf()"),
            (Terminator::line().limit(80), "line().limit(80)"),
            (Terminator::bytes(b"\r\n\0"), r#"bytes(b"\r\n\x00")"#),
            (Terminator::count(5).streamed(), "count(5).streamed()"),
            (Terminator::none(), "none()"),
            (Terminator::none().limit(7), "none().limit(7)"),
            (
                Terminator::dot_block().unlimited().streamed(),
                "dot_block().unlimited().streamed()",
            ),
            (
                Terminator::line().owned().inclusive(),
                "line().inclusive().owned()",
            ),
            (Terminator::count(5).inclusive(), "count(5)"),
            (Terminator::none().inclusive().owned(), "none()"),
            (
                Terminator::idle_gap(Duration::from_millis(50)),
                "idle_gap(50ms)",
            ),
        ] {
            assert_eq!(format!("{terminator:?}"), expected);
        }
    }

    #[test]
    fn terminators_with_the_same_delimiter_are_equal() {
        let from_array = Terminator::bytes(b"ab");
        assert_eq!(from_array, Terminator::try_bytes(b"ab").unwrap());
        assert_ne!(from_array, Terminator::bytes(b"ac"));
        assert_ne!(from_array, Terminator::bytes(b"ab").streamed());
        assert_eq!(Terminator::bytes(b"\r\n"), Terminator::crlf());
    }

    #[test]
    fn a_terminators_own_limit_replaces_the_default() {
        let crlf = Terminator::crlf;
        assert_eq!(crlf().limit_or(9), 9);
        assert_eq!(crlf().limit(3).limit_or(9), 3);
        assert_eq!(crlf().unlimited().limit_or(9), u64::MAX);
        // No limit that a caller can set is mistaken for the default.
        for huge in [u64::MAX, u64::MAX - 1, u64::MAX - 2] {
            assert!(crlf().limit(huge).limit_or(9) > 9);
        }
        assert_eq!(crlf().streamed().limit_or(9), u64::MAX);
        assert_eq!(crlf().streamed().limit(3).limit_or(9), 3);
        assert_eq!(crlf().owned().limit_or(9), 9);
    }

    #[test]
    fn the_last_of_owned_and_streamed_applies() {
        let crlf = Terminator::crlf;
        assert_eq!(crlf().owned().streamed(), crlf().streamed());
        assert_eq!(crlf().streamed().owned(), crlf().owned());
        assert_ne!(crlf().owned(), crlf());
        assert_eq!(Terminator::none().owned(), Terminator::none());
    }
}
