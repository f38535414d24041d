//! The record that is being delivered, if pushes may refer to it.
//!
//! A long record that has arrived in parts has a buffer of its own. A push of this record, to any chat of the loop,
//! queues a reference to the buffer instead of a copy.

use std::cell::RefCell;

use bytes::Bytes;

use super::ChannelState;
use super::agenda::Agenda;

#[derive(Default)]
pub(super) struct Delivered(RefCell<Option<Shared>>);

struct Shared {
    record: Bytes,
    /// A shorter part is copied. The queue counts the bytes of the part, and a reference occupies the whole buffer:
    /// at most a quarter more.
    shortest: usize,
}

impl Agenda {
    /// Makes a call with a record, to which pushes may refer meanwhile. Returns the record, which queues may refer to.
    pub(crate) fn deliver<T>(&self, buffer: Vec<u8>, call: impl FnOnce(&[u8]) -> T) -> (T, Bytes) {
        /// Ends the delivery, also if the call panics.
        struct End<'a>(&'a Delivered);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.0.take();
            }
        }
        let shortest = buffer.capacity() - buffer.capacity() / 5;
        let record = Bytes::from(buffer);
        self.delivered.0.replace(Some(Shared {
            record: record.clone(),
            shortest,
        }));
        let end = End(&self.delivered);
        let outcome = call(&record);
        drop(end);
        (outcome, record)
    }
}

/// The buffer of a record, if no queue refers to it any more.
pub(crate) fn unused_buffer(record: Bytes) -> Option<Vec<u8>> {
    let mut unused = record.try_into_mut().ok()?;
    // Otherwise the conversion would move the bytes.
    unused.clear();
    Some(unused.into())
}

impl ChannelState {
    /// A reference to these bytes, if they are nearly all of the record that its loop delivers.
    pub(crate) fn shared_part(&self, part: &[u8]) -> Option<Bytes> {
        let delivered = self.agenda()?.delivered.0.borrow();
        let Shared { record, shortest } = delivered.as_ref()?;
        let (whole, range) = (record.as_ptr_range(), part.as_ptr_range());
        let is_within = whole.start <= range.start && range.end <= whole.end;
        (is_within && part.len() >= *shortest).then(|| record.slice_ref(part))
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::unused_buffer;
    use crate::sim::Network;
    use crate::{Connector, Result};

    #[test]
    fn pushes_refer_to_a_record_while_it_is_delivered() -> Result {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        let (socket, _peer) = network.pair();
        let chat = Connector::adopt(socket).connect_on(&event_loop, |_| |_: &[u8]| Ok(()))?;
        let state = chat.state();
        let agenda = state.agenda().ok_or("it is registered")?;
        let is_over = || agenda.delivered.0.borrow().is_none();
        let ((), record) = agenda.deliver(vec![b'x'; 1000], |record| {
            let refers = |part: &[u8]| state.shared_part(part).is_some();
            assert!(refers(record) && refers(&record[..800]) && refers(&record[200..]));
            let elsewhere = record.to_vec();
            assert!(!refers(&record[..799]) && !refers(&elsewhere));
        });
        let unused = unused_buffer(record).map(|buffer| (buffer.len(), buffer.capacity()));
        assert_eq!(unused, Some((0, 1000)));
        assert!(is_over());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            agenda.deliver(vec![b'x'; 1000], |record| {
                assert!(state.shared_part(record).is_some());
                panic!("this panic is a part of the test");
            })
        }));
        assert!(panicked.is_err() && is_over());
        let ((), record) = agenda.deliver(vec![b'x'; 1000], |record| chat.push_slice(record));
        let unused = unused_buffer(record);
        assert_eq!(
            unused,
            Some(Vec::new()),
            "what fits into the queue is copied"
        );
        Ok(())
    }
}
