use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use asynchat::{AsyncChat, Channel, Chat, Close, Error, Result};

type Clients = Rc<RefCell<HashMap<String, Chat>>>;

struct Session {
    chat: Chat,
    clients: Clients,
    name: Option<String>,
}

impl Session {
    fn tell(&self, text: &str) {
        for client in self.clients.borrow().values() {
            write!(client, "{text}\r\n"); // only queues, so the map cannot change
        }
    }
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let text = String::from_utf8_lossy(line).into_owned();
        if let Some(name) = &self.name {
            self.tell(&format!("<{name}> {text}"));
        } else {
            self.clients
                .borrow_mut()
                .insert(text.clone(), self.chat.clone());
            self.tell(&format!("{text} has come"));
            self.name = Some(text);
        }
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        if let Some(name) = &self.name {
            self.clients.borrow_mut().remove(name);
            self.tell(&format!("{name} has left"));
        }
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    let clients = Clients::default();
    asynchat::listen(addr, move |chat| Session {
        chat,
        clients: Rc::clone(&clients),
        name: None,
    })
}
