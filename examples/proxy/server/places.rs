//! The connections that are served: how many there may be, in all and of one address.
//!
//! The loop has such limits, too, but it refuses a connection before the first byte, which tells the protocol. So it accepts
//! some more, and these get a refusal that they understand.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use asynchat::{Addr, Limits};

use super::users::Client;

/// How many connections may wait for their refusal at a time, in all and of one address. Others are closed at once.
const REFUSED: usize = 64;
const REFUSED_OF_ONE: usize = 16;

/// The limits of the loop.
pub fn with_refused(limits: Limits) -> Limits {
    limits
        .connections(limits.connections.saturating_add(REFUSED))
        .per_address(limits.per_address.saturating_add(REFUSED_OF_ONE))
}

/// The places for connections.
pub struct Places {
    limits: Limits,
    taken: Rc<Taken>,
}

#[derive(Default)]
struct Taken {
    all: Cell<usize>,
    of_each: RefCell<HashMap<Client, usize>>,
}

/// The place of a connection, until it is dropped.
pub struct Place {
    taken: Rc<Taken>,
    client: Client,
}

impl Places {
    pub fn new(limits: Limits) -> Places {
        Places {
            limits,
            taken: Rc::default(),
        }
    }

    /// A place for a client, if there is one.
    pub fn take(&self, peer: Option<&Addr>) -> Option<Place> {
        let client = Client::new(peer);
        let Taken { all, of_each } = &*self.taken;
        let of_each = &mut *of_each.borrow_mut();
        let of_client = of_each.get(&client).copied().unwrap_or_default();
        if all.get() >= self.limits.connections || of_client >= self.limits.per_address {
            return None;
        }
        all.set(all.get() + 1);
        of_each.insert(client, of_client + 1);
        Some(Place {
            taken: Rc::clone(&self.taken),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Taken { all, of_each } = &*self.taken;
        all.set(all.get() - 1);
        let of_each = &mut *of_each.borrow_mut();
        if let Some(count) = of_each.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                of_each.remove(&self.client);
            }
        }
    }
}
