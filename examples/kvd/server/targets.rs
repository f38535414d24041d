//! Commands that make a value in parts: one at a time for each key, in the order of their arrival.
//!
//! A value can be large. Of several that are made for one key at the same time, all but the last one are useless, and
//! together they would need a multiple of the memory.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::Server;
use super::shared::{Data, Shared};
use crate::store::text::Text;

/// The keys for which a value is being made, each with the number of its database. Each of them has a queue of the commands
/// that wait: the number of the worker and the id of the client.
#[derive(Default)]
pub struct Targets(HashMap<(usize, Text), VecDeque<(usize, u64)>>);

/// A key for which a command makes a value. When it is dropped, the next command begins.
pub struct Target {
    pub database: usize,
    pub key: Text,
    shared: Arc<Shared>,
}

/// Begins a command.
pub type Begin = Box<dyn FnOnce(&Rc<Server>, Target)>;

impl Server {
    /// Calls `begin` on this worker when no other command makes a value for this key. It is for this client, which waits.
    pub fn begin_for(
        &self,
        data: &mut Data,
        client: u64,
        (database, key): (usize, Text),
        begin: Begin,
    ) {
        self.waiting_commands.borrow_mut().insert(client, begin);
        match data.targets.0.entry((database, key.clone())) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push_back((self.number, client)),
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::new());
                let target = Target {
                    database,
                    key,
                    shared: Arc::clone(&self.shared),
                };
                asynchat::call_soon(move || begin_command(client, target));
            }
        }
    }
}

/// Begins the command of a client of this worker.
fn begin_command(client: u64, target: Target) {
    let Some(server) = Server::current() else {
        return;
    };
    let begin = server.waiting_commands.borrow_mut().remove(&client);
    if let Some(begin) = begin {
        begin(&server, target);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let name = (self.database, std::mem::take(&mut self.key));
        let next = {
            let data = &mut *self.shared.lock();
            let waiting = data.targets.0.get_mut(&name);
            match waiting.and_then(VecDeque::pop_front) {
                Some((worker, client)) => Some((data.workers[worker].remote.clone(), client)),
                None => {
                    data.targets.0.remove(&name);
                    None
                }
            }
        };
        // The lock is given back before: if the worker has ended, the target is dropped here, and the next command begins.
        if let Some((remote, client)) = next {
            let target = Target {
                database: name.0,
                key: name.1,
                shared: Arc::clone(&self.shared),
            };
            let _ = remote.post(move || begin_command(client, target));
        }
    }
}
