//! One handler, one script, and what came of it.

use std::borrow::Cow;
use std::time::Duration;

use super::{Ended, Network, Peer};
use crate::error::{Close, Result};
use crate::{AsyncChat, Chat, Connector};

/// What a [`Peer`] does, step by step. The handler has done all that it can before the next step.
///
/// Bytes and text are scripts too: to send them and do no more.
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
pub struct Script(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    SendUrgent(u8),
    Wait(Duration),
    Finish,
    Reset,
    Read(usize),
    ShutdownRead,
}

impl Script {
    /// To connect, and do nothing.
    pub fn new() -> Self {
        Script::default()
    }

    /// Then sends: what one step sends arrives in one piece.
    #[must_use]
    pub fn send(self, data: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(data.as_ref().to_vec()))
    }

    /// Then sends each of these in a step of its own.
    #[must_use]
    pub fn send_each<T: AsRef<[u8]>>(self, pieces: impl IntoIterator<Item = T>) -> Self {
        let send = |script: Self, piece: T| script.send(piece);
        pieces.into_iter().fold(self, send)
    }

    /// Then sends a byte out of band.
    #[must_use]
    pub fn send_urgent(self, byte: u8) -> Self {
        self.then(Step::SendUrgent(byte))
    }

    /// Then waits, in virtual time.
    #[must_use]
    pub fn wait(self, time: Duration) -> Self {
        self.then(Step::Wait(time))
    }

    /// Then finishes sending, and goes on reading.
    #[must_use]
    pub fn finish(self) -> Self {
        self.then(Step::Finish)
    }

    /// Then resets the connection.
    #[must_use]
    pub fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// Then stops reading.
    #[must_use]
    pub fn stop_reading(self) -> Self {
        self.then(Step::Read(0))
    }

    /// Then reads on, so many bytes more at most; `usize::MAX` is all that comes.
    #[must_use]
    pub fn start_reading(self, count: usize) -> Self {
        self.then(Step::Read(count))
    }

    /// Then shuts its receiving side down: see [`Peer::shutdown_read`].
    #[must_use]
    pub fn shutdown_read(self) -> Self {
        self.then(Step::ShutdownRead)
    }

    fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }
}

impl Step {
    fn play(&self, peer: &Peer) {
        match self {
            Step::Send(data) => peer.send(data),
            Step::SendUrgent(byte) => peer.send_urgent(*byte),
            Step::Wait(_) => {}
            Step::Finish => peer.finish(),
            Step::Reset => peer.reset(),
            Step::Read(count) => peer.start_reading(*count),
            Step::ShutdownRead => peer.shutdown_read(),
        }
    }
}

impl From<&str> for Script {
    fn from(text: &str) -> Self {
        Script::new().send(text)
    }
}

impl From<&[u8]> for Script {
    fn from(data: &[u8]) -> Self {
        Script::new().send(data)
    }
}

impl<const N: usize> From<&[u8; N]> for Script {
    fn from(data: &[u8; N]) -> Self {
        Script::new().send(data)
    }
}

/// What came of a [`Script`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Transcript {
    /// What the peer has read of what the handler sent.
    pub output: Vec<u8>,
    /// What the handler was told at its end; `None` if it is still there.
    pub close: Option<Close>,
    /// How the connection ended for the peer; `None` if it has not.
    pub ended: Option<Ended>,
    /// How much time passed until the handler's end, or else to the end of the script.
    pub elapsed: Duration,
}

impl Transcript {
    /// The output as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.output)
    }

    /// Whether both are the same to whoever looks from outside: output and end, not the time.
    pub(super) fn agrees_with(&self, other: &Transcript) -> bool {
        let why = |it: &Transcript| it.close.as_ref().map(Close::to_string);
        self.output == other.output && self.ended == other.ended && why(self) == why(other)
    }
}

/// Plays a script to one handler, on a network and a loop of their own, and tells what came of it.
///
/// The connection is up when the factory is called, as an accepted one is: `handle_connect` comes
/// first. No more time passes than the script waits for.
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
/// # Errors
/// When the handler never comes to rest: see [`Network::settle`].
pub fn drive<S: AsyncChat>(
    factory: impl FnOnce(Chat) -> S + 'static,
    script: impl Into<Script>,
) -> Result<Transcript> {
    let network = Network::new(0);
    let event_loop = network.event_loop()?;
    let (socket, peer) = network.pair();
    let chat = Connector::adopt(socket).connect_on(&event_loop, factory)?;
    chat.state().record_end();
    let start = event_loop.0.now();
    network.settle(&event_loop)?;
    for step in script.into().0 {
        step.play(&peer);
        match step {
            Step::Wait(time) => network.advance(&event_loop, time)?,
            _ => network.settle(&event_loop)?,
        }
    }
    let (output, ended) = (peer.take_received(), peer.ended());
    let (close, elapsed) = match chat.state().recorded_end() {
        Some((why, when)) => (Some(why), when.saturating_duration_since(start)),
        None => (None, network.elapsed()),
    };
    Ok(Transcript {
        output,
        close,
        ended,
        elapsed,
    })
}
