//! An echo server of lines: the smallest program on layer 2.
//!
//! ```text
//! cargo run --release -p impatient --example echo
//! nc -C 127.0.0.1 7007          # in another terminal; type a line
//! ```
//!
//! `echo_dispatcher` is the same on layer 1.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use asynchat::{AsyncChat, Chat, Result};
use clap::Parser;

/// A server that sends every line back.
#[derive(Parser)]
#[command(after_help = common::SIGNALS)]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7007")]
    listen: String,
}

struct Echo {
    chat: Chat,
}

impl AsyncChat for Echo {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.chat.push_slice(line);
        self.chat.push("\r\n");
        Ok(())
    }
}

fn main() -> Result {
    let args = Args::parse();
    common::log_to_stderr("warn");
    let listener = asynchat::listen(&args.listen, |chat| Echo { chat })?;
    common::shutdown_on_ctrl_c(Duration::from_secs(5))?;
    if let Some(addr) = listener.local_addr() {
        common::announce(addr);
    }
    asynchat::run()?;
    Ok(())
}
