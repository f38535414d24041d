//! A server on this crate.

use asynchat::{AsyncChat, Chat, Limits, Result, Server};

struct Echo {
    chat: Chat,
}

impl AsyncChat for Echo {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.chat.push_slice(line);
        self.chat.push("\r\n");
        Ok(())
    }
}

pub fn serve() -> Result {
    let listener = Server::new("127.0.0.1:0")
        // All clients have the same address.
        .limits(
            Limits::default()
                .record(super::MAX_LINE)
                .per_address(Limits::UNLIMITED),
        )
        .listen(|chat| Echo { chat })?;
    let addr = listener.local_addr().and_then(|addr| addr.inet());
    super::announce(addr.ok_or("the listener has no address")?);
    asynchat::run()?;
    Ok(())
}
