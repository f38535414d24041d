//! The quota of a listener: how many connections it may have, in all and from one address.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::load::{Load, Place};
use crate::Addr;
use crate::limits::Limits;

/// Counts the connections of a listener.
#[derive(Default)]
pub(crate) struct Quota(Scope);

/// Whose connections count.
enum Scope {
    OfLoop(RefCell<Totals>),
    OfWorkers(Shared),
}

/// The quota of a listener that several workers serve, as one of them has it.
struct Shared {
    totals: SharedTotals,
    load: Arc<Load>,
    /// The place of the connection that is being admitted, which the acceptor has counted for this worker.
    arriving: Cell<Option<Place>>,
}

/// The connections of all workers.
pub(crate) type SharedTotals = Arc<Mutex<Totals>>;

/// The connections that count.
#[derive(Default)]
pub(crate) struct Totals {
    connections: usize,
    /// The number of connections of each network that has any. The peers choose the keys: an ordered map
    /// is as fast for any of them.
    by_network: BTreeMap<Network, usize>,
}

/// One connection that is counted, until this is dropped.
pub(crate) struct Admission {
    quota: Rc<Quota>,
    network: Option<Network>,
}

/// The limit that a connection would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Connections,
    PerAddress,
}

/// What counts as one address: an IPv4 address, a /64 network of IPv6, or one link-local address of
/// IPv6. IPv4 addresses take the numbers of their 6to4 networks (2002:V4ADDR::/48, RFC 3056).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Network {
    /// The upper half of the address. For a link-local address its scope is in the bits that are zero
    /// there (RFC 4291 section 2.5.6).
    prefix: NonZeroU64,
    /// The lower half of a link-local address, zero for any other.
    interface: u64,
}

impl Quota {
    /// The quota of a listener that several workers serve, for the worker with this load.
    pub(crate) fn of_workers(totals: &SharedTotals, load: &Arc<Load>) -> Self {
        Quota(Scope::OfWorkers(Shared {
            totals: Arc::clone(totals),
            load: Arc::clone(load),
            arriving: Cell::new(None),
        }))
    }

    /// Counts a connection from `peer`, unless it would exceed a limit.
    pub(crate) fn admit(
        self: &Rc<Self>,
        peer: &Addr,
        limits: &Limits,
    ) -> Result<Admission, Exceeded> {
        let network = self.on_totals(|totals| {
            if totals.connections >= limits.connections {
                return Err(Exceeded::Connections);
            }
            let network = totals.count(peer, limits)?;
            totals.connections += 1;
            Ok(network)
        })?;
        if let Scope::OfWorkers(shared) = &self.0 {
            let place = shared.arriving.take();
            // Counted until the admission is dropped. A worker that listens by itself has not counted it yet.
            place.unwrap_or_else(|| shared.load.add()).keep();
        }
        Ok(Admission {
            quota: Rc::clone(self),
            network,
        })
    }

    /// Counts a connection whose client is not known yet.
    #[cfg(feature = "proxy-protocol")]
    pub(crate) fn admit_unknown(self: &Rc<Self>, limits: &Limits) -> Result<Admission, Exceeded> {
        self.admit(&Addr::Unix(None), limits)
    }

    /// The connection that is admitted next, during this call, has this place. If it is refused, the place is free
    /// again.
    pub(crate) fn arriving(&self, place: Place, admit: impl FnOnce()) {
        match &self.0 {
            Scope::OfLoop(_) => admit(),
            Scope::OfWorkers(shared) => {
                shared.arriving.set(Some(place));
                admit();
                drop(shared.arriving.take());
            }
        }
    }

