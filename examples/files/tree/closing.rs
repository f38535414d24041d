//! The last close of a large file that was removed or replaced. The system frees its blocks then, which takes a tenth of a second
//! for a gigabyte: the loop must not wait for it.

use std::fs::File;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// To close a smaller file takes less than two milliseconds.
pub const LARGE: u64 = 16 << 20;

/// So many files wait at most. Each is an open descriptor and has its blocks.
const MOST_WAITING: usize = 16;

/// Closes a file whose name was removed: a large one on a thread, if fewer than [`MOST_WAITING`] wait there, and any other
/// one here.
pub fn close(file: File) {
    static THREAD: OnceLock<Option<SyncSender<File>>> = OnceLock::new();
    // Windows may keep the name of a file that is open.
    let is_large = cfg!(unix) && file.metadata().is_ok_and(|found| found.len() >= LARGE);
    if is_large && let Some(files) = THREAD.get_or_init(start) {
        hand_over(files, file);
    }
}

fn start() -> Option<SyncSender<File>> {
    let (files, received) = sync_channel(MOST_WAITING);
    let thread = thread::Builder::new().name("close".to_owned());
    let started = thread.spawn(move || received.into_iter().for_each(drop::<File>));
    started.is_ok().then_some(files)
}

/// If too many wait, or the thread has ended, the file is closed here.
fn hand_over(files: &SyncSender<File>, file: File) {
    if files.try_send(file).is_ok() {
        tracing::debug!("a large file is closed on a thread");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_files_wait_to_be_closed() {
        let (files, waiting) = sync_channel(2);
        let file = tempfile::tempfile().unwrap();
        for _ in 0..5 {
            hand_over(&files, file.try_clone().unwrap());
        }
        assert_eq!(waiting.try_iter().count(), 2);
        drop(waiting);
        hand_over(&files, file);
    }
}
