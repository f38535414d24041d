//! The output of a channel with a stage: what is encrypted, and what of it the kernel has accepted.

use std::io;

use super::secured::Secured;
use crate::error::{Close, Deadline};
use crate::state::{ChannelState, Flag, Kind, Phase};

/// How much a turn sends at most. With the headers and the tags of its records it fits one packet of the loopback
/// interface, which holds 65,463 bytes (IPv6). 64 KiB would take a second packet for the last hundred bytes.
const TURN_WRITE: usize = 65_280;

impl ChannelState {
    /// The budget for the output of a turn, if it is `budget` without a stage.
    #[inline]
    pub(crate) fn output_budget(&self, budget: usize) -> usize {
        if self.flags.has(Flag::STAGED) {
            budget.min(TURN_WRITE)
        } else {
            budget
        }
    }

    /// The error of a call while the channel is not up. A handshake in the middle of a connection passes.
    pub(super) fn not_up(&self) -> io::ErrorKind {
        if self.is_upgrading() {
            io::ErrorKind::WouldBlock
        } else {
            io::ErrorKind::NotConnected
        }
    }

    /// Whether it was up, and is in a handshake now.
    pub(crate) fn is_upgrading(&self) -> bool {
        self.phase.get() == Phase::Securing && !self.is_securing_at_first()
    }

    /// Whether the sending side was shut down, or is to be when the stage's output is sent.
    pub(super) fn has_shut_down(&self) -> bool {
        self.on_secured(|secured| secured.shutdown_due || secured.is_announced)
            .unwrap_or(false)
    }

    /// Puts a stage back whose output was offered to the kernel, which had accepted `before` bytes until then. Notes
    /// what it has accepted now, and returns whether it has left some.
    pub(super) fn put_offered(&self, secured: Box<Secured>, before: u64) -> bool {
        let (is_held, sent) = (secured.holds_output(), secured.sent);
        let left = secured.output_len();
        self.put_secured(secured);
        self.flags.set(Flag::BLOCKED, is_held);
        if self.is_timed() {
            let count = usize::try_from(sent - before).unwrap_or(usize::MAX);
            self.time_sent((count > 0).then_some(count), count.saturating_add(left));
        }
        is_held
    }

    /// How many bytes of ciphertext the kernel has accepted, and before TLS of plaintext.
    #[cold]
    #[inline(never)]
    pub(in crate::state) fn ciphertext_out(&self) -> u64 {
        self.on_secured(|secured| secured.sent).unwrap_or(0)
    }

    /// How many bytes of ciphertext the kernel has not accepted.
    pub(crate) fn ciphertext_held(&self) -> usize {
        if self.flags.has(Flag::STAGED) {
            self.on_secured(|secured| secured.output_len())
        } else {
            None
        }
        .unwrap_or(0)
    }

    /// The channel ends. Takes what its stage has encrypted and the kernel has not accepted, if the peer is to
    /// receive it: `Channel::send` has reported it as accepted, and the kernel would send it after the end. It ends
    /// with the announcement of the end, if the end is in order. Also an alert that has to wait. The queue of a chat
    /// is different: its close waits for the stage, or drops both.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_ciphertext(&self) -> Vec<u8> {
        let is_dispatcher = self.kind.get() == Kind::Dispatcher;
        let has_alert = self.has_sent_alert() && !self.out.borrow().is_cut();
        let (is_left, is_whole) = self.with_cold(|cold| {
            let why = cold.ending.as_ref();
            let is_up = cold.secured.as_ref().is_some_and(|it| it.is_up);
            let is_left = has_alert || is_dispatcher && is_up && !is_given_up(why);
            (is_left, is_dispatcher && self.ends_in_order(why))
        });
        match self.take_secured() {
            Some(mut secured) if is_left => {
                let rest = secured.take_output(self, is_whole);
                self.put_secured(secured);
                rest
            }
            Some(secured) => {
                self.put_secured(secured);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Whether the peer may take what was sent for complete. The queue of a chat says whether everything was sent.
    /// What a dispatcher had left to send is not known: there the end is in order if the dispatcher has chosen it, or
    /// the peer, or if the dispatcher had nothing to send at a shutdown. A loop that is dropped does not ask it.
    pub(super) fn ends_in_order(&self, why: Option<&Close>) -> bool {
        match (self.kind.get(), why) {
            (_, None) => true,
            (Kind::Dispatcher, Some(Close::Shutdown)) => self.agenda().is_some(),
            (Kind::Dispatcher, Some(why)) => matches!(why, Close::Local | Close::Eof),
            (_, Some(why)) => !is_cut(why),
        }
    }
}

/// Whether the output of a chat is cut that ends for this reason.
fn is_cut(why: &Close) -> bool {
    matches!(
        why,
        Close::Dropped
            | Close::Interrupted
            | Close::Reset
            | Close::OutputLimit
            | Close::Piped(_)
            | Close::Handler(_)
            | Close::Panic(_)
            | Close::Io(_)
            | Close::Tls(_)
    )
}

/// Whether the channel has ended so that nothing more is sent to the peer.
fn is_given_up(why: Option<&Close>) -> bool {
    use Close::{Dropped, Interrupted, Timeout};
    matches!(
        why,
        Some(Dropped | Interrupted | Timeout(Deadline::Drain | Deadline::Lifetime))
    )
}
