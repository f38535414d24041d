//! An `EventLoop` inside a hand-written loop on `poll`. The outer loop also polls a UDP socket, and sends each
//! datagram as lines to all TCP clients.
//!
//! ```text
//! cargo run --release --example embed_poll
//! nc -C 127.0.0.1 7012                            # in another terminal: shows the lines
//! echo hello | nc -u -w1 127.0.0.1 7012           # in a third
//! ```
//!
//! The important part is the loop in `serve`. It works on Unix only: on other systems an `EventLoop` has no
//! descriptor that another loop could poll. The example `frames` shows the alternative.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

#[cfg(not(all(unix, not(any(target_os = "illumos", target_os = "solaris")))))]
fn main() -> asynchat::Result {
    Err("an EventLoop has no descriptor on this system; see the example frames".into())
}

#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
fn main() -> asynchat::Result {
    fan::serve(&clap::Parser::parse())
}

#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
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

    /// Sends datagrams that arrive over UDP to all TCP clients.
    #[derive(Parser)]
    #[command(after_help = common::SIGNALS)]
    pub(crate) struct Args {
        /// The address to listen on, for TCP and UDP; port 0 chooses a free port.
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7012")]
        listen: String,
    }

    type Clients = Rc<RefCell<Vec<Chat>>>;

    pub(crate) fn serve(args: &Args) -> Result {
        common::log_to_stderr("error");
        let (event_loop, clients) = (EventLoop::new()?, Clients::default());
        let joined = Rc::clone(&clients);
        let listener = event_loop.listen(&args.listen, move |chat| {
            joined.borrow_mut().push(chat);
            |_: &[u8]| Ok(()) // the input of clients is ignored
        })?;
        let addr = listener.local_addr().and_then(|addr| addr.inet());
        let addr = addr.ok_or("not an internet address")?;
        let socket = UdpSocket::bind(addr)?;
        socket.set_nonblocking(true)?;
        common::shutdown_loop_on_ctrl_c(&event_loop, Duration::from_secs(1))?;
        common::announce(addr);

        // `next_timeout` is called last, after everything that pushes output, such as `relay`: queued
        // output makes the timeout zero.
        while event_loop.run_once(Duration::ZERO)? {
            relay(&socket, &clients)?;
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

    /// Forwards datagrams that have arrived, at most 100, so that the other work is not delayed.
    fn relay(socket: &UdpSocket, clients: &Clients) -> Result {
        let mut datagram = [0; 64 * 1024];
        for _ in 0..100 {
            let size = match socket.recv(&mut datagram) {
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut clients = clients.borrow_mut();
            clients.retain(Chat::is_open);
            for line in datagram[..size].split(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if !line.is_empty() {
                    let push = |client: &Chat| client.push_slices(&[line, b"\r\n"]);
                    clients.iter().for_each(push);
                }
            }
        }
        Ok(())
    }
}
