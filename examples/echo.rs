//! An echo server of lines: the smallest program on layer 2.
//!
//! ```text
//! cargo run --release --example echo
//! nc -C 127.0.0.1 7007          # in another terminal; type a line
//! ```
//!
//! `echo_dispatcher` is the same on layer 1.

use std::time::Duration;

use asynchat::{AsyncChat, Chat, Result};
use clap::Parser;

/// Sends every line back.
#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 picks a free one.
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
    log_to_stderr();
    let listener = asynchat::listen(&args.listen, |chat| Echo { chat })?;
    if let Some(addr) = listener.local_addr() {
        println!("listening on {addr}");
    }
    let remote = asynchat::remote()?;
    ctrlc::set_handler(move || {
        let _ = remote.shutdown(Duration::from_secs(5));
    })?;
    asynchat::run()
}

fn log_to_stderr() {
    use std::io::IsTerminal;
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
