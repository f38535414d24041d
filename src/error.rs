//! The error type of the crate, and the reasons for which a channel ends.

use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;

/// Any error: what a callback returns, and what `?` makes of every error type, those of anyhow and eyre
/// included.
///
/// ```
/// use asynchat::BoxError;
/// let from_text: BoxError = "no such group".into();
/// let from_io: BoxError = std::io::Error::other("the disk is full").into();
/// let from_the_crate: BoxError = asynchat::Error::new("no such address").into();
/// # assert_eq!(from_text.to_string(), "no such group");
/// # drop((from_io, from_the_crate));
/// ```
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of callbacks, factories and posted calls, and of a `main` that runs a loop.
///
/// The crate's own functions return `Result<T, Error>`, which `?` converts into it.
///
/// ```
/// fn parse(record: &[u8]) -> asynchat::Result<u32> {
///     Ok(std::str::from_utf8(record)?.trim().parse()?)
/// }
/// assert_eq!(parse(b" 42 ").unwrap(), 42);
/// assert!(parse(b"forty-two").is_err());
/// ```
///
/// In a function that returns the result of anyhow or eyre, `?` converts [`Error`], but not [`BoxError`], which is no
/// `std::error::Error` itself. For anyhow: `.map_err(anyhow::Error::from_boxed)?`. For eyre, convert the box into
/// [`Error`] first: `.map_err(asynchat::Error::from)?`. In the other direction `?` is enough.
pub type Result<T = (), E = BoxError> = std::result::Result<T, E>;

/// An error of one of the crate's functions, with its context: the operation that failed, and its address
/// or connection.
///
/// It prints the outermost context first, then the original error and its sources. Therefore
/// [`source`](StdError::source) returns the source of the original error, as [`io::Error`] does, and a
/// report that prints the whole chain prints nothing twice. [`Error::original`] is the original error.
///
/// It converts into [`BoxError`], [`io::Error`], and the errors of anyhow and eyre with `?`. Programs can use
/// it for errors of their own: [`Error::new`] takes an error, a `String` or a `&str`.
///
/// ```
/// use std::io;
/// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let error = asynchat::Error::from(refused).context("connect to 127.0.0.1:9");
/// assert_eq!(error.to_string(), "connect to 127.0.0.1:9: connection refused");
/// assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused));
/// ```
// One pointer wide, so that a `Result` fits into a register.
pub struct Error(Box<Inner>);

struct Inner {
    context: Vec<String>,
    original: BoxError,
}

impl Error {
    /// Creates an error from another error, a `String` or a `&str`. An `Error` is returned unchanged.
    pub fn new(original: impl Into<BoxError>) -> Self {
        match original.into().downcast::<Error>() {
            Ok(error) => *error,
            Err(original) => Error(Box::new(Inner {
                context: Vec::new(),
                original,
            })),
        }
    }

    /// Adds what was being done when the error occurred. It is printed before the existing context.
    #[must_use]
    pub fn context(mut self, what: impl Display) -> Self {
        self.0.context.push(what.to_string());
        self
    }

    /// The original error, without context.
    pub fn original(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.original
    }

    /// The original error, if it is an `E`.
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.original.downcast_ref()
    }

    /// The kind of the [`io::Error`] that is the original error, or one of its sources.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        io_kind(self.original())
    }
}

/// The kind of the first [`io::Error`] among the error and its sources.
pub(crate) fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.io_kind();
        }
        next = error.source();
    }
    None
}

/// Converts an error into an [`io::Error`] of this kind, unless it is one.
pub(crate) fn into_io(error: BoxError, kind: io::ErrorKind) -> io::Error {
    match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::new(kind, error),
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        write!(f, "{}", WithSources(self.original()))
    }
}

/// Prints an error and its sources.
pub(crate) struct WithSources<'a>(pub(crate) &'a (dyn StdError + 'static));

impl Display for WithSources<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
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

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.original.source()
    }
}

impl From<io::Error> for Error {
    fn from(original: io::Error) -> Self {
        Error::new(original)
    }
}

impl From<BoxError> for Error {
    fn from(original: BoxError) -> Self {
        Error::new(original)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Error::new(message)
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Error::new(message)
    }
}

