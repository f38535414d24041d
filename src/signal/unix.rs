//! Waiting for signals where there is a pipe that they can be written to.

use std::io;
use std::thread;

use signal_hook::iterator::{Handle, Signals};

use crate::runtime::remote::Remote;

/// The thread that waits; it ends when this is dropped.
pub(super) struct Watch(Handle);

impl Watch {
    pub(super) fn new(remote: Remote) -> io::Result<Self> {
        let mut signals = Signals::new([0; 0])?;
        let handle = signals.handle();
        thread::Builder::new()
            .name("asynchat-signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if !super::post(&remote, signal) {
                        return;
                    }
                }
            })?;
        Ok(Watch(handle))
    }

    pub(super) fn add(&self, signal: i32) -> io::Result<()> {
        self.0.add_signal(signal)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.close();
    }
}
