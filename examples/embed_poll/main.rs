//! A loop inside one that is made by hand: datagrams from a UDP socket, which the outer loop polls,
//! go as lines to all who are connected over TCP.
//!
//! ```text
//! cargo run --release --example embed_poll
//! nc -C 127.0.0.1 7012                            # in another terminal: lines come
//! echo hello | nc -u -w1 127.0.0.1 7012           # in a third
//! ```
//!
//! What matters is the loop in `serve`. Unix only: elsewhere an `EventLoop` has no descriptor that
//! another could wait for, and `frames` shows what there is instead.

#[path = "../common/mod.rs"]
mod common;

#[cfg(not(unix))]
fn main() {
    eprintln!("an EventLoop is a descriptor on Unix only; see the example frames");
}

#[cfg(unix)]
fn main() -> asynchat::Result {
    fan::serve(&clap::Parser::parse())
}

#[cfg(unix)]
mod fan {
    use std::cell::RefCell;
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::rc::Rc;
    use std::time::Duration;

    use asynchat::{Chat, EventLoop, Result};
    use clap::Parser;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    use crate::common;

    /// Tells all who are connected over TCP what comes over UDP.
    #[derive(Parser)]
    pub(crate) struct Args {
        /// Where to listen, and where datagrams are to be sent; port 0 picks a free one.
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7012")]
        listen: String,
    }

    type Listeners = Rc<RefCell<Vec<Chat>>>;

    pub(crate) fn serve(args: &Args) -> Result {
        common::log_to_stderr("error");
        let (event_loop, listeners) = (EventLoop::new()?, Listeners::default());
        let joined = Rc::clone(&listeners);
        let listener = event_loop.listen(&args.listen, move |chat| {
            joined.borrow_mut().push(chat);
            |_: &[u8]| Ok(()) // what they say is nobody's business
        })?;
        let addr = listener.local_addr().and_then(|addr| addr.inet());
        let addr = addr.ok_or("it listens on no internet address")?;
        let socket = UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        common::shutdown_all_on_ctrl_c(vec![event_loop.remote()], Duration::from_secs(1))?;
        common::announce(addr);

        // Ask for the timeout last: what is pushed, here in `relay`, is work for the next turn,
        // and the timeout is zero then.
        while event_loop.run_once(Duration::ZERO)? {
            relay(&socket, &listeners)?;
            let timeout = event_loop.next_timeout().map(Timespec::try_from);
            let mut sources = [
                PollFd::new(&event_loop, PollFlags::IN),
                PollFd::new(&socket, PollFlags::IN),
            ];
            match poll(&mut sources, timeout.transpose()?.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        Ok(())
    }

    /// Passes on the datagrams that are there; some of them, for others are to have their turn.
    fn relay(socket: &UdpSocket, listeners: &Listeners) -> Result {
        let mut datagram = [0; 64 * 1024];
        for _ in 0..100 {
            let size = match socket.recv(&mut datagram) {
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut listeners = listeners.borrow_mut();
            listeners.retain(|listener| listener.is_open());
            for line in datagram[..size].split(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if !line.is_empty() {
                    let push = |listener: &Chat| listener.push_slices(&[line, b"\r\n"]);
                    listeners.iter().for_each(push);
                }
            }
        }
        Ok(())
    }
}
