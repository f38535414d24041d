use std::thread;

use asynchat::{AsyncChat, Channel, Chat, Error, Remote, Result};

struct Session {
    chat: Chat,
    remote: Remote,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let n: u64 = std::str::from_utf8(line)?.parse()?;
        let (id, remote) = (self.chat.id(), self.remote.clone());
        thread::spawn(move || {
            let answer: u64 = (0..=n).sum();
            // An error means that the loop has ended, and the connection with it.
            let _ = remote.post_to(id, move |session: &mut Session| {
                write!(session.chat, "{answer}\r\n");
                Ok(())
            });
        });
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    let remote = asynchat::remote()?;
    asynchat::listen(addr, move |chat| Session {
        chat,
        remote: remote.clone(),
    })
}