    #[inline]
    fn on_totals<T>(&self, act: impl FnOnce(&mut Totals) -> T) -> T {
        match &self.0 {
            Scope::OfLoop(totals) => act(&mut totals.borrow_mut()),
            Scope::OfWorkers(shared) => {
                let totals = shared.totals.lock();
                act(&mut totals.unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

impl Totals {
    /// Counts a connection for the network of its peer, if it has one.
    #[inline]
    fn count(&mut self, peer: &Addr, limits: &Limits) -> Result<Option<Network>, Exceeded> {
        let is_limited = limits.per_address != Limits::UNLIMITED;
        let network = peer.inet().filter(|_| is_limited).map(Network::of);
        if let Some(network) = network {
            match self.by_network.entry(network) {
                Entry::Occupied(mut count) if *count.get() < limits.per_address => {
                    *count.get_mut() += 1;
                }
                Entry::Vacant(count) if limits.per_address > 0 => {
                    count.insert(1);
                }
                _ => return Err(Exceeded::PerAddress),
            }
        }
        Ok(network)
    }

    fn leave(&mut self, network: Option<Network>) {
        self.connections = self.connections.saturating_sub(1);
        let Some(network) = network else { return };
        if let Entry::Occupied(mut count) = self.by_network.entry(network) {
            match count.get() {
                0 | 1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

#[cfg(feature = "proxy-protocol")]
impl Admission {
    /// Counts the connection for the network of its client, which is known now.
    pub(crate) fn identify(&mut self, client: &Addr, limits: &Limits) -> Result<(), Exceeded> {
        self.network = self
            .quota
            .on_totals(|totals| totals.count(client, limits))?;
        Ok(())
    }
}

impl Default for Scope {
    fn default() -> Self {
        Scope::OfLoop(RefCell::default())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.quota.on_totals(|totals| totals.leave(self.network));
        if let Scope::OfWorkers(shared) = &self.quota.0 {
            shared.load.leave();
        }
    }
}

impl Network {
    fn of(addr: SocketAddr) -> Self {
        let (prefix, interface) = match addr {
            SocketAddr::V4(v4) => (prefix_of(*v4.ip()), 0),
            SocketAddr::V6(v6) => {
                let (high, low) = halves_of(*v6.ip());
                if v6.ip().is_unicast_link_local() {
                    (high ^ u64::from(v6.scope_id()), low)
                } else {
                    (high, 0)
                }
            }
        };
        // The loopback address ::1 has a prefix of zero. No network has the prefix 1.
        let prefix = NonZeroU64::new(prefix).unwrap_or(NonZeroU64::MIN);
        Network { prefix, interface }
    }
}

fn prefix_of(v4: Ipv4Addr) -> u64 {
    0x2002_0000_0000_0000 | u64::from(u32::from(v4)) << 16
}

/// The upper and the lower 64 bits.
fn halves_of(v6: Ipv6Addr) -> (u64, u64) {
    let bits = u128::from(v6);
    ((bits >> 64) as u64, bits as u64)
}

#[cfg(test)]
mod tests {
    use super::super::inbox::Inbox;
    use super::super::load::AcceptorLink;
    use super::*;

    fn addr(ip: &str) -> Addr {
        Addr::from(std::net::SocketAddr::new(ip.parse().unwrap(), 40_000))
    }

    #[test]
    fn a_connection_that_ends_makes_room_for_another() {
        let quota = Rc::new(Quota::default());
        let limits = Limits::default().connections(2);
        let first = quota.admit(&addr("192.0.2.1"), &limits).ok();
        let _second = quota.admit(&addr("192.0.2.2"), &limits).ok().unwrap();
        let third = quota.admit(&addr("192.0.2.3"), &limits).err();
        assert_eq!(third, Some(Exceeded::Connections));
        drop(first);
        assert!(quota.admit(&addr("192.0.2.3"), &limits).is_ok());
    }

    #[test]
    fn an_address_has_a_limit_of_its_own_and_leaves_no_entry_behind() {
        let quota = Rc::new(Quota::default());
        let limits = Limits::default().per_address(1);
        let first = quota.admit(&addr("192.0.2.1"), &limits).ok();
        let second = quota.admit(&addr("192.0.2.1"), &limits).err();
        assert_eq!(second, Some(Exceeded::PerAddress));
        assert!(quota.admit(&addr("192.0.2.2"), &limits).is_ok());
        drop(first);
        quota.on_totals(|totals| {
            assert!(totals.by_network.is_empty());
            assert_eq!(totals.connections, 0);
        });
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let quota = Rc::new(Quota::default());
        let limits = Limits::default().per_address(1);
        let _first = quota.admit(&addr("2001:db8::1"), &limits).ok().unwrap();
        let neighbour = quota.admit(&addr("2001:db8::ffff:2"), &limits).err();
        assert_eq!(neighbour, Some(Exceeded::PerAddress));
        assert!(quota.admit(&addr("2001:db8:0:1::1"), &limits).is_ok());
        assert!(quota.admit(&addr("::1"), &limits).is_ok());
    }

    /// All link-local addresses have the same prefix, so the prefix does not identify a client's network.
    #[test]
    fn a_link_local_address_counts_as_one_address_of_its_link() {
        let quota = Rc::new(Quota::default());
        let limits = Limits::default().per_address(1);
        let client = |ip: &str, scope| {
            let addr = std::net::SocketAddrV6::new(ip.parse().unwrap(), 40_000, 0, scope);
            Addr::from(std::net::SocketAddr::V6(addr))
        };
        let _first = quota.admit(&client("fe80::1", 2), &limits).ok().unwrap();
        let second = quota.admit(&client("fe80::1", 2), &limits).err();
        assert_eq!(second, Some(Exceeded::PerAddress));
        let _neighbour = quota.admit(&client("fe80::2", 2), &limits).ok().unwrap();
        let _other_link = quota.admit(&client("fe80::1", 3), &limits).ok().unwrap();
        assert!(quota.admit(&addr("::1"), &limits).is_ok());
    }

    #[test]
    fn unix_clients_count_for_the_total_only() {
        let quota = Rc::new(Quota::default());
        let limits = Limits::default().connections(2).per_address(1);
        let client = Addr::Unix(None);
        let admitted: Vec<_> = (0..3).map(|_| quota.admit(&client, &limits)).collect();
        assert!(admitted[0].is_ok() && admitted[1].is_ok());
        assert_eq!(admitted[2].as_ref().err(), Some(&Exceeded::Connections));
    }

    /// Two workers with the quota of one listener.
    fn of_two_workers() -> ([Rc<Quota>; 2], [Arc<Load>; 2]) {
        let inbox = Arc::new(Inbox::without_loop());
        let link = AcceptorLink::new(&inbox);
        let totals = SharedTotals::default();
        let loads = [Load::new(&link), Load::new(&link)];
        let quotas = [0, 1].map(|worker| Rc::new(Quota::of_workers(&totals, &loads[worker])));
        (quotas, loads)
    }

    #[test]
    fn the_totals_of_workers_are_those_of_all() {
        let ([first, second], _) = of_two_workers();
        let limits = Limits::default().connections(3).per_address(2);
        let a = first.admit(&addr("192.0.2.1"), &limits).ok().unwrap();
        let _b = second.admit(&addr("192.0.2.1"), &limits).ok().unwrap();
        let refused = first.admit(&addr("192.0.2.1"), &limits).err();
        assert_eq!(refused, Some(Exceeded::PerAddress));
        let _c = second.admit(&addr("192.0.2.2"), &limits).ok().unwrap();
        let refused = first.admit(&addr("192.0.2.3"), &limits).err();
        assert_eq!(refused, Some(Exceeded::Connections));
        drop(a);
        assert!(second.admit(&addr("192.0.2.1"), &limits).is_ok());
    }

    #[test]
    fn a_connection_counts_once_for_its_worker_from_its_acceptance_to_its_end() {
        let ([quota, _], [load, other]) = of_two_workers();
        let limits = Limits::default().connections(1);
        let mut admitted = None;
        quota.arriving(load.add(), || {
            admitted = quota.admit(&addr("192.0.2.1"), &limits).ok();
        });
        assert_eq!(load.connections(), 1);
        // One that is refused, and one that was not even asked for.
        quota.arriving(load.add(), || {
            assert!(quota.admit(&addr("192.0.2.2"), &limits).is_err());
        });
        quota.arriving(load.add(), || ());
        assert_eq!(load.connections(), 1);
        drop(admitted);
        assert_eq!((load.connections(), other.connections()), (0, 0));
        // A worker that listens by itself.
        let alone = quota.admit(&addr("192.0.2.1"), &limits).ok().unwrap();
        assert_eq!(load.connections(), 1);
        drop(alone);
        assert_eq!(load.connections(), 0);
    }
}
