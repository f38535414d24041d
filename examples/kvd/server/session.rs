//! The handler of a connection: reads requests, and stops where one has to wait.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use asynchat::{AsyncChat, AtShutdown, Chat, Close, Eof, Result, Terminator, TimerId};

use super::Server;
use super::client::{Blocking, Client, ReplyMode};
use super::config::LEAST_QUERY_BUFFER;
use super::rest::{Large, Rest};
use super::shared::lock;
use super::waiting::Outcome;
use crate::commands::{Context, Mode, execute};
use crate::resp::reply::Reply;
use crate::resp::request::{Allowed, Parser, Step};

/// The next request of a client waits while more output than this is queued for it.
const MOST_OUTPUT: usize = 256 * 1024;

/// `tcp-keepalive`: after so much silence the system asks whether a client is still there. One that waits for an element
/// or for messages has no `timeout`.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// The requests of one read have what the workers share for this long. The time is looked at after each command that may
/// take long, and after so many others.
const LONGEST_TURN: Duration = Duration::from_millis(1);
const REQUESTS_BETWEEN_LOOKS: u32 = 16;

/// The turn ends, too, when they have published more messages than this. A message counts once for each subscription.
/// PUBLISH itself is short, but these are all delivered behind the requests of the read.
const MOST_DELIVERIES: usize = 10_000;

/// A client that has sent nothing for so many milliseconds has received its last reply.
const LEAST_IDLE: i64 = 1000;

pub struct Session {
    pub client: Arc<Client>,
    pub chat: Chat,
    pub server: Rc<Server>,
    rest: Option<Box<Rest>>,
}

/// What the sessions use while they execute requests, one at a time.
#[derive(Default)]
pub struct Tools {
    parser: Parser,
    reply: Reply,
}

impl Session {
    pub fn new(server: &Rc<Server>, chat: Chat) -> Session {
        chat.set_terminator(Terminator::none());
        Session {
            client: server.add_client(&chat),
            chat,
            server: Rc::clone(server),
            rest: None,
        }
    }

    /// Executes the requests in the input as far as they are complete. Returns which part of it is left, and the large
    /// argument that has begun behind that.
    fn run(&self, input: &[u8], tools: &mut Tools) -> (Range<usize>, Option<Large>) {
        let (server, client, chat) = (&self.server, &self.client, &self.chat);
        let Tools { parser, reply } = tools;
        if client.subscription_count.load() > 0 {
            // What was published before the requests were sent goes before their replies.
            server.deliver_mailbox();
        }
        let mut locked = server.shared.lock();
        let data = &mut *locked;
        let now = server.now();
        data.keyspace.set_time(now);
        client.last_active.store(now);
        reply.resp3 = client.resp3.load();
        let mut allowed = Allowed {
            argument: data.config.argument,
            authenticated: client.is_admitted(&data.config),
        };
        // A reply that has to wait is pushed by itself, because it may become an error.
        let is_durable = server.is_durable();
        let (mut start, mut end) = (0, input.len());
        let mut large = None;
        let mut turn = TurnTime::new();
        server.deliveries.set(0);
        while !client.has_to_wait() {
            match parser.next(&input[start..], allowed) {
                Step::Request => {
                    let mut context = Context {
                        server,
                        client,
                        chat,
                        data,
                        reply,
                        mode: Mode::Request,
                    };
                    let may_take_long = execute(&mut context, parser.args(&input[start..]));
                    server.serve_ready(chat, data, client.id);
                    allowed.authenticated = client.is_admitted(&data.config);
                    allowed.argument = data.config.argument;
                    match client.blocking.load() {
                        Blocking::No => skip_reply(client, reply),
                        Blocking::OnKeys => {}
                        Blocking::OnCommand => data.retain_command(client, parser.size_of_copies()),
                        // The request waits where it is.
                        Blocking::OnPause => break,
                    }
                    start += parser.at;
                    parser.reset();
                    if !reply.behind.is_empty() {
                        self.send_messages(reply);
                    }
                    if is_durable || reply.len() > MOST_OUTPUT / 4 || !reply.parts.is_empty() {
                        self.send(reply);
                    }
                    if turn.is_over(may_take_long) || server.deliveries.get() > MOST_DELIVERIES {
                        self.resume_later(|chat, resume| drop(chat.post(resume)));
                    }
                }
                Step::Nothing => {
                    start += parser.at;
                    parser.reset();
                }
                Step::Incomplete => break,
                Step::Large(len) => {
                    end = start + parser.at;
                    large = Some(Large::begin(len, &input[end..]));
                    break;
                }
                Step::Error(text) => {
                    data.stats.note_error(&text);
                    reply.error(&text);
                    skip_reply(client, reply);
                    client.closes.store(true);
                }
            }
        }
        server.after_requests(&mut data.keyspace);
        drop(locked);
        server.deliver();
        self.send(reply);
        (start..end, large)
    }

