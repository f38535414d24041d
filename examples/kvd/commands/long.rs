//! Replies that are made while they are sent, and results that are made before, in parts, so that no client waits for another.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use asynchat::bytes::Bytes;
use asynchat::{More, Producer};

use super::{Context, Outcome};
use crate::resp::reply::Reply;
use crate::resp::request::Args;
use crate::server::client::Client;
use crate::server::progress::Progress;
use crate::server::results::ResultMemory;
use crate::server::shared::lock;
use crate::store::comparison::cost_per_byte;
use crate::store::database::Entry;
pub(super) use crate::store::dropper::{Snapshot, drop_later};
use crate::store::glob::Comparison;
use crate::store::table::Table;

/// A collection of more elements than this is sent by a producer.
pub(super) const MANY: usize = crate::store::dropper::MANY;

/// So are elements of more bytes than this together.
pub(super) const MANY_BYTES: usize = 64 * 1024;

/// How many parts of a result or of a value are made at a time.
pub(super) const PARTS_AT_ONCE: usize = 2;

/// Whether so many elements, of these sizes, are sent by a producer.
pub(super) fn are_many(number: usize, mut sizes: impl Iterator<Item = usize>) -> bool {
    let mut bytes = 0;
    number > MANY
        || sizes.any(|size| {
            bytes += size;
            bytes > MANY_BYTES
        })
}

/// Whether a reply has become so long that a producer has to make the rest.
#[inline]
pub(super) fn is_long(reply: &Reply) -> bool {
    reply.len() > MANY_BYTES || reply.parts.len() > MANY
}

/// How many bytes of keys KEYS searches at a time, if the pattern is short. A key counts as so many more: a few thousand
/// short ones are a part.
const SEARCHED_AT_ONCE: usize = 128 * 1024;
const OVERHEAD: usize = 64;

/// Replies with elements that `next`, which has a snapshot, encodes one by one until it returns false. The client gets
/// them as it takes them.
pub(super) fn reply_items(
    reply: &mut Reply,
    mut next: impl FnMut(&mut Reply) -> bool + Send + 'static,
) {
    reply_parts(reply, move |reply, budget| {
        while has_room(reply, budget) && next(reply) {}
        Ok(())
    });
}

/// Replies with parts that `make` encodes one by one, until one is empty: elements while there is [room](has_room). An
/// error of `make` ends the connection.
pub(super) fn reply_parts(
    reply: &mut Reply,
    make: impl FnMut(&mut Reply, usize) -> io::Result<()> + Send + 'static,
) {
    reply.produce(PartsProducer {
        make,
        resp3: reply.resp3,
        chunks: Chunks::default(),
    });
}

/// What a producer has encoded, and returns before it encodes more.
#[derive(Default)]
pub(super) struct Chunks(VecDeque<Bytes>);

impl Chunks {
    pub(super) fn next(&mut self) -> Option<More> {
        self.0.pop_front().map(More::Chunk)
    }

    /// Returns the first chunk of a reply, and keeps the others.
    pub(super) fn first(&mut self, reply: Reply) -> Option<More> {
        self.0 = reply.into_chunks();
        self.next()
    }
}

/// Whether a producer encodes more elements into a reply: a large element, which is not copied, comes alone.
pub(super) fn has_room(reply: &Reply, budget: usize) -> bool {
    reply.len() < budget && reply.parts.is_empty()
}

struct PartsProducer<F> {
    make: F,
    resp3: bool,
    chunks: Chunks,
}

impl<F: FnMut(&mut Reply, usize) -> io::Result<()>> Producer for PartsProducer<F> {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if let Some(more) = self.chunks.next() {
            return Ok(more);
        }
        let mut reply = Reply {
            resp3: self.resp3,
            ..Reply::default()
        };
        reply.buffer.reserve(budget + 1024);
        (self.make)(&mut reply, budget)?;
        Ok(self.chunks.first(reply).unwrap_or(More::Done))
    }
}

/// A result that is made before its reply begins. It is made whether the client reads or not, so that the snapshot from which
/// it is made is dropped soon.
pub(super) trait LongResult: Send + 'static {
    /// Does one more part. An error ends the connection.
    fn turn(&mut self) -> io::Result<Progress>;
}

