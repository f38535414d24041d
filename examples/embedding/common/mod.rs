//! What the programs share: their options, and the server that each of them embeds. Its clients see when the button
//! of the program is pressed.
#![allow(dead_code, reason = "each program uses a part of it")]

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use asynchat::{AsyncChat, Chat, Close, EventLoop, Group, Result};

/// How long the sockets may work in one go, so that a window stays fluid.
pub(crate) const BUDGET: Duration = Duration::from_millis(4);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7018")]
    pub(crate) listen: String,
    /// Press the button by itself, every so many milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    press: Option<u64>,
    /// Quit after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
}

impl Options {
    /// How often the button is pressed by itself.
    pub(crate) fn press(&self) -> Option<Duration> {
        self.press.map(Duration::from_millis)
    }

    /// After how much time the program quits by itself.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.seconds.map(Duration::from_secs)
    }
}

/// The server. All clones are the same one.
#[derive(Clone)]
pub(crate) struct Server {
    event_loop: EventLoop,
    clients: Group,
}

impl Server {
    /// Listens. When a client connects or leaves, `changed` is called with the number of clients.
    ///
    /// `command` is called with each record first, and returns whether it has answered.
    pub(crate) fn new(
        event_loop: &EventLoop,
        options: &Options,
        changed: impl Fn(usize) + Clone + 'static,
        command: impl Fn(&Chat, &[u8]) -> bool + Clone + 'static,
    ) -> Result<Self> {
        let clients = Group::default();
        let server = Server {
            event_loop: event_loop.clone(),
            clients: clients.clone(),
        };
        let listener = event_loop.listen(&options.listen, move |chat| Session {
            chat,
            clients: clients.clone(),
            changed: changed.clone(),
            command: command.clone(),
        })?;
        if let Some(time) = options.time() {
            let quit = event_loop.clone();
            event_loop.call_later(time, move || quit.shutdown(Duration::from_secs(1)));
        }
        let addr = listener.local_addr().and_then(|addr| addr.inet());
        // `println!` would panic when standard output is closed.
        let addr = addr.ok_or("not an internet address")?;
        let _ = writeln!(io::stdout(), "listening on {addr}");
        Ok(server)
    }

    /// The button: sends the time to all clients. It is called by the outer loop, not by a callback of this one.
    pub(crate) fn press(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = now.map_or(0, |now| now.as_micros());
        self.clients.push(format!("100 pressed at {micros}\r\n"));
    }

    /// The window is closed.
    pub(crate) fn quit(&self) {
        self.event_loop.shutdown(Duration::from_secs(1));
    }
}

struct Session<F, C> {
    chat: Chat,
    clients: Group,
    changed: F,
    command: C,
}

impl<F, C> AsyncChat for Session<F, C>
where
    F: Fn(usize) + 'static,
    C: Fn(&Chat, &[u8]) -> bool + 'static,
{
    fn handle_connect(&mut self) -> Result {
        self.clients.add(&self.chat);
        (self.changed)(self.clients.len());
        self.chat.push("220 STATS, QUIT, or a line to repeat\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        match line {
            _ if (self.command)(&self.chat, line) => {}
            b"STATS" => {
                // In a callback, `current` is the loop that makes it.
                let stats = EventLoop::current()?.stats();
                let (turns, wakeups) = (stats.turns, stats.wakeups);
                self.chat
                    .push(format!("250 {turns} turns, {wakeups} with events\r\n"));
            }
            b"QUIT" => {
                self.chat.push("221 bye\r\n");
                self.chat.close_when_done();
            }
            _ => {
                self.chat.push("250 ");
                self.chat.push_slice(line);
                self.chat.push("\r\n");
            }
        }
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        self.clients.remove(self.chat.id());
        (self.changed)(self.clients.len());
    }
}