    /// Pushes the replies. A client that does not read them has to wait for its next ones.
    pub fn send(&self, reply: &mut Reply) {
        let chat = &self.chat;
        let is_made_later = reply.is_made_later();
        let queued = chat.queued();
        let has_to_wait = self.server.push(&self.client, chat, reply);
        self.client.note_replies(chat, queued);
        if self.client.closes.load() {
            chat.close_when_done();
        } else if is_made_later || has_to_wait || self.has_much_output() {
            // One reply that is made while it is sent is enough at a time. So is a promise for a slow disk.
            self.resume_behind_output();
        }
    }

    pub fn has_much_output(&self) -> bool {
        self.chat.queued() > MOST_OUTPUT
    }

    /// Sends the messages that EXEC has brought, behind its reply. Each has the limits of every message.
    #[cold]
    fn send_messages(&self, reply: &mut Reply) {
        let messages = reply.behind.take();
        self.send(reply);
        for message in messages {
            self.client.deliver(&self.chat, &message);
        }
    }

    /// Lets the next request wait until what is queued is sent.
    fn resume_behind_output(&self) {
        self.resume_later(|chat, resume| {
            let this = chat.clone();
            // An error means that the client has left.
            chat.push_hook(move || drop(this.post(resume)));
        });
    }

    /// Lets the next request wait until `wait` has called what it is given. It waits for one thing at a time.
    fn resume_later(&self, wait: impl FnOnce(&Chat, fn(&mut Session) -> Result)) {
        if self.client.waits.swap(true) {
            return;
        }
        wait(&self.chat, |session| {
            session.client.waits.store(false);
            session.resume();
            Ok(())
        });
    }

    /// Applies the limits of the output, and `timeout`.
    pub fn apply_config(&self, timeout: u64) {
        self.client.note_output(&self.chat, 0);
        self.client.apply_timeout(&self.chat, timeout);
    }

    /// Ends the connection at once.
    pub fn end_with(&self, why: &dyn std::fmt::Display) {
        let (client, addr) = (self.client.id, &self.client.addr);
        tracing::warn!(client, addr, %why, "the connection of a client is ended");
        self.client.closes.store(true);
        self.chat.abort();
    }

    /// Continues with the input that has waited.
    pub fn resume(&mut self) {
        if self.client.blocking.load() == Blocking::OnCommand {
            // The end of the command resumes.
            return;
        }
        // The turn may have ended before all its replies were queued, so that nothing waits for these yet.
        if self.has_much_output() {
            return self.resume_behind_output();
        }
        self.chat.resume_reading();
        // The end of a large argument continues by itself.
        if self.rest.as_ref().is_some_and(|rest| rest.large.is_none()) {
            self.continue_with(&[]);
        }
    }

    /// Executes the requests in the rest and behind it.
    fn continue_with(&mut self, chunk: &[u8]) {
        let mut tools = self.server.tools.take().unwrap_or_default();
        let mut rest = self.rest.take();
        if let Some(rest) = &mut rest {
            rest.extend(chunk);
            std::mem::swap(&mut rest.parser, &mut tools.parser);
        }
        let input = rest.as_ref().map_or(chunk, |rest| rest.input());
        let (left, large) = self.run(input, &mut tools);
        if !left.is_empty() && !self.client.closes.load() {
            let mut rest = rest.unwrap_or_default();
            if rest.input().is_empty() {
                rest.extend(&chunk[left]);
            } else {
                rest.keep(left);
            }
            std::mem::swap(&mut rest.parser, &mut tools.parser);
            if let Some(large) = &large {
                let missing = Terminator::count(large.missing() as u64);
                self.chat.set_terminator(missing.streamed());
            }
            rest.large = large;
            self.rest = Some(rest);
        }
        tools.parser.reset();
        self.server.tools.set(Some(tools));
        self.check_rest();
    }

    /// Stops reading while a request waits. A client that waits for an element, or for the end of a pause, is read, as in
    /// Redis up to the limit of its input.
    fn check_rest(&self) {
        let is_read = matches!(
            self.client.blocking.load(),
            Blocking::OnKeys | Blocking::OnPause
        );
        if self.client.has_to_wait() && !is_read {
            self.chat.pause_reading();
        }
        self.check_length();
    }

