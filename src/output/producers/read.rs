use std::io::{self, ErrorKind, Read};

use bytes::BytesMut;

use super::{More, Producer};

/// The most that one call reads: a turn's worth of output.
const MAX_READ: usize = 65_536;

/// When less room than this is left in the buffer, a fresh one is used rather than reading crumbs.
const MIN_READ: usize = 4096;

/// What a [`Read`] yields, up to its end: a file above all.
///
/// Each call reads once, 64 KiB at most, into a buffer that is used again as soon as the chunk
/// before it has been sent. To send a part of a file, seek and [`take`](Read::take).
///
/// The loop waits while `read` does. A local file is fine; a pipe, a terminal or a network file
/// system that stalls will stall every connection: read those on a thread of their own and post the
/// bytes. A reader that is set not to block may return `WouldBlock`, which becomes
/// [`More::Pending`]; it is then up to you to notice when it is readable, and to call
/// `Chat::resume_producing`. `Interrupted` is tried again.
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
    /// All of it is initialised and free to be read into: a chunk is split off its front.
    room: BytesMut,
}

impl<R: Read> ReadProducer<R> {
    /// A producer of all that is left in `reader`.
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
                "read() returned more bytes than asked for",
            )),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(More::Pending),
            Err(error) => Err(error),
        }
    }
}
