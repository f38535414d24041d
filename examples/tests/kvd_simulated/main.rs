//! The `kvd` example on a simulated network: every segmentation, clients that wait, messages, expiry, limits, and
//! replies that wait for the disk.

#![allow(
    clippy::mutable_key_type,
    reason = "a long text remembers its hash, which does not change"
)]
#![allow(
    unreachable_pub,
    dead_code,
    reason = "only the command line of `kvd` uses the rest"
)]

#[path = "../../../tests/common/allocator.rs"]
mod allocator;
mod bounded;
mod clients;
#[path = "../../kvd/commands/mod.rs"]
mod commands;
#[path = "../../kvd/disk/mod.rs"]
mod disk;
mod durable;
mod figures;
mod full_disk;
mod half_closed;
mod large;
mod leaving;
mod long;
mod messages;
mod output;
mod parts;
mod patterns;
mod pauses;
mod replies;
#[path = "../../kvd/resp/mod.rs"]
mod resp;
mod restarted;
mod results;
mod retained;
mod scene;
#[path = "../../kvd/server/mod.rs"]
mod server;
mod shared_turns;
mod sorting;
#[path = "../../kvd/store/mod.rs"]
mod store;
mod targets;
mod tracking;
