//! Who is connected, for the signal's thread to know: at the end each client is
//! told 421, which a loop that shuts down does not know how to say.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asynchat::{ChannelId, EventLoop};

/// The connections that there are. Clones are of the same.
#[derive(Clone, Default)]
pub struct Present(Arc<Mutex<HashSet<ChannelId>>>);

/// One of them, as long as it is kept.
pub struct Place(Present, ChannelId);

impl Present {
    pub fn add(&self, id: ChannelId) -> Place {
        self.ids().insert(id);
        Place(self.clone(), id)
    }

    /// Queues a line for all of them, behind what is queued already: also what
    /// a courier has yet to bring. To be called on the loop's thread.
    pub fn tell(&self, event_loop: &EventLoop, line: &str) {
        for chat in self.ids().iter().filter_map(|id| event_loop.chat(*id)) {
            write!(chat, "{line}\r\n");
        }
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<ChannelId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.ids().remove(&self.1);
    }
}
