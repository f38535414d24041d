//! The servers. Each serves an echo of lines that end in CR LF, on one thread, in a process of its
//! own.

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

/// What the loops of Rust read at once, where they are told.
const READ: usize = 64 * 1024;

/// The longest line, where a bound can be set.
pub const MAX_LINE: usize = 2 * 1024 * 1024;

/// The one that the others are compared with.
pub const REFERENCE: &str = "polling";

pub struct Server {
    pub name: &'static str,
    /// For the report.
    pub about: &'static str,
    start: Start,
}

enum Start {
    Here(fn() -> Result),
    /// A script of this name, and the modules that it imports.
    Python(&'static str, &'static str),
}

pub const ALL: &[Server] = &[
    Server {
        name: "asynchat",
        about: "this crate: `AsyncChat`",
        start: Start::Here(async_chat::serve),
    },
    Server {
        name: REFERENCE,
        about: "a loop by hand on `polling`, level-triggered",
        start: Start::Here(polling_loop::serve),
    },
    #[cfg(target_os = "linux")]
    Server {
        name: "epoll",
        about: "a loop by hand on epoll, level-triggered",
        start: Start::Here(epoll_loop::serve),
    },
    Server {
        name: "mio",
        about: "a loop by hand on `mio`, edge-triggered",
        start: Start::Here(mio_loop::serve),
    },
    Server {
        name: "tokio",
        about: "tokio on one thread, `Framed` with `LinesCodec`",
        start: Start::Here(tokio_framed::serve),
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

/// What `--only` takes.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|server| server.name).collect()
}

impl Server {
    /// The command that starts it; `None` if this machine has not got what it needs.
    pub fn command(&self) -> Result<Option<Command>> {
        match self.start {
            Start::Here(_) => {
                let mut command = Command::new(env::current_exe()?);
                command.args(["--serve", self.name]);
                Ok(Some(command))
            }
            Start::Python(script, modules) => Ok(python::command(script, modules)),
        }
    }

    /// The modules of Python that it needs, if it is written in Python.
    fn modules(&self) -> Option<&'static str> {
        match self.start {
            Start::Here(_) => None,
            Start::Python(_, modules) => Some(modules),
        }
    }
}

/// Is the server of this name, until the process that started this one lets go of its input.
pub fn serve(name: &str) -> Result {
    let server = ALL.iter().find(|server| server.name == name);
    let Some(Start::Here(serve)) = server.map(|server| &server.start) else {
        return Err(format!("no server {name} in here").into());
    };
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    serve()
}

/// What the process that started this one waits for.
fn announce(addr: SocketAddr) {
    println!("listening on {addr}");
}
