//! The turn of a channel that has nothing to do but to send what was pushed to it: a member of a group, mostly.
//!
//! Sending runs no user code, so it needs neither the driver of the channel nor its span.

use std::io;
use std::rc::Rc;

use crate::output::fifo::spare;
use crate::state::{ChannelState, ToSocket};
use crate::user_code::in_span;

/// Sends what was pushed to a channel that [only sends](ChannelState::only_sends), in one call. Returns whether its turn is
/// over. If not, the driver continues.
#[inline(never)] // Only turns without an event call it.
pub(super) fn send_pushed(state: &Rc<ChannelState>) -> bool {
    let budget = state.limit(|limits| limits.turn_write).max(1);
    let sent = state
        .out
        .borrow_mut()
        .send_head(&mut ToSocket(state), budget);
    match sent {
        Ok(true) => {}
        Ok(false) => return false,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
        Err(error) => {
            in_span(state.span(), || state.fail_sending(error));
            return false;
        }
    }
    let unused = state.out.borrow_mut().release_buffer();
    spare::keep(unused);
    state.turns.set(state.turns.get().wrapping_add(1));
    if state.is_timed() {
        state.time_wait(true, false);
    }
    true
}
