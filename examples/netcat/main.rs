//! Connects this terminal, or a pipeline, to a TCP server: it sends standard input, and writes the replies to
//! standard output.
//!
//! ```text
//! cargo run --release --example netcat -- 127.0.0.1:7007
//! printf 'HELP\r\n' | cargo run --release --example netcat -- 127.0.0.1:1119
//! ```
//!
//! Standard input and output may be a terminal, a pipe, a file or `/dev/null`. At the end of the input
//! (Ctrl-D), netcat half-closes the connection, and ends when the server has closed it. If the server
//! half-closes first, it may still read, so netcat continues to send until its input ends or has been idle for
//! a second (`--quiet`).

#[path = "../common/mod.rs"]
mod common;

fn main() -> asynchat::Result {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use asynchat::{AsyncChat, Chat, Close, Connector, Result, Socket};
    use clap::Parser;

    /// Connects standard input and output to a TCP server.
    #[derive(Parser)]
    struct Args {
        /// The address of the server.
        #[arg(value_name = "HOST:PORT")]
        server: String,
        /// The connect timeout, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait: u64,
        /// After the server has finished sending: how long the input may be idle, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 1)]
        quiet: u64,
    }

    /// The error that the program exits with.
    type Failure = Rc<Cell<Option<String>>>;

    /// The handler of the connection to the server. The pipe forwards the data; this handler notes how the
    /// connection ends.
    struct Server {
        chat: Chat,
        name: String,
        quiet: Duration,
        has_finished: bool,
        failure: Failure,
    }

    impl AsyncChat for Server {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }

        fn handle_piped(&mut self, chunk: &[u8]) -> Result {
            if chunk.is_empty() {
                self.has_finished = true;
                // TCP does not show whether the server has closed the connection or half-closed it.
                self.chat.set_idle_timeout(self.quiet);
            }
            Ok(())
        }

        fn handle_close(&mut self, why: &Close) {
            match why {
                why if why.is_local() => {}
                Close::Eof | Close::Piped(_) => {}
                // The server had closed the connection.
                Close::Timeout(_) | Close::Reset if self.has_finished => {}
                why => self.failure.set(Some(format!("{}: {why}", self.name))),
            }
        }
    }

    /// The handler of standard input and output. The text of an error names the one that failed.
    struct Terminal(Failure);

    impl AsyncChat for Terminal {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }

        fn handle_close(&mut self, why: &Close) {
            // If a reader such as `head` closes the pipe, that is not a failure.
            if let Close::Io(error) = why {
                self.0.set(Some(error.to_string()));
            }
        }
    }

    let args = Args::parse();
    common::log_to_stderr("warn");
    let failure = Failure::default();
    let (shared, name) = (Rc::clone(&failure), args.server.clone());
    let server = Connector::new(&args.server)
        .connect_timeout(Duration::from_secs(args.wait))
        .connect(move |chat| Server {
            chat,
            name,
            quiet: Duration::from_secs(args.quiet),
            has_finished: false,
            failure: shared,
        })?;
    let shared = Rc::clone(&failure);
    let terminal = Connector::adopt(Socket::stdio()?).connect(|_| Terminal(shared))?;
    asynchat::pipe(&terminal, &server)?;
    common::shutdown_on_ctrl_c(Duration::ZERO)?;
    asynchat::run()?;
    match failure.take() {
        Some(why) => Err(why.into()),
        None => Ok(()),
    }
}
