//! Which worker gets the next connection.

/// Spreads connections over workers: each goes to the one that has the fewest. Those with equally many take turns.
#[derive(Default)]
pub(super) struct Spread {
    /// The worker after the last one that was chosen.
    next: usize,
}

impl Spread {
    /// Chooses one of `count` workers. `load` is how many connections a worker has, or `None` if it can take none.
    pub(super) fn choose(
        &mut self,
        count: usize,
        load: impl Fn(usize) -> Option<usize>,
    ) -> Option<usize> {
        let rotated = (0..count).map(|offset| (self.next + offset) % count);
        let loads = rotated.filter_map(|worker| Some((worker, load(worker)?)));
        // The first of several that are equal.
        let (chosen, _) = loads.min_by_key(|(_, load)| *load)?;
        self.next = (chosen + 1) % count;
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_workers_take_turns() {
        let mut spread = Spread::default();
        let chosen: Vec<_> = (0..6).map(|_| spread.choose(3, |_| Some(0))).collect();
        let expected = [0, 1, 2, 0, 1, 2].map(Some);
        assert_eq!(chosen, expected);
    }

    #[test]
    fn the_worker_with_the_fewest_connections_is_chosen() {
        let mut spread = Spread::default();
        assert_eq!(spread.choose(3, |worker| Some([5, 3, 4][worker])), Some(1));
        assert_eq!(spread.choose(3, |worker| Some([3, 3, 4][worker])), Some(0));
    }

    #[test]
    fn a_worker_that_can_take_none_is_left_out() {
        let mut spread = Spread::default();
        let load = |worker| (worker != 0).then_some(9);
        assert_eq!(spread.choose(2, load), Some(1));
        assert_eq!(spread.choose(2, |_| None), None);
        assert_eq!(spread.choose(0, |_| Some(0)), None);
    }

    /// Whatever the order in which connections begin and end, each new one goes to a worker that has the fewest.
    #[test]
    fn connections_stay_within_one_while_none_ends() {
        let mut spread = Spread::default();
        let mut loads = [0usize; 7];
        for _ in 0..1000 {
            let chosen = spread.choose(7, |worker| Some(loads[worker])).unwrap();
            loads[chosen] += 1;
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            assert!(most - least <= 1, "{loads:?}");
        }
    }
}
