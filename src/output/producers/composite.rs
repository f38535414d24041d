use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;

use bytes::Bytes;

use super::{More, Producer};
use crate::user_code;

/// How many producers one call of `more` asks. Each is user code.
const MAX_ASKED: usize = 64;

/// Sends the output of several producers, one after another.
///
/// Each is asked until it is done, and dropped before the next one is asked. The queue of a connection
/// does the same with producers that are pushed one by one. This type is for wrapping all of them (a header
/// made in memory and a file, for example) in a [`DotStuffer`](super::DotStuffer) or a
/// [`ChunkedProducer`](super::ChunkedProducer).
///
/// While the first producer is [`Pending`](More::Pending), so is the whole. One call of `more` asks at most
/// 64 producers; if all of these are done at once, it returns an empty chunk.
///
/// # Errors
///
/// Those of the producers.
///
/// ```
/// use asynchat::{CompositeProducer, More, Producer, ReadProducer};
///
/// let mut producer = CompositeProducer::default();
/// producer.push("Subject: hello\r\n\r\n");
/// producer.push(ReadProducer::new(&b"How are you?\r\n"[..]));
/// assert_eq!(producer.more(65536)?, More::Chunk("Subject: hello\r\n\r\n".into()));
/// assert_eq!(producer.more(65518)?, More::Chunk("How are you?\r\n".into()));
/// assert_eq!(producer.more(65504)?, More::Done);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a producer does nothing until it is pushed"]
#[derive(Default)]
pub struct CompositeProducer {
    producers: VecDeque<Box<dyn Producer>>,
}

impl CompositeProducer {
    /// A producer of the output of these producers, in this order.
    pub fn new(producers: impl IntoIterator<Item = Box<dyn Producer>>) -> Self {
        Self {
            producers: producers.into_iter().collect(),
        }
    }

    /// Adds a producer at the end.
    pub fn push(&mut self, producer: impl Producer + 'static) {
        self.producers.push_back(Box::new(producer));
    }
}

impl fmt::Debug for CompositeProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompositeProducer")
            .field("producers", &self.producers.len())
            .finish()
    }
}

impl Drop for CompositeProducer {
    fn drop(&mut self) {
        user_code::drop_each(mem::take(&mut self.producers));
    }
}

impl Producer for CompositeProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        for _ in 0..MAX_ASKED {
            let Some(first) = self.producers.front_mut() else {
                return Ok(More::Done);
            };
            match first.more(budget)? {
                More::Done => drop(self.producers.pop_front()),
                other => return Ok(other),
            }
        }
        Ok(More::Chunk(Bytes::new()))
    }
}
