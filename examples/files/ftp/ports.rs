//! Passive ports that wait for a connection. A client has its share of the range.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;

use asynchat::Addr;

use crate::users::{Client, Share, Shares};

pub struct Ports {
    shares: Shares,
    open: Rc<RefCell<HashSet<SocketAddr>>>,
}

impl Ports {
    /// So many.
    pub fn new(count: usize) -> Ports {
        Ports {
            shares: Shares::new(count),
            open: Rc::default(),
        }
    }

    /// Counts a port of a client until the result is dropped. `None` if the client has its share. `replaces`: it is for
    /// another port of the client, which is about to close.
    pub fn share(&self, client: Option<&Addr>, replaces: bool) -> Option<Rc<Share>> {
        let client = Client::new(client);
        let share = if replaces {
            Some(self.shares.exchange(client))
        } else {
            self.shares.take(client)
        };
        share.map(Rc::new)
    }

    /// Whether a port that was drawn from the range is open, at any address.
    pub fn has(&self, port: u16) -> bool {
        self.open.borrow().iter().any(|addr| addr.port() == port)
    }

    /// Takes a port until the result is dropped. `None` if it is open already: to bind it would fail.
    pub fn take(&self, share: Option<&Rc<Share>>, addr: SocketAddr) -> Option<Taken> {
        let mut open = self.open.borrow_mut();
        open.insert(addr).then(|| Taken {
            _share: share.cloned(),
            open: Rc::clone(&self.open),
            addr,
        })
    }
}

pub struct Taken {
    _share: Option<Rc<Share>>,
    open: Rc<RefCell<HashSet<SocketAddr>>>,
    addr: SocketAddr,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.addr);
    }
}
