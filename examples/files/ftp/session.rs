//! The handler of a control connection: commands in turn, those that wait for the end of a transfer, and time.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use asynchat::{
    AsyncChat, AtShutdown, Chat, Close, Eof, More, Overflow, Producer, RecordLimit, Result,
    Terminator, TimerId,
};
use tracing::debug;

use super::command::{self, Command};
use super::describe::Facts;
use super::login::Login;
use super::route::Route;
use super::security::SessionSecurity;
use super::transfer::Transfer;
use super::waiting::{Repeated, Waiting};
use super::{Refusal, Service};
use crate::linger;
use crate::names::Names;
use crate::status::Connection;
use crate::users;

/// The longest line. A path in it has at most 4096 bytes.
const LONGEST_LINE: u64 = 5000;

/// So many commands of a client run in a turn of the loop. Each may take as long as the system calls for a file, or for a
/// port.
pub const MOST_IN_TURN: usize = 16;

/// The reply to NOOP.
const NOOP: &str = "200 done";

/// How long a passive port still waits for a client that has sent QUIT and finished. Its connection may be on the way.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// So many commands in a row that do not exist, or need a login, end a session.
const MOST_UNKNOWN: u32 = 20;

pub struct Session {
    pub chat: Chat,
    pub service: Rc<Service>,
    /// For the status page.
    pub connection: Rc<Connection>,
    /// Whether TLS is used from the beginning, without AUTH.
    pub begins_tls: bool,
    /// From the beginning of TLS on.
    pub security: Option<SessionSecurity>,
    pub login: Login,
    /// The current folder.
    pub folder: Names,
    /// TYPE A, which is the default: RFC 959 section 3.1.1.1.
    pub is_ascii: bool,
    /// Where the next transfer begins in its file (REST).
    pub restart: u64,
    /// What the next command is to rename (RNFR).
    pub rename_from: Option<Names>,
    pub facts: Facts,
    pub route: Route,
    /// From 150 to the reply that ends the transfer.
    pub transfer: Option<Transfer>,
    /// While the reply to a STAT with a path is sent, which has the folder open, a password is checked, a port closes that
    /// another one replaces, or the next commands wait for the next turn of the loop.
    is_busy: bool,
    /// The commands that have come meanwhile.
    waiting: Waiting,
    unknown: u32,
    /// When the last command or transfer has ended.
    since: Instant,
    /// Ends the session if the client is not logged in by then.
    login_timer: Option<TimerId>,
    /// Ends the transfer before the grace of a shutdown is over. While it is set, the transfer is the last one.
    last_transfer: Option<TimerId>,
}

impl Session {
    /// `begins_tls`: TLS is used from the beginning.
    pub fn new(chat: Chat, service: Rc<Service>, begins_tls: bool) -> Session {
        // There is nothing behind a line that could be smuggled, so LF is enough.
        chat.set_terminator(Terminator::line().limit(LONGEST_LINE));
        chat.call_later(service.options.idle);
        let login_timer = chat.call_later(service.options.login_time);
        let protocol = if begins_tls { "ftps" } else { "ftp" };
        let connection = service.options.status.connected(protocol, chat.peer_addr());
        Session {
            chat,
            service,
            connection,
            begins_tls,
            security: None,
            login: Login::new(begins_tls),
            folder: Names::default(),
            is_ascii: true,
            restart: 0,
            rename_from: None,
            facts: Facts::default(),
            route: Route::default(),
            transfer: None,
            is_busy: false,
            waiting: Waiting::default(),
            unknown: 0,
            since: asynchat::now(),
            login_timer: Some(login_timer),
            last_transfer: None,
        }
    }

    pub fn reply(&self, line: &str) {
        debug!("{line}");
        self.chat.push_slices(&[line.as_bytes(), b"\r\n"]);
    }

    fn reply_or_refuse(&self, outcome: Result<&'static str, Refusal>) {
        match outcome {
            Ok(line) | Err(line) => self.reply(line),
        }
    }

