//! Benchmarks of single parts that use no socket: the splitter, the output queue and the timers. With the
//! feature `sim` also the registry, on the simulated network.
//!
//! ```text
//! cargo bench --bench parts --all-features
//! cargo bench --bench parts -- splitter     # benchmarks whose name contains this
//! cargo bench --bench parts -- --help
//! ```
//!
//! divan is used instead of criterion, because it needs half as many crates, and the examples use most of
//! them, too. It stores no results: to compare two versions, run one after the other.

mod fifo;
#[cfg(feature = "sim")]
mod registry;
mod splitter;
mod timers;

fn main() {
    divan::main();
}
