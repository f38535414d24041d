//! Plays a script to one handler.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::{Ended, Network, Peer};
use crate::chat::handle::Chat;
use crate::chat::into_session::IntoSession;
use crate::error::{Close, Error, Result};
use crate::event_loop::EventLoop;
use crate::net::connector::Connector;

/// What a [`Peer`] does, step by step. Before each step, the handler has done everything that it can.
///
/// Everything that is bytes (`&str`, `String`, `Vec<u8>`, slices, arrays, [`Bytes`]) converts into a script that
/// sends them.
///
/// ```
/// use std::time::Duration;
/// use asynchat::sim::Script;
/// let impatient = Script::new()
///     .send("USER ca")
///     .wait(Duration::from_millis(300))
///     .send("rol\r\nPASS x\r\nQUIT\r\n")
///     .finish();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script(Vec<Action>);

#[derive(Clone, Debug)]
enum Action {
    Send(Bytes),
    SendUrgent(u8),
    Wait(Duration),
    Finish,
    Reset,
    Read(usize),
    ShutdownRead,
}

impl Script {
    /// A script that connects, and does nothing else.
    pub fn new() -> Self {
        Script::default()
    }

    /// Then sends `data`, which arrives in one piece.
    #[must_use]
    pub fn send(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Action::Send(Bytes::copy_from_slice(data.as_ref())))
    }

    /// Then sends each of the pieces, in a step of its own.
    #[must_use]
    pub fn send_each<T: AsRef<[u8]>>(self, pieces: impl IntoIterator<Item = T>) -> Self {
        let send = |script: Self, piece: T| script.send(piece);
        pieces.into_iter().fold(self, send)
    }

    /// Then sends an urgent byte: see [`Peer::send_urgent`].
    #[must_use]
    pub fn send_urgent(self, byte: u8) -> Self {
        self.then(Action::SendUrgent(byte))
    }

    /// Then waits for this much virtual time.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.then(Action::Wait(time))
    }

    /// Then finishes sending (TCP FIN), and goes on reading.
    #[must_use]
    pub fn finish(self) -> Self {
        self.then(Action::Finish)
    }

    /// Then resets the connection (TCP RST).
    #[must_use]
    pub fn reset(self) -> Self {
        self.then(Action::Reset)
    }

    /// Then stops reading.
    #[must_use]
    pub fn stop_reading(self) -> Self {
        self.then(Action::Read(0))
    }

    /// Then reads at most `count` more bytes; `usize::MAX` stands for everything.
    #[must_use]
    pub fn start_reading(self, count: usize) -> Self {
        self.then(Action::Read(count))
    }

    /// Then shuts the receiving side down: see [`Peer::shutdown_read`].
    #[must_use]
    pub fn shutdown_read(self) -> Self {
        self.then(Action::ShutdownRead)
    }

    fn then(mut self, action: Action) -> Self {
        self.0.push(action);
        self
    }
}

impl Action {
    fn play(&self, peer: &Peer) {
        match self {
            Action::Send(data) => peer.send(data),
            Action::SendUrgent(byte) => peer.send_urgent(*byte),
            Action::Wait(_) => {}
            Action::Finish => peer.finish(),
            Action::Reset => peer.reset(),
            Action::Read(count) => peer.start_reading(*count),
            Action::ShutdownRead => peer.shutdown_read(),
        }
    }
}

/// A script that sends `data`, which arrives in one piece: text, a slice, a vector, an array or
/// [`Bytes`].
impl<T: AsRef<[u8]>> From<T> for Script {
    fn from(data: T) -> Self {
        Script::new().send(data)
    }
}

/// What happened while a [`Script`] was played to a session.
#[non_exhaustive]
pub struct Transcript<S> {
    /// What the peer has read of the output.
    pub output: Vec<u8>,
    /// The argument of `handle_close`; `None` if the connection has not ended for the handler.
    pub close: Option<Close>,
    /// How the connection ended for the peer; `None` if it can still receive something.
    pub ended: Option<Ended>,
    /// How much virtual time passed until `handle_close`, or else until the end of the script.
    pub elapsed: Duration,
    /// The session after its last callback, to look at what it has become. If it was open at the end of the
    /// script, that callback was `handle_close` with [`Close::Shutdown`], because its loop has ended. `None` if the
    /// factory has panicked, or if another session has taken its place.
    pub session: Option<S>,
}

