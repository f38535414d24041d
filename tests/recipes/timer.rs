use std::time::Duration;

use asynchat::{AsyncChat, Channel, Chat, Error, Result, TimerId};

const PERIOD: Duration = Duration::from_millis(50);

struct Session {
    chat: Chat,
    ticks: u32,
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        self.chat.call_every(PERIOD);
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.ticks += 1;
        write!(self.chat, "tick {}\r\n", self.ticks);
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        self.ticks = 0;
        self.chat.push("ok\r\n");
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session { chat, ticks: 0 })
}
