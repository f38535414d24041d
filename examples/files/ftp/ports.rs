//! Passive ports that wait for a connection. One client must not take all ports of the range.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use asynchat::Addr;

use crate::users::Client;

/// How many ports wait for each client.
#[derive(Clone, Default)]
pub struct Ports(Rc<RefCell<HashMap<Client, usize>>>);

impl Ports {
    /// Counts another port of a client, until the result is dropped. `None` if it has `most` already.
    pub fn take(&self, client: Option<&Addr>, most: usize) -> Option<Taken> {
        let client = Client::new(client);
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(client).or_default();
        (*count < most).then(|| {
            *count += 1;
            let ports = self.clone();
            Taken { ports, client }
        })
    }
}

pub struct Taken {
    ports: Ports,
    client: Client,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut counts = self.ports.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}
