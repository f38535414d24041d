//! The keyspace on disk: a log, and a database of redb.
//!
//! The databases collect which keys and elements have changed. `changes.rs` makes rows (`rows.rs`) of them, once in a turn of a loop,
//! and of many changes some at a time. A thread (`writer.rs`) appends them to the log (`log.rs`, `frames.rs`), and only
//! then the replies of that turn are sent (`delayed.rs`). A second one syncs the log once a second (`syncer.rs`). A third
//! one (`saver.rs`) collects what is in the log (`unsaved.rs`), and puts it into redb from time to time (`saved.rs`,
//! `file.rs`, `tables.rs`). When the server starts, it puts the rest of the log there, and reads the keyspace from the rows
//! (`loader.rs`). Only one server has the folder (`folder.rs`).

mod changes;
mod clear;
pub mod delayed;
mod file;
mod folder;
mod frames;
pub mod journal;
mod later;
pub mod loader;
pub mod log;
mod names;
mod retry;
pub mod rows;
mod saved;
pub mod saver;
mod size;
pub mod status;
mod syncer;
mod table;
mod tables;
pub mod unsaved;
pub mod writer;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
