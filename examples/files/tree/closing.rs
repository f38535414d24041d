//! The last close of a large file that was removed or replaced. The system frees its blocks then, which takes a tenth of a second
//! for a gigabyte: the loop must not wait for it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// To close a smaller file takes less than two milliseconds.
#[cfg(unix)]
pub const LARGE: u64 = 16 << 20;

/// So many files wait at most. Each is an open descriptor and has its blocks.
const MOST_WAITING: usize = 16;

/// A file that somebody else can remove or replace while it is in use. Then this is its last close.
pub struct InUse(
    /// Until it is dropped.
    Option<File>,
);

impl InUse {
    pub fn new(file: File) -> InUse {
        InUse(Some(file))
    }

    pub fn file(&self) -> io::Result<&File> {
        self.0.as_ref().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Read for InUse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file()?.read(buffer)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(file) = self.0.take() {
            close(file);
        }
    }
}

/// Closes a file: on a thread if it is a large one that has no name any more, and fewer than [`MOST_WAITING`] wait there.
pub fn close(file: File) {
    static THREAD: OnceLock<Option<SyncSender<File>>> = OnceLock::new();
    if is_large_and_removed(&file)
        && let Some(files) = THREAD.get_or_init(start)
    {
        hand_over(files, file);
    }
}

#[cfg(unix)]
fn is_large_and_removed(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;

    let found = file.metadata();
    found.is_ok_and(|found| found.len() >= LARGE && found.nlink() == 0)
}

/// Windows may keep the name of a file that is open, and frees the blocks later.
#[cfg(not(unix))]
fn is_large_and_removed(_: &File) -> bool {
    false
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
