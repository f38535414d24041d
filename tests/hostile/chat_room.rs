//! A chat room with a member that stops reading: it is closed and its queue is freed, and the other
//! members receive everything.

use std::cell::RefCell;
use std::rc::Rc;

use asynchat::{AsyncChat, Chat, Close, Limits, Result};

use crate::allocator::in_use;
use crate::common::{Peer, addr_of, new_loop, run_until};
use crate::process;

/// How many lines are pushed at a time.
const LINES: usize = 63;

type Room = Rc<RefCell<Vec<Chat>>>;

struct Member {
    chat: Chat,
    room: Room,
}

impl AsyncChat for Member {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        for member in &*self.room.borrow() {
            member.push_slice(line);
            member.push("\r\n");
        }
        Ok(())
    }

    fn handle_close(&mut self, _: &Close) {
        let id = self.chat.id();
        self.room.borrow_mut().retain(|member| member.id() != id);
    }
}

#[test]
fn a_member_that_does_not_read_is_closed_and_the_others_receive_everything() {
    const TEST: &str =
        "chat_room::a_member_that_does_not_read_is_closed_and_the_others_receive_everything";
    process::run(TEST, &[("all", deaf_member)]);
}

fn deaf_member() {
    let (event_loop, room) = (new_loop(), Room::default());
    let members = Rc::clone(&room);
    let listener = event_loop
        .listen("127.0.0.1:0", move |chat: Chat| {
            members.borrow_mut().push(chat.clone());
            let room = Rc::clone(&members);
            Member { chat, room }
        })
        .unwrap();
    let mut others = [(); 4].map(|()| Peer::connect(addr_of(&listener)));
    let deaf = Peer::connect(addr_of(&listener));
    run_until(&event_loop, || room.borrow().len() == 5);

    let limit = Limits::default().output;
    let (before, mut most) = (in_use(), 0);
    let mut sent = 0;
    while room.borrow().len() == 5 {
        // The kernel buffers some of it, up to a size that it changes at run time.
        assert!(sent < 64 << 20, "no member was closed");
        let lines = format!("{sent:01022}\r\n").repeat(LINES);
        others[0].send_all(&event_loop, lines.as_bytes());
        for other in &mut others {
            other.expect(&event_loop, &lines);
        }
        most = most.max(in_use().saturating_sub(before));
        sent += lines.len();
    }
    assert_eq!(event_loop.stats().closes.output_limit, 1);
    assert_eq!(event_loop.stats().closed, 1);
    assert!(most > limit / 2, "{most} bytes were queued at most");
    let leaked = in_use().saturating_sub(before);
    assert!(leaked < limit / 16, "{leaked} bytes are leaked");
    others[3].send("still here\r\n");
    for other in &mut others {
        other.expect(&event_loop, "still here\r\n");
    }
    drop(deaf);
}
