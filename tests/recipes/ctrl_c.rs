use std::time::Duration;

use asynchat::{AsyncChat, AtShutdown, Channel, Chat, Error, Result};

struct Session {
    chat: Chat,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.chat.push_slices(&[line, b"\r\n"]);
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        self.chat.push("421 bye\r\n");
        Ok(AtShutdown::CloseWhenDone)
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session { chat })
}

pub fn run() -> Result {
    let remote = asynchat::remote()?;
    ctrlc::set_handler(move || drop(remote.stop()))?; // its feature `termination` adds SIGTERM and SIGHUP
    asynchat::run()?; // Ctrl-C makes it return. Nothing is closed yet.
    asynchat::shutdown(Duration::from_secs(1));
    asynchat::run()?; // at most for a second
    Ok(())
}