/// An [`io::Error`] without context is returned unchanged.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = error.io_kind().unwrap_or(io::ErrorKind::Other);
        if error.0.context.is_empty() {
            into_io(error.0.original, kind)
        } else {
            io::Error::new(kind, error)
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
    /// This side closed it, and the kernel has accepted everything that was pushed; or the socket was
    /// [released](crate::Channel::release).
    Local,
    /// This side closed it before the kernel had accepted everything that was pushed: with `close` while
    /// output was queued, or with `abort`; or before it was up, so that nothing was sent. An FTP server replies 426
    /// instead of 226 (RFC 959 section 4.2).
    Dropped,
    /// The peer finished sending, and the queued output has been handed to the kernel.
    Eof,
    /// The peer reset the connection, or no longer receives: then some of the output was not sent. Input that the kernel still had was
    /// delivered first, unless the session was paused or its queue was above the high-water mark.
    Reset,
    /// An outgoing connection was not established: every address failed, and the error is that of the last one; or
    /// one was reached, and its TLS handshake failed. A failed handshake is final: further addresses are not tried. The
    /// error then names the address.
    ConnectFailed(Error),
    /// A [deadline](crate::Deadlines) passed. If output was queued, it is lost, and the peer gets a reset.
    Timeout(Deadline),
    /// A record exceeded this limit, and `handle_overflow` chose to close.
    InputLimit(RecordLimit),
    /// The queued output exceeded [`Limits::output`](crate::Limits::output), because the peer does not
    /// read.
    OutputLimit,
    /// A callback of its handler, or one of its producers, returned this error, or
    /// [`close_with`](crate::Channel::close_with) was called with it. After an error of a producer the
    /// peer receives what was sent before it, and then a reset. After an error of a callback it receives the replies
    /// before it, and then an orderly end, with TLS also `close_notify`.
    Handler(BoxError),
    /// A callback of its handler panicked, with this message.
    Panic(String),
    /// The loop was shut down or dropped, and the kernel has accepted everything that was pushed.
    Shutdown,
    /// The grace of a shutdown ended, and the connection was reset; or the loop was dropped before the kernel
    /// had accepted everything that was pushed; or either was done before the connection was up.
    Interrupted,
    /// The connection at the other end of its [`pipe`](crate::pipe) ended, for this reason.
    Piped(Box<Close>),
    /// The stream of a TLS connection ended without the peer's announcement (`close_notify`), so it may have been
    /// cut by somebody else (RFC 8446 section 6.1). Complete records were delivered. The part of a record after
    /// them was not, and `handle_eof` was not called.
    Truncated,
    /// TLS failed: the handshake of an accepted connection or of a `start_tls`, or a later record. The records before
    /// that one were delivered. Replies to those that came together with it are lost, because nothing is sent behind a
    /// fatal alert (RFC 8446 section 6.2). An alert was sent to the peer or received in most cases. There is none when
    /// plaintext came before TLS began, and when the program's own code panicked after the handshake had begun to be
    /// encrypted. Where the handshake of a [`Connector`](crate::Connector) fails, the reason is
    /// [`ConnectFailed`](Close::ConnectFailed).
    Tls(Error),
    /// An accepted connection had no valid PROXY header, or not in time: see
    /// [`Server::proxy_protocol`](https://docs.rs/asynchat/latest/asynchat/struct.Server.html#method.proxy_protocol). It
    /// had no session, so no handler gets this reason: it is counted and logged.
    ProxyHeader(Error),
    /// The operating system reported another error.
    Io(io::Error),
}

impl Close {
    /// Whether the connection ended in good order after the kernel had accepted everything that was pushed:
    /// true for [`Local`](Close::Local), [`Eof`](Close::Eof) and [`Shutdown`](Close::Shutdown). False for a connection
    /// that was never up. Whether the peer has received it as well, only a reply of the peer can tell.
    ///
    /// ```
    /// use asynchat::Close;
    /// /// The reply of an FTP server when its data connection has ended: RFC 959 section 5.4.
    /// fn reply(why: &Close) -> &'static str {
    ///     match why.sent_all() {
    ///         true => "226 closing data connection\r\n",
    ///         false => "426 connection closed; transfer aborted\r\n",
    ///     }
    /// }
    /// # assert!(reply(&Close::Local).starts_with("226"));
    /// # assert!(reply(&Close::Dropped).starts_with("426"));
    /// ```
    pub fn sent_all(&self) -> bool {
        matches!(self, Close::Local | Close::Eof | Close::Shutdown)
    }

    /// Whether this side chose to end the connection: true for [`Local`](Close::Local),
    /// [`Dropped`](Close::Dropped), [`Shutdown`](Close::Shutdown) and [`Interrupted`](Close::Interrupted).
    pub fn is_local(&self) -> bool {
        matches!(
            self,
            Close::Local | Close::Dropped | Close::Shutdown | Close::Interrupted
        )
    }

