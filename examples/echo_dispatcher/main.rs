//! An echo server of lines on layer 1, which corresponds to asyncore. It does not use layer 2 (asynchat).
//!
//! ```text
//! cargo run --release --example echo_dispatcher
//! nc -C 127.0.0.1 7007          # in another terminal; type a line
//! ```
//!
//! `echo` is the same server on layer 2, in a third of the code. Layer 2 also provides what this program
//! lacks:
//!
//! * a limit on the length of a line: here, a peer that never ends its line fills the memory;
//! * a high-water mark: here, a peer that sends and does not read fills the memory;
//! * an incremental search: here, a line that arrives in many pieces is searched from its beginning each
//!   time;
//! * a budget of records: here, all lines in one `recv` are answered in one turn, however many there are;
//! * one read buffer for all connections: here, each connection has its own input buffer;
//! * other terminators than CRLF: a byte count, or a block that ends with a dot line;
//! * producers, which make output while it is sent, and a close that waits until it has been sent.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use asynchat::{Addr, Channel, Dispatcher, Result, Socket};
use clap::Parser;

/// A server that sends every line back, on layer 1.
#[derive(Parser)]
#[command(after_help = common::SIGNALS)]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7007")]
    listen: String,
}

struct Listener {
    channel: Channel,
}

impl Dispatcher for Listener {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
        let session = Channel::adopt(socket).map(Session::new);
        // Returning the error would close the listener.
        if let Err(error) = session.and_then(asynchat::register) {
            tracing::warn!(%peer, %error, "cannot serve a connection");
        }
        Ok(())
    }
}

struct Session {
    channel: Channel,
    /// The beginning of a line whose end has not arrived.
    input: Vec<u8>,
    /// Replies that the kernel has not accepted yet.
    output: Vec<u8>,
}

impl Session {
    fn new(channel: Channel) -> Session {
        Session {
            channel,
            input: Vec::new(),
            output: Vec::new(),
        }
    }

    fn found_line(&mut self, line: &[u8]) {
        self.output.extend_from_slice(line);
        self.output.extend_from_slice(b"\r\n");
    }
}

impl Dispatcher for Session {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    /// After the peer's end of file, the loop closes the channel as soon as `writable` returns false.
    fn handle_read(&mut self) -> Result {
        let mut buffer = [0; 4096];
        let count = self.channel.recv(&mut buffer)?;
        self.input.extend_from_slice(&buffer[..count]);

        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            self.found_line(&rest[..end]);
            rest = &rest[end + 2..];
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn writable(&self) -> bool {
        !self.output.is_empty()
    }

    fn handle_write(&mut self) -> Result {
        let count = self.channel.send(&self.output)?;
        self.output.drain(..count);
        Ok(())
    }
}

fn main() -> Result {
    let args = Args::parse();
    common::log_to_stderr("warn");
    let channel = Channel::listen(&*args.listen)?;
    let addr = channel.local_addr();
    asynchat::register(Listener { channel })?;
    common::shutdown_on_ctrl_c(Duration::from_secs(5))?;
    if let Some(addr) = addr {
        common::announce(addr);
    }
    asynchat::run()?;
    Ok(())
}
