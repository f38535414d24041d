//! The proxy: its options, and what its connections share.

pub mod access;
mod dial;
mod failure;
mod first;
mod http;
#[path = "../../common/login_limit.rs"]
mod login_limit;
pub mod resolver;
mod socks;
mod tunnel;
#[path = "../../common/users.rs"]
pub mod users;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::{
    Channel, Chat, Deadlines, Error, Limits, Remote, Result, Server, Target, Terminator,
};

use access::Access;
use first::First;
use login_limit::LoginLimit;
use resolver::Resolver;
use users::Users;

use crate::http1;

/// The options of a [`Proxy`].
pub struct Options {
    /// Which destinations are allowed.
    pub access: Access,
    /// Who may use the proxy. If there is nobody, everybody may.
    pub users: Users,
    /// The name of this proxy in Via fields (RFC 9110 section 7.6.3).
    pub name: String,
    pub resolver: Resolver,
    /// The limits of connections, and on their number.
    pub limits: Limits,
    /// How long a client may take to send the head of a request, how long a connection waits for the next request, and
    /// how long a server may be silent before or in its response.
    pub idle: Duration,
    /// How long a tunnel may be silent in both directions.
    pub tunnel_idle: Duration,
    /// How long a look-up may take, and how long a connection may take.
    pub connect: Duration,
    /// The time in which a peer has to take 64 KiB of its output.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Options {
        let minute = Duration::from_secs(60);
        Options {
            access: Access::default(),
            users: Users::default(),
            name: "asynchat".to_owned(),
            resolver: Resolver::of_the_system(16),
            limits: Limits::default(),
            idle: minute,
            tunnel_idle: 60 * minute,
            connect: Duration::from_secs(10),
            drain: minute,
        }
    }
}

impl Options {
    fn deadlines(&self) -> Deadlines {
        Deadlines::default().drain(self.drain)
    }
}

/// What all connections of the proxy share.
pub struct Proxy {
    options: Options,
    /// The access list of the options, for the threads of the resolver.
    access: Arc<Access>,
    remote: Remote,
    login_limit: LoginLimit,
    /// It is cloned, because to make it takes an allocation.
    head: Terminator,
}

impl Proxy {
    /// Listens on `listen`, on this thread's loop.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn serve(listen: impl Into<Target>, options: Options) -> Result<Channel, Error> {
        let server = Server::new(listen)
            .limits(options.limits)
            // Longer than the timers of the sessions, which send a last reply.
            .deadlines(options.deadlines().input(2 * options.idle));
        let proxy = Rc::new(Proxy {
            access: Arc::new(options.access.clone()),
            remote: asynchat::remote()?,
            login_limit: LoginLimit::new(Duration::ZERO),
            head: http1::head_terminator(),
            options,
        });
        server.listen(move |chat| First::new(chat, Rc::clone(&proxy)))
    }

    /// Whether a client has the name and the password of a user.
    fn admits(&self, client: &Chat, name: &[u8], password: &[u8]) -> bool {
        let is_right = || self.options.users.admit(name, password);
        let addr = client.peer_addr();
        self.login_limit.check(addr.as_ref(), is_right).is_ok()
    }
}
