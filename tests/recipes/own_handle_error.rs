use asynchat::{AsyncChat, Channel, Chat, Error, Result};

struct Session {
    chat: Chat,
    total: i64,
}

impl Session {
    fn command(&mut self, line: &[u8]) -> Result {
        let line = std::str::from_utf8(line)?;
        let argument = line
            .strip_prefix("add ")
            .ok_or("the only command is add N")?;
        self.total += argument.parse::<i64>()?;
        write!(self.chat, "250 {}\r\n", self.total);
        Ok(())
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        // An error that leaves this function would close the connection.
        if let Err(error) = self.command(line) {
            write!(self.chat, "500 {error}\r\n");
        }
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    asynchat::listen(addr, |chat| Session { chat, total: 0 })
}
