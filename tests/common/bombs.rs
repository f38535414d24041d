//! Values whose destructors panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts its drops, each of which panics.
#[derive(Clone, Default)]
pub(crate) struct Bombs(pub(crate) Arc<AtomicUsize>);

pub(crate) struct Bomb(Bombs);

impl Bombs {
    pub(crate) fn next(&self) -> Bomb {
        Bomb(self.clone())
    }
    pub(crate) fn dropped(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        panic!("panic in a destructor");
    }
}

/// Makes a closure capture the value.
pub(crate) fn hold(_: &Bomb) {}

/// Owns bytes.
pub(crate) struct Owned(
    pub(crate) Vec<u8>,
    #[expect(dead_code, reason = "dropped")] pub(crate) Bomb,
);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
