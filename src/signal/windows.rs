//! Waiting for signals where a handler of safe code can only raise a flag: a thread looks at them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::runtime::remote::Remote;

/// How often the thread looks.
const GLANCE: Duration = Duration::from_millis(100);

/// The signals, each with its flag.
type Flags = Mutex<Vec<(i32, Arc<AtomicBool>)>>;

/// What the thread looks at; it ends when this is dropped.
pub(super) struct Watch(Arc<Flags>);

impl Watch {
    pub(super) fn new(remote: Remote) -> io::Result<Self> {
        let flags: Arc<Flags> = Arc::default();
        let looked_at = Arc::downgrade(&flags);
        thread::Builder::new()
            .name("asynchat-signals".to_owned())
            .spawn(move || look(&looked_at, &remote))?;
        Ok(Watch(flags))
    }

    pub(super) fn add(&self, signal: i32) -> io::Result<()> {
        let mut flags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flags.iter().any(|(of, _)| *of == signal) {
            return Ok(());
        }
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
        flags.push((signal, flag));
        Ok(())
    }
}

fn look(flags: &Weak<Flags>, remote: &Remote) {
    while let Some(flags) = flags.upgrade() {
        let flags = flags.lock().unwrap_or_else(PoisonError::into_inner);
        let raised = flags
            .iter()
            .filter(|(_, flag)| flag.swap(false, Ordering::AcqRel));
        for (signal, _) in raised {
            if !super::post(remote, *signal) {
                return;
            }
        }
        drop(flags);
        thread::sleep(GLANCE);
    }
}
