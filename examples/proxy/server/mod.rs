//! The proxy: its options, and what its connections share.

pub mod access;
mod dial;
mod failure;
mod first;
mod http;
pub mod own_host;
mod places;
pub mod resolver;
mod socks;
mod tunnel;
pub mod under_way;
#[path = "../../common/users/mod.rs"]
pub mod users;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use asynchat::{Channel, Deadlines, Error, Limits, Remote, Result, Server, Target, Terminator};

use access::Access;
use first::First;
use places::Places;
use resolver::Resolver;
use under_way::UnderWay;
use users::Logins;

use crate::http1;

/// The options of a [`Proxy`].
pub struct Options {
    /// Which destinations are allowed.
    pub access: Access,
    /// Who may use the proxy. If there is nobody, everybody may.
    pub logins: Logins,
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
    /// How long a tunnel may be silent when one end has finished sending.
    pub half_closed_idle: Duration,
    /// How long a look-up may take, and how long a connection may take.
    pub connect: Duration,
    /// The time in which a peer has to take 64 KiB of its output.
    pub drain: Duration,
    /// Counts requests and tunnels.
    pub under_way: UnderWay,
}

impl Default for Options {
    fn default() -> Options {
        let minute = Duration::from_secs(60);
        Options {
            access: Access::default(),
            logins: Logins::default(),
            name: "asynchat".to_owned(),
            resolver: Resolver::of_the_system(16),
            // A request that is refused costs much more to answer than to send. With fewer in a turn, the others wait less.
            limits: Limits::default().turn_records(64),
            idle: minute,
            tunnel_idle: 60 * minute,
            // A slow peer with a large buffer may take nothing for a minute: see `drain`.
            half_closed_idle: 2 * minute,
            connect: Duration::from_secs(10),
            drain: minute,
            under_way: UnderWay::default(),
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
    places: Places,
    /// The terminator of a head, whose pieces the sessions collect. It is cloned, because to make it takes an
    /// allocation.
    head: Terminator,
}

impl Proxy {
    /// Listens on `listen`, on this thread's loop.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn serve(listen: impl Into<Target>, options: Options) -> Result<Channel, Error> {
        let server = Server::new(listen)
            .limits(places::with_refused(options.limits))
            // The sessions have timers for input, and send a last reply when one ends.
            .deadlines(options.deadlines());
        let proxy = Proxy::new(options)?;
        server.listen(move |chat| First::new(chat, Rc::clone(&proxy)))
    }

    fn new(options: Options) -> Result<Rc<Proxy>, Error> {
        Ok(Rc::new(Proxy {
            access: Arc::new(options.access.clone()),
            remote: asynchat::remote()?,
            places: Places::new(options.limits),
            head: http1::head_terminator().streamed(),
            options,
        }))
    }
}
