//! Failed log-ins, by the address that they came from.
//!
//! Each makes the next answer slower, and too many from one address keep its log-ins from being
//! looked at, however many connections they come over. One is forgotten every [`FORGET`], by a
//! timer of the loop, so an address has [`MOST`] guesses at once and 120 an hour after that.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use asynchat::Addr;

/// Failures that are remembered of one address. At this number its passwords are not looked at.
const MOST: u32 = 10;

/// From one failure that is forgotten to the next.
const FORGET: Duration = Duration::from_secs(30);

/// The longest that an answer waits.
const LONGEST_DELAY: Duration = Duration::from_secs(16);

/// Addresses that are remembered. When there are more, the one with the fewest failures goes.
const ADDRESSES: usize = 4096;

/// All failures that are not forgotten yet. Clones share them.
#[derive(Clone)]
pub struct Guesses {
    /// How long the answer to the first failed log-in waits; each further one doubles it.
    first_delay: Duration,
    failures: Rc<RefCell<HashMap<Client, u32>>>,
}

/// Who guesses: an address, or for IPv6 a network of 64 bits, which is what one customer has.
/// `None` is all clients of a Unix-domain socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(Option<IpAddr>);

impl Client {
    pub fn new(addr: Option<&Addr>) -> Client {
        Client(addr.and_then(Addr::ip).map(|ip| match ip {
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
            ip @ IpAddr::V4(_) => ip,
        }))
    }
}

impl Guesses {
    pub fn new(first_delay: Duration) -> Guesses {
        Guesses {
            first_delay,
            failures: Rc::default(),
        }
    }

    /// Whether the password may be looked at. If not, the answer must be that of a wrong one.
    pub fn may_try(&self, client: Client) -> bool {
        self.failures
            .borrow()
            .get(&client)
            .is_none_or(|&n| n < MOST)
    }

    /// Remembers a failure, and returns how long its answer has to wait.
    pub fn failed(&self, client: Client) -> Duration {
        if self.failures.borrow().is_empty() {
            self.forget_later();
        }
        self.remember(client)
    }

    fn remember(&self, client: Client) -> Duration {
        let mut failures = self.failures.borrow_mut();
        if failures.len() >= ADDRESSES && !failures.contains_key(&client) {
            let fewest = failures.iter().min_by_key(|&(_, n)| n);
            if let Some(fewest) = fewest.map(|(&client, _)| client) {
                failures.remove(&fewest);
            }
        }
        let count = failures.entry(client).or_default();
        let delay = self.first_delay.saturating_mul(1 << *count);
        *count = MOST.min(*count + 1);
        delay.min(LONGEST_DELAY)
    }

    fn forget_later(&self) {
        let guesses = self.clone();
        asynchat::call_later(FORGET, move || {
            guesses.forget();
            if !guesses.failures.borrow().is_empty() {
                guesses.forget_later();
            }
        });
    }

    /// Forgets one failure of each address.
    fn forget(&self) {
        self.failures.borrow_mut().retain(|_, count| {
            *count -= 1;
            *count > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const FIRST_DELAY: Duration = Duration::from_secs(1);

    fn client(ip: &str) -> Client {
        let ip: IpAddr = ip.parse().unwrap();
        Client::new(Some(&Addr::from(SocketAddr::new(ip, 119))))
    }

    #[test]
    fn delays_grow_and_shrink_and_end() {
        let guesses = Guesses::new(FIRST_DELAY);
        let ann = client("192.0.2.1");
        let delays: Vec<u64> = (0..MOST)
            .map(|_| {
                assert!(guesses.may_try(ann));
                guesses.remember(ann).as_secs()
            })
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 16, 16, 16, 16, 16]);
        assert!(!guesses.may_try(ann) && guesses.may_try(client("192.0.2.2")));
        assert_eq!(guesses.remember(ann), LONGEST_DELAY);
        guesses.forget();
        assert!(guesses.may_try(ann));
        for _ in 1..MOST {
            guesses.forget();
        }
        assert_eq!(guesses.remember(ann), FIRST_DELAY);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let guesses = Guesses::new(FIRST_DELAY);
        guesses.remember(client("2001:db8::1"));
        assert_eq!(guesses.remember(client("2001:db8::2")).as_secs(), 2);
        assert_eq!(guesses.remember(client("2001:db8:0:1::1")).as_secs(), 1);
    }

    #[test]
    fn the_table_is_bounded_and_the_worst_stay_in_it() {
        let guesses = Guesses::new(FIRST_DELAY);
        let worst = client("198.51.100.1");
        guesses.remember(worst);
        guesses.remember(worst);
        for n in 0..2 * ADDRESSES {
            guesses.remember(client(&format!("10.0.{}.{}", n / 256, n % 256)));
        }
        assert_eq!(guesses.failures.borrow().len(), ADDRESSES);
        assert_eq!(guesses.remember(worst).as_secs(), 4);
    }
}
