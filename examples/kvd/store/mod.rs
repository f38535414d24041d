//! The keyspace: plain data structures, which know no network, no clock and no disk.
//!
//! `text.rs`: short strings. `table.rs`: the hash table. `ranked.rs`: the order of a sorted set. `growth.rs`: how the
//! vector of a small collection grows. `value.rs`: what a key can have. `database/`: the keys of one database, with their
//! expiry. `change.rs`: what has changed of a key. `comparison.rs`: what a comparison of names costs. `watch.rs`: who watches it. `keyspace.rs`: all databases. `number.rs`,
//! `decimal.rs`: numbers as text. `dropper.rs`: a thread for destructors that take long. `estimate.rs`: the memory of
//! large collections.
//!
//! Nothing here belongs to a session or to a thread, so that several workers can share it behind a lock.

pub mod change;
pub mod comparison;
pub mod database;
pub mod decimal;
pub mod dropper;
pub mod estimate;
#[path = "../../common/glob.rs"]
pub mod glob;
pub mod growth;
pub mod hash;
pub mod keyspace;
pub mod list;
pub mod number;
pub mod ranked;
pub mod sorted_set;
pub mod table;
pub mod text;
pub mod touched;
pub mod value;
pub mod watch;
