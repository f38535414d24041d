//! The error type of the crate, and the reasons for which a channel ends.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;

/// The result of the crate's functions and of a handler's callbacks.
///
/// ```
/// fn parse(record: &[u8]) -> asynchat::Result<u32> {
///     Ok(std::str::from_utf8(record)?.trim().parse()?)
/// }
/// assert_eq!(parse(b" 42 ").unwrap(), 42);
/// assert!(parse(b"forty-two").is_err());
/// ```
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// An error with its context.
///
/// The operator `?` converts every error into it that converts into a boxed standard error:
/// [`io::Error`], parse errors, `String`, `&str`. [`Error::context`] adds the operation that failed,
/// and its address or connection. Printing shows the outermost context first.
///
/// It does not implement [`std::error::Error`], because that would rule out the conversion from every
/// standard error. It converts into `Box<dyn std::error::Error>` and [`io::Error`] with `?`, and
/// into other types through [`Error::into_boxed`].
///
/// ```
/// use std::io;
/// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let error = asynchat::Error::from(refused).context("connect to 127.0.0.1:9");
/// assert_eq!(error.to_string(), "connect to 127.0.0.1:9: connection refused");
/// assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
/// ```
// One pointer wide, so that the `Result` of a callback fits into a register.
pub struct Error(Box<Inner>);

struct Inner {
    context: Vec<String>,
    source: Source,
}

impl Error {
    /// Creates an error from its source: another error, a `String` or a `&str`.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        Error(Box::new(Inner {
            context: Vec::new(),
            source: source.into(),
        }))
    }

    /// Adds what was being done when the error occurred. It is printed before the existing context.
    #[must_use]
    pub fn context(mut self, what: impl Display) -> Self {
        self.0.context.push(what.to_string());
        self
    }

    /// The original error, without context.
    pub fn source(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.source
    }

    /// The original error, if it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.downcast_ref()
    }

    /// Converts into a standard error that prints the same text. Use it with types that accept only
    /// standard errors.
    ///
    /// ```
    /// let error = asynchat::Error::new("out of gold").context("fill the bucket");
    /// let boxed: Box<dyn std::error::Error + Send + Sync> = error.into_boxed();
    /// assert_eq!(boxed.to_string(), "fill the bucket: out of gold");
    /// ```
    pub fn into_boxed(self) -> Box<dyn StdError + Send + Sync + 'static> {
        Box::new(Boxed(self))
    }

    /// The kind of the original error, if that is an [`io::Error`].
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.downcast_ref::<io::Error>().map(io::Error::kind)
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        write!(f, "{}", self.0.source)?;
        let mut cause = self.0.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The same text as [`Display`], because `main` prints an `Err` with `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl<E: Into<Source>> From<E> for Error {
    fn from(source: E) -> Self {
        Error::new(source)
    }
}

/// Wraps an [`Error`] as a standard error.
struct Boxed(Error);

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl StdError for Boxed {}

impl From<Error> for Box<dyn StdError + 'static> {
    fn from(error: Error) -> Self {
        Box::new(Boxed(error))
    }
}

/// An [`io::Error`] without context is returned unchanged.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        if !error.0.context.is_empty() {
            let kind = error.io_kind().unwrap_or(io::ErrorKind::Other);
            return io::Error::new(kind, Boxed(error));
        }
        match error.0.source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        }
    }
}

/// Why a channel ended. The loop passes it to `handle_close`, exactly once.
///
/// ```
/// use asynchat::Close;
/// assert_eq!(Close::Eof.to_string(), "the peer closed the connection");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Close {
    /// This side closed it, with `close`, `abort` or `close_when_done`.
    Local,
    /// The peer finished sending, and the queued output has been handed to the kernel.
    Eof,
    /// The peer reset the connection, or no longer receives. Input that the kernel still had was
    /// delivered first, unless the session was paused or its queue was above the high-water mark.
    Reset,
    /// An outgoing connection was not established: every address failed. The error is that of the last
    /// address.
    ConnectFailed(Error),
    /// A [deadline](crate::Deadlines) passed. If output was queued, it is lost, and the peer gets a reset.
    Timeout(Deadline),
    /// A record exceeded this limit, and `handle_overflow` chose to close.
    InputLimit(RecordLimit),
    /// The queued output exceeded [`Limits::output`](crate::Limits::output), because the peer does not
    /// read.
    OutputLimit,
    /// A callback of its handler, or one of its producers, returned this error. After an error of a producer the
    /// peer receives what was sent before it, and then a reset.
    Handler(Error),
    /// A callback of its handler panicked, with this message.
    Panic(String),
    /// The loop was shut down or dropped.
    Shutdown,
    /// The connection at the other end of its [`pipe`](crate::pipe) ended, for this reason.
    Piped(Box<Close>),
    /// The operating system reported another error.
    Io(io::Error),
}

