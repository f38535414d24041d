//! Passive ports that wait for a connection. One client must not take all ports of the range.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;

use asynchat::Addr;

use crate::users::Client;

#[derive(Clone, Default)]
pub struct Ports(Rc<RefCell<Open>>);

#[derive(Default)]
struct Open {
    /// How many each client has.
    counts: HashMap<Client, usize>,
    addrs: HashSet<SocketAddr>,
}

impl Ports {
    /// How many ports of a client wait.
    pub fn count(&self, client: Option<&Addr>) -> usize {
        let client = Client::new(client);
        let open = self.0.borrow();
        open.counts.get(&client).copied().unwrap_or_default()
    }

    /// Counts a port of a client until the result is dropped. `None` if it is open already: to bind it would fail.
    pub fn take(&self, client: Option<&Addr>, addr: SocketAddr) -> Option<Taken> {
        let client = Client::new(client);
        let mut open = self.0.borrow_mut();
        open.addrs.insert(addr).then(|| {
            *open.counts.entry(client).or_default() += 1;
            let ports = self.clone();
            Taken {
                ports,
                client,
                addr,
            }
        })
    }
}

pub struct Taken {
    ports: Ports,
    client: Client,
    addr: SocketAddr,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut open = self.ports.0.borrow_mut();
        open.addrs.remove(&self.addr);
        if let Some(count) = open.counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.counts.remove(&self.client);
            }
        }
    }
}
