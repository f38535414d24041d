//! What the parts cost that know no socket: the splitter, the queue of output, the timers; and, with
//! the feature `sim`, the registry, on a network in memory.
//!
//! ```text
//! cargo bench --bench parts --all-features
//! cargo bench --bench parts -- splitter     # those with this in their name
//! cargo bench --bench parts -- --help
//! ```
//!
//! divan rather than criterion: half the crates to build, most of which the examples need anyway.
//! It keeps no history, so to compare two versions run both, one after the other.

mod fifo;
#[cfg(feature = "sim")]
mod registry;
mod splitter;
mod timers;

fn main() {
    divan::main();
}
