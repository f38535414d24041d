use std::io;

use asynchat::{AsyncChat, Channel, Chat, Error, More, Producer, Result};

struct Countdown(u32);

impl Producer for Countdown {
    fn more(&mut self, _budget: usize) -> io::Result<More> {
        if self.0 == 0 {
            return Ok(More::Done);
        }
        self.0 -= 1;
        Ok(More::Chunk(format!("{}\r\n", self.0).into()))
    }
}

struct Session {
    chat: Chat,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let from = std::str::from_utf8(line)?.parse()?;
        self.chat.push_with_producer(Countdown(from));
        self.chat.push("lift off\r\n");
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session { chat })
}
