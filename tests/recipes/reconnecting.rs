use std::time::Duration;

use asynchat::{AsyncChat, Chat, Close, Result};

struct Client {
    chat: Chat,
    addr: String,
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

    fn handle_close(&mut self, why: &Close) {
        tracing::warn!(%why, "connecting again");
        let (addr, attempt) = (self.addr.clone(), self.attempt + 1);
        asynchat::call_later(Duration::from_millis(100), move || {
            if let Err(error) = connect(addr, attempt) {
                tracing::error!(%error, "given up");
            }
        });
    }
}

fn connect(addr: String, attempt: u32) -> Result {
    asynchat::connect(addr.clone(), move |chat| Client {
        chat,
        addr,
        attempt,
    })?;
    Ok(())
}

pub fn start(addr: &str) -> Result {
    connect(addr.to_owned(), 1)
}