    /// The last reply.
    pub fn hang_up(&self, reply: &str) {
        self.reply(reply);
        self.chat.close_when_done();
    }

    /// The client has to log in, from now on or since before.
    pub fn expect_login(&mut self) {
        if self.login_timer.is_none() {
            let time = self.service.options.login_time;
            self.login_timer = Some(self.chat.call_later(time));
        }
    }

    pub fn logged_in(&mut self) {
        if let Some(timer) = self.login_timer.take() {
            self.chat.cancel(timer);
        }
    }

    fn run(&mut self, command: &Command) {
        debug!(command.name);
        self.since = asynchat::now();
        // RNTO follows RNFR at once (RFC 959 section 4.1.3).
        let rename_from = self.rename_from.take();
        if self.begin(command, rename_from) {
            self.unknown = 0;
        } else {
            self.count_unknown();
        }
    }

    fn count_unknown(&mut self) {
        self.unknown += 1;
        if self.unknown == MOST_UNKNOWN {
            self.hang_up("421 too many unknown commands");
        }
    }

    /// Runs a command. Returns whether it is one that the client may use now.
    fn begin(&mut self, command: &Command, rename_from: Option<Names>) -> bool {
        let path = &command.argument;
        // What is possible before the login.
        match &*command.name {
            "USER" => self.user(command),
            "PASS" => self.pass(command),
            "AUTH" => self.auth(command),
            "PBSZ" => self.pbsz(),
            "PROT" => self.prot(command),
            "FEAT" => self.feat(),
            "OPTS" => self.opts(command),
            "SYST" => self.reply("215 UNIX Type: L8"),
            "NOOP" => self.reply(NOOP),
            "HELP" => self.reply(
                "214 USER PASS AUTH PBSZ PROT QUIT FEAT OPTS SYST NOOP HELP CWD CDUP PWD TYPE MODE STRU ALLO PASV EPSV \
                 PORT EPRT REST RETR STOR APPE ABOR STAT LIST NLST MLSD MLST SIZE MDTM MFMT DELE MKD RMD RNFR RNTO",
            ),
            "QUIT" => {
                self.hang_up("221 the connection is closed");
                linger::skip_if_short(&self.chat, 0);
            }
            "ABOR" => self.abor(),
            _ if !self.login.is_complete() => {
                self.reply("530 log in first");
                return false;
            }
            "CWD" | "XCWD" => self.cwd(path),
            "CDUP" | "XCUP" => self.cwd(b".."),
            "PWD" | "XPWD" => self.pwd(),
            "TYPE" => self.set_type(command),
            "MODE" => self.only(command, "S", "200 mode S", "504 only mode S (stream)"),
            "STRU" => self.only(command, "F", "200 structure F", "504 only structure F (file)"),
            "ALLO" => self.reply("202 ALLO is not necessary"),
            "PASV" => self.pasv(),
            "EPSV" => self.epsv(command),
            "PORT" => self.port(command),
            "EPRT" => self.eprt(command),
            "REST" => self.rest(command),
            "RETR" => self.retr(path),
            "STOR" => self.stor(path),
            "APPE" => self.appe(path),
            "LIST" => self.list(path),
            "NLST" => self.nlst(path),
            "MLSD" => self.mlsd(path),
            "MLST" => self.mlst(path),
            "STAT" => self.stat(path),
            "SIZE" => self.size(path),
            "MDTM" => self.mdtm(path),
            "MFMT" => self.mfmt(path),
            "DELE" => self.reply_or_refuse(self.dele(path)),
            "MKD" | "XMKD" => self.mkd(path),
            "RMD" | "XRMD" => self.reply_or_refuse(self.rmd(path)),
            "RNFR" => {
                let outcome = self.rnfr(path);
                self.reply_or_refuse(outcome);
            }
            "RNTO" => self.reply_or_refuse(self.rnto(rename_from, path)),
            _ => {
                self.reply("502 command not implemented");
                return false;
            }
        }
        true
    }

