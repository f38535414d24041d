//! What can go wrong, and why a channel ended.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;

/// What the crate's functions and a handler's callbacks return.
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

/// An error with the circumstances it happened in.
///
/// Anything that converts into a boxed standard error converts into this one with `?`:
/// [`io::Error`], a parse error, a `String`, a `&str`. [`Error::context`] adds what was being
/// done, on which address or connection; the outermost context is printed first.
///
/// To be open to every source it does not implement [`std::error::Error`] itself. It converts
/// into `Box<dyn std::error::Error>` and [`io::Error`] with `?`, and into anything else through
/// [`Error::into_boxed`].
///
/// ```
/// use std::io;
/// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let error = asynchat::Error::from(refused).context("connect to 127.0.0.1:9");
/// assert_eq!(error.to_string(), "connect to 127.0.0.1:9: connection refused");
/// assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
/// ```
// One pointer wide, so that the `Result` of a callback travels in a register.
pub struct Error(Box<Inner>);

struct Inner {
    context: Vec<String>,
    source: Source,
}

impl Error {
    /// An error with this source: another error, a `String` or a `&str`.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync + 'static>>) -> Self {
        Error(Box::new(Inner {
            context: Vec::new(),
            source: source.into(),
        }))
    }

    /// Says what was being done when it happened; printed before what is there already.
    #[must_use]
    pub fn context(mut self, what: impl Display) -> Self {
        self.0.context.push(what.to_string());
        self
    }

    /// The error underneath all context.
    pub fn source(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.source
    }

    /// The error underneath as the type it was, if it was an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.downcast_ref()
    }

    /// A standard error that prints the same: for an error type that takes only those.
    ///
    /// ```
    /// let error = asynchat::Error::new("out of gold").context("fill the bucket");
    /// let boxed: Box<dyn std::error::Error + Send + Sync> = error.into_boxed();
    /// assert_eq!(boxed.to_string(), "fill the bucket: out of gold");
    /// ```
    pub fn into_boxed(self) -> Box<dyn StdError + Send + Sync + 'static> {
        Box::new(Boxed(self))
    }

    /// The kind of the [`io::Error`] underneath, if it is one.
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

/// As [`Display`]: what `main` prints when it returns an `Err` is meant for people.
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

/// An [`Error`] in the clothes of a standard one.
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

/// One that is an [`io::Error`] without any context is that error again.
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

/// Why a channel ended: the argument of `handle_close`, told exactly once.
///
/// ```
/// use asynchat::Close;
/// assert_eq!(Close::Eof.to_string(), "the peer closed the connection");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Close {
    /// This side asked for it: `close`, `abort`, `close_when_done`.
    Local,
    /// The peer finished sending, and all that was queued for it has been handed over.
    Eof,
    /// The peer reset the connection, or does not receive any more. All that the kernel still gave was
    /// delivered before, unless the session was paused, or its queue was over its high-water mark.
    Reset,
    /// An outgoing connection never came up: every address failed; the error is the last one's.
    ConnectFailed(Error),
    /// A deadline passed.
    Timeout(Deadline),
    /// A record was longer than its limit, and `handle_overflow` chose to close.
    InputLimit,
    /// More output was queued than [`Limits::output`](crate::Limits::output) allows: the peer
    /// does not read what it is sent.
    OutputLimit,
    /// A callback of its handler returned this error, or a producer of its did.
    Handler(Error),
    /// A callback of its handler panicked, with this message.
    Panic(String),
    /// The loop was shut down or dropped.
    Shutdown,
    /// The connection that it was [piped](crate::pipe) to has ended, for this reason.
    Piped(Box<Close>),
    /// The operating system reported an error that is none of the above.
    Io(io::Error),
}

impl Close {
    /// The reason that an error of `recv` or `send` stands for.
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
            Close::InputLimit => f.write_str("a record was over its limit"),
            Close::OutputLimit => f.write_str("the peer does not read what it is sent"),
            Close::Handler(error) => write!(f, "its handler failed: {error}"),
            Close::Panic(message) => write!(f, "its handler panicked: {message}"),
            Close::Shutdown => f.write_str("the loop shut down"),
            Close::Piped(why) => write!(f, "the other end of its pipe has ended: {why}"),
            Close::Io(error) => write!(f, "i/o error: {error}"),
        }
    }
}

/// Which deadline passed, in [`Close::Timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// Nothing moved in either direction: [`Deadlines::idle`](crate::Deadlines::idle).
    Idle,
    /// A record was not complete in time: [`Deadlines::record`](crate::Deadlines::record).
    Record,
    /// The peer did not take what it was sent: [`Deadlines::drain`](crate::Deadlines::drain).
    Drain,
    /// The connection had lasted: [`Deadlines::lifetime`](crate::Deadlines::lifetime).
    Lifetime,
}

impl Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deadline::Idle => f.write_str("idle"),
            Deadline::Record => f.write_str("a record was not complete in time"),
            Deadline::Drain => f.write_str("the peer did not take its output in time"),
            Deadline::Lifetime => f.write_str("the connection had lasted its time"),
        }
    }
}
