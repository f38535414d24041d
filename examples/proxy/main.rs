//! `proxy`: a forward proxy for HTTP and SOCKS 5 on one port.
//!
//! ```text
//! cargo run --release --example proxy
//! ```
//!
//! In another terminal:
//!
//! ```text
//! curl -x 127.0.0.1:8080 http://example.org/ https://example.org/
//! curl --socks5-hostname 127.0.0.1:8080 https://example.org/
//! git -c http.proxy=http://127.0.0.1:8080 ls-remote https://github.com/git/git
//! pip --proxy http://127.0.0.1:8080 download six
//! apt-get -o Acquire::http::Proxy=http://127.0.0.1:8080 update
//! ```
//!
//! * **CONNECT and SOCKS 5** (RFC 9110 section 9.3.6, RFC 1928) pipe the client to the destination: half-closes and resets
//!   are passed on, and while one end does not take its bytes, the other one is not read. The first byte of a connection
//!   selects the protocol. Of SOCKS there are CONNECT, names and both kinds of addresses; no BIND and no UDP.
//! * **Requests with an absolute URI** (`GET http://host/path`) are forwarded. Connections to clients and
//!   to servers are persistent; each client has one to a server. Bodies are streamed in both directions, whatever their
//!   framing. A response in chunks, or one that ends with its connection, reaches the client in chunks. Trailer fields are
//!   removed. 1xx responses are passed on, and so is `Expect: 100-continue`. `Upgrade` is removed: a WebSocket needs CONNECT,
//!   as browsers use it.
//! * **Nothing is smuggled through**: what could be read in two ways is refused (see `../http1`), and what is forwarded is
//!   written anew. A response that its server has cut never looks complete to the client.
//! * **The access list**: only public addresses are allowed, and not port 25. (168.63.129.16, which serves each machine of Azure,
//!   counts as not public.) `--allow NETWORK` adds networks, `--port` restricts the ports. The list is applied to the address that is connected to, so that a name cannot get around it. It
//!   has no names, does not forbid public addresses, and does not say who may be a client: for that there are users,
//!   `--listen` and firewalls.
//!   The host of the proxy is refused by each of its addresses, before a connection is tried, unless it is listed. What
//!   is behind an address that only a router leads back to it (NAT, a load balancer) is not known: it is not refused. On
//!   Linux with `net.ipv4.ip_nonlocal_bind=1`, secondary addresses of an interface are not known either.
//! * **Users**: `--user NAME:PASSWORD` or `--passwords FILE` demands Basic authentication of HTTP and RFC 1929 of SOCKS. Both send
//!   the password in clear. The file has hashes, which `htpasswd -B`, `openssl passwd -6` or `--hash-password` make. It is
//!   read again at SIGHUP, on Unix; elsewhere a change needs a restart. Ten wrong passwords of an address are checked, and then two
//!   a minute. Without users,
//!   everybody who reaches the port may use the proxy; so it listens on 127.0.0.1.
//! * **Slow peers**: `--tunnel-idle` bounds the silence of a tunnel, and `--half-closed-idle` that of one of which an end has
//!   finished sending, because that end may be gone. `--idle` bounds the head of a request and the silence of a server.
//!   Empty lines do not begin a request. When a client has finished sending, which may mean that it has left, the server of
//!   its request may be silent for 10 seconds at most; before the response to a request with a body, for the time of
//!   `--idle`. A peer that takes less than 64 KiB a minute is cut. A client that sends less than 64 KiB of a body in twice
//!   the `--idle` time gets a 408, or is cut if its response has begun.
//! * **Replies**: 400, 414 and 431 for requests, 403, 407 and 429, 408, 501; 502, 503 and 504 for servers. The text says why.
//!   503 is for what passes: a name that could not be looked up, whose error is logged, and a proxy without descriptors.
//!   A 403, 502, 503 or 504 for a destination names it. What the access list refuses is logged as a warning with the user,
//!   the address and the rule, and a wrong password with the address of the client and the name.
//! * **Requests that cost a client nothing**: after 32 replies of the proxy itself in a row the connection ends. Of refusals
//!   of one kind ten are logged in a second, with the number of the others; each response of a server is logged.
//!
//! Ctrl-C stops accepting, says how many tunnels and requests are under way, and lets them finish. A second Ctrl-C, or the
//! end of `--grace`, resets them. SIGTERM is like Ctrl-C. On Unix, SIGHUP reads the file of `--passwords` again, or does
//! nothing.
//!
//! Reading order:
//!
//! * `server/mod.rs`: options and start; `server/first.rs`: the first byte;
//! * `server/socks.rs`: a protocol of lengths, with a terminator for each step; `server/tunnel.rs`: two connections piped;
//! * `server/access.rs`, `server/resolver.rs`, `server/dial.rs`: the way to a destination, off the loop and back;
//! * `../common/users/`: users, and the checks of their passwords, off the loop and back, too;
//! * `server/http/client.rs`, `server/http/upstream.rs`: the two sessions of a request, and what they share in
//!   `exchange.rs`; then bodies, in `client/upload.rs`, and the heads, in `request.rs` and `response.rs`.

