use std::time::Duration;

use asynchat::{AsyncChat, Backoff, Chat, Connector, Result};

struct Client {
    chat: Chat,
    attempt: u32,
}

impl AsyncChat for Client {
    fn handle_connect(&mut self) -> Result {
        write!(self.chat, "attempt {}\r\n", self.attempt);
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.chat.push_slices(&[b"got ", line, b"\r\n"]);
        Ok(())
    }
}

pub fn start(addr: &str) -> Result {
    let backoff = Backoff::default().initial(Duration::from_millis(100));
    let mut attempt = 0;
    Connector::new(addr).reconnect(backoff, move |chat| {
        attempt += 1;
        Client { chat, attempt }
    })?;
    Ok(())
}
