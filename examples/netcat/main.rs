//! Joins this terminal, or a pipeline, to a TCP server: what is typed goes there, what comes is shown.
//!
//! ```text
//! cargo run --release --example netcat -- 127.0.0.1:7007
//! printf 'HELP\r\n' | cargo run --release --example netcat -- 127.0.0.1:1119
//! ```
//!
//! Standard input and output may be anything: a terminal, a pipe, a file, `/dev/null`. The end of the
//! input (Ctrl-D) is passed on, and netcat ends when the server has ended, too. When the server ends first,
//! it may still read: netcat goes on sending until its input ends or is silent for a second (`--quiet`).

#[path = "../common/mod.rs"]
mod common;

#[cfg(unix)]
fn main() -> asynchat::Result {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use asynchat::{AsyncChat, Chat, Close, Connector, Result, Socket};
    use clap::Parser;

    /// Joins standard input and output to a TCP server.
    #[derive(Parser)]
    struct Args {
        /// Where to connect to.
        #[arg(value_name = "HOST:PORT")]
        server: String,
        /// How long to wait for the connection, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait: u64,
        /// How long nothing may have to be sent to a server that has finished sending, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 1)]
        quiet: u64,
    }

    /// The error to exit with.
    type Failed = Rc<Cell<Option<String>>>;

    /// The server's side. All that it sends is passed on; what is of interest is how it ends.
    struct Server {
        chat: Chat,
        name: String,
        quiet: Duration,
        has_finished: bool,
        failed: Failed,
    }

    impl AsyncChat for Server {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }

        fn handle_piped(&mut self, chunk: &[u8]) -> Result {
            if chunk.is_empty() {
                self.has_finished = true;
                // TCP does not say whether it has closed, or has only finished sending.
                self.chat.set_idle_timeout(self.quiet);
            }
            Ok(())
        }

        fn handle_close(&mut self, why: &Close) {
            match why {
                Close::Eof | Close::Local | Close::Shutdown | Close::Piped(_) => {}
                // It had closed.
                Close::Timeout(_) | Close::Reset if self.has_finished => {}
                why => self.failed.set(Some(format!("{}: {why}", self.name))),
            }
        }
    }

    /// Standard input and output. Their errors say which of the two has failed.
    struct Terminal(Failed);

    impl AsyncChat for Terminal {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }

        fn handle_close(&mut self, why: &Close) {
            // A reader that has had enough (`head`) is no failure.
            if let Close::Io(error) = why {
                self.0.set(Some(error.to_string()));
            }
        }
    }

    let args = Args::parse();
    common::log_to_stderr("warn");
    let failed = Failed::default();
    let (end, name) = (Rc::clone(&failed), args.server.clone());
    let server = Connector::new(&args.server)
        .connect_timeout(Duration::from_secs(args.wait))
        .connect(move |chat| Server {
            chat,
            name,
            quiet: Duration::from_secs(args.quiet),
            has_finished: false,
            failed: end,
        })?;
    let end = Rc::clone(&failed);
    let terminal = Connector::adopt(Socket::stdio()?).connect(|_| Terminal(end))?;
    asynchat::pipe(&terminal, &server)?;
    common::shutdown_on_ctrl_c(Duration::ZERO)?;
    asynchat::run()?;
    match failed.take() {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn main() {
    common::log_to_stderr("warn");
    tracing::error!("standard input can be waited for only on Unix");
}