#![allow(
    unreachable_pub,
    reason = "in a program, `pub` items are visible to the other modules only"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/descriptors.rs"]
mod descriptors;
#[path = "../http1/mod.rs"]
mod http1;
#[path = "../common/numbers.rs"]
mod numbers;
mod server;

use std::process::ExitCode;
use std::time::Duration;

use asynchat::Result;
use asynchat::proxy_protocol::Network;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use numbers::{count, seconds};
use server::access::Access;
use server::resolver::Resolver;
use server::under_way::UnderWay;
use server::users::{self, Logins, UserOptions};
use server::{Options, Proxy};
use tracing::warn;

/// A forward proxy for HTTP and SOCKS 5.
///
/// The log goes to standard error. RUST_LOG=debug adds connections.
///
/// At Ctrl-C or SIGTERM the program accepts no more, and ends when its connections have finished, at the latest after
/// --grace. A second signal ends it at once. SIGHUP reads the file of --passwords again, if there is one.
#[derive(Parser)]
#[command(version, name = "proxy")]
struct Args {
    /// The address to listen on; port 0 chooses a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Allow destinations in this network, although they are not public (repeatable): 127.0.0.0/8, fd00::/8.
    #[arg(long, value_name = "NETWORK", value_parser = destinations)]
    allow: Vec<Network>,

    /// Allow only this port of destinations (repeatable). Default: every port but 25, that of mail servers.
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Vec<u16>,

    /// The name of this proxy in Via fields.
    #[arg(long, value_name = "NAME", default_value = "asynchat", value_parser = name)]
    name: String,

    /// How many connections are served at a time. Further ones are refused in their protocol, with a 503 or by SOCKS; of
    /// more than 64 that wait for this, some are closed at once. Each takes two descriptors, and up to nine while the
    /// addresses of a name are tried.
    #[arg(long, value_name = "N", default_value = "500", value_parser = count())]
    max_connections: usize,

    /// How many connections one address may have: fewer than all, or one client can keep the others out.
    #[arg(long, value_name = "N", default_value = "250", value_parser = count())]
    max_per_address: usize,

    /// The time for the head of a request, for silence between requests, and for silence of a server that is to respond.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds())]
    idle: u64,

    /// How long a tunnel may be silent.
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds())]
    tunnel_idle: u64,

    /// How long a tunnel may be silent after its client or server has finished sending, at most --tunnel-idle. The proxy
    /// cannot tell such a peer from one that has left. Default: 120, or --tunnel-idle if that is less.
    #[arg(long, value_name = "SECONDS", value_parser = seconds())]
    half_closed_idle: Option<u64>,

    /// The time for a look-up, and for a connection.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds())]
    connect: u64,

    /// How long requests and tunnels may continue after Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = RangedU64ValueParser::<u64>::new())]
    grace: u64,

    /// How many names are looked up at a time. An address has half of those that the others leave; up to 64 more of its
    /// names wait, and further ones get a 503.
    #[arg(long, value_name = "N", default_value = "16", value_parser = RangedU64ValueParser::<usize>::new().range(1..1 << 10))]
    resolvers: usize,

    #[command(flatten)]
    users: UserOptions,
}

