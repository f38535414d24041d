use asynchat::{AsyncChat, Channel, Chat, Error, Result, Terminator};

enum State {
    Size,
    Body,
    Name { size: usize },
}

struct Session {
    chat: Chat,
    state: State,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.state = match self.state {
            State::Size => {
                let size = std::str::from_utf8(record)?.parse()?;
                self.chat
                    .set_terminator(Terminator::count(size).limit(1 << 20));
                State::Body
            }
            State::Body => {
                self.chat.set_terminator(Terminator::crlf());
                State::Name { size: record.len() }
            }
            State::Name { size } => {
                let name = String::from_utf8_lossy(record);
                write!(self.chat, "250 {name} has {size} bytes\r\n");
                State::Size
            }
        };
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session {
        chat,
        state: State::Size,
    })
}
