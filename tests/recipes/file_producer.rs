use std::fs::File;

use asynchat::{AsyncChat, Channel, Chat, Error, ReadProducer, Result};

struct Session {
    chat: Chat,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if line == b"LICENSE" {
            let file = File::open("LICENSE-APACHE")?;
            self.chat.push("150 here it comes\r\n");
            self.chat.push_with_producer(ReadProducer::new(file));
            self.chat.close_when_done();
        } else {
            self.chat.push("500 LICENSE is all I have\r\n");
        }
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session { chat })
}