    fn waiting_input(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.input().len())
    }

    /// Ends a client whose request is too long.
    fn check_length(&self) {
        let input = self.waiting_input() + self.unused_input();
        if input > LEAST_QUERY_BUFFER && input > self.server.shared.query_buffer.load(Relaxed) {
            let (client, addr) = (self.client.id, &self.client.addr);
            tracing::warn!(
                client,
                addr,
                "a client has exceeded client-query-buffer-limit"
            );
            self.client.closes.store(true);
            self.chat.close();
        }
    }

    /// The memory of what was parsed: of a request that is not complete, of a transaction, and of a blocked command.
    fn unused_input(&self) -> usize {
        let mut size = self.rest.as_ref().map_or(0, |rest| {
            rest.parser.size() + rest.large.as_ref().map_or(0, Large::received)
        });
        if self.client.is_in_transaction.load() {
            let transaction = lock(&self.client.transaction);
            size += transaction.as_ref().map_or(0, |it| it.size);
        }
        if self.client.blocking.load() == Blocking::OnKeys {
            let blocked = lock(&self.client.blocked);
            size += blocked.as_ref().map_or(0, |it| it.size());
        }
        size
    }

    fn collect_large(&mut self, chunk: &[u8]) {
        if let Some(large) = self.rest.as_mut().and_then(|rest| rest.large.as_mut()) {
            large.extend(chunk);
            self.check_length();
        }
    }
}

/// How long the requests of one read have been executed.
struct TurnTime {
    requests: u32,
    begun: Instant,
}

impl TurnTime {
    fn new() -> TurnTime {
        TurnTime {
            requests: 0,
            begun: Instant::now(),
        }
    }

    /// Whether it is too long, after another request.
    fn is_over(&mut self, may_have_taken_long: bool) -> bool {
        self.requests += 1;
        let is_looked_at =
            may_have_taken_long || self.requests.is_multiple_of(REQUESTS_BETWEEN_LOOKS);
        is_looked_at && self.begun.elapsed() >= LONGEST_TURN
    }
}

/// Drops the reply to a request if the client does not want it.
#[inline]
pub fn skip_reply(client: &Client, reply: &mut Reply) {
    if client.reply_mode.load() != ReplyMode::On {
        skip(client, reply);
    }
}

#[cold]
fn skip(client: &Client, reply: &mut Reply) {
    match client.reply_mode.load() {
        // This is the reply to CLIENT REPLY SKIP, or to the EXEC that has executed it.
        ReplyMode::SkipNext => {
            reply.keep();
            return client.reply_mode.store(ReplyMode::Skip);
        }
        ReplyMode::Skip => client.reply_mode.store(ReplyMode::On),
        ReplyMode::On | ReplyMode::Off => {}
    }
    reply.drop_unwanted();
}

impl AsyncChat for Session {
    /// The end of a large argument.
    fn found_terminator(&mut self, _: &[u8]) -> Result {
        self.chat.set_terminator(Terminator::none());
        if let Some(rest) = &mut self.rest
            && let Some(large) = rest.large.take()
        {
            rest.parser.add_large(large.into_bytes());
            self.continue_with(&[]);
        }
        Ok(())
    }

    fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        match &mut self.rest {
            Some(rest) if rest.large.is_some() => self.collect_large(chunk),
            _ if self.client.has_to_wait() => {
                let rest = self.rest.get_or_insert_default();
                rest.extend(chunk);
                self.check_rest();
            }
            _ => self.continue_with(chunk),
        }
        Ok(())
    }

    fn handle_connect(&mut self) -> Result {
        if let Some(refusal) = self.server.refusal(&self.chat) {
            self.chat.push(refusal);
            self.client.closes.store(true);
            self.chat.close_when_done();
        }
        // An error means that the client has left already, or that it is on this host.
        let _ = self.chat.set_keepalive(KEEPALIVE);
        Ok(())
    }

    /// The time of a blocked command is over.
    fn handle_timer(&mut self, _: TimerId) -> Result {
        // It may have been served meanwhile.
        self.server
            .shared
            .lock()
            .unblock(&self.client, Outcome::Timeout);
        Ok(())
    }

    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        // Many clients notice the end of a connection with their next command only. To linger for one that is idle would
        // delay the end of the server, and the next one could not open the folder. But a client that still sends would lose
        // the replies that are on their way.
        let client = &self.client;
        let is_idle = self.server.now() - client.last_active.load() >= LEAST_IDLE
            && client.promised.load() == 0
            // A message does not make a client active.
            && client.subscription_count.load() == 0;
        let has_all = self.chat.queued() == 0 && self.rest.is_none() && !client.has_to_wait();
        if is_idle && has_all {
            self.chat.skip_linger();
        }
        Ok(if self.leave_queues() {
            AtShutdown::Stay
        } else {
            AtShutdown::CloseWhenDone
        })
    }

    /// The connection closes when all replies are sent, which may take a while.
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        Ok(if self.leave_queues() {
            Eof::StayOpen
        } else {
            Eof::CloseWhenDone
        })
    }

    fn handle_close(&mut self, why: &Close) {
        if let Close::Handler(_) | Close::Panic(_) | Close::Io(_) = why {
            let (client, addr, channel) = (self.client.id, &self.client.addr, self.chat.id());
            tracing::warn!(client, addr, %channel, %why, "the connection of a client has failed");
        }
        self.server.remove_client(&self.client, &self.chat);
    }
}
