//! The slow work, on rayon's thread pool. This file does not depend on connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use asynchat::Result;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tracing::debug;

/// The result of the work, or the reason for its failure.
pub(crate) type Gold = Result<u64, &'static str>;

type Round = dyn Fn(u64, &[u8]) -> u64 + Send + Sync;

/// A thread pool and the work that it does: it turns water into gold in a number of rounds.
pub(crate) struct Furnace {
    pool: ThreadPool,
    rounds: u32,
    round: Arc<Round>,
}

impl Furnace {
    /// Creates a furnace that calls `round` `rounds` times for each bucket. Each call gets the result of the
    /// previous one and the water.
    pub(crate) fn new(
        threads: usize,
        rounds: u32,
        round: impl Fn(u64, &[u8]) -> u64 + Send + Sync + 'static,
    ) -> Result<Self> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("furnace {n}"))
            .build()?;
        Ok(Furnace {
            pool,
            rounds,
            round: Arc::new(round),
        })
    }

    /// Turns `water` into gold and calls `deliver` with it, on a thread of the pool. When `client` can no
    /// longer be upgraded, the work is cancelled, and `deliver` is dropped.
    ///
    /// Buckets are started in the order of the calls. The number of queued buckets is not limited here; the
    /// caller must limit it for each client.
    pub(crate) fn turn(
        &self,
        water: Vec<u8>,
        client: Weak<()>,
        deliver: impl FnOnce(Gold) + Send + 'static,
    ) {
        let (rounds, round) = (self.rounds, Arc::clone(&self.round));
        self.pool.spawn_fifo(move || {
            // Rayon aborts the process when a spawned job panics. Here the client gets a reply instead.
            let work = || smelt(&water, rounds, &*round, || client.strong_count() > 0);
            match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Some(gold)) => deliver(Ok(gold)),
                Ok(None) => debug!("the client has disconnected: its work is cancelled"),
                Err(_) => deliver(Err("the furnace burst")),
            }
        });
    }
}

/// Runs the rounds. Returns `None` if the result is no longer wanted.
fn smelt(water: &[u8], rounds: u32, round: &Round, wanted: impl Fn() -> bool) -> Option<u64> {
    let mut gold = 0xcbf2_9ce4_8422_2325;
    for _ in 0..rounds {
        if !wanted() {
            return None;
        }
        gold = round(gold, water);
    }
    Some(gold)
}

/// One round: FNV-1a over the water.
pub(crate) fn stir(gold: u64, water: &[u8]) -> u64 {
    let mix = |gold: u64, byte: &u8| (gold ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    water.iter().fold(gold, mix)
}
