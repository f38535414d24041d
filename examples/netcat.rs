//! Joins this terminal, or a pipeline, to a TCP server: what is typed goes there, what comes is shown.
//!
//! ```text
//! cargo run --release --example netcat -- 127.0.0.1:7007
//! printf 'HELP\r\n' | cargo run --release --example netcat -- 127.0.0.1:1119
//! ```
//!
//! The end of the input (Ctrl-D) is passed on; it ends when the server has ended, too. A file is for a
//! pipeline: `cat FILE | netcat ...`, for a regular file can not be waited for.

mod common;

#[cfg(unix)]
fn main() -> asynchat::Result {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use asynchat::{AsyncChat, Close, Connector, Result, Socket};
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
    }

    /// All that comes is the other's; what is of interest is how it ends.
    struct End(Rc<Cell<Option<String>>>);

    impl AsyncChat for End {
        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }

        fn handle_close(&mut self, why: &Close) {
            if !matches!(why, Close::Eof | Close::Local | Close::Shutdown) {
                self.0.set(Some(why.to_string()));
            }
        }
    }

    let args = Args::parse();
    common::log_to_stderr("warn");
    let failed = Rc::new(Cell::new(None));
    let end = End(Rc::clone(&failed));
    let server = Connector::new(&args.server)
        .connect_timeout(Duration::from_secs(args.wait))
        .connect(|_| end)?;
    let terminal = Connector::adopt(Socket::stdio()?).connect(|_| |_: &[u8]| Ok(()))?;
    asynchat::pipe(&terminal, &server)?;
    common::shutdown_on_ctrl_c(Duration::ZERO)?;
    asynchat::run()?;
    match failed.take() {
        Some(why) => Err(format!("{}: {why}", args.server).into()),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn main() {
    common::log_to_stderr("warn");
    tracing::error!("standard input can be waited for only on Unix");
}
