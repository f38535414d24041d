//! The stage of a channel, and the bytes that it moves.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Handshake;
use crate::error::{Close, Error, TlsFailure};
use crate::stage::{MakeStage, Stage};
use crate::state::{ChannelState, Flag, Phase};
use crate::sys::interest::{Interest, Ready};
use crate::time::timer::TimerId;

/// How much is encrypted before the kernel has accepted what was encrypted before.
const AHEAD: usize = 64 * 1024;

/// How much is received at once, at least: a record of full size.
const LEAST_READ: usize = 18 * 1024;
const MOST_READ: usize = 64 * 1024;

/// The stage of a channel.
pub(crate) struct Secured {
    pub(super) make: MakeStage,
    /// Made in the first step of the handshake: making it may call user code.
    pub(super) stage: Option<Box<dyn Stage>>,
    /// The phase that follows the handshake.
    pub(super) then: Phase,
    /// The channel was not registered when TLS began, so it has not been up.
    pub(super) starts_clocks: bool,
    pub(super) is_up: bool,
    /// Ends the handshake when it takes too long.
    pub(super) timer: Option<TimerId>,
    /// How many bytes the kernel has accepted in the life of the connection.
    pub(super) sent: u64,
    /// When the handshake was queued for its next step, if it is.
    pub(super) queued_at: Option<Instant>,
    /// For how long its messages have waited there since the timer was set.
    pub(super) delay: Duration,
    /// Its time is up, and what it has sent by then was looked for.
    pub(super) is_overdue: bool,
    /// The peer has sent something for TLS.
    has_received: bool,
    pub(super) end: End,
    /// The sending side is to be shut down when the output is sent.
    pub(super) shutdown_due: bool,
    /// All output was sent but the announcement of its end.
    pub(super) is_announced: bool,
    /// Why nothing can be sent any more.
    pub(super) output_error: Option<io::Error>,
}

/// How the input has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    /// The peer has said that it sends nothing more.
    Announced,
    /// The stream of the socket has ended, after such an announcement or without one.
    Socket,
    Failed,
}

/// What a step of a handshake has done.
pub(super) struct HandshakeStep {
    pub(super) handshake: Handshake,
    /// It has probably computed with keys, which takes as long as thousands of records.
    pub(super) is_expensive: bool,
}

impl Secured {
    pub(super) fn new(make: MakeStage, then: Phase, starts_clocks: bool, sent: u64) -> Self {
        Secured {
            make,
            stage: None,
            then,
            starts_clocks,
            is_up: false,
            timer: None,
            sent,
            queued_at: None,
            delay: Duration::ZERO,
            is_overdue: false,
            has_received: false,
            end: End::Open,
            shutdown_due: false,
            is_announced: false,
            output_error: None,
        }
    }

    /// What a client does, for its errors.
    pub(super) fn action(&self) -> Option<Rc<str>> {
        self.make.action().map(Rc::clone)
    }

    pub(crate) fn holds_output(&self) -> bool {
        let stage = self.stage.as_ref();
        stage.is_some_and(|stage| !stage.output().is_empty())
    }

    pub(super) fn output_len(&self) -> usize {
        let stage = self.stage.as_ref();
        stage.map_or(0, |stage| stage.output().len())
    }

    /// Whether the peer has announced that it sends nothing more.
    pub(crate) fn has_received_announcement(&self) -> bool {
        let stage = self.stage.as_ref();
        stage.is_some_and(|stage| stage.peer_has_closed())
    }

    pub(super) fn has_input(&self) -> bool {
        let stage = self.stage.as_ref();
        self.end == End::Open && stage.is_some_and(|stage| stage.has_input())
    }

