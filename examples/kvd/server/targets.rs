//! Commands that make a value in parts: one at a time for each key, in the order of their arrival.
//!
//! A value can be large. Of several that are made for one key at the same time, all but the last one are useless, and
//! together they would need a multiple of the memory.
//!
//! A command that waits has its arguments, which count for `maxmemory-clients`, and its client is not read. When the client
//! is known to have left (on Linux also by a reset meanwhile), its command is dropped, and one that is executed ends without a value. Otherwise clients that come and leave
//! again could make the server keep any number of commands, and execute them. Nobody was promised that such a command is
//! executed: Redis does not execute what it has not read when the connection is reset, either. A client that has only
//! finished sending, or has closed its socket before the server has sent it something, has not left: it may wait for its
//! replies.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::Server;
use super::shared::{Data, Shared};
use crate::store::text::Text;

/// The keys for which a value is being made, each with the number of its database. Each of them has a queue of the commands
/// that wait, by their tickets: the number of the worker and the id of the client.
#[derive(Default)]
pub struct Targets {
    pub queues: HashMap<Name, BTreeMap<u64, (usize, u64)>>,
    last_ticket: u64,
}

/// The number of a database, and a key.
type Name = (usize, Text);

/// A key for which a command makes a value. When it is dropped, the next command begins.
pub struct Target {
    pub database: usize,
    pub key: Text,
    shared: Arc<Shared>,
}

/// Begins a command.
type Begin = Box<dyn FnOnce(&Rc<Server>, Target)>;

/// A command that has not begun, and its place in the queue. The first command for a key is in none.
pub struct WaitingCommand {
    begin: Begin,
    place: Option<(Name, u64)>,
}

impl Server {
    /// Calls `begin` on this worker when no other command makes a value for this key. It is for this client, which waits.
    pub fn begin_for(&self, data: &mut Data, client: u64, name: Name, begin: Begin) {
        let Targets {
            queues,
            last_ticket,
        } = &mut data.targets;
        let place = match queues.entry(name.clone()) {
            Entry::Occupied(mut waiting) => {
                *last_ticket += 1;
                let waiting = waiting.get_mut();
                waiting.insert(*last_ticket, (self.number, client));
                Some((name, *last_ticket))
            }
            Entry::Vacant(entry) => {
                entry.insert(BTreeMap::new());
                let target = Target {
                    database: name.0,
                    key: name.1,
                    shared: Arc::clone(&self.shared),
                };
                asynchat::call_soon(move || begin_command(client, target));
                None
            }
        };
        let command = WaitingCommand { begin, place };
        self.waiting_commands.borrow_mut().insert(client, command);
    }

    /// Takes the command of a client that has left out of its queue. Whoever drops it has given back the lock.
    pub fn leave_target(&self, data: &mut Data, client: u64) -> Option<WaitingCommand> {
        let command = self.waiting_commands.borrow_mut().remove(&client)?;
        if let Some((name, ticket)) = &command.place
            && let Some(waiting) = data.targets.queues.get_mut(name)
        {
            waiting.remove(ticket);
        }
        Some(command)
    }
}

/// Begins the command of a client of this worker.
fn begin_command(client: u64, target: Target) {
    let Some(server) = Server::current() else {
        return;
    };
    let command = server.waiting_commands.borrow_mut().remove(&client);
    if let Some(command) = command {
        (command.begin)(&server, target);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let name = (self.database, std::mem::take(&mut self.key));
        let next = {
            let data = &mut *self.shared.lock();
            let waiting = data.targets.queues.get_mut(&name);
            match waiting.and_then(BTreeMap::pop_first) {
                Some((_, (worker, client))) => Some((data.workers[worker].remote.clone(), client)),
                None => {
                    data.targets.queues.remove(&name);
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
