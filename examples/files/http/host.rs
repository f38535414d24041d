//! The names by which clients may call the server.
//!
//! A site can let its own name lead to 127.0.0.1 a moment after a browser has loaded its page (DNS rebinding). For the
//! browser the page and the folder then are of the same origin, and the page can read a folder that only this host should
//! reach. The Host field still has the name of the site.

use std::net::IpAddr;

use asynchat::{Addr, Chat};

use crate::http1::target::split_port;
use crate::http1::{AbsoluteForm, Request};

/// Checks a name of the command line: that of a host, without a scheme, a port or a path. The dot of the root at its end is
/// left out, as it is for the names of requests.
pub fn name(text: &str) -> Result<String, &'static str> {
    let is_of_name = |it: char| it.is_ascii_alphanumeric() || "-._".contains(it);
    if !text.is_ascii() {
        // RFC 5891.
        Err("expected a name in ASCII, as clients send it: xn--... for one with other letters")
    } else if let name = text.strip_suffix('.').unwrap_or(text)
        && !name.is_empty()
        && name.chars().all(is_of_name)
    {
        Ok(name.to_owned())
    } else {
        Err("expected the name of a host, such as files.example.org")
    }
}

/// Names beside `localhost`, in lower case.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    pub fn new(names: &[String]) -> Hosts {
        Hosts(names.iter().map(|name| name.to_lowercase()).collect())
    }

    /// Whether the request calls the server by one of its names. If none were given, every name is accepted, except on a
    /// loopback address.
    pub fn accept(&self, request: &Request<'_>, on_loopback: bool) -> bool {
        (self.0.is_empty() && !on_loopback) || self.know(request)
    }

    /// Whether the request has `localhost` or what ends with `.localhost` (RFC 6761 section 6.3), an address, or one of the
    /// names that were given.
    pub fn know(&self, request: &Request<'_>) -> bool {
        // A browser sends a name with each request. A client that sends none, or an empty one, is not a browser.
        authority(request).is_none_or(|authority| self.has(authority))
    }

    fn has(&self, authority: &str) -> bool {
        let (host, _) = split_port(authority);
        let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        if inner.unwrap_or(host).parse::<IpAddr>().is_ok() {
            return true;
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        name.is_empty()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.contains(&name)
    }
}

/// The text of the 421. It names the option, because a reverse proxy that was just set up gets this reply.
pub fn refusal(request: &Request<'_>) -> String {
    let host = authority(request).map(|authority| split_port(authority).0);
    match host.and_then(|host| name(host).ok()) {
        Some(name) => {
            format!("the server does not have this name: its option --host {name} adds it")
        }
        None => "the server does not have this name: its option --host adds one".to_owned(),
    }
}

/// Whether the clients of a listener with this address connect to a loopback address. `None` if it has all addresses of the
/// host: then each connection has to be asked.
pub fn are_on_loopback(listener: &Addr) -> Option<bool> {
    let is_any = listener.ip().is_some_and(|ip| ip.is_unspecified());
    (!is_any).then(|| is_loopback(listener))
}

pub fn is_on_loopback(chat: &Chat) -> bool {
    chat.local_addr().is_some_and(|addr| is_loopback(&addr))
}

/// Whether this is an address of this host alone.
pub fn is_loopback(addr: &Addr) -> bool {
    addr.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
}

/// Whether the target is a URI of HTTP without a host, which is invalid.
pub fn is_missing(request: &Request<'_>) -> bool {
    AbsoluteForm::parse(request.target).is_some_and(|target| target.lacks_host())
}

/// The host and the port of a request. Those of a target in absolute-form come first (RFC 9112 section 3.2.2).
fn authority<'a>(request: &Request<'a>) -> Option<&'a str> {
    match AbsoluteForm::parse(request.target) {
        Some(target) => Some(target.authority),
        None => request.fields.text("host"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_listener_with_all_addresses_is_not_on_loopback_alone() {
        for (listener, expected) in [
            ("0.0.0.0:8080", None),
            ("[::]:8080", None),
            ("[::ffff:0.0.0.0]:8080", None),
            ("127.0.0.2:8080", Some(true)),
            ("[::1]:8080", Some(true)),
            ("[::ffff:127.0.0.1]:8080", Some(true)),
            ("192.0.2.7:8080", Some(false)),
            ("[::ffff:192.0.2.7]:8080", Some(false)),
        ] {
            let addr = Addr::from(listener.parse::<SocketAddr>().unwrap());
            assert_eq!(are_on_loopback(&addr), expected, "{listener}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_a_known_name() {
        let hosts = Hosts::new(&["Box.example".to_owned()]);
        for accepted in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "files.localhost:1",
            "127.0.0.1",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:8080",
            "box.example:8080",
            "BOX.example.",
            "",
        ] {
            assert!(hosts.has(accepted), "{accepted}");
        }
        for refused in [
            "evil.example",
            "evil.example:8080",
            "notlocalhost",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "box.example.evil.example",
            "user@localhost.evil.example",
            "[::1].evil.example",
            "0x7f000001",
        ] {
            assert!(!hosts.has(refused), "{refused}");
        }
    }
}
