use std::fmt;
use std::io;

use bytes::Bytes;

use super::{More, Producer};

/// Sends bytes that are in memory already, without another copy.
///
/// asynchat's `push` wrapped its data in one, with chunks of 512 bytes. Here a chunk has the size of the
/// budget, unless [`chunk_size`](SimpleProducer::chunk_size) is smaller. Calling `more` does not fail.
///
/// ```
/// use asynchat::{More, Producer, SimpleProducer};
///
/// let mut producer = SimpleProducer::new("220 welcome\r\n").chunk_size(8);
/// assert_eq!(producer.more(65536)?, More::Chunk("220 welc".into()));
/// assert_eq!(producer.more(3)?, More::Chunk("ome".into()));
/// assert_eq!(producer.more(65536)?, More::Chunk("\r\n".into()));
/// assert_eq!(producer.more(65536)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
#[derive(Clone)]
pub struct SimpleProducer {
    data: Bytes,
    chunk_size: usize,
}

impl SimpleProducer {
    /// A producer of these bytes.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self {
            data: data.into(),
            chunk_size: usize::MAX,
        }
    }

    /// Limits each chunk to `size` bytes; 0 is taken as 1. By default only the budget limits it. Inside a
    /// [`ChunkedProducer`](super::ChunkedProducer) this sets the size of the HTTP chunks.
    pub fn chunk_size(mut self, size: usize) -> Self {
        self.chunk_size = size.max(1);
        self
    }
}

impl fmt::Debug for SimpleProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleProducer")
            .field("left", &self.data.len())
            .field("chunk_size", &self.chunk_size)
            .finish()
    }
}

impl Producer for SimpleProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        self.data.more(budget.min(self.chunk_size))
    }
}
