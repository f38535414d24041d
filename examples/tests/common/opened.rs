//! What the system says about files that a program opens.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use asynchat::Result;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// A file or a folder that is watched.
pub(crate) struct Watched(OwnedFd);

impl Watched {
    pub(crate) fn new(path: &Path) -> Result<Watched> {
        let watched = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // The system leaves out an event that is the same as the one before it.
        let flags = WatchFlags::OPEN | WatchFlags::CLOSE;
        inotify::add_watch(&watched, path, flags)?;
        Ok(Watched(watched))
    }

    /// How often it was opened since the last call. Files in a folder do not count.
    pub(crate) fn opened(&self) -> Result<usize> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(&self.0, &mut space);
        let mut count = 0;
        loop {
            match events.next() {
                Ok(event) if event.file_name().is_some() => {}
                Ok(event) => count += usize::from(event.events().contains(ReadFlags::OPEN)),
                Err(Errno::WOULDBLOCK) => return Ok(count),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