/// Makes a result in the next turns, as long as the reply is wanted, which is the other owner.
pub(super) fn make_later<R: LongResult>(context: &Context<'_>, result: R) -> Arc<Mutex<R>> {
    let result = Arc::new(Mutex::new(result));
    let wanted = Arc::downgrade(&result);
    let chat = context.chat.clone();
    let mut unfinished = Unfinished(Some(Arc::clone(context.client)));
    context.server.add_task(move |_| {
        let Some(result) = wanted.upgrade() else {
            unfinished.0 = None;
            return None;
        };
        let outcome = lock(&result).turn();
        match outcome {
            Ok(Progress::More) => return Some(Progress::More),
            Ok(Progress::Complete) => chat.resume_producing(),
            Err(why) => unfinished.end_with(why),
        }
        unfinished.0 = None;
        Some(Progress::Complete)
    });
    result
}

/// The client of a result that is being made. If that panics, its connection ends: nobody would resume the reply.
struct Unfinished(Option<Arc<Client>>);

impl Unfinished {
    fn end_with(&mut self, why: io::Error) {
        if let Some(client) = self.0.take() {
            client.post(move |session| session.end_with(&why));
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.end_with(io::Error::other("the result was not completed"));
    }
}

/// KEYS.
pub(super) fn keys(context: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (now, memory) = (context.data.keyspace.now(), context.result_memory());
    let db = context.db();
    let mut search = KeySearch {
        memory,
        table: Snapshot(db.table().clone()),
        pattern: super::pattern(args.get(1))?.to_vec(),
        now,
        comparison: Comparison::default(),
        segment: 0,
        within: 0,
        count: 0,
        found: Reply::default(),
        output: None,
    };
    if search.table.len() > MANY || search.advance() == Progress::More {
        let search = make_later(context, search);
        context.reply.produce(KeysReply(search));
        return Ok(());
    }
    context.reply.array(search.count);
    context.reply.buffer.extend_from_slice(&search.found.buffer);
    Ok(())
}

/// A search for keys in a snapshot of the table. The number of keys comes before them in the reply, so the search
/// ends before the reply begins. It does not wait for the client to read: the snapshot may be all that is left of the keys.
struct KeySearch {
    memory: ResultMemory,
    table: Snapshot<Table<Entry>>,
    pattern: Vec<u8>,
    now: i64,
    /// With the key that is searched next, if that is long.
    comparison: Comparison,
    /// The segment that is searched, and how many of its entries are done.
    segment: usize,
    within: usize,
    count: usize,
    found: Reply,
    /// When the search is complete, what is still to be sent: their number, and the keys, with the memory of all of them:
    /// a slice keeps the whole buffer.
    output: Option<(Bytes, Bytes, usize)>,
}

impl KeySearch {
    /// Searches one more part.
    fn advance(&mut self) -> Progress {
        let (mut searched, cost) = (0, cost_per_byte(&self.pattern));
        while let Some(entries) = self.table.segment(self.segment) {
            for entry in entries.skip(self.within) {
                if searched > SEARCHED_AT_ONCE {
                    return Progress::More;
                }
                let key = entry.key.as_bytes();
                let is_there = entry.expires == 0 || entry.expires > self.now;
                if is_there {
                    let Some(is_found) = self.comparison.advance(&self.pattern, key) else {
                        return Progress::More;
                    };
                    if is_found {
                        self.found.bulk(key);
                        self.count += 1;
                    }
                }
                searched += OVERHEAD + cost * key.len();
                self.within += 1;
            }
            self.segment += 1;
            self.within = 0;
        }
        Progress::Complete
    }
}

impl LongResult for KeySearch {
    fn turn(&mut self) -> io::Result<Progress> {
        self.memory.note_use(self.found.buffer.capacity())?;
        if self.advance() == Progress::More {
            return Ok(Progress::More);
        }
        self.table = Snapshot::default();
        let mut head = Reply::default();
        head.array(self.count);
        let found = std::mem::take(&mut self.found.buffer);
        let size = found.capacity();
        self.output = Some((head.buffer.into(), found.into(), size));
        Ok(Progress::Complete)
    }
}

/// The reply to KEYS.
struct KeysReply(Arc<Mutex<KeySearch>>);

impl Producer for KeysReply {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let KeySearch { output, memory, .. } = &mut *lock(&self.0);
        let Some((head, found, size)) = output else {
            return Ok(More::Pending);
        };
        memory.note_use(*size)?;
        if head.is_empty() {
            found.more(budget)
        } else {
            Ok(More::Chunk(std::mem::take(head)))
        }
    }
}
