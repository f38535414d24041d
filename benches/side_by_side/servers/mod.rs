//! The servers. Each echoes lines that end with CR LF, on one thread, in its own process.

mod async_chat;
mod echo;
#[cfg(target_os = "linux")]
mod epoll_loop;
mod mio_loop;
mod polling_loop;
mod python;
mod tokio_framed;
mod versions;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::Command;
use std::{env, process, thread};

use asynchat::Result;

pub use versions::versions;

/// The size of the read buffer of the hand-written loops.
const READ_SIZE: usize = 64 * 1024;

/// The maximum length of a line, in servers that have such a limit.
pub const MAX_LINE: usize = 2 * 1024 * 1024;

/// The name of the server that the others are compared with.
pub const REFERENCE: &str = "polling";

pub struct Server {
    pub name: &'static str,
    /// The description for the report.
    pub about: &'static str,
    start: Start,
}

enum Start {
    /// A function in this program.
    Native(fn() -> Result),
    /// The name of a script, and the modules that it imports.
    Python(&'static str, &'static str),
}

pub const ALL: &[Server] = &[
    Server {
        name: "asynchat",
        about: "this crate: `AsyncChat`",
        start: Start::Native(async_chat::serve),
    },
    Server {
        name: REFERENCE,
        about: "a loop by hand on `polling`, level-triggered",
        start: Start::Native(polling_loop::serve),
    },
    #[cfg(target_os = "linux")]
    Server {
        name: "epoll",
        about: "a loop by hand on epoll, level-triggered",
        start: Start::Native(epoll_loop::serve),
    },
    Server {
        name: "mio",
        about: "a loop by hand on `mio`, edge-triggered",
        start: Start::Native(mio_loop::serve),
    },
    Server {
        name: "tokio",
        about: "tokio on one thread, `Framed` with `LinesCodec`",
        start: Start::Native(tokio_framed::serve),
    },
    Server {
        name: "asyncore",
        about: "Python's `asynchat.async_chat`",
        start: Start::Python("asyncore_echo.py", "asyncore, asynchat"),
    },
    Server {
        name: "asyncio",
        about: "Python's `asyncio.start_server`, streams",
        start: Start::Python("asyncio_echo.py", "asyncio"),
    },
];

/// The values of `--only`.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|server| server.name).collect()
}

impl Server {
    /// The command that starts the server. `None` if no Python on this machine can run it.
    pub fn command(&self) -> Result<Option<Command>> {
        match self.start {
            Start::Native(_) => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["--serve", self.name]);
                Ok(Some(command))
            }
            Start::Python(script, modules) => Ok(python::command(script, modules)),
        }
    }

    /// The Python modules that the server needs, if it is a Python script.
    fn modules(&self) -> Option<&'static str> {
        match self.start {
            Start::Native(_) => None,
            Start::Python(_, modules) => Some(modules),
        }
    }
}

/// Runs the server with this name. The process ends when its input ends, that is, when the parent process has
/// ended.
pub fn serve(name: &str) -> Result {
    let server = ALL.iter().find(|server| server.name == name);
    let Some(Start::Native(serve)) = server.map(|server| &server.start) else {
        return Err(format!("there is no server {name}").into());
    };
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    serve()
}

/// Prints the line that the parent process waits for.
fn announce(addr: SocketAddr) {
    println!("listening on {addr}");
}
