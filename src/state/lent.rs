//! The record that is lent to a callback.
//!
//! A long record that has arrived in parts is in a buffer of its own. A push of this record, to any chat of the loop,
//! queues a reference to the buffer instead of a copy. The copy would cost more than its bytes: memory of this size
//! comes from the system as fresh pages.

use std::cell::RefCell;

use bytes::Bytes;

use super::ChannelState;
use super::agenda::Agenda;

/// The record of the callback that is being made, if it is lent.
#[derive(Default)]
pub(super) struct Lent(RefCell<Option<Loan>>);

struct Loan {
    record: Bytes,
    /// A shorter part is copied: it would keep a buffer in memory that is more than twice as long.
    shortest: usize,
}

impl Agenda {
    /// Makes a call with a record, which is lent for its duration. Returns the buffer of the record if nobody has kept
    /// a reference to it.
    pub(crate) fn lend<T>(
        &self,
        buffer: Vec<u8>,
        call: impl FnOnce(&[u8]) -> T,
    ) -> (T, Option<Vec<u8>>) {
        /// Ends the loan, also if the call panics.
        struct End<'a>(&'a Lent);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.0.take();
            }
        }
        let shortest = buffer.capacity().div_ceil(2);
        let record = Bytes::from(buffer);
        let loan = Loan {
            record: record.clone(),
            shortest,
        };
        self.lent.0.replace(Some(loan));
        let end = End(&self.lent);
        let outcome = call(&record);
        drop(end);
        let unused = record.try_into_mut().ok().map(|mut unused| {
            unused.clear();
            unused.into()
        });
        (outcome, unused)
    }
}

impl ChannelState {
    /// A reference to these bytes, if they are a part of the record that its loop has lent, and most of its buffer.
    pub(crate) fn lent(&self, part: &[u8]) -> Option<Bytes> {
        let loan = self.agenda()?.lent.0.borrow();
        let loan = loan.as_ref()?;
        let (whole, range) = (loan.record.as_ptr_range(), part.as_ptr_range());
        let is_within = whole.start <= range.start && range.end <= whole.end;
        (is_within && part.len() >= loan.shortest).then(|| loan.record.slice_ref(part))
    }
}
