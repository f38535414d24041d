use std::fmt;
use std::io;
use std::mem;

use bytes::BytesMut;
use memchr::memchr2;

use super::iter::MAX_ITEMS;
use super::{More, Producer};
use crate::user_code::{self, discard};

/// Sends the items of an iterator as lines, each followed by CRLF.
///
/// The lines are gathered up to the budget. As with [`IterProducer`](super::IterProducer), one call takes
/// at most 8 items. Inside a [`DotStuffer`](super::DotStuffer) this makes the multi-line reply of NNTP and
/// POP3.
///
/// # Errors
///
/// An item that contains CR or LF is an [`InvalidInput`](io::ErrorKind::InvalidInput) error, after the
/// lines before it have been produced. It would let the author of the item send lines of the protocol, as
/// in CVE-2020-8794, where the text of a remote server's reply became lines of a mail envelope. Items that
/// end with their own CRLF belong in an [`IterProducer`](super::IterProducer). Lines that have to be read, and
/// whose reading may fail, are those of [`fallible`](LinesProducer::fallible).
///
/// ```
/// use asynchat::{LinesProducer, More, Producer};
///
/// let mut producer = LinesProducer::new(["250-example.org", "250 8BITMIME"]);
/// assert_eq!(producer.more(20)?, More::Chunk("250-example.org\r\n250".into()));
/// assert_eq!(producer.more(65536)?, More::Chunk(" 8BITMIME\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
///
/// let mut forged = LinesProducer::new(["no such user\r\n250 OK"]);
/// assert!(forged.more(65536).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
pub struct LinesProducer<I> {
    lines: I,
    buffer: BytesMut,
    state: State,
}

/// How the lines have ended.
enum State {
    /// They have not.
    More,
    Over,
    /// With this error, which is returned when the buffer is empty.
    Failed(io::Error),
}

impl<I: Iterator<Item: AsRef<[u8]>>> LinesProducer<I> {
    /// A producer of these lines.
    pub fn new(lines: impl IntoIterator<IntoIter = I>) -> Self {
        Self::of(lines.into_iter())
    }
}

impl<I: Iterator<Item = io::Result<T>>, T: AsRef<[u8]>> LinesProducer<FallibleLines<I>> {
    /// A producer of lines that may fail to be read, such as those of
    /// [`BufRead::lines`](std::io::BufRead::lines). The first error ends the output, after the lines before
    /// it have been produced: it is the error of the producer. So is `WouldBlock`, because a reader that does
    /// not block loses the beginning of a line.
    ///
    /// The loop waits while a line is read, as with a [`ReadProducer`](super::ReadProducer).
    ///
    /// ```
    /// use std::io::BufRead;
    /// use asynchat::{LinesProducer, More, Producer};
    ///
    /// let stored = &b"one\ntwo\r\n\xff\n"[..];
    /// let mut producer = LinesProducer::fallible(stored.lines());
    /// assert_eq!(producer.more(65536)?, More::Chunk("one\r\ntwo\r\n".into()));
    /// assert!(producer.more(65536).is_err()); // the third line is not UTF-8
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fallible(lines: impl IntoIterator<IntoIter = I>) -> Self {
        Self::of(FallibleLines(lines.into_iter()))
    }
}

impl<I> LinesProducer<I> {
    fn of(lines: I) -> Self {
        Self {
            lines,
            buffer: BytesMut::new(),
            state: State::More,
        }
    }
}

impl<I> fmt::Debug for LinesProducer<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinesProducer")
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}

impl<I: Iterator<Item: AsRef<[u8]>>> Producer for LinesProducer<I> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.produce(budget, |lines| lines.next().map(Ok))
    }
}

impl<I: Iterator<Item = io::Result<T>>, T: AsRef<[u8]>> Producer
    for LinesProducer<FallibleLines<I>>
{
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.produce(budget, |lines| {
            let line = lines.0.next()?;
            // The loop would take `WouldBlock` for "pending", and ask again.
            Some(line.map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::Error::other(error),
                _ => error,
            }))
        })
    }
}

impl<I> LinesProducer<I> {
    fn produce<T: AsRef<[u8]>>(
        &mut self,
        budget: usize,
        next_line: impl Fn(&mut I) -> Option<io::Result<T>>,
    ) -> io::Result<More> {
        let budget = budget.max(1);
        let mut taken = 0;
        while self.buffer.len() < budget && taken < MAX_ITEMS && matches!(self.state, State::More) {
            taken += 1;
            match next_line(&mut self.lines) {
                Some(Ok(line)) => self.append(line),
                Some(Err(error)) => self.state = State::Failed(error),
                None => self.state = State::Over,
            }
        }
        if !self.buffer.is_empty() {
            let fits = budget.min(self.buffer.len());
            return Ok(More::Chunk(self.buffer.split_to(fits).freeze()));
        }
        match mem::replace(&mut self.state, State::Over) {
            State::Failed(error) => Err(error),
            State::More | State::Over => Ok(More::Done),
        }
    }

    fn append(&mut self, line: impl AsRef<[u8]>) {
        // If it panics when it is read, it may panic when it is dropped, too.
        let (line, ()) = user_code::with(line, |line| {
            let line = line.as_ref();
            if memchr2(b'\r', b'\n', line).is_some() {
                let error = "a line to send contains CR or LF";
                self.state = State::Failed(io::Error::new(io::ErrorKind::InvalidInput, error));
            } else {
                self.buffer.extend_from_slice(line);
                self.buffer.extend_from_slice(b"\r\n");
            }
        });
        drop(line);
    }
}

impl<I> Drop for LinesProducer<I> {
    fn drop(&mut self) {
        // The destructor of the error that the iterator has returned is user code, and so is that of the iterator.
        // If both panicked in one unwinding, the process would abort.
        if let State::Failed(error) = mem::replace(&mut self.state, State::Over) {
            discard(error);
        }
    }
}

/// The lines of [`LinesProducer::fallible`].
pub struct FallibleLines<I>(I);

impl<I> fmt::Debug for FallibleLines<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FallibleLines").finish_non_exhaustive()
    }
}
