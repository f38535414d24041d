use std::process::{Command, Stdio};

use asynchat::{AsyncChat, Channel, Chat, Connector, Error, Result, Subprocess, Terminator};

const SCRIPT: &str = "echo found $1; echo warning >&2; exit $1";

/// Passes the lines of one pipe of a job on to the client.
struct Pipe {
    label: &'static [u8],
    client: Chat,
}

impl Pipe {
    fn new(pipe: &Chat, label: &'static [u8], client: Chat) -> Self {
        pipe.set_terminator(Terminator::line());
        Pipe { label, client }
    }
}

impl AsyncChat for Pipe {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.client.push_slices(&[self.label, b": ", line, b"\r\n"]);
        Ok(())
    }
}

struct Session {
    chat: Chat,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, argument: &[u8]) -> Result {
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "sh", std::str::from_utf8(argument)?])
            .stderr(Stdio::piped());
        let (client, on_exit) = (self.chat.clone(), self.chat.clone());
        let job = Subprocess::spawn(
            &mut command,
            |pipe| Pipe::new(&pipe, b"out", client),
            move |status| match status {
                Ok(status) => write!(on_exit, "exit {}\r\n", status.code().unwrap_or(-1)),
                Err(error) => write!(on_exit, "exit unknown: {error}\r\n"),
            },
        )?;
        if let Some(errors) = job.take_stderr() {
            let client = self.chat.clone();
            Connector::adopt(errors).connect(|pipe| Pipe::new(&pipe, b"err", client))?;
        }
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session { chat })
}
