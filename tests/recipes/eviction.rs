use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use asynchat::{AsyncChat, Channel, Chat, Close, Error, Result};

type Members = Rc<RefCell<HashMap<String, Chat>>>;

struct Session {
    chat: Chat,
    members: Members,
    name: Option<String>,
}

impl AsyncChat for Session {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        let line = String::from_utf8(line.to_vec())?;
        let mut members = self.members.borrow_mut();
        if self.name.is_none() {
            members.insert(line.clone(), self.chat.clone());
            self.name = Some(line);
            self.chat.push("welcome\r\n");
        } else if let Some((name, reason)) = line
            .strip_prefix("EVICT ")
            .and_then(|rest| rest.split_once(' '))
            && let Some(member) = members.get(name)
        {
            write!(member, "you are evicted: {reason}\r\n");
            member.close_with(reason); // the line before it is sent
        }
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let Some(name) = &self.name else { return };
        let reason = match why {
            Close::Handler(error) => error.to_string(),
            other => other.to_string(),
        };
        let mut members = self.members.borrow_mut();
        members.remove(name);
        for member in members.values() {
            write!(member, "{name} has left: {reason}\r\n");
        }
    }
}

pub fn start(addr: &str) -> Result<Channel, Error> {
    let members = Members::default();
    asynchat::listen(addr, move |chat| Session {
        chat,
        members: Rc::clone(&members),
        name: None,
    })
}
