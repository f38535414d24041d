//! The last close of a large file that was removed or replaced. The system frees its blocks then, which takes a tenth of a second
//! for a gigabyte: the loop must not wait for it.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::users::Share;

/// To close a smaller file takes less than two milliseconds.
#[cfg(unix)]
pub const LARGE: u64 = 16 << 20;

/// A file, and what counts it until it is closed. A file that waits for its close is an open descriptor and has its blocks, so
/// whoever opens files limits how many there are.
type Waiting = (File, Box<dyn Send>);

/// A file that somebody else can remove or replace while it is in use. Then this is its last close.
pub struct InUse(
    /// Until it is dropped.
    Option<(File, Option<Arc<Share>>)>,
);

impl InUse {
    /// `open_file` counts the file until it is closed.
    pub fn new(file: File, open_file: Option<Arc<Share>>) -> InUse {
        InUse(Some((file, open_file)))
    }

    pub fn file(&self) -> io::Result<&File> {
        let file = self.0.as_ref().map(|(file, _)| file);
        file.ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Read for InUse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file()?.read(buffer)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some((file, open_file)) = self.0.take() {
            close(file, open_file);
        }
    }
}

/// Closes a file: on a thread if it is a large one that has no name any more. `counted` is dropped when the file is closed.
pub fn close(file: File, counted: impl Send + 'static) {
    static CLOSER: Closer = Closer(Mutex::new(None));
    if is_large_and_removed(&file) {
        CLOSER.close((file, Box::new(counted)), start);
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

/// Has the thread, once it was started. The end of the program does not wait for it.
struct Closer(Mutex<Option<Sender<Waiting>>>);

impl Closer {
    /// If no thread can be started, this file is closed here, and the next one tries again.
    fn close(&self, waiting: Waiting, start: impl FnOnce() -> io::Result<Sender<Waiting>>) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_none() {
            match start() {
                Ok(started) => *files = Some(started),
                Err(error) => tracing::warn!(%error, "no thread closes a large file"),
            }
        }
        match files.as_ref().map(|files| files.send(waiting)) {
            Some(Ok(())) => tracing::debug!("a large file is closed on a thread"),
            // The thread has ended.
            Some(Err(_)) => *files = None,
            None => {}
        }
    }
}

fn start() -> io::Result<Sender<Waiting>> {
    let (files, received) = channel();
    let thread = thread::Builder::new().name("close".to_owned());
    thread.spawn(move || close_all(&received))?;
    Ok(files)
}

fn close_all(received: &Receiver<Waiting>) {
    for (file, counted) in received {
        drop(file);
        drop(counted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::{Client, Shares};

    fn waiting(counted: impl Send + 'static) -> Waiting {
        (tempfile::tempfile().unwrap(), Box::new(counted))
    }

    #[test]
    fn every_file_waits_for_the_thread_with_its_share_of_the_open_files() {
        let (shares, client) = (Shares::new(100), Client::new(None));
        let (files, received) = channel();
        let closer = Closer(Mutex::new(Some(files)));
        for _ in 0..50 {
            let share = shares.take(client).unwrap();
            closer.close(waiting(share), || unreachable!("it has a thread"));
        }
        assert!(shares.take(client).is_none());
        drop(closer);
        close_all(&received);
        assert!(shares.take(client).is_some());
    }

    #[test]
    fn a_thread_is_tried_again_after_none_could_be_started_and_after_it_has_ended() {
        let closer = Closer(Mutex::new(None));
        closer.close(waiting(()), || Err(ErrorKind::WouldBlock.into()));
        for _ in 0..2 {
            let (files, received) = channel();
            closer.close(waiting(()), || Ok(files));
            assert_eq!(received.try_iter().count(), 1);
            drop(received);
            closer.close(waiting(()), || unreachable!("it is known at the next file"));
        }
    }
}
