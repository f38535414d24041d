//! The last close of a large file that was removed or replaced. The system frees its blocks then, which takes a tenth of a second
//! for a gigabyte: the loop must not wait for it.

use std::fs::File;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// To close a smaller file takes less than two milliseconds.
pub const LARGE: u64 = 16 << 20;

/// Closes a file, whose name was removed, on the thread that closes such files one after the other.
pub fn close(file: File) {
    static THREAD: OnceLock<Option<Sender<File>>> = OnceLock::new();
    // Windows may keep the name of a file that is open.
    let is_large = cfg!(unix) && file.metadata().is_ok_and(|found| found.len() >= LARGE);
    if is_large && let Some(files) = THREAD.get_or_init(start) {
        // It fails only if the thread has ended. Then the file is closed here.
        let _ = files.send(file);
    }
}

fn start() -> Option<Sender<File>> {
    let (files, received) = channel();
    let thread = thread::Builder::new().name("close".to_owned());
    let started = thread.spawn(move || received.into_iter().for_each(drop::<File>));
    started.is_ok().then_some(files)
}
