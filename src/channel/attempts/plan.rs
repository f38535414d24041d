//! Which address is tried at what time (RFC 8305, Happy Eyeballs). Sans-IO: the time is an argument.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The delay between two attempts that RFC 8305 section 5 recommends.
pub(crate) const RECOMMENDED_DELAY: Duration = Duration::from_millis(250);

/// The shortest delay (section 5). With less, a name with many addresses causes a burst of packets.
const MINIMUM_DELAY: Duration = Duration::from_millis(10);

/// The longest delay: one day, which can be added to the clock without an overflow.
const MAXIMUM_DELAY: Duration = Duration::from_secs(86_400);

/// The addresses that have not been tried, and when the next one is due.
pub(crate) struct Plan {
    untried: VecDeque<SocketAddr>,
    delay: Duration,
    /// `None` if the next address is due at once: before the first attempt, and after a failed one.
    due: Option<Instant>,
}

impl Plan {
    pub(crate) fn new(addrs: impl IntoIterator<Item = SocketAddr>, delay: Duration) -> Self {
        Plan {
            untried: interleave(addrs),
            delay: delay.clamp(MINIMUM_DELAY, MAXIMUM_DELAY),
            due: None,
        }
    }

    /// The address to try now, if one is due. The one after it is due one delay later.
    pub(crate) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        let addr = self.untried.pop_front()?;
        self.due = now.checked_add(self.delay);
        Some(addr)
    }

    /// An attempt has failed: the next address is due at once.
    pub(crate) fn attempt_failed(&mut self) {
        self.due = None;
    }

    /// When the next address is due, if there is one and it is not due at once.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.untried.is_empty())
    }
}

/// Alternates between the address families, beginning with the family of the first address. Within a
/// family the order stays (section 4). So a host whose IPv6 does not work costs one delay, however
/// many addresses it has.
fn interleave(addrs: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut addrs = addrs.into_iter().peekable();
    let v6_first = addrs.peek().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addrs.partition(|addr| addr.is_ipv6() == v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = VecDeque::with_capacity(first.len() + second.len());
    loop {
        let before = order.len();
        order.extend(first.next());
        order.extend(second.next());
        if order.len() == before {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(250);

    fn v4(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 119))
    }

    fn v6(host: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 119))
    }

    /// All addresses in the order of a plan whose attempts fail one after another.
    fn order(addrs: &[SocketAddr]) -> Vec<SocketAddr> {
        let (mut plan, now) = (Plan::new(addrs.iter().copied(), DELAY), Instant::now());
        std::iter::from_fn(|| {
            plan.attempt_failed();
            plan.next(now)
        })
        .collect()
    }

    #[test]
    fn families_alternate_and_keep_their_order() {
        let addrs = [v6(1), v6(2), v6(3), v4(1), v4(2)];
        assert_eq!(order(&addrs), [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        let addrs = [v4(1), v6(1), v6(2), v6(3)];
        assert_eq!(order(&addrs), [v4(1), v6(1), v6(2), v6(3)]);
        assert_eq!(order(&[v4(3), v4(1), v4(2)]), [v4(3), v4(1), v4(2)]);
        assert_eq!(order(&[]), []);
    }

    #[test]
    fn the_next_address_is_due_one_delay_after_the_previous_one() {
        let (mut plan, start) = (Plan::new([v6(1), v4(1), v6(2)], DELAY), Instant::now());
        assert_eq!(plan.due(), None);
        assert_eq!(plan.next(start), Some(v6(1)));
        assert_eq!(plan.due(), Some(start + DELAY));
        assert_eq!(plan.next(start + DELAY - Duration::from_nanos(1)), None);
        assert_eq!(plan.next(start + DELAY), Some(v4(1)));
        assert_eq!(plan.next(start + DELAY), None);
        assert_eq!(plan.due(), Some(start + DELAY * 2));
        assert_eq!(plan.next(start + DELAY * 2), Some(v6(2)));
        assert_eq!(plan.due(), None);
    }

    #[test]
    fn after_a_failed_attempt_the_next_address_is_due_at_once() {
        let (mut plan, start) = (Plan::new([v6(1), v4(1), v6(2)], DELAY), Instant::now());
        let soon = start + DELAY / 10;
        assert_eq!(plan.next(start), Some(v6(1)));
        plan.attempt_failed();
        assert_eq!(plan.next(soon), Some(v4(1)));
        assert_eq!(plan.next(soon), None);
        assert_eq!(plan.due(), Some(soon + DELAY));
    }

    #[test]
    fn a_delay_of_zero_counts_as_the_minimum() {
        let (mut plan, start) = (Plan::new([v6(1), v4(1)], Duration::ZERO), Instant::now());
        assert_eq!(plan.next(start), Some(v6(1)));
        assert_eq!(plan.due(), Some(start + MINIMUM_DELAY));
    }

    #[test]
    fn an_endless_delay_makes_one_attempt_at_a_time() {
        let (mut plan, start) = (Plan::new([v6(1), v4(1)], Duration::MAX), Instant::now());
        assert_eq!(plan.next(start), Some(v6(1)));
        assert_eq!(plan.next(start + Duration::from_secs(3600)), None);
        plan.attempt_failed();
        assert_eq!(plan.next(start), Some(v4(1)));
    }
}
