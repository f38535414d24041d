//! The work, on rayon's pool. Knows nothing of connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use asynchat::Result;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tracing::debug;

/// What a bucket became, or why nothing came of it.
pub(crate) type Gold = Result<u64, &'static str>;

type Round = dyn Fn(u64, &[u8]) -> u64 + Send + Sync;

/// A pool of threads, and what it does to water.
pub(crate) struct Furnace {
    pool: ThreadPool,
    rounds: u32,
    round: Arc<Round>,
}

impl Furnace {
    /// A furnace that turns the water `rounds` times: `round` gets what the last one made of it.
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

    /// Turns `water` into gold and calls `deliver` with it, on a thread of the pool. Gives up, and
    /// drops `deliver`, once nobody has the other end of `client` any more.
    ///
    /// Buckets are begun in the order they came in. Nothing is bounded here: see to it that no client
    /// has too many.
    pub(crate) fn turn(
        &self,
        water: Vec<u8>,
        client: Weak<()>,
        deliver: impl FnOnce(Gold) + Send + 'static,
    ) {
        let (rounds, round) = (self.rounds, Arc::clone(&self.round));
        self.pool.spawn_fifo(move || {
            // Rayon ends the process for a panic in a spawned job, and the client waits for a reply.
            let work = || smelt(&water, rounds, &*round, || client.strong_count() > 0);
            match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Some(gold)) => deliver(Ok(gold)),
                Ok(None) => debug!("the client has left: its bucket is poured away"),
                Err(_) => deliver(Err("the furnace burst")),
            }
        });
    }
}

/// The gold, unless it is not wanted any more.
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

/// A round of FNV-1a over the water.
pub(crate) fn stir(gold: u64, water: &[u8]) -> u64 {
    let mix = |gold: u64, byte: &u8| (gold ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    water.iter().fold(gold, mix)
}
