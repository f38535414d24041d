use std::io::{self, ErrorKind, Read};

use bytes::BytesMut;

use super::{More, Producer};

/// The most that one call reads, in bytes: what a turn sends by default.
const MAX_READ: usize = 65_536;

/// If less room than this is left in the buffer, a new buffer is used, so that reads do not get tiny.
const MIN_READ: usize = 4096;

/// Sends what a [`Read`] yields, up to its end: a file, for example.
///
/// Each call of `more` reads once, at most 65,536 bytes, into a buffer that is used again when the chunk
/// before has been sent. To send a part of a file, [seek](std::io::Seek) and [`take`](Read::take).
///
/// The loop waits while `read` runs. A local file is fine. A pipe, a terminal or a network file system may
/// stall, and then stalls every connection: read these on another thread and post the bytes.
///
/// # Errors
///
/// Those of `read`, with two exceptions. `Interrupted` is tried again. `WouldBlock`, from a reader that does
/// not block, becomes [`More::Pending`]: call
/// [`Chat::resume_producing`](crate::Chat::resume_producing) when the reader is readable.
///
/// ```
/// use std::io::{Cursor, Read};
/// use asynchat::{More, Producer, ReadProducer};
///
/// let mut producer = ReadProducer::new(Cursor::new("abcdefgh").take(6));
/// assert_eq!(producer.more(4)?, More::Chunk("abcd".into()));
/// assert_eq!(producer.more(4)?, More::Chunk("ef".into()));
/// assert_eq!(producer.more(4)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ReadProducer<R> {
    reader: R,
    /// Initialised bytes to read into. A chunk is split off the front.
    room: BytesMut,
}

impl<R: Read> ReadProducer<R> {
    /// A producer of everything from the position of `reader` to its end.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            room: BytesMut::new(),
        }
    }
}

impl<R: Read> Producer for ReadProducer<R> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let wanted = budget.clamp(1, MAX_READ);
        if self.room.len() < wanted.min(MIN_READ) {
            self.room.resize(wanted, 0);
        }
        let wanted = wanted.min(self.room.len());
        let read = loop {
            match self
                .reader
                .read(self.room.get_mut(..wanted).unwrap_or_default())
            {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read {
            Ok(0) => Ok(More::Done),
            Ok(n) if n <= wanted => Ok(More::Chunk(self.room.split_to(n).freeze())),
            Ok(_) => Err(io::Error::other(
                "read() returned more bytes than the buffer has",
            )),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(More::Pending),
            Err(error) => Err(error),
        }
    }
}
