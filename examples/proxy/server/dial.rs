//! The way to a destination: its name is looked up, the access list is applied, and a connection is begun.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use asynchat::{AsyncChat, Chat, Connector, IntoSession, Limits, Result};

use super::Proxy;
use super::access::Rule;
use super::failure::Failure;
use super::resolver::Outcome;
use super::users::Client;
use crate::http1::target::split_port;

/// How many addresses of a name are tried. If none replies, there is a socket for each at the same time.
const MOST_ADDRESSES: usize = 8;

/// What a client asks for: a host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    /// In lower case.
    Name(String),
}

impl Host {
    /// A name, an IPv4 address, or an IPv6 address in brackets (RFC 3986 section 3.2.2).
    pub fn parse(text: &str) -> Option<Host> {
        if let Some(inner) = text.strip_prefix('[') {
            let ip = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Host::Ip(IpAddr::V6(ip)));
        }
        if let Ok(ip) = text.parse() {
            return Some(Host::Ip(IpAddr::V4(ip)));
        }
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        // RFC 1035 section 2.3.4, and the final dot.
        let is_name = (1..=254).contains(&text.len()) && text.bytes().all(is_valid);
        is_name.then(|| Host::Name(text.to_ascii_lowercase()))
    }
}

impl Destination {
    /// `host:port`. Without a port it is the default one, if there is one.
    pub fn parse(text: &str, default: Option<u16>) -> Option<Destination> {
        let (host, port) = split_port(text);
        let port = match port {
            "" => default?,
            // `parse` would accept a sign.
            digits => digits
                .parse()
                .ok()
                .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?,
        };
        let host = Host::parse(host)?;
        (port > 0).then_some(Destination { host, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A session that looks destinations up.
pub trait LooksUp: AsyncChat + Sized {
    /// The outcome of [`look_up`]: allowed addresses, at least one.
    ///
    /// # Errors
    /// Those of a callback.
    fn looked_up(&mut self, outcome: Result<Vec<SocketAddr>, Failure>) -> Result;
}

/// A look-up that a session waits for. Dropping it withdraws the request.
pub struct LookUp {
    _wanted: Arc<()>,
}

/// Looks a destination up for the session `S` of `chat`. The loop calls [`LooksUp::looked_up`] later.
pub fn look_up<S: LooksUp>(proxy: &Proxy, chat: &Chat, to: &Destination) -> LookUp {
    let wanted = Arc::new(());
    let asked = Arc::downgrade(&wanted);
    let (id, remote) = (chat.id(), proxy.remote.clone());
    let access = Arc::clone(&proxy.access);
    let own = chat.local_addr();
    let still_wanted = asked.clone();
    let post = move |outcome: Result<Vec<SocketAddr>, Failure>| {
        let outcome = outcome.and_then(|mut addrs| {
            // An IPv4 address in IPv6 form is connected to as what it is.
            addrs
                .iter_mut()
                .for_each(|addr| addr.set_ip(addr.ip().to_canonical()));
            let mut rule = None;
            addrs.retain(|addr| match access.check(*addr, own.as_ref()) {
                Ok(()) => true,
                Err(refused) => {
                    // What is unclear now may be permitted later.
                    if rule.is_none() || matches!(refused, Rule::Unclear(_)) {
                        rule = Some(refused);
                    }
                    false
                }
            });
            addrs.truncate(MOST_ADDRESSES);
            if addrs.is_empty() {
                Err(rule.map_or(Failure::Unknown, Failure::of_rule))
            } else {
                Ok(addrs)
            }
        });
        // An error means that the loop has ended, and the session with it.
        let _ = remote.post_to(id, move |session: &mut S| match asked.strong_count() {
            0 => Ok(()),
            _ => session.looked_up(outcome),
        });
    };
    if let Err(rule) = proxy.access.check_port(to.port) {
        post(Err(Failure::Prohibited(rule)));
        return LookUp { _wanted: wanted };
    }
    match &to.host {
        Host::Ip(ip) => post(Ok(vec![SocketAddr::new(*ip, to.port)])),
        Host::Name(name) => {
            let fallback = post.clone();
            let sought = name.clone();
            let reply = move |found: Outcome| {
                post(found.map_err(|error| {
                    let failure = Failure::of_look_up(&error);
                    if failure == Failure::NotLookedUp {
                        tracing::warn!("{sought} could not be looked up: {error}");
                    }
                    failure
                }));
            };
            let client = Client::new(chat.peer_addr().as_ref());
            let resolver = &proxy.options.resolver;
            if let Err(error) = resolver.look_up(client, name, to.port, still_wanted, reply) {
                tracing::warn!("{error}");
                fallback(Err(Failure::Unavailable));
            }
        }
    }
    LookUp { _wanted: wanted }
}

/// Whether a connection that is up leads to the proxy's own host, by another address than that of the listener.
/// Nothing has been sent on it yet.
///
/// # Errors
/// When it does, and the access list does not permit it.
pub fn check_own_host(proxy: &Proxy, chat: &Chat) -> Result<(), Rule> {
    let (addr, own) = (chat.peer_addr(), chat.local_addr());
    proxy.access.check_own(addr.as_ref(), own.as_ref())
}

/// Connects to the addresses that were looked up.
///
/// # Errors
/// When the proxy shuts down.
pub fn connect<I: IntoSession>(
    proxy: &Proxy,
    addrs: Vec<SocketAddr>,
    limits: Limits,
    factory: impl FnOnce(Chat) -> I + 'static,
) -> Result<Chat, Failure> {
    let deadlines = proxy.options.deadlines().connect(proxy.options.connect);
    let connector = Connector::new(addrs).limits(limits).deadlines(deadlines);
    connector.connect(factory).map_err(|error| {
        tracing::debug!("{error}");
        Failure::Unavailable
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_and_a_port() {
        for (text, shown) in [
            ("Example.org:443", "example.org:443"),
            ("example.org", "example.org:80"),
            ("example.org:", "example.org:80"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[2001:db8::1]", "[2001:db8::1]:80"),
            // The system's resolver takes these for addresses. The access list is applied to what it finds.
            ("127.1:80", "127.1:80"),
            ("0x7f000001:80", "0x7f000001:80"),
        ] {
            let parsed = Destination::parse(text, Some(80)).unwrap();
            assert_eq!(parsed.to_string(), shown);
        }
        for text in [
            "",
            ":80",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8 0",
            "a:80:80",
            "a b:80",
            "a/b:80",
            "u@a:80",
            "a%2eb:80",
            "[::1:80",
            "[fe80::1%1]:80",
            "[::1]x:80",
            "[127.0.0.1]:80",
            "::1",
            "::1:80",
            "a\0:80",
            "\u{e9}:80",
        ] {
            assert_eq!(Destination::parse(text, Some(80)), None, "{text}");
        }
        assert_eq!(Destination::parse("example.org", None), None);
        assert_eq!(Destination::parse("example.org:", None), None);
    }
}