/// Without the session.
impl<S> fmt::Debug for Transcript<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript")
            .field("output", &AsText(&self.output))
            .field("close", &self.close)
            .field("ended", &self.ended)
            .field("elapsed", &self.elapsed)
            .finish_non_exhaustive()
    }
}

/// Prints bytes as escaped text. `Vec<u8>` prints them as numbers.
pub(super) struct AsText<'a>(pub(super) &'a [u8]);

impl fmt::Debug for AsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<S> Transcript<S> {
    /// The output as text. Invalid UTF-8 is replaced by U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.output)
    }

    /// Whether output and end are the same. The time is not compared.
    pub(super) fn agrees_with(&self, other: &Transcript<S>) -> bool {
        let why = |it: &Transcript<S>| it.close.as_ref().map(Close::to_string);
        self.output == other.output && self.ended == other.ended && why(self) == why(other)
    }
}

/// Plays a script to one handler, on a network and a loop of its own, and returns what happened.
///
/// The connection is up when the factory is called, like one that a server accepts: `handle_connect` is
/// the first callback. No more time passes than the script waits for.
///
/// ```
/// use std::time::Duration;
/// use asynchat::{Close, Result, sim};
///
/// # fn main() -> Result {
/// let transcript = sim::drive(
///     |chat| move |line: &[u8]| {
///         match line {
///             b"QUIT" => { chat.push("205 bye\r\n"); chat.close_when_done() }
///             _ => chat.push("500 what?\r\n"),
///         }
///         Ok(())
///     },
///     sim::Script::new().send("HEL").wait(Duration::from_secs(9)).send("P\r\nQUIT\r\n"),
/// )?;
/// assert_eq!(transcript.text(), "500 what?\r\n205 bye\r\n");
/// assert!(matches!(transcript.close, Some(Close::Local)));
/// assert_eq!(transcript.elapsed, Duration::from_secs(9));
/// # Ok(()) }
/// ```
///
/// The transcript has the session as well, whether it has closed or not:
///
/// ```
/// use asynchat::{AsyncChat, Result, sim};
///
/// struct Counter { lines: usize }
///
/// impl AsyncChat for Counter {
///     fn found_terminator(&mut self, _: &[u8]) -> Result {
///         self.lines += 1;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result {
/// let transcript = sim::drive(|_| Counter { lines: 0 }, "one\r\ntwo\r\n")?;
/// assert!(transcript.close.is_none());
/// assert_eq!(transcript.session.map(|counter| counter.lines), Some(2));
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the handler gives itself work without end: see [`Network::settle`].
pub fn drive<I: IntoSession>(
    factory: impl FnOnce(Chat) -> I + 'static,
    script: impl Into<Script>,
) -> Result<Transcript<I::Session>, Error> {
    let network = Network::new(0);
    let event_loop = network.event_loop()?;
    let (socket, peer) = network.pair();
    let chat = Connector::adopt(socket).connect_on(&event_loop, factory)?;
    let state = chat.state();
    state.record_end();
    let start = event_loop.0.now();
    let played = play(script.into(), &network, &event_loop, &peer);
    let (output, ended) = (peer.take_received(), peer.ended());
    let (close, elapsed) = match state.recorded_end() {
        Some((why, when)) => (Some(why), when.saturating_duration_since(start)),
        None => (None, network.elapsed()),
    };
    event_loop.0.end_all();
    let handler = state.recorded_handler();
    let session = handler.and_then(|handler| handler.downcast().ok());
    played?;
    Ok(Transcript {
        output,
        close,
        ended,
        elapsed,
        session: session.map(|session| *session),
    })
}

fn play(
    script: Script,
    network: &Network,
    event_loop: &EventLoop,
    peer: &Peer,
) -> Result<(), Error> {
    network.settle(event_loop)?;
    for action in script.0 {
        action.play(peer);
        match action {
            Action::Wait(time) => network.advance(event_loop, time)?,
            _ => network.settle(event_loop)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_bytes_as_text() {
        let transcript = Transcript {
            output: b"250 ok\r\n\xff".to_vec(),
            close: None,
            ended: None,
            elapsed: Duration::ZERO,
            session: Some(()),
        };
        let expected = r#"Transcript { output: "250 ok\r\n\xff", close: None, ended: None, elapsed: 0ns, .. }"#;
        assert_eq!(format!("{transcript:?}"), expected);
        let script = Script::from("NOOP\r\n");
        assert_eq!(format!("{script:?}"), r#"Script([Send(b"NOOP\r\n")])"#);
    }
}