    fn only(&self, command: &Command, value: &str, yes: &str, no: &str) {
        let is_equal = command
            .text()
            .is_some_and(|text| text.eq_ignore_ascii_case(value));
        self.reply(if is_equal { yes } else { no });
    }

    /// Whether commands have come before the reply to this one.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A transfer has ended, with its reply. What has waited is done now.
    pub fn transfer_ended(&mut self) {
        self.since = asynchat::now();
        if let Some(timer) = self.last_transfer.take() {
            self.chat.cancel(timer);
            return self.hang_up("421 the server shuts down");
        }
        self.run_waiting();
    }

    /// Sends a listing as a part of a reply. The next command waits until it is sent: a client that sends a thousand
    /// of them at once must not take a thousand descriptors.
    pub fn send_listing(&mut self, listing: impl Producer + 'static) {
        self.begin_wait();
        self.reply("213-the listing:");
        self.chat.push_with_producer(listing);
        self.reply("213 end");
        self.end_wait_when_sent();
    }

    /// The replies to all but the first of several NOOP. There can be many, and the client may read slowly, so the next command
    /// waits until they are sent.
    fn repeat_noop(&mut self, count: usize) {
        self.begin_wait();
        self.chat.push_with_producer(RepeatedReply { left: count });
        self.end_wait_when_sent();
    }

    fn end_wait_when_sent(&self) {
        let chat = self.chat.clone();
        self.chat.push_hook(move || {
            // Fails if the connection has ended.
            let _ = chat.post(|session: &mut Session| {
                session.end_wait();
                Ok(())
            });
        });
    }

    /// The password of a user was checked.
    pub fn checked(&mut self, name: String, login: users::Login) {
        if !self.chat.is_closing() {
            self.end_login(name, login);
            self.end_wait();
        }
    }

    /// The next command waits until [`end_wait`](Session::end_wait).
    pub fn begin_wait(&mut self) {
        self.is_busy = true;
        self.chat.pause_reading();
    }

    pub fn end_wait(&mut self) {
        self.is_busy = false;
        self.since = asynchat::now();
        self.run_waiting();
        if !self.is_busy {
            self.chat.resume_reading();
        }
    }

    fn run_waiting(&mut self) {
        for _ in 0..MOST_IN_TURN {
            let next = self.waiting.front();
            let may_run = !self.must_wait() || next.is_some_and(|next| self.is_immediate(next));
            if !may_run || self.chat.is_closing() {
                return;
            }
            let Some(next) = self.waiting.pop_front() else {
                return;
            };
            let Repeated { command, count, .. } = next;
            if next.is_aborted {
                self.refuse_transfer(&command);
                continue;
            }
            self.run(&command);
            if count > 1 {
                self.repeat_noop(count - 1);
            }
        }
        if self.has_waiting() && !self.must_wait() {
            self.begin_wait();
            // Fails if the connection has ended.
            let _ = self.chat.post(|session: &mut Session| {
                session.end_wait();
                Ok(())
            });
        }
    }

    /// A client that has finished must not have a session and a port until nobody has come.
    fn end_wait_for_client(&self) {
        let (chat, number) = (self.chat.clone(), self.route.number);
        asynchat::call_later(LAST_WAIT, move || {
            // Fails if the connection has ended.
            let _ = chat.post(move |session: &mut Session| {
                if number == session.route.number && session.awaits_client() {
                    session.waiting = Waiting::default();
                    session.waiting.push_back(Command::parse(b"QUIT"));
                    session.nobody_came(number);
                }
                Ok(())
            });
        });
    }

    /// Whether a command does not wait for the end of the transfer. Without a transfer, ABOR and STAT are ordinary commands.
    fn is_immediate(&self, command: &Command) -> bool {
        match &*command.name {
            // The replies to ABOR come before that to the next command.
            _ if self.transfer.is_none() || self.is_aborting() => false,
            "ABOR" => true,
            "STAT" => command.argument.is_empty(),
            _ => false,
        }
    }

    /// Whether the next command waits.
    fn must_wait(&self) -> bool {
        self.transfer.is_some() || self.is_busy
    }
}

