//! An echo server of lines on layer 1 alone: what asyncore had, without what asynchat adds.
//!
//! ```text
//! cargo run --release --example echo_dispatcher
//! nc -C 127.0.0.1 7007          # in another terminal; type a line
//! ```
//!
//! `echo` is the same on layer 2, in a third of the code, and has what is missing here:
//!
//! * a limit to a line: a peer that never ends one fills this program's memory;
//! * a high-water mark: so does one that sends and does not read;
//! * a search that goes on where it stopped: a line that comes in many pieces is searched from
//!   its beginning with each;
//! * a budget of records: all the lines in one `recv` are answered in one go, however many;
//! * one buffer for all connections to read into, and none kept by those that are idle;
//! * the word for another delimiter than CRLF, a length, or an article up to its final dot;
//! * output that is made as it is sent, and a close that waits for it.

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use asynchat::{Addr, Channel, Dispatcher, Result, Socket};
use clap::Parser;

/// Sends every line back.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 picks a free one.
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
        // An error returned from here would be the listener's own and close it.
        if let Err(error) = session.and_then(asynchat::register) {
            tracing::warn!(%peer, %error, "a connection is lost");
        }
        Ok(())
    }
}

struct Session {
    channel: Channel,
    /// What came after the last line.
    input: Vec<u8>,
    /// What the kernel has not taken yet.
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

    /// At the peer's end of file nothing comes any more, and the loop closes the channel as soon
    /// as it is not writable either.
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
    asynchat::run()
}
