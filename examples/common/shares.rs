//! What several clients share: ports, open files, places in a queue. Several examples include this file by its path.
//!
//! A client may have half of what the others leave, rounded down, and at least one while there is one. So one client alone has
//! half of all, however many connections it has, and the next one a quarter. Several clients together can take all: eight of
//! them take 100, and 15 take 10,000. (In switches, buffers are shared in this way: the dynamic thresholds of Choudhury and
//! Hahne, 1998.)

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Client;

/// Clones share the same. A share may be dropped on another thread.
#[derive(Clone)]
pub struct Shares(Arc<Mutex<Taken>>);

struct Taken {
    total: usize,
    sum: usize,
    by: HashMap<Client, usize>,
}

/// One of them, until it is dropped.
pub struct Share {
    shares: Shares,
    client: Client,
}

/// How many a client may have.
pub fn most(total: usize, of_others: usize) -> usize {
    let left = total.saturating_sub(of_others);
    (left / 2).max(1).min(left)
}

impl Shares {
    pub fn new(total: usize) -> Shares {
        Shares(Arc::new(Mutex::new(Taken {
            total,
            sum: 0,
            by: HashMap::new(),
        })))
    }

    pub fn unlimited() -> Shares {
        Shares::new(usize::MAX)
    }

    /// `None` if the client has as many as it may.
    pub fn take(&self, client: Client) -> Option<Share> {
        let may_take = {
            let taken = self.taken();
            let own = taken.by.get(&client).copied().unwrap_or_default();
            own < most(taken.total, taken.sum - own)
        };
        may_take.then(|| self.exchange(client))
    }

    /// Takes one for another one of this client, which is about to be dropped.
    pub fn exchange(&self, client: Client) -> Share {
        let mut taken = self.taken();
        taken.sum += 1;
        *taken.by.entry(client).or_default() += 1;
        Share {
            shares: self.clone(),
            client,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        taken.sum -= 1;
        if let Some(count) = taken.by.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;

    fn client(n: u8) -> Client {
        let ip = IpAddr::from(Ipv4Addr::new(192, 0, 2, n));
        Client::new(Some(&SocketAddr::new(ip, 1).into()))
    }

    fn take_all(shares: &Shares, client: Client) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(client)).collect()
    }

    #[test]
    fn a_client_has_half_of_what_the_others_leave() {
        let shares = Shares::new(100);
        let taken: Vec<_> = (0..10).map(|n| take_all(&shares, client(n))).collect();
        let counts: Vec<_> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [50, 25, 12, 6, 3, 2, 1, 1, 0, 0]);
        drop(taken);
        assert_eq!(take_all(&shares, client(7)).len(), 50);
        assert!(shares.taken().by.is_empty());
    }

    #[test]
    fn the_only_one_can_be_taken_and_exchanged() {
        let shares = Shares::new(1);
        let share = shares.take(client(1));
        assert!(share.is_some() && shares.take(client(1)).is_none());
        let other = shares.exchange(client(1));
        drop(share);
        assert!(shares.take(client(2)).is_none());
        drop(other);
        assert!(shares.take(client(2)).is_some());
    }
}
