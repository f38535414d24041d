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

    /// Counts a port of a client until the result is dropped.
    pub fn share(&self, client: Option<&Addr>) -> Share {
        let client = Client::new(client);
        let ports = self.clone();
        *ports.0.borrow_mut().counts.entry(client).or_default() += 1;
        Share { ports, client }
    }

    /// Takes a port until the result is dropped. `None` if it is open already: to bind it would fail.
    pub fn take(&self, share: &Rc<Share>, addr: SocketAddr) -> Option<Taken> {
        let mut open = self.0.borrow_mut();
        open.addrs.insert(addr).then(|| Taken {
            share: Rc::clone(share),
            addr,
        })
    }
}

/// One of the ports that a client may have.
pub struct Share {
    ports: Ports,
    client: Client,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.ports.0.borrow_mut();
        if let Some(count) = open.counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.counts.remove(&self.client);
            }
        }
    }
}

pub struct Taken {
    share: Rc<Share>,
    addr: SocketAddr,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut open = self.share.ports.0.borrow_mut();
        open.addrs.remove(&self.addr);
    }
}
