//! Which address is tried when (RFC 8305, Happy Eyeballs). Sans-IO: whoever asks says what time it is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The delay between two attempts that RFC 8305 section 5 recommends.
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The least there may be (section 5): with less, a name of many addresses is a burst of packets.
const LEAST_DELAY: Duration = Duration::from_millis(10);

/// As good as never, and within the clock's reach.
const MOST_DELAY: Duration = Duration::from_secs(86_400);

/// The addresses that are left, and when the next is due.
pub(crate) struct Plan {
    left: VecDeque<SocketAddr>,
    delay: Duration,
    /// None before the first attempt, and after one has failed: then the next is due at once.
    due: Option<Instant>,
}

impl Plan {
    pub(crate) fn new(addrs: impl IntoIterator<Item = SocketAddr>, delay: Duration) -> Self {
        Plan {
            left: interleave(addrs),
            delay: delay.clamp(LEAST_DELAY, MOST_DELAY),
            due: None,
        }
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.left.is_empty()
    }

    /// The address to try now, if it is time to; the one after it is due a delay later.
    pub(crate) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        let addr = self.left.pop_front()?;
        self.due = now.checked_add(self.delay);
        Some(addr)
    }

    /// An attempt has failed: the next need not wait.
    pub(crate) fn failed(&mut self) {
        self.due = None;
    }

    /// When to ask for the next address, if there is one and it has to be waited for.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.is_exhausted())
    }
}

/// The families in turn, beginning with that of the first address; within a family the order stays
/// (section 4). So a host whose IPv6 is broken costs one delay, however many addresses it has.
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

    /// All addresses of a plan, whose attempts fail one after another.
    fn order(addrs: &[SocketAddr]) -> Vec<SocketAddr> {
        let (mut plan, now) = (Plan::new(addrs.iter().copied(), DELAY), Instant::now());
        std::iter::from_fn(|| {
            plan.failed();
            plan.next(now)
        })
        .collect()
    }

    #[test]
    fn families_take_turns_and_keep_their_order() {
        let addrs = [v6(1), v6(2), v6(3), v4(1), v4(2)];
        assert_eq!(order(&addrs), [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        let addrs = [v4(1), v6(1), v6(2), v6(3)];
        assert_eq!(order(&addrs), [v4(1), v6(1), v6(2), v6(3)]);
        assert_eq!(order(&[v4(3), v4(1), v4(2)]), [v4(3), v4(1), v4(2)]);
        assert_eq!(order(&[]), []);
    }

    #[test]
    fn the_next_address_is_due_a_delay_after_the_one_before() {
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
        assert!(plan.is_exhausted());
    }

    #[test]
    fn one_that_fails_makes_the_next_due_at_once() {
        let (mut plan, start) = (Plan::new([v6(1), v4(1), v6(2)], DELAY), Instant::now());
        let soon = start + DELAY / 10;
        assert_eq!(plan.next(start), Some(v6(1)));
        plan.failed();
        assert_eq!(plan.next(soon), Some(v4(1)));
        assert_eq!(plan.next(soon), None);
        assert_eq!(plan.due(), Some(soon + DELAY));
    }

    #[test]
    fn a_delay_of_nothing_is_not_a_burst() {
        let (mut plan, start) = (Plan::new([v6(1), v4(1)], Duration::ZERO), Instant::now());
        assert_eq!(plan.next(start), Some(v6(1)));
        assert_eq!(plan.due(), Some(start + LEAST_DELAY));
    }

    #[test]
    fn a_delay_without_end_leaves_one_attempt_at_a_time() {
        let (mut plan, start) = (Plan::new([v6(1), v4(1)], Duration::MAX), Instant::now());
        assert_eq!(plan.next(start), Some(v6(1)));
        assert_eq!(plan.next(start + Duration::from_secs(3600)), None);
        plan.failed();
        assert_eq!(plan.next(start), Some(v4(1)));
    }
}
