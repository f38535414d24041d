//! How many connections a listener has, in all and from one address.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::rc::Rc;

use crate::Addr;
use crate::limits::Limits;

/// The places of a listener.
#[derive(Default)]
pub(crate) struct Places {
    taken: Cell<usize>,
    /// Of the addresses that have any. The map's keys are hashed with a secret: the peers choose
    /// them.
    by_network: RefCell<HashMap<Network, usize>>,
}

/// A place that is taken, until this is dropped.
pub(crate) struct Place {
    of: Rc<Places>,
    network: Option<Network>,
}

/// Which cap was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Connections,
    Address,
}

/// What counts as one address: the upper half of an IPv6 address, and all of a link-local one. IPv4
/// ones have a place in that space (2002:V4ADDR::, RFC 3056).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Network {
    /// Of a link-local address also its scope, in the bits that are zero (RFC 4291 section 2.5.6).
    prefix: NonZeroU64,
    /// Zero, but for a link-local address.
    interface: u64,
}

impl Places {
    /// Takes a place for a client from `peer`.
    pub(crate) fn take(self: &Rc<Self>, peer: &Addr, limits: &Limits) -> Result<Place, Full> {
        if self.taken.get() >= limits.connections {
            return Err(Full::Connections);
        }
        let capped = limits.per_address != Limits::UNLIMITED;
        let network = peer.inet().filter(|_| capped).and_then(Network::of);
        if let Some(network) = network {
            let mut by_network = self.by_network.borrow_mut();
            let taken = by_network.get(&network).copied().unwrap_or(0);
            if taken >= limits.per_address {
                return Err(Full::Address);
            }
            by_network.insert(network, taken + 1);
        }
        self.taken.set(self.taken.get() + 1);
        let of = Rc::clone(self);
        Ok(Place { of, network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.taken.set(self.of.taken.get().saturating_sub(1));
        let Some(network) = self.network else { return };
        let mut by_network = self.of.by_network.borrow_mut();
        match by_network.get_mut(&network) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => drop(by_network.remove(&network)),
        }
    }
}

impl Network {
    fn of(addr: SocketAddr) -> Option<Self> {
        let (prefix, interface) = match addr {
            SocketAddr::V4(v4) => (Network::high_of(*v4.ip()), 0),
            SocketAddr::V6(v6) => {
                let (high, low) = halves_of(*v6.ip());
                match v6.ip().is_unicast_link_local() {
                    true => (high ^ u64::from(v6.scope_id()), low),
                    false => (high, 0),
                }
            }
        };
        // The IPv6 loopback address and other curiosities begin with zeros: nobody's network.
        let prefix = NonZeroU64::new(prefix.max(1))?;
        Some(Network { prefix, interface })
    }

    fn high_of(v4: Ipv4Addr) -> u64 {
        0x2002_0000_0000_0000 | u64::from(u32::from(v4)) << 16
    }
}

fn halves_of(v6: Ipv6Addr) -> (u64, u64) {
    let bits = u128::from(v6);
    ((bits >> 64) as u64, bits as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(ip: &str) -> Addr {
        Addr::from(std::net::SocketAddr::new(ip.parse().unwrap(), 40_000))
    }

    #[test]
    fn places_run_out_and_come_back() {
        let places = Rc::new(Places::default());
        let limits = Limits::default().connections(2);
        let first = places.take(&addr("192.0.2.1"), &limits).ok();
        let _second = places.take(&addr("192.0.2.2"), &limits).ok().unwrap();
        let third = places.take(&addr("192.0.2.3"), &limits).err();
        assert_eq!(third, Some(Full::Connections));
        drop(first);
        assert!(places.take(&addr("192.0.2.3"), &limits).is_ok());
    }

    #[test]
    fn one_address_has_its_own_cap_and_leaves_nothing_behind() {
        let places = Rc::new(Places::default());
        let limits = Limits::default().per_address(1);
        let first = places.take(&addr("192.0.2.1"), &limits).ok();
        let again = places.take(&addr("192.0.2.1"), &limits).err();
        assert_eq!(again, Some(Full::Address));
        assert!(places.take(&addr("192.0.2.2"), &limits).is_ok());
        drop(first);
        assert!(places.by_network.borrow().is_empty());
        assert_eq!(places.taken.get(), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let places = Rc::new(Places::default());
        let limits = Limits::default().per_address(1);
        let _first = places.take(&addr("2001:db8::1"), &limits).ok().unwrap();
        let neighbour = places.take(&addr("2001:db8::ffff:2"), &limits).err();
        assert_eq!(neighbour, Some(Full::Address));
        assert!(places.take(&addr("2001:db8:0:1::1"), &limits).is_ok());
        assert!(places.take(&addr("::1"), &limits).is_ok());
    }

    /// They are neighbours on one link, not the hosts of one customer.
    #[test]
    fn a_link_local_client_is_one_address_on_its_link() {
        let places = Rc::new(Places::default());
        let limits = Limits::default().per_address(1);
        let client = |ip: &str, scope| {
            let addr = std::net::SocketAddrV6::new(ip.parse().unwrap(), 40_000, 0, scope);
            Addr::from(std::net::SocketAddr::V6(addr))
        };
        let _first = places.take(&client("fe80::1", 2), &limits).ok().unwrap();
        let again = places.take(&client("fe80::1", 2), &limits).err();
        assert_eq!(again, Some(Full::Address));
        let _neighbour = places.take(&client("fe80::2", 2), &limits).ok().unwrap();
        let _other_link = places.take(&client("fe80::1", 3), &limits).ok().unwrap();
        assert!(places.take(&addr("::1"), &limits).is_ok());
    }

    #[test]
    fn unix_clients_count_in_all_only() {
        let places = Rc::new(Places::default());
        let limits = Limits::default().connections(2).per_address(1);
        let client = Addr::Unix(None);
        let taken: Vec<_> = (0..3).map(|_| places.take(&client, &limits)).collect();
        assert!(taken[0].is_ok() && taken[1].is_ok());
        assert_eq!(taken[2].as_ref().err(), Some(&Full::Connections));
    }
}
