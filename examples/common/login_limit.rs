//! A limit on failed log-ins from each address, over any number of connections. Several examples include this file by
//! its path.
//!
//! Each failure doubles the delay of the reply, if the program delays replies. After [`MAX_FAILURES`] failures, further
//! log-ins from the address fail without a check of the password. A timer forgets one failure of each address every
//! [`FORGET_INTERVAL`]. So an address can guess 10 passwords at first, and 120 in each hour after that.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::Addr;
use tracing::warn;

/// The largest count of failures of an address. At this count its passwords are not checked.
const MAX_FAILURES: u32 = 10;

/// How often one failure of each address is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(30);

/// The longest delay of a reply.
const MAX_DELAY: Duration = Duration::from_secs(16);

/// How many addresses the table may have. A further one replaces the one with the fewest failures.
const MAX_CLIENTS: usize = 4096;

/// The counts of failures. Clones share them.
#[derive(Clone, Default)]
pub struct LoginLimit {
    failures: Rc<RefCell<HashMap<Client, u32>>>,
    /// When the timer fires next. `None` before the first failure, and in the past when no failure is left.
    next_forget: Rc<Cell<Option<Instant>>>,
}

/// An address that clients come from. For IPv6 it is the network of 64 bits, because one customer usually
/// has such a network. All link-local addresses are in one network, so each of them is one, on its link. Without an
/// IP address it stands for all clients of a Unix-domain socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    ip: Option<IpAddr>,
    /// That of a link-local address, or 0.
    scope: u32,
}

impl Client {
    pub fn new(addr: Option<&Addr>) -> Client {
        let (ip, scope) = match addr.and_then(Addr::inet) {
            Some(SocketAddr::V6(v6)) if v6.ip().is_unicast_link_local() => {
                (Some(IpAddr::V6(*v6.ip())), v6.scope_id())
            }
            // A socket of both families has IPv4 addresses in IPv6 form, which are in one network.
            Some(addr) => (Some(network_of(addr.ip().to_canonical())), 0),
            None => (None, 0),
        };
        Client { ip, scope }
    }
}

fn network_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
        IpAddr::V4(_) => ip,
    }
}

/// An address, or the network of one of IPv6.
impl Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Some(IpAddr::V6(ip)) if !ip.is_unicast_link_local() => write!(f, "{ip}/64"),
            Some(IpAddr::V6(ip)) if self.scope == 0 => write!(f, "{ip}"),
            Some(IpAddr::V6(ip)) => write!(f, "{ip}%{}", self.scope),
            None => f.write_str("-"),
        }
    }
}

impl LoginLimit {
    /// Whether a password of the client may be checked.
    pub fn may_try(&self, client: Client) -> bool {
        self.failures
            .borrow()
            .get(&client)
            .is_none_or(|&n| n < MAX_FAILURES)
    }

    /// How long no password of the client will be checked, in whole seconds. `None`: one may be checked now.
    pub fn wait(&self, client: Client) -> Option<Duration> {
        (!self.may_try(client)).then(|| {
            let next = self.next_forget.get();
            let left = next.map_or(FORGET_INTERVAL, |next| next - asynchat::now());
            Duration::from_secs(left.as_secs() + 1)
        })
    }

    /// Counts a failure.
    pub fn record_failure(&self, client: Client) {
        if self.failures.borrow().is_empty() {
            self.schedule_forget();
        }
        self.record(client);
    }

    /// The delay of the reply to the last failure of the client: `first` for its first one, and twice as long for each
    /// further one.
    pub fn delay(&self, client: Client, first: Duration) -> Duration {
        let failures = self.failures.borrow();
        let count = failures.get(&client).copied().unwrap_or_default();
        let delay = first.saturating_mul(1 << count >> 1);
        delay.min(MAX_DELAY)
    }

    fn record(&self, client: Client) {
        let mut failures = self.failures.borrow_mut();
        if failures.len() >= MAX_CLIENTS && !failures.contains_key(&client) {
            let fewest = failures.iter().min_by_key(|&(_, n)| n);
            if let Some(fewest) = fewest.map(|(&client, _)| client) {
                failures.remove(&fewest);
            }
        }
        let count = failures.entry(client).or_default();
        // Once for an address, until one of its failures is forgotten.
        if *count + 1 == MAX_FAILURES {
            warn!(peer = %client, "too many wrong passwords: they are not checked for a while");
        }
        *count = MAX_FAILURES.min(*count + 1);
    }

