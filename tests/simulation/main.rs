//! The crate on a simulated network: random sessions, peers and kernels, with the rules checked after
//! every turn.
//!
//! `ASYNCHAT_SEEDS` is the number of seeds to run (2,000 by default). For a seed that fails, the test
//! prints the invariant that it breaks and the command that runs it alone, which also prints a log:
//!
//! ```text
//! ASYNCHAT_SEED=123 cargo test --features sim --test simulation the_rules_hold_in_random_programs
//! ```
//!
//! One random program (`world.rs`) does everything at once and compares each callback and each byte with
//! an oracle. Each of the others looks for one class of defect, and checks what the first one cannot.

mod actor;
#[path = "../common/allocator.rs"]
mod allocator;
mod bounds;
mod deadlines;
mod departed_peer;
mod dispatcher;
mod liveness;
mod oracle;
mod outsider;
mod piping;
mod rng;
mod seeds;
mod segmentation;
mod track;
mod worker;
mod world;

#[test]
fn the_rules_hold_in_random_programs() {
    seeds::check("the_rules_hold_in_random_programs", 1, world::run);
}

#[test]
fn output_does_not_depend_on_segmentation() {
    seeds::check(
        "output_does_not_depend_on_segmentation",
        4,
        segmentation::run,
    );
}

#[test]
fn no_more_work_is_started_for_a_disconnected_peer() {
    seeds::check(
        "no_more_work_is_started_for_a_disconnected_peer",
        4,
        departed_peer::run,
    );
}

#[test]
fn memory_and_calls_stay_below_their_bounds() {
    seeds::check("memory_and_calls_stay_below_their_bounds", 16, bounds::run);
}

#[test]
fn every_connection_ends() {
    seeds::check("every_connection_ends", 4, liveness::run);
}

#[test]
fn deadlines_end_slow_peers_and_no_others() {
    seeds::check("deadlines_end_slow_peers_and_no_others", 40, deadlines::run);
}

#[test]
fn a_pipe_passes_every_byte_on() {
    seeds::check("a_pipe_passes_every_byte_on", 4, piping::run);
}
