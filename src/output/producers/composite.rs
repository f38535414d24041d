use std::collections::VecDeque;
use std::io;
use std::mem;

use bytes::Bytes;

use super::{More, Producer};
use crate::user_code;

/// How many producers one call asks: each is the user's code.
const ASKED: usize = 64;

/// Several producers as one, each asked until it is done and dropped before the next one's turn.
///
/// A connection's queue does the same with producers pushed one by one. This is for wrapping the lot
/// of them, say a header made in memory and a file, in a [`DotStuffer`](super::DotStuffer) or a
/// [`ChunkedProducer`](super::ChunkedProducer). While the first is [`Pending`](More::Pending), so is
/// the whole.
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
/// One call of `more` asks at most 64 of them, which only matters where many have nothing to say.
#[derive(Default)]
pub struct CompositeProducer {
    producers: VecDeque<Box<dyn Producer>>,
}

impl CompositeProducer {
    /// A producer of what these produce, in this order.
    pub fn new(producers: impl IntoIterator<Item = Box<dyn Producer>>) -> Self {
        Self {
            producers: producers.into_iter().collect(),
        }
    }

    /// Adds a producer behind the others.
    pub fn push(&mut self, producer: impl Producer + 'static) {
        self.producers.push_back(Box::new(producer));
    }
}

impl Drop for CompositeProducer {
    fn drop(&mut self) {
        user_code::drop_each(mem::take(&mut self.producers));
    }
}

impl Producer for CompositeProducer {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        for _ in 0..ASKED {
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