    fn schedule_forget(&self) {
        let limit = self.clone();
        self.next_forget
            .set(Some(asynchat::now() + FORGET_INTERVAL));
        asynchat::call_later(FORGET_INTERVAL, move || {
            limit.forget();
            if !limit.failures.borrow().is_empty() {
                limit.schedule_forget();
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
    use std::net::SocketAddrV6;

    use super::*;

    const FIRST_DELAY: Duration = Duration::from_secs(1);

    fn client(ip: &str) -> Client {
        let ip: IpAddr = ip.parse().unwrap();
        Client::new(Some(&Addr::from(SocketAddr::new(ip, 119))))
    }

    /// The delay of the reply to one more failure.
    fn delay(limit: &LoginLimit, client: Client) -> Duration {
        limit.record(client);
        limit.delay(client, FIRST_DELAY)
    }

    #[test]
    fn delays_double_and_old_failures_are_forgotten() {
        let limit = LoginLimit::default();
        let ann = client("192.0.2.1");
        let delays: Vec<u64> = (0..MAX_FAILURES)
            .map(|_| {
                assert!(limit.may_try(ann));
                delay(&limit, ann).as_secs()
            })
            .collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 16, 16, 16, 16, 16]);
        assert!(!limit.may_try(ann) && limit.may_try(client("192.0.2.2")));
        assert_eq!(delay(&limit, ann), MAX_DELAY);
        limit.forget();
        assert!(limit.may_try(ann));
        for _ in 1..MAX_FAILURES {
            limit.forget();
        }
        assert_eq!(delay(&limit, ann), FIRST_DELAY);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let limit = LoginLimit::default();
        limit.record(client("2001:db8::1"));
        assert_eq!(delay(&limit, client("2001:db8::2")).as_secs(), 2);
        assert_eq!(delay(&limit, client("2001:db8:0:1::1")).as_secs(), 1);
        assert_eq!(delay(&limit, client("::ffff:192.0.2.1")).as_secs(), 1);
        assert_eq!(delay(&limit, client("::ffff:192.0.2.2")).as_secs(), 1);
        assert_eq!(delay(&limit, client("192.0.2.2")).as_secs(), 2);
    }

    /// One host of a link could lock out all others.
    #[test]
    fn a_link_local_address_is_one_client_of_its_link() {
        let client = |ip: &str, scope| {
            let addr = SocketAddrV6::new(ip.parse().unwrap(), 119, 0, scope);
            Client::new(Some(&Addr::from(SocketAddr::V6(addr))))
        };
        let limit = LoginLimit::default();
        for _ in 0..MAX_FAILURES {
            limit.record(client("fe80::1", 2));
        }
        for (ip, scope, may_try) in [
            ("fe80::1", 2, false),
            ("fe80::2", 2, true),
            ("fe80::1", 3, true),
            ("fe80::", 2, true),
            ("fe80::", 0, true),
        ] {
            assert_eq!(limit.may_try(client(ip, scope)), may_try, "{ip}%{scope}");
        }
        // Only for a link-local address the scope says more.
        assert!(client("2001:db8::1", 2) == client("2001:db8::2", 0));
        for (client, shown) in [
            (client("fe80::1", 2), "fe80::1%2"),
            (client("fe80::1", 0), "fe80::1"),
            (client("2001:db8::1", 2), "2001:db8::/64"),
            (client("::ffff:192.0.2.1", 0), "192.0.2.1"),
            (Client::new(None), "-"),
        ] {
            assert_eq!(client.to_string(), shown);
        }
    }

    #[test]
    fn a_full_table_drops_the_client_with_the_fewest_failures() {
        let limit = LoginLimit::default();
        let worst = client("198.51.100.1");
        limit.record(worst);
        limit.record(worst);
        for n in 0..2 * MAX_CLIENTS {
            limit.record(client(&format!("10.0.{}.{}", n / 256, n % 256)));
        }
        assert_eq!(limit.failures.borrow().len(), MAX_CLIENTS);
        assert_eq!(delay(&limit, worst).as_secs(), 4);
    }
}
