use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use asynchat::{AsyncChat, Channel, Chat, Connector, Error, ExitWatcher, Result, Terminator};
use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const SCRIPT: &str = "test -t 0 && echo a terminal; read name; echo \"hello $name\"";

/// A new pseudo-terminal: the end of this program, and that of the child.
fn open_terminal() -> Result<(OwnedFd, File)> {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    fcntl_setfd(&near, FdFlags::CLOEXEC)?;
    grantpt(&near)?;
    unlockpt(&near)?;
    let far = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(OFlags::NOCTTY.bits())?)
        .open(ptsname(&near, Vec::new())?.to_str()?)?;
    Ok((near, far))
}

/// The session of the terminal.
struct Output {
    client: Chat,
}

impl AsyncChat for Output {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.client.push_slices(&[line, b"\r\n"]);
        Ok(())
    }
}

struct Session {
    chat: Chat,
    terminal: Option<Chat>,
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        let (near, far) = open_terminal()?;
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(far.try_clone()?)
            .stdout(far.try_clone()?)
            .stderr(far)
            .spawn()?;
        let client = self.chat.clone();
        ExitWatcher::watch(child, move |status| {
            if let Ok(status) = status {
                write!(client, "exit {}\r\n", status.code().unwrap_or(-1));
            }
        })?;
        let client = self.chat.clone();
        let terminal = Connector::adopt(near).connect(|_| Output { client })?;
        terminal.set_terminator(Terminator::line()); // a terminal ends its lines with CRLF
        self.terminal = Some(terminal);
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if let Some(terminal) = &self.terminal {
            terminal.push_slices(&[line, b"\n"]);
        }
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session {
        chat,
        terminal: None,
    })
}
