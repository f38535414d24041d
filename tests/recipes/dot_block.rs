use asynchat::{AsyncChat, Channel, Chat, Error, Result, Terminator};

struct Session {
    chat: Chat,
    in_block: bool,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        if self.in_block {
            let text = String::from_utf8_lossy(record);
            let (count, last) = (text.lines().count(), text.lines().last().unwrap_or("none"));
            self.in_block = false;
            self.chat.set_terminator(Terminator::crlf());
            write!(self.chat, "240 {count} lines, the last is {last}\r\n");
        } else if record == b"POST" {
            self.in_block = true;
            self.chat
                .set_terminator(Terminator::dot_block().limit(1 << 20));
            self.chat.push("340 send it\r\n");
        } else {
            self.chat.push("500 what?\r\n");
        }
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session {
        chat,
        in_block: false,
    })
}