impl Args {
    fn half_closed_idle(&self) -> Result<Duration> {
        let most = self.tunnel_idle;
        match self.half_closed_idle {
            Some(idle) if idle > most => {
                Err(format!("--half-closed-idle {idle} is more than --tunnel-idle {most}").into())
            }
            idle => Ok(Duration::from_secs(idle.unwrap_or(most.min(120)))),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    common::log_to_stderr("info");
    let outcome = match &args.users.hash_password {
        Some(name) => users::read_entry(name).map(common::say),
        None => run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            common::print_to_stderr(format_args!("proxy: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result {
    descriptors::raise_limit();
    let defaults = Options::default();
    let half_closed_idle = args.half_closed_idle()?;
    let users = args.users.read()?;
    let is_open = users.is_empty();
    let logins = Logins::new(users);
    let under_way = UnderWay::default();
    let options = Options {
        access: Access {
            allow: args.allow,
            ports: args.port,
            ..Access::default()
        },
        logins: logins.clone(),
        under_way: under_way.clone(),
        name: args.name,
        resolver: Resolver::of_the_system(args.resolvers),
        limits: defaults
            .limits
            .connections(args.max_connections)
            .per_address(args.max_per_address),
        idle: Duration::from_secs(args.idle),
        tunnel_idle: Duration::from_secs(args.tunnel_idle),
        half_closed_idle,
        connect: Duration::from_secs(args.connect),
        ..defaults
    };
    let listener = Proxy::serve(args.listen.as_str(), options)
        .map_err(|error| error.context(format_args!("--listen {}", args.listen)))?;
    let addr = listener.local_addr().ok_or("the listener has no address")?;
    if addr.ip().is_some_and(|ip| !ip.is_loopback()) {
        if is_open {
            warn!("everybody who reaches {addr} may use this proxy: --passwords restricts it");
        } else {
            warn!("everybody on the way of a request can read its password");
        }
    }
    let grace = Duration::from_secs(args.grace);
    common::shutdown_with_report(grace, "connection", move || under_way.count())?;
    common::ignore_sighup_unless(args.users.passwords.is_some())?;
    #[cfg(unix)]
    args.users.reload_on_sighup(&logins)?;
    common::announce(addr);
    common::run_until_signal()?;
    common::log_stopped()
}

/// A network that a destination can be in.
fn destinations(text: &str) -> Result<Network, String> {
    const EXPECTED: &str =
        "expected an address or a network, such as 10.0.0.7, 10.0.0.0/8 or fd00::/8";
    match text.parse() {
        // Those of clients of a Unix-domain socket.
        Ok(_) if text.starts_with("unix:") => Err(EXPECTED.to_owned()),
        Ok(network) => Ok(network),
        Err(error) if text.contains('/') => Err(error.to_string()),
        Err(_) => Err(EXPECTED.to_owned()),
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or("expected a number from 1 to 65535; several ports need several --port")
}

/// The pseudonym of a Via field is a token: RFC 9110 section 7.6.3.
fn name(text: &str) -> Result<String, &'static str> {
    if http1::fields::is_token(text.as_bytes()) {
        Ok(text.to_owned())
    } else {
        Err("it has other characters than those of a token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_that_is_half_closed_may_be_silent_for_no_longer_than_another() {
        let idle = |options: &str| {
            let words = ["proxy"].into_iter().chain(options.split_whitespace());
            let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
            args.half_closed_idle().map_err(|error| error.to_string())
        };
        let seconds = |seconds| Ok(Duration::from_secs(seconds));
        assert_eq!(idle(""), seconds(120));
        assert_eq!(idle("--tunnel-idle 5"), seconds(5));
        assert_eq!(idle("--tunnel-idle 5 --half-closed-idle 5"), seconds(5));
        assert_eq!(idle("--half-closed-idle 500"), seconds(500));
        let error = "--half-closed-idle 6 is more than --tunnel-idle 5";
        assert_eq!(
            idle("--tunnel-idle 5 --half-closed-idle 6"),
            Err(error.to_owned())
        );
    }
}
