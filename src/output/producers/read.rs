use std::any::type_name;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Take};

use bytes::Bytes;

use super::pool::{Buffer, SIZE};
use super::{More, Producer};

/// How many reads in a row may be interrupted in one call of `more`. A signal interrupts one or two. A reader that is
/// interrupted every time must not stop the loop.
const MAX_READS: usize = 16;

/// Sends what a [`Read`] yields, up to its end: a file, for example.
///
/// Each call of `more` reads once, at most 65,536 bytes, into a buffer of the thread that is used again
/// when the chunk has been sent. A reader that is no [`File`] gets it filled with zeros, so that a defect of the
/// reader cannot send what another connection was sent before. To send a part of a file, [seek](std::io::Seek) and set the
/// [`length`](ReadProducer::length).
///
/// The loop waits while `read` runs. A local file is fine. A pipe, a terminal or a network file system may
/// stall, and then stalls every connection: read these on another thread and post the bytes.
///
/// # Errors
///
/// Those of `read`, with two exceptions. `Interrupted` is tried again, at first at once, after 16 times in a later
/// turn. `WouldBlock`, from a reader that does
/// not block, becomes [`More::Pending`]: call
/// [`Chat::resume_producing`](crate::Chat::resume_producing) when the reader is readable.
///
/// ```
/// use std::io::Cursor;
/// use asynchat::{More, Producer, ReadProducer};
///
/// let mut producer = ReadProducer::new(Cursor::new("abcdefgh")).length(6);
/// assert_eq!(producer.more(4)?, More::Chunk("abcd".into()));
/// assert_eq!(producer.more(4)?, More::Chunk("ef".into()));
/// assert_eq!(producer.more(4)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
pub struct ReadProducer<R> {
    reader: R,
    /// How many bytes are still to be sent, if that is known.
    left: Option<u64>,
}

impl<R: Read> ReadProducer<R> {
    /// A producer of everything from the position of `reader` to its end.
    pub fn new(reader: R) -> Self {
        Self { reader, left: None }
    }

    /// Sends exactly `bytes` bytes: those that were announced to the peer, such as the `Content-Length` of
    /// HTTP. It saves the read that finds the end of the file.
    ///
    /// If the reader ends earlier, because the file was truncated while it was sent, that is an
    /// [`UnexpectedEof`](ErrorKind::UnexpectedEof) error: the connection is reset, and the peer can tell
    /// that the body is incomplete. What a file has grown by is not sent.
    ///
    /// ```
    /// # use asynchat::{Chat, ReadProducer};
    /// use std::fs::File;
    ///
    /// fn send_file(chat: &Chat, path: &str) -> std::io::Result<()> {
    ///     let file = File::open(path)?;
    ///     let length = file.metadata()?.len();
    ///     write!(chat, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    ///     chat.push_with_producer(ReadProducer::new(file).length(length));
    ///     Ok(())
    /// }
    /// ```
    pub fn length(mut self, bytes: u64) -> Self {
        self.left = Some(bytes);
        self
    }
}

impl<R> fmt::Debug for ReadProducer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadProducer")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Producer for ReadProducer<R> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let left = self.left.unwrap_or(u64::MAX);
        if left == 0 {
            return Ok(More::Done);
        }
        let wanted = budget.clamp(1, SIZE);
        let wanted = usize::try_from(left).map_or(wanted, |left| left.min(wanted));
        let mut buffer = Buffer::take();
        if !is_file::<R>() {
            // Otherwise a reader that reports more bytes than it has written would send what another connection
            // was sent before.
            buffer.room(wanted).fill(0);
        }
        let mut reads = 0;
        let read = loop {
            reads += 1;
            match self.reader.read(buffer.room(wanted)) {
                Err(error) if error.kind() == ErrorKind::Interrupted && reads < MAX_READS => {}
                other => break other,
            }
        };
        match read {
            // Other connections get their turn before the next attempt.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(More::Chunk(Bytes::new())),
            Ok(0) if self.left.is_some() => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                format!("the reader ended {left} bytes before the length that was set"),
            )),
            Ok(0) => Ok(More::Done),
            Ok(count) if count <= wanted => {
                if let Some(left) = &mut self.left {
                    *left -= count as u64;
                }
                Ok(More::Chunk(buffer.into_bytes(count)))
            }
            Ok(_) => Err(io::Error::other(
                "read() returned more bytes than the buffer has",
            )),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(More::Pending),
            Err(error) => Err(error),
        }
    }
}

/// Whether the reader is known to write all bytes that it counts. Its buffer needs no zeros, which cost about a fifth
/// of the time of reading from the page cache. A name is enough, because readers have defects and do not deceive.
fn is_file<R>() -> bool {
    let name = type_name::<R>();
    name == type_name::<File>()
        || name == type_name::<&File>()
        || name == type_name::<Take<File>>()
        || name == type_name::<BufReader<File>>()
}