    /// The kind of the i/o error that it is, or that it contains.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Close::Eof => Some(io::ErrorKind::UnexpectedEof),
            Close::Reset => Some(io::ErrorKind::ConnectionReset),
            Close::Timeout(_) => Some(io::ErrorKind::TimedOut),
            Close::ConnectFailed(error) => error.io_kind(),
            Close::Handler(error) => io_kind(&**error),
            Close::Io(error) => Some(error.kind()),
            Close::Piped(why) => why.io_kind(),
            _ => None,
        }
    }

    /// The same reason for a channel whose output is incomplete.
    pub(crate) fn incomplete(self) -> Self {
        match self {
            Close::Local => Close::Dropped,
            Close::Shutdown => Close::Interrupted,
            // The peer has finished sending, and had stopped receiving before.
            Close::Eof => Close::Reset,
            why => why,
        }
    }

    /// The reason for an error of `recv` or `send`.
    pub(crate) fn from_io(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        let error = match error.downcast::<TlsFailure>() {
            Ok(TlsFailure(error)) => return Close::Tls(error),
            Err(error) => error,
        };
        match error.kind() {
            // A socket has no such error. It is that of a TLS stage.
            io::ErrorKind::UnexpectedEof => Close::Truncated,
            ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected => Close::Reset,
            _ => Close::Io(error),
        }
    }
}

impl Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Close::Local => f.write_str("closed by this side"),
            Close::Dropped => f.write_str("closed by this side before everything was sent"),
            Close::Eof => f.write_str("the peer closed the connection"),
            Close::Reset => f.write_str("the peer reset the connection"),
            Close::ConnectFailed(error) => write!(f, "could not connect: {error}"),
            Close::Timeout(deadline) => write!(f, "timed out: {deadline}"),
            Close::InputLimit(limit) => Display::fmt(limit, f),
            Close::OutputLimit => f.write_str("the peer does not read what it is sent"),
            Close::Handler(error) => write!(f, "its handler failed: {}", WithSources(&**error)),
            Close::Panic(message) => write!(f, "its handler panicked: {message}"),
            Close::Shutdown => f.write_str("the loop shut down"),
            Close::Interrupted => f.write_str("cut off by the shutdown of the loop"),
            Close::Piped(why) => write!(f, "the other end of the pipe ended: {why}"),
            Close::Truncated => f.write_str("the stream ended without a TLS close_notify"),
            Close::Tls(error) => write!(f, "TLS failed: {error}"),
            Close::ProxyHeader(error) => write!(f, "no valid PROXY header: {error}"),
            Close::Io(error) => write!(f, "i/o error: {error}"),
        }
    }
}

/// The error of a TLS stage, as an error of a socket.
#[derive(Debug)]
pub(crate) struct TlsFailure(pub(crate) Error);

impl Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for TlsFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl From<TlsFailure> for io::Error {
    fn from(failure: TlsFailure) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, failure)
    }
}

/// The limit that a record exceeded, in [`Close::InputLimit`].
///
/// Its text names the limit. If the record was a [`count`](crate::Terminator::count), which is known to be
/// too long before its first byte arrives, the text also says how to accept it.
///
/// ```
/// use asynchat::{Chat, Close, LimitSource, Result, Terminator, sim};
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
/// assert_eq!(limit.source, LimitSource::Limits);
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
    /// What has set the limit.
    pub source: LimitSource,
}

/// What has set the [`RecordLimit`] that a record exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitSource {
    /// The terminator, with [`Terminator::limit`](crate::Terminator::limit).
    Terminator,
    /// The connection, with [`Limits::record`](crate::Limits#structfield.record).
    Limits,
}

impl Display for RecordLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.announced {
            Some(length) => write!(f, "a record of {length} bytes")?,
            None => f.write_str("a record")?,
        }
        let bytes = self.bytes;
        match self.source {
            LimitSource::Terminator => {
                write!(f, " exceeds the limit of its terminator ({bytes} bytes)")?;
            }
            LimitSource::Limits => write!(f, " exceeds Limits::record ({bytes} bytes)")?,
        }
        match (self.source, self.announced) {
            (LimitSource::Limits, Some(_)) => {
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
    /// The peer sent a record too slowly: [`Deadlines::input`](crate::Deadlines::input).
    Input,
    /// The peer did not take its queued output in time: [`Deadlines::drain`](crate::Deadlines::drain).
    Drain,
    /// The connection reached its maximum lifetime: [`Deadlines::lifetime`](crate::Deadlines::lifetime).
    Lifetime,
    /// A listener for one connection got none in time: [`Server::once`](crate::Server::once).
    Accept,
    /// A TLS handshake was not complete in time: [`Deadlines::handshake`](crate::Deadlines::handshake).
    Handshake,
}

impl Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deadline::Idle => f.write_str("idle"),
            Deadline::Record => f.write_str("a record was not complete in time"),
            Deadline::Input => f.write_str("the peer sent a record too slowly"),
            Deadline::Drain => f.write_str("the peer did not take its output in time"),
            Deadline::Lifetime => f.write_str("the connection reached its maximum lifetime"),
            Deadline::Accept => f.write_str("no connection was accepted in time"),
            Deadline::Handshake => f.write_str("the TLS handshake was not complete in time"),
        }
    }
}
