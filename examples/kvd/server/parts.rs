//! Commands that take several turns. Other clients are served between their parts.

use std::rc::Rc;

use asynchat::Chat;

use super::Server;
use super::client::{Client, ReplyMode};
use super::progress::Progress;
use super::session::Session;
use crate::commands::{Context, Mode};
use crate::resp::reply::Reply;
use crate::store::dropper;

/// A command that takes several turns. Each call executes the next part.
pub type LongCommand = Box<dyn FnMut(&mut Context<'_>) -> Progress>;

/// Executes the parts of a command in the next turns. The client's next request waits for the last one.
pub fn execute_later(server: &Rc<Server>, client: &Client, chat: &Chat, command: LongCommand) {
    client.waits.store(true);
    // CLIENT REPLY SKIP is over when the first part has returned.
    let is_wanted = client.reply_mode.load() == ReplyMode::On;
    add_part(server, chat, command, is_wanted);
}

/// Executes the next part when it has its turn.
fn add_part(server: &Rc<Server>, chat: &Chat, command: LongCommand, is_wanted: bool) {
    let (chat, mut command) = (chat.clone(), Some(command));
    server.add_task(move |_| {
        let command = command.take()?;
        let posted = chat.post::<Session>(move |session| {
            session.execute_part(command, is_wanted);
            Ok(())
        });
        // An error means that the client has left.
        posted.is_ok().then_some(Progress::Complete)
    });
}

impl Session {
    fn execute_part(&mut self, mut command: LongCommand, is_wanted: bool) {
        let mut reply = Reply {
            resp3: self.client.resp3.load(),
            ..Reply::default()
        };
        let progress = {
            let data = &mut *self.server.shared.lock();
            data.keyspace.set_time(self.server.now());
            command(&mut Context {
                server: &self.server,
                client: &self.client,
                chat: &self.chat,
                data,
                reply: &mut reply,
                mode: Mode::Request,
            })
        };
        dropper::join_freed_blocks();
        if progress == Progress::Complete {
            self.client.waits.store(false);
        }
        if !is_wanted {
            reply.drop_unwanted();
        }
        self.send(&mut reply);
        if progress == Progress::Complete {
            if !self.client.has_to_wait() {
                self.resume();
            }
        } else if self.has_much_output() {
            let (server, chat) = (Rc::clone(&self.server), self.chat.clone());
            self.chat
                .push_hook(move || add_part(&server, &chat, command, is_wanted));
        } else {
            add_part(&self.server, &self.chat, command, is_wanted);
        }
    }
}
