//! The terminator of a splitter.

use std::ops::Deref;

use crate::framing::terminator::Terminator;

/// The terminator of the current record. Most connections use only the default one, so any other is in a box. The
/// box stays for the next.
#[derive(Default)]
pub(super) struct Current(Option<Box<Own>>);

struct Own {
    terminator: Terminator,
    /// Replaces it at the end of the record that is being discarded.
    queued: Option<Box<Terminator>>,
}

static DEFAULT: Terminator = Terminator::crlf();

impl Deref for Current {
    type Target = Terminator;

    #[inline]
    fn deref(&self) -> &Terminator {
        self.0.as_ref().map_or(&DEFAULT, |own| &own.terminator)
    }
}

impl Current {
    /// The limit of a record. `default` applies if the terminator sets none.
    #[inline]
    pub(super) fn limit_or(&self, default: usize) -> u64 {
        match &self.0 {
            Some(own) => own.terminator.limit_or(default),
            None => default as u64,
        }
    }

    #[inline]
    pub(super) fn set(&mut self, terminator: Terminator) {
        match &mut self.0 {
            Some(own) => own.terminator = terminator,
            None if terminator.is_default() => {}
            None => self.allocate(terminator),
        }
    }

    #[cold]
    fn allocate(&mut self, terminator: Terminator) {
        self.0 = Some(Box::new(Own::new(terminator)));
    }

    /// Sets the one that [`take_queued`](Current::take_queued) returns.
    pub(super) fn queue(&mut self, terminator: Terminator) {
        let own = self
            .0
            .get_or_insert_with(|| Box::new(Own::new(DEFAULT.clone())));
        own.queued = Some(Box::new(terminator));
    }

    pub(super) fn take_queued(&mut self) -> Option<Terminator> {
        self.0.as_mut()?.queued.take().map(|queued| *queued)
    }
}

impl Own {
    fn new(terminator: Terminator) -> Self {
        let queued = None;
        Own { terminator, queued }
    }
}
