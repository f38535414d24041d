use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread;

use asynchat::{AsyncChat, Chat, EventLoop, Remote, Result};

struct Session {
    chat: Chat,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        let channels = EventLoop::current()?.len(); // the loop that made this callback
        write!(self.chat, "{} here\r\n", channels - 1); // one is the listener
        Ok(())
    }
}

/// Runs a loop in its own thread. Returns its address, and the handle that stops it.
pub fn start(addr: &str) -> Result<(SocketAddr, Remote)> {
    let addr = addr.to_owned();
    let (started, result) = mpsc::channel();
    thread::spawn(move || serve(&addr, &started));
    Ok(result.recv()?)
}

fn serve(addr: &str, started: &Sender<(SocketAddr, Remote)>) -> Result {
    let my_loop = EventLoop::new()?;
    let listener = my_loop.listen(addr, |chat| Session { chat })?;
    let addr = listener
        .local_addr()
        .and_then(|addr| addr.inet())
        .ok_or("no address")?;
    started.send((addr, my_loop.remote()))?;
    my_loop.run()?;
    Ok(())
}
