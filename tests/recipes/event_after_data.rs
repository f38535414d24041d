use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Channel, Chat, Error, Result, SimpleProducer};

struct Session {
    chat: Chat,
    watchers: Rc<RefCell<Vec<Chat>>>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if line == b"WATCH" {
            self.watchers.borrow_mut().push(self.chat.clone());
            self.chat.push("200 you will be notified\r\n");
        } else {
            self.chat
                .push_with_producer(SimpleProducer::new(vec![b'x'; 100_000]));
            let watchers = Rc::clone(&self.watchers);
            self.chat.push_hook(move || {
                for watcher in watchers.borrow().iter() {
                    watcher.push("226 transfer complete\r\n");
                }
            });
            self.chat.close_when_done();
        }
        Ok(())
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    let watchers = Rc::default();
    asynchat::listen(addr, move |chat| Session {
        chat,
        watchers: Rc::clone(&watchers),
    })
}
