//! The replies that the proxy makes itself, and what it logs.

use std::fmt;
use std::time::Duration;

use asynchat::Chat;
use tracing::{info, warn};

use super::super::response::date;
use super::{Client, State};
use crate::http1::status::reason;
use crate::http1::{Framing, Rejected, Request, Version};
use crate::server::access::Rule;
use crate::server::dial::Destination;
use crate::server::failure::Failure;

/// How many replies in a row the proxy makes itself on a connection. A client that pipelines requests which cost it nothing
/// then has to connect again.
const MOST_OWN_REPLIES: u32 = 32;

impl Client {
    /// Answers a request that is not forwarded. Where its body would follow, and after CONNECT, the connection ends: a
    /// client that does not wait for the reply sends what must not be taken for a request.
    pub(super) fn reply(&mut self, request: &Request<'_>, status: u16, why: &str) {
        self.reply_with_wait(request, status, why, Duration::ZERO);
    }

    /// The same. If there is a `wait`, the client may try again after it.
    pub(super) fn reply_with_wait(
        &mut self,
        request: &Request<'_>,
        status: u16,
        why: &str,
        wait: Duration,
    ) {
        self.send_reply(&Reply {
            status,
            why,
            wait,
            is_head: request.method == "HEAD",
            keep_alive: self.may_follow(request),
        });
        // The target may contain a password.
        self.log_line(
            Event::Refused,
            format_args!("{}: {status} {why}", request.method),
        );
    }

    /// Whether another request may follow this one, which is not forwarded.
    fn may_follow(&self, request: &Request<'_>) -> bool {
        request.version == Version::Http11
            && request.keep_alive()
            && request.framing == Framing::Empty
            && request.method != "CONNECT"
            && !self.is_last
    }

    /// Answers a request that is not forwarded because of the access list.
    pub(super) fn prohibit(&mut self, request: &Request<'_>, rule: Rule, to: &Destination) {
        let why = Failure::Prohibited(rule);
        self.send_reply(&Reply {
            status: why.status(),
            why: &self.reason(why, to),
            wait: Duration::ZERO,
            is_head: request.method == "HEAD",
            keep_alive: self.may_follow(request),
        });
        let (method, status) = (request.method, why.status());
        self.log_line(
            Event::Prohibited,
            format_args!("{method} http://{to}: {status} {rule}"),
        );
    }

    /// Answers what is no request, or none that can be understood.
    pub(super) fn refuse(&mut self, rejected: Rejected) {
        self.send_reply(&Reply {
            status: rejected.status,
            why: rejected.why,
            wait: Duration::ZERO,
            is_head: false,
            keep_alive: false,
        });
        info!(target: "proxy::throttled", "{} {rejected}", rejected.status);
    }

    /// Answers that there is no response of the server.
    pub(super) fn fail(&mut self, why: Failure) {
        let (is_head, keep_alive) = match &self.state {
            State::Forward(it) => {
                let exchange = &it.exchange;
                let keep_alive = exchange.keep_alive.get() && exchange.request_complete.get();
                (exchange.method == "HEAD", keep_alive)
            }
            _ => (false, false),
        };
        match why {
            Failure::Prohibited(rule) => {
                self.log_request(Event::Prohibited, why.status(), &rule.to_string());
            }
            _ => self.log_request(Event::Failed, why.status(), &why.to_string()),
        }
        let reason = match &self.state {
            State::Forward(it) => self.reason(why, &it.to),
            State::Tunnel(it) => self.reason(why, &it.to),
            State::Head | State::LoggingIn | State::Ended => why.to_string(),
        };
        self.send_reply(&Reply {
            status: why.status(),
            why: &reason,
            wait: Duration::ZERO,
            is_head,
            keep_alive,
        });
    }

    /// The text of a refusal. It names the user, because the reader may be logged in under another name.
    pub(super) fn reason(&self, why: Failure, to: &Destination) -> String {
        match (why, &self.user) {
            (Failure::Prohibited(_), Some(user)) => format!("{to}: {why} to {user}"),
            _ => format!("{to}: {why}"),
        }
    }

    /// Sends the reply. After [`MOST_OWN_REPLIES`] it is the last one.
    fn send_reply(&mut self, reply: &Reply<'_>) {
        self.own_replies += 1;
        let keep_alive = reply.keep_alive && self.own_replies < MOST_OWN_REPLIES;
        reply.push(&self.chat, keep_alive);
        self.finish(keep_alive);
    }

    /// Logs a request. The loop has set a span with the client's address.
    pub(super) fn log(&self, status: u16, remark: &str) {
        self.log_request(Event::Response, status, remark);
    }

    pub(super) fn log_request(&self, event: Event, status: u16, remark: &str) {
        let blank = if remark.is_empty() { "" } else { " " };
        match &self.state {
            State::Forward(it) => {
                let method = &it.exchange.method;
                self.log_line(
                    event,
                    format_args!("{method} http://{}: {status}{blank}{remark}", it.to),
                );
            }
            State::Tunnel(it) => {
                let to = &it.to;
                self.log_line(event, format_args!("CONNECT {to}: {status}{blank}{remark}"));
            }
            State::Head | State::LoggingIn | State::Ended => {
                info!("{status}{blank}{remark}");
            }
        }
    }

    /// Of events of one kind, ten are logged in a second, except responses. They do not suppress those of another kind.
    fn log_line(&self, event: Event, line: fmt::Arguments<'_>) {
        let user = self.user.as_deref();
        match event {
            Event::Response => info!(user, "{line}"),
            Event::Refused => info!(target: "proxy::throttled", user, "{line}"),
            Event::Failed => info!(target: "proxy::throttled", user, "{line}"),
            Event::Prohibited => warn!(user, "{line}"),
        }
    }
}

/// What is logged. A client can cause each of these with a few bytes, except the first.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// A server has responded.
    Response,
    /// A request is not forwarded. One without a password causes no warning: every client sends one
    /// first. A wrong password has a warning of its own.
    Refused,
    /// There is no response of a server.
    Failed,
    Prohibited,
}

/// A response that the proxy makes itself.
struct Reply<'a> {
    status: u16,
    why: &'a str,
    /// Zero if the client need not wait.
    wait: Duration,
    /// Whether the request was HEAD, to which the reply has no body.
    is_head: bool,
    /// Whether another request may follow it.
    keep_alive: bool,
}

impl Reply<'_> {
    fn push(&self, chat: &Chat, keep_alive: bool) {
        let (status, why) = (self.status, self.why);
        let length = if why.is_empty() { 0 } else { why.len() + 2 };
        let (reason, date) = (reason(status), date());
        write!(chat, "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\n");
        if status == 407 {
            chat.push("Proxy-Authenticate: Basic realm=\"proxy\"\r\n");
        }
        if !self.wait.is_zero() {
            write!(chat, "Retry-After: {}\r\n", self.wait.as_secs());
        }
        if length > 0 {
            chat.push("Content-Type: text/plain; charset=utf-8\r\n");
        }
        write!(chat, "Content-Length: {length}\r\n");
        if !keep_alive {
            chat.push("Connection: close\r\n");
        }
        chat.push("\r\n");
        if length > 0 && !self.is_head {
            chat.push_slices(&[why.as_bytes(), b"\r\n"]);
        }
    }
}
