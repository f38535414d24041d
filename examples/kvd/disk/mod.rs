//! The keyspace on disk, in redb.
//!
//! The databases collect which keys and elements have changed. `rows.rs` makes rows of them, once in a turn of a loop
//! or once a second, and of many changes some at a time. `writer.rs` writes them on a thread of its own, in one
//! transaction for all workers. `loader.rs` reads them when the server starts.

mod clear;
pub mod journal;
pub mod loader;
pub mod rows;
pub mod writer;