    /// Takes one step of the handshake: sends, receives once, sends.
    pub(super) fn advance(
        &mut self,
        state: &ChannelState,
        ready: Ready,
    ) -> Result<HandshakeStep, Error> {
        if self.stage.is_none() {
            self.stage = Some(self.make.make()?);
        }
        let may_send = ready.has(Ready::WRITE) || !state.flags.has(Flag::BLOCKED);
        if may_send {
            self.flush(state);
        }
        let mut is_expensive = false;
        let mut received = None;
        if ready.has(Ready::READ) {
            received = Some(self.receive(state, &mut []).map(|(count, _)| count));
            // A message of the peer may demand a computation without an answer, such as the key exchange of TLS 1.2.
            let has_processed = self.stage.as_mut().is_some_and(|it| it.take_processed());
            is_expensive = has_processed || self.holds_output();
            self.flush(state);
            if self.output_error.is_some() {
                // An alert may say why the peer is gone.
                received = Some(self.receive(state, &mut []).map(|(count, _)| count));
            }
        }
        state.flags.set(Flag::BLOCKED, self.holds_output());
        let Some(stage) = &self.stage else {
            return Err(Error::new("there is no TLS stage"));
        };
        // What came behind the handshake waits for the channel, also an error.
        if !stage.is_handshaking() {
            return Ok(HandshakeStep {
                handshake: Handshake::Complete,
                is_expensive,
            });
        }
        if let Some(error) = stage.failure() {
            return Err(error);
        }
        if let Some(why) = self.ended_before_tls(received.as_ref()) {
            return Ok(HandshakeStep {
                handshake: Handshake::Failed(why),
                is_expensive,
            });
        }
        match received {
            Some(Ok(0)) => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                let words = "the peer has closed the connection during the TLS handshake";
                return Err(Error::from(error).context(words));
            }
            Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(Error::from(error).context("the connection was lost"));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                if let Some(error) = self.output_error.take() {
                    return Err(Error::from(error).context("the connection was lost"));
                }
            }
        }
        Ok(HandshakeStep {
            handshake: Handshake::Waits(Interest::new(true, self.holds_output())),
            is_expensive,
        })
    }

    /// The end of an accepted connection whose peer has sent nothing. It is no failure of TLS: balancers look in this
    /// way whether a port is open, each second.
    fn ended_before_tls(&self, received: Option<&io::Result<usize>>) -> Option<Close> {
        if self.has_received || self.then != Phase::Arrived || self.make.action().is_some() {
            return None;
        }
        match received {
            Some(Ok(0)) => Some(Close::Eof),
            Some(Err(error)) => {
                // Windows has two words for it.
                use io::ErrorKind::{ConnectionAborted, ConnectionReset};
                let is_reset = matches!(error.kind(), ConnectionReset | ConnectionAborted);
                is_reset.then_some(Close::Reset)
            }
            _ => None,
        }
    }

    /// User code has panicked in a step of the handshake.
    pub(super) fn panicked(&mut self, state: &ChannelState) {
        if let Some(stage) = &mut self.stage {
            stage.panicked();
            self.flush(state);
        }
    }

    /// Receives once from the socket and feeds the stage. Returns how many bytes came from the socket, and how
    /// many bytes of plaintext are in `into`. What does not fit waits in the stage.
    fn receive(&mut self, state: &ChannelState, into: &mut [u8]) -> io::Result<(usize, usize)> {
        let Some(stage) = &mut self.stage else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut buffers = state.take_stage_buffers();
        let head = stage.headroom();
        let end = head + into.len().clamp(LEAST_READ, MOST_READ);
        if buffers.input.len() < end {
            buffers.input.resize(end, 0);
        }
        let free = buffers.input.get_mut(head..end).unwrap_or_default();
        let most = free.len();
        let outcome = state.receive_raw(free);
        let outcome = outcome.map(|count| {
            if count == 0 {
                self.end = End::Socket;
                return (0, 0);
            }
            self.has_received = true;
            stage.adopt_buffer(&mut buffers.output);
            let input = buffers.input.get_mut(..head + count).unwrap_or_default();
            (count, stage.feed(input, into))
        });
        state.put_stage_buffers(buffers);
        if let Ok((count, _)) = outcome
            && count > 0
            && state.is_timed()
        {
            state.time_received(count, most);
        }
        outcome
    }

    pub(super) fn recv(&mut self, state: &ChannelState, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(outcome) = self.take(buffer) {
            return outcome;
        }
        let (received, count) = self.receive(state, buffer)?;
        // Answers to key updates, alerts. They do not wait in the stage, and the input does not wait for them.
        if !state.flags.has(Flag::BLOCKED) {
            self.flush(state);
        }
        if count > 0 {
            return Ok(count);
        }
        if let Some(outcome) = self.take(buffer) {
            return outcome;
        }
        match received {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection has ended without a TLS close_notify",
            )),
            // A part of a record, or one without content for the channel.
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes what the stage has decrypted before, or the failure or the end that is due.
    fn take(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let stage = self.stage.as_mut()?;
        let count = stage.take(buffer);
        if count > 0 {
            return Some(Ok(count));
        }
        if let Some(error) = stage.failure() {
            self.end = End::Failed;
            return Some(Err(TlsFailure(error).into()));
        }
        if stage.peer_has_closed() {
            if self.end == End::Open {
                self.end = End::Announced;
            }
            return Some(Ok(0));
        }
        None
    }

    pub(super) fn send(
        &mut self,
        state: &ChannelState,
        parts: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        if self.holds_output() {
            if !state.flags.has(Flag::BLOCKED) {
                self.flush(state);
            }
            if self.holds_output() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        if let Some(error) = self.output_error.take() {
            return Err(error);
        }
        let Some(stage) = &mut self.stage else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut buffers = state.take_stage_buffers();
        stage.adopt_buffer(&mut buffers.output);
        state.put_stage_buffers(buffers);
        let count = stage.encrypt(parts, AHEAD);
        let count = count.map_err(|error| io::Error::from(TlsFailure(error)))?;
        self.flush(state);
        match self.output_error.take() {
            Some(error) => Err(error),
            None => Ok(count),
        }
    }

    /// Sends what the stage holds, as much as the kernel accepts.
    pub(super) fn flush(&mut self, state: &ChannelState) {
        let Some(stage) = &mut self.stage else { return };
        if stage.output().is_empty() {
            return self.return_buffer(state);
        }
        match state.send_raw(stage.output()) {
            Ok(count) => {
                stage.sent(count);
                self.sent += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                stage.discard_output();
                // Without the announcement nothing is lost: the peer is gone. An output that has failed before
                // fails for the alert as well.
                if !self.is_announced && !state.has_lost_output() {
                    self.output_error = Some(error);
                }
            }
        }
        self.return_buffer(state);
    }

    /// Gives the buffer of the output back to the loop, unless it is needed.
    fn return_buffer(&mut self, state: &ChannelState) {
        let Some(stage) = &mut self.stage else { return };
        let buffer = stage.release_buffer();
        let mut buffers = state.take_stage_buffers();
        if buffer.len() > buffers.output.len() {
            buffers.output = buffer;
        }
        state.put_stage_buffers(buffers);
    }

    /// Announces the end of the output, all of which was sent.
    pub(super) fn announce_end(&mut self, state: &ChannelState) {
        let Some(stage) = &mut self.stage else { return };
        stage.close();
        self.is_announced = true;
        self.flush(state);
    }

    /// If the sending side is to be shut down and all output was sent, announces that (`announces`: unless sending has
    /// failed). Returns whether the socket is to be shut down now.
    pub(super) fn shut_down(&mut self, state: &ChannelState, announces: bool) -> bool {
        if self.shutdown_due && announces && !self.holds_output() {
            self.announce_end(state);
        }
        let is_due = self.shutdown_due && !self.holds_output();
        self.shutdown_due &= !is_due;
        is_due
    }

    /// The channel ends. Takes what the kernel does not accept now, with the announcement of the end if the output
    /// `is_whole`.
    pub(super) fn take_output(&mut self, state: &ChannelState, is_whole: bool) -> Vec<u8> {
        if is_whole && let Some(stage) = &mut self.stage {
            stage.close();
            self.is_announced = true;
        }
        self.flush(state);
        let Some(stage) = &mut self.stage else {
            return Vec::new();
        };
        let rest = stage.output().to_vec();
        stage.discard_output();
        rest
    }

    /// The channel ends. If its output `is_whole`, says so to the peer, as far as the kernel accepts that now.
    pub(crate) fn end(&mut self, state: &ChannelState, is_whole: bool) {
        if is_whole && !self.holds_output() {
            self.announce_end(state);
        }
    }
}
