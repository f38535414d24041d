//! The folder over FTP (RFC 959, 2228, 2428, 2577, 3659, 4217, and MFMT of draft-somers-ftp-mfxx).
//!
//! A client has two connections: commands and replies on one, and each file on another, which exists for this file only.
//! `session.rs` is the handler of the first one, `data.rs` that of the second. They reach each other with
//! [`Chat::post`](asynchat::Chat::post): it calls a closure with the handler of the other connection, in a later turn of
//! the loop, and fails if that connection has ended. Neither owns the other.
//!
//! Reading order: `session.rs` (the commands, time), `waiting.rs` (what waits during a transfer), `route.rs` (how a data connection is
//! made), `transfer.rs` (what it is for, and how it ends), `data.rs`; then the commands by their themes: `login.rs`,
//! `folders.rs`, `describe.rs`; and what these use: `security.rs`, `command.rs`, `address.rs`, `ports.rs`, `listing.rs`, `upload.rs`,
//! `cut_uploads.rs`, `ascii.rs`, `time.rs`.

mod address;
pub mod arguments;
mod ascii;
mod command;
mod cut_uploads;
mod data;
mod describe;
mod folders;
mod listing;
mod login;
mod ports;
mod route;
mod security;
mod session;
mod time;
mod transfer;
mod upload;
mod waiting;

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use asynchat::{Channel, Deadlines, Error, Limits, Result, Server, Target};

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::names::Names;
use crate::status::Status;
use crate::tree::Tree;
use crate::users::{Logins, Shares};
use cut_uploads::CutUploads;
use ports::Ports;
pub use security::Security;
use session::Session;

/// The options of a [`Service`].
pub struct Options {
    /// Whether everybody may read.
    pub anonymous: bool,
    /// Whether [`Options::logins`] may write.
    pub write: bool,
    /// Users. The services of a program can share their log-ins.
    pub logins: Logins,
    /// Whether a user may send the password and files without TLS, although there is [`Options::tls`].
    pub insecure_auth: bool,
    /// The longest upload in bytes.
    pub max_upload: u64,
    /// The rest of a refused upload is dropped up to this many bytes, and up to sixteen times [`Options::max_upload`] if that is
    /// more.
    pub least_dropped: u64,
    /// After so many wrong passwords the connection is closed.
    pub max_failed_logins: u32,
    /// The ports of passive data connections, of which a client has at most half of what the others leave. `None`: any
    /// number of those that the system chooses, or of the dynamic ports.
    pub ports: Option<RangeInclusive<u16>>,
    /// Whether PORT and EPRT are refused.
    pub passive_only: bool,
    /// The ports on which the program listens beside those of the service. In active mode the service connects to none of
    /// them on loopback.
    pub other_ports: Vec<u16>,
    /// The address that PASV tells to clients: that of the router, if the server is behind one (NAT). `None`: the one
    /// that the client has connected to.
    pub address: Option<Ipv4Addr>,
    pub limits: Limits,
    /// The files and folders that may be open while they are sent or received. The services of a program share them.
    pub open_files: Shares,
    /// How long a client may be silent between two commands, or take for a command.
    pub idle: Duration,
    /// How long a client may take to log in.
    pub login_time: Duration,
    /// Those of the control connection.
    pub deadlines: Deadlines,
    /// How long a port waits for its connection, a connection for its TLS handshake, and the server for a client to
    /// accept a connection.
    pub wait: Duration,
    /// How long a file that has come without TLS waits for its name when its data connection has ended. If the control
    /// connection ends meanwhile, the client was killed: its system ends both, in any order and less than a millisecond apart
    /// as a rule. A client that sends its files one after the other loses this time with each.
    pub upload_wait: Duration,
    /// Those of a data connection.
    pub data_deadlines: Deadlines,
    /// The grace of a shutdown. Shortly before its end transfers are cut, with a reply.
    pub grace: Duration,
    /// Without it there is no TLS. With it, a user has to use it before the password, and PROT P for data connections.
    pub tls: Option<Security>,
    /// Whether data connections have to resume the TLS session of their control connection.
    pub require_reuse: bool,
    /// Transfers are logged.
    pub access_log: Option<AccessLog>,
    /// What the status page shows. The services of a program share it.
    pub status: Rc<Status>,
    pub clock: fn() -> SystemTime,
}

