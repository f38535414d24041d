//! A peer outside the loop.

use std::cell::{Cell, RefCell};

use asynchat::sim::Peer;

use crate::world::World;

/// A peer outside the loop, and what it has done.
pub(crate) struct Outsider {
    pub(crate) peer: Peer,
    pub(crate) sent: RefCell<Vec<u8>>,
    finished: Cell<bool>,
    /// How much of its data had arrived when it reset.
    pub(crate) was_reset: Cell<Option<usize>>,
    pub(crate) reads: Cell<bool>,
    pub(crate) always_read: Cell<bool>,
}

impl Outsider {
    pub(crate) fn new(peer: Peer) -> Self {
        Outsider {
            peer,
            sent: RefCell::default(),
            finished: Cell::new(false),
            was_reset: Cell::new(None),
            reads: Cell::new(true),
            always_read: Cell::new(true),
        }
    }

    pub(crate) fn finish(&self) {
        self.peer.finish();
        self.finished.set(true);
    }

    /// Acts at random.
    pub(crate) fn act(&self, world: &World) {
        let (rng, peer) = (&world.rng, &self.peer);
        let over = self.finished.get() || self.was_reset.get().is_some() || peer.has_ended();
        match rng.below(30) {
            0 if rng.one_in(2) => {
                world.log(|| format!("{} finishes", peer.addr()));
                self.finish();
            }
            1 if rng.one_in(3) => {
                world.log(|| format!("{} resets", peer.addr()));
                let arrived = self.sent.borrow().len() - peer.unsent();
                if self.was_reset.get().is_none() {
                    self.was_reset.set(Some(arrived));
                }
                peer.reset();
            }
            2 => peer.send_urgent(b'!'),
            3 | 4 => {
                world.log(|| format!("{} shuts down its reading side", peer.addr()));
                peer.start_reading(rng.below(3) * 1000);
                self.reads.set(false);
                self.always_read.set(false);
            }
            5..9 => {
                peer.start_reading(usize::MAX);
                self.reads.set(true);
            }
            _ if over => {}
            _ => {
                let data = rng.input();
                world.log(|| format!("{} sends {}", peer.addr(), data.escape_ascii()));
                self.sent.borrow_mut().extend_from_slice(&data);
                peer.send(&data);
            }
        }
    }
}
