use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use asynchat::{AsyncChat, ChannelId, EventLoop, Remote, Result, TimerId};

type Line = Vec<u8>;

struct Client {
    lines: Sender<Line>,
}

impl AsyncChat for Client {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        // An error means that nobody wants the lines any more: that ends the connection.
        Ok(self.lines.send(line.to_vec())?)
    }
}

/// A loop on a thread of its own, for other threads.
pub struct Reactor {
    remote: Remote,
    thread: JoinHandle<Result>,
}

impl Reactor {
    pub fn start() -> Result<Self> {
        let (sender, started) = mpsc::channel();
        let thread = thread::spawn(move || -> Result {
            let event_loop = EventLoop::new()?;
            sender.send(event_loop.remote())?;
            event_loop.run_forever()?; // also while it has no connection
            Ok(())
        });
        let remote = started.recv()?;
        Ok(Reactor { remote, thread })
    }

    /// Makes a call on the loop's thread, and waits for its result. Not for callbacks of the loop: they would
    /// wait for themselves.
    pub fn ask<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (sender, answer) = mpsc::channel();
        self.remote.post(move || drop(sender.send(call())))?;
        Ok(answer.recv()?)
    }

    pub fn connect(&self, addr: &str) -> Result<(ChannelId, Receiver<Line>)> {
        let ((sender, lines), addr) = (mpsc::channel(), addr.to_owned());
        let client = Client { lines: sender };
        let id = self.ask(move || asynchat::connect(addr, |_| client).map(|chat| chat.id()))??;
        Ok((id, lines))
    }

    /// Does nothing if the connection has ended.
    pub fn write(&self, id: ChannelId, data: String) -> Result {
        let push = move || {
            if let Some(chat) = asynchat::chat(id) {
                chat.push(data);
            }
        };
        self.remote.post(push)?;
        Ok(())
    }

    pub fn call_later(
        &self,
        delay: Duration,
        call: impl FnOnce() + Send + 'static,
    ) -> Result<TimerId> {
        self.ask(move || asynchat::call_later(delay, call))
    }

    pub fn cancel(&self, timer: TimerId) -> Result<bool> {
        self.ask(move || asynchat::cancel(timer))
    }

    /// Sends what is queued, closes the connections, and waits for the thread.
    pub fn shut_down(self) -> Result {
        self.remote.shutdown(Duration::from_secs(5))?;
        self.thread.join().map_err(|_| "the reactor has panicked")?
    }
}

pub fn start(addr: &str) -> Result {
    let reactor = Reactor::start()?;
    let (client, lines) = reactor.connect(addr)?;
    let timer = reactor.call_later(Duration::from_secs(3600), || ())?;
    reactor.write(client, "hello\r\n".to_owned())?;
    let answer = String::from_utf8(lines.recv()?)?;
    reactor.write(client, format!("you said {answer}\r\n"))?;
    assert!(reactor.cancel(timer)?);
    lines.recv()?; // the peer has it
    reactor.shut_down()
}
