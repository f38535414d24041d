//! A long reply that waits for the log.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use asynchat::{More, Producer};

use crate::resp::reply::Part;
use crate::server::shared::lock;

/// The parts of a reply, which another thread provides. The connection sends them one after another, without a copy of
/// large strings, which thousands of replies may contain.
///
/// It follows an empty promise, which is fulfilled when the parts are there.
#[derive(Clone, Default)]
pub struct Later(Arc<Mutex<VecDeque<Part>>>);

impl Later {
    pub fn provide(&self, parts: impl Iterator<Item = Part>) {
        lock(&self.0).extend(parts);
    }
}

impl Producer for Later {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let mut parts = lock(&self.0);
        while let Some(part) = parts.pop_front() {
            match part {
                Part::Copied(data) => return Ok(More::Chunk(data.into())),
                Part::Shared(data) => return Ok(More::Chunk(data)),
                Part::Made(mut producer) => match producer.more(budget)? {
                    More::Done => {}
                    more => {
                        parts.push_front(Part::Made(producer));
                        return Ok(more);
                    }
                },
            }
        }
        Ok(More::Done)
    }
}