impl Close {
    /// The reason for an error of `recv` or `send`.
    pub(crate) fn from_io(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        match error.kind() {
            ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected => Close::Reset,
            _ => Close::Io(error),
        }
    }
}

impl Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Close::Local => f.write_str("closed by this side"),
            Close::Eof => f.write_str("the peer closed the connection"),
            Close::Reset => f.write_str("the peer reset the connection"),
            Close::ConnectFailed(error) => write!(f, "could not connect: {error}"),
            Close::Timeout(deadline) => write!(f, "timed out: {deadline}"),
            Close::InputLimit(limit) => Display::fmt(limit, f),
            Close::OutputLimit => f.write_str("the peer does not read what it is sent"),
            Close::Handler(error) => write!(f, "its handler failed: {error}"),
            Close::Panic(message) => write!(f, "its handler panicked: {message}"),
            Close::Shutdown => f.write_str("the loop shut down"),
            Close::Piped(why) => write!(f, "the other end of the pipe ended: {why}"),
            Close::Io(error) => write!(f, "i/o error: {error}"),
        }
    }
}

/// The limit that a record exceeded, in [`Close::InputLimit`].
///
/// Its text names the limit. If the record was a [`count`](crate::Terminator::count), which is known to be
/// too long before its first byte arrives, the text also says how to accept it.
///
/// ```
/// use asynchat::{Chat, Close, Result, Terminator, sim};
///
/// # fn main() -> Result {
/// let transcript = sim::drive(
///     |chat: Chat| {
///         chat.set_terminator(Terminator::count(500_000));
///         |_: &[u8]| Ok(())
///     },
///     "",
/// )?;
/// let Some(Close::InputLimit(limit)) = transcript.close else { return Err("it is open".into()) };
/// assert_eq!((limit.bytes, limit.announced), (8192, Some(500_000)));
/// assert_eq!(
///     limit.to_string(),
///     "a record of 500000 bytes exceeds Limits::record (8192 bytes): Terminator::limit raises it, \
///      Terminator::streamed needs none"
/// );
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordLimit {
    /// The limit, in bytes.
    pub bytes: u64,
    /// The length of the record in bytes if it was known in advance: the number of
    /// [`Terminator::count`](crate::Terminator::count).
    pub announced: Option<u64>,
    /// Whether the terminator has set the limit, with [`Terminator::limit`](crate::Terminator::limit).
    /// Otherwise it is [`Limits::record`](crate::Limits#structfield.record) of the connection.
    pub is_of_terminator: bool,
}

impl Display for RecordLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.announced {
            Some(length) => write!(f, "a record of {length} bytes")?,
            None => f.write_str("a record")?,
        }
        match self.is_of_terminator {
            true => write!(
                f,
                " exceeds the limit of its terminator ({} bytes)",
                self.bytes
            ),
            false => write!(f, " exceeds Limits::record ({} bytes)", self.bytes),
        }?;
        match self.announced {
            Some(_) if !self.is_of_terminator => {
                f.write_str(": Terminator::limit raises it, Terminator::streamed needs none")
            }
            _ => Ok(()),
        }
    }
}

/// Which deadline passed, in [`Close::Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// No byte moved in either direction: [`Deadlines::idle`](crate::Deadlines::idle).
    Idle,
    /// A record was not complete in time: [`Deadlines::record`](crate::Deadlines::record).
    Record,
    /// The peer did not take its queued output in time: [`Deadlines::drain`](crate::Deadlines::drain).
    Drain,
    /// The connection reached its maximum lifetime: [`Deadlines::lifetime`](crate::Deadlines::lifetime).
    Lifetime,
}

impl Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deadline::Idle => f.write_str("idle"),
            Deadline::Record => f.write_str("a record was not complete in time"),
            Deadline::Drain => f.write_str("the peer did not take its output in time"),
            Deadline::Lifetime => f.write_str("the connection reached its maximum lifetime"),
        }
    }
}
