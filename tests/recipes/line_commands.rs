use asynchat::{AsyncChat, Channel, Chat, Error, Result};

struct Session {
    chat: Chat,
    total: i64,
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        self.chat.push("220 add N, total, or quit\r\n");
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = std::str::from_utf8(line)?;
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "add" => self.add(argument)?,
            "total" => write!(self.chat, "211 {}\r\n", self.total),
            "quit" => {
                self.chat.push("205 bye\r\n");
                self.chat.close_when_done();
            }
            _ => self.chat.push("500 what?\r\n"),
        }
        Ok(())
    }
}

impl Session {
    fn add(&mut self, argument: &str) -> Result {
        self.total = self.total.saturating_add(argument.parse()?);
        self.chat.push("250 ok\r\n");
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session { chat, total: 0 })
}