impl AsyncChat for Session {
    fn handle_connect(&mut self) -> Result {
        if self.begins_tls {
            self.begin_tls()?;
        }
        self.reply("220 ready");
        Ok(())
    }

    fn found_terminator(&mut self, line: &[u8]) -> Result {
        if command::is_http(line) {
            self.hang_up("421 this is not HTTP");
            return Ok(());
        }
        let command = Command::parse(line);
        self.close_refused_transfer();
        if self.chat.is_closing() {
            return Ok(());
        }
        // It is for the last transfer that the client has asked for (RFC 959 section 4.1.3), and so for those before it.
        let is_for_waiting = command.name == "ABOR" && self.waiting.abort_transfers();
        // The reply to the transfer comes before that to the next command.
        if !is_for_waiting && (self.is_immediate(&command) || !self.must_wait()) {
            self.run(&command);
        } else if !self.waiting.add(command) {
            self.hang_up("421 too many commands during a transfer");
        } else if is_for_waiting && !self.is_aborting() {
            self.abort_transfer(true);
        }
        Ok(())
    }

    fn handle_overflow(&mut self, _: &RecordLimit) -> Result<Overflow> {
        if self.transfer.is_some() {
            // The client would take this for the reply to its transfer.
            self.hang_up("421 the line is too long");
        } else {
            self.reply("500 the line is too long");
            self.count_unknown();
        }
        Ok(Overflow::Discard)
    }

    /// A client that has sent all its commands may still receive. During an upload, without QUIT, this is an ABOR and a QUIT
    /// (RFC 959 section 4.1.1): the system ends both connections of a client that is killed, and its file is not complete.
    fn handle_eof(&mut self, _: &[u8]) -> Result<Eof> {
        if self.transfer.is_none() {
            return Ok(Eof::CloseWhenDone);
        }
        // Nobody connects for a client that has gone.
        let is_cut = (self.is_receiving() || self.awaits_client()) && !self.waiting.has("QUIT");
        if is_cut {
            self.waiting = Waiting::default();
        }
        self.waiting.push_back(Command::parse(b"QUIT"));
        if is_cut {
            self.abor();
        } else if self.awaits_client() {
            self.end_wait_for_client();
        }
        Ok(Eof::StayOpen)
    }

    /// What came in clear may be from somebody else (RFC 4217 section 4, CVE-2011-0411).
    fn handle_tls(&mut self) -> Result {
        self.connection.protocol.set("ftps");
        self.forget_login();
        Ok(())
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        if self.last_transfer == Some(timer) {
            self.close_transfer("426 the server shuts down");
            return Ok(());
        }
        if self.login_timer == Some(timer) {
            self.login_timer = None;
            self.hang_up("421 no login for too long");
            return Ok(());
        }
        let idle = self.service.options.idle;
        let left = match self.transfer {
            Some(_) => idle,
            None => idle.saturating_sub(asynchat::now() - self.since),
        };
        match left {
            Duration::ZERO => self.hang_up("421 no command for too long"),
            left => drop(self.chat.call_later(left)),
        }
        Ok(())
    }

    /// A transfer may end before its connections do. Close to the end of the grace it is cut, with a reply.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        if self.transfer.is_some() {
            let time = self.service.options.grace.mul_f64(0.9);
            self.last_transfer = Some(self.chat.call_later(time));
            return Ok(AtShutdown::Stay);
        }
        self.reply("421 the server shuts down");
        Ok(AtShutdown::CloseWhenDone)
    }

    fn handle_close(&mut self, why: &Close) {
        self.connection.closed(why);
        self.route.close();
        self.end_transfer("426 the client has left");
    }
}

/// The reply to NOOP, several times.
struct RepeatedReply {
    left: usize,
}

impl Producer for RepeatedReply {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        let fit = budget / (NOOP.len() + 2);
        let count = fit.max(1).min(self.left);
        self.left -= count;
        Ok(match count {
            0 => More::Done,
            count => More::Chunk([NOOP, "\r\n"].concat().repeat(count).into()),
        })
    }
}
