//! The memory of the reply of EXEC. It is complete before any of it is sent, so it counts as a result, for
//! `maxmemory-clients`, and for `client-output-buffer-limit`. If it is too long, the connection ends, but the transaction
//! is executed as a whole, as in Redis.

use std::io;
use std::sync::{Arc, Mutex};

use asynchat::{More, Producer};

use super::Context;
use crate::resp::reply::Part;
use crate::server::results::ResultMemory;
use crate::server::shared::lock;

/// The memory is noted each time that it has grown by as much, and each time that as much is sent.
const STEP: usize = 1 << 20;

/// A reply that is being made.
pub(super) struct Counted {
    /// `None` while it is short.
    memory: Option<Arc<Mutex<Memory>>>,
    /// How many parts of the reply are counted, and their bytes.
    parts: usize,
    bytes: usize,
    /// How many of the bytes are noted.
    noted: usize,
    is_ended: bool,
}

/// What is noted and not sent yet.
struct Memory {
    result: ResultMemory,
    size: usize,
}

impl Counted {
    pub(super) fn new(context: &Context<'_>) -> Counted {
        Counted {
            memory: None,
            parts: context.reply.parts.len(),
            bytes: 0,
            noted: 0,
            is_ended: false,
        }
    }

    /// The reply has grown.
    pub(super) fn note(&mut self, context: &mut Context<'_>) {
        if self.is_ended {
            return context.reply.clear();
        }
        self.count_parts(context);
        let size = self.bytes + context.reply.len();
        let step = size.saturating_sub(self.noted);
        if step < STEP {
            return;
        }
        self.noted = size;
        let (client, chat) = (context.client, context.chat);
        let memory = self.memory.get_or_insert_with(|| {
            Arc::new(Mutex::new(Memory {
                result: context.result_memory(),
                size: 0,
            }))
        });
        let memory = Arc::clone(memory);
        let noted = lock(&memory).change(|it| it + step);
        self.is_ended = client.ends_for_reply(chat, size);
        if let Err(why) = noted
            && !self.is_ended
        {
            self.is_ended = true;
            client.closes.store(true);
            client.post(move |session| session.end_with(&why));
        }
        if self.is_ended {
            return context.reply.clear();
        }
        context.reply.produce(Sent { memory, step });
    }

    fn count_parts(&mut self, context: &Context<'_>) {
        let new = context.reply.parts.iter().skip(self.parts);
        self.bytes += new.map(Part::copied).sum::<usize>();
        self.parts = context.reply.parts.len();
    }
}

impl Memory {
    fn change(&mut self, size: impl FnOnce(usize) -> usize) -> io::Result<()> {
        self.size = size(self.size);
        self.result.note_use(self.size)
    }
}

/// Follows bytes that are noted. When it is asked for more, they are sent.
struct Sent {
    memory: Arc<Mutex<Memory>>,
    step: usize,
}

impl Producer for Sent {
    fn more(&mut self, _: usize) -> io::Result<More> {
        lock(&self.memory).change(|it| it - self.step)?;
        Ok(More::Done)
    }
}