impl Default for Options {
    fn default() -> Options {
        let minute = Duration::from_secs(60);
        Options {
            anonymous: true,
            write: false,
            logins: Logins::default(),
            insecure_auth: false,
            max_upload: 1 << 30,
            least_dropped: 1 << 30,
            max_failed_logins: 3,
            ports: None,
            passive_only: false,
            other_ports: vec![],
            address: None,
            limits: Limits::default().turn_records(session::MOST_IN_TURN),
            open_files: Shares::unlimited(),
            idle: 5 * minute,
            login_time: minute,
            // The deadline of a record would end the session without a reply. Half a command does not prolong `idle`.
            deadlines: Deadlines::default().drain(minute),
            wait: minute,
            upload_wait: Duration::from_millis(20),
            data_deadlines: Deadlines::default()
                .idle(minute)
                .input(minute)
                .drain(minute),
            grace: Duration::from_secs(5),
            tls: None,
            require_reuse: false,
            access_log: None,
            status: Status::new(Path::new("."), SystemTime::now),
            clock: SystemTime::now,
        }
    }
}

/// What all sessions share.
pub struct Service {
    options: Options,
    tree: Tree,
    clock: RefCell<Clock>,
    ports: Ports,
    cut_uploads: CutUploads,
    /// The ports for commands.
    listening: RefCell<Vec<u16>>,
}

impl Service {
    pub fn new(tree: Tree, options: Options) -> Rc<Service> {
        Rc::new(Service {
            clock: RefCell::new(Clock::new(options.clock)),
            ports: Ports::new(options.ports.as_ref().map_or(0, ExactSizeIterator::len)),
            cut_uploads: CutUploads::default(),
            listening: RefCell::default(),
            options,
            tree,
        })
    }

    /// Serves on `addr`, on this thread's loop. Clients begin TLS with AUTH TLS (RFC 4217).
    pub fn serve(self: &Rc<Self>, addr: impl Into<Target>) -> Result<Channel, Error> {
        let server = self.server(addr);
        self.listen(
            server.refusal("421 too many connections, try again later\r\n"),
            false,
        )
    }

    /// Serves on `addr` with TLS from the beginning. RFC 4217 describes AUTH TLS only, but clients have this as `ftps://`.
    pub fn serve_tls(self: &Rc<Self>, addr: impl Into<Target>) -> Result<Channel, Error> {
        match self.options.tls {
            Some(_) => self.listen(self.server(addr), true),
            None => Err(Error::new("TLS needs a certificate")),
        }
    }

    fn server(&self, addr: impl Into<Target>) -> Server {
        Server::new(addr)
            .limits(self.options.limits)
            .deadlines(self.options.deadlines)
    }

    fn listen(self: &Rc<Self>, server: Server, begins_tls: bool) -> Result<Channel, Error> {
        let service = Rc::clone(self);
        let listener =
            server.listen(move |chat| Session::new(chat, Rc::clone(&service), begins_tls))?;
        let addr = listener.local_addr().and_then(|addr| addr.inet());
        self.listening
            .borrow_mut()
            .extend(addr.map(|addr| addr.port()));
        Ok(listener)
    }

    /// Whether a port is one of the program: for commands, open for a data connection, or of [`Options::other_ports`].
    fn listens_on(&self, port: u16) -> bool {
        self.listening.borrow().contains(&port)
            || self.options.other_ports.contains(&port)
            || self.ports.has(port)
    }
}

impl Options {
    /// Whether users, apart from anonymous ones, have to use TLS.
    fn users_need_tls(&self) -> bool {
        self.tls.is_some() && !self.insecure_auth
    }
}

/// A command is refused with this reply.
type Refusal = &'static str;

/// The reply to an error of the file system.
fn failed(names: &Names, error: &io::Error) -> Refusal {
    refusal(&Failure::of(names, error))
}

fn refusal(failure: &Failure) -> Refusal {
    match failure {
        Failure::Missing => "550 there is no such file or folder",
        Failure::Refused => "550 the server may not do this",
        Failure::IsFolder => "550 it is a folder",
        Failure::Exists => "550 there is something of this name",
        Failure::NotEmpty => "550 the folder is not empty",
        Failure::Impossible => "550 this is not possible",
        Failure::InUse => "450 it is in use",
        Failure::NoRoom => "452 there is no room for it",
        Failure::TooLarge => upload::TOO_LARGE,
        Failure::Busy => "450 the file cannot be used now, try again later",
        Failure::Broken => "451 the file cannot be used: the server has logged why",
    }
}
