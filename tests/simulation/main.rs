//! The crate under a simulated network: random sessions, random peers, random kernels, and the
//! rules checked after every turn.
//!
//! `ASYNCHAT_SEEDS` says how many seeds to run (2,000 unless set). A seed that fails is printed with
//! the invariant that it breaks and the line that runs it again, which then prints all that happened:
//!
//! ```text
//! ASYNCHAT_SEED=123 cargo test --features sim --test simulation the_rules_hold_whatever_happens
//! ```
//!
//! One random program (`world.rs`) does everything at once and compares each callback and each byte with
//! an oracle. The others each look for one class of defect, and check what the first cannot.

mod actor;
#[path = "../common/allocator.rs"]
mod allocator;
mod bounds;
mod cuts;
mod endings;
mod gone;
mod oracle;
mod outsider;
mod plain;
mod rng;
mod seeds;
mod track;
mod worker;
mod world;

#[test]
fn the_rules_hold_whatever_happens() {
    seeds::check("the_rules_hold_whatever_happens", 1, world::run);
}

#[test]
fn output_does_not_depend_on_segmentation() {
    seeds::check("output_does_not_depend_on_segmentation", 4, cuts::run);
}

#[test]
fn no_work_is_started_for_a_peer_that_is_gone() {
    seeds::check("no_work_is_started_for_a_peer_that_is_gone", 4, gone::run);
}

#[test]
fn memory_and_calls_stay_below_their_bounds() {
    seeds::check("memory_and_calls_stay_below_their_bounds", 16, bounds::run);
}

#[test]
fn every_connection_ends() {
    seeds::check("every_connection_ends", 4, endings::run);
}
