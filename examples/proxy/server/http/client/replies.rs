//! The replies that the proxy makes itself, and what it logs.

use std::fmt;
use std::time::Duration;

use asynchat::Chat;
use tracing::{info, warn};

use super::super::response::date;
use super::login::credentials;
use super::{Client, State};
use crate::http1::status::reason;
use crate::http1::{Framing, Rejected, Request, Version};
use crate::server::dial::Destination;
use crate::server::failure::Failure;

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
        let keep_alive = request.version == Version::Http11
            && request.keep_alive()
            && request.framing == Framing::Empty
            && request.method != "CONNECT"
            && !self.is_last;
        self.send_reply(&Reply {
            status,
            why,
            wait,
            is_head: request.method == "HEAD",
            keep_alive,
        });
        let warning = match status {
            403 => Warning::Prohibited,
            407 if credentials(request).is_some() => Warning::WrongPassword,
            _ => Warning::None,
        };
        // The target may contain a password.
        self.log_line(warning, format_args!("{}: {status} {why}", request.method));
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
        info!("{} {rejected}", rejected.status);
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
        let warning = match why {
            Failure::Prohibited => Warning::Prohibited,
            _ => Warning::None,
        };
        self.log_request(warning, why.status(), &why.to_string());
        let reason = match &self.state {
            State::Forward(it) => self.reason(why, &it.to),
            State::Tunnel(to, _) => self.reason(why, to),
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
            (Failure::Prohibited, Some(user)) => format!("{to}: {why} to {user}"),
            _ => format!("{to}: {why}"),
        }
    }

    fn send_reply(&mut self, reply: &Reply<'_>) {
        reply.push(&self.chat);
        self.finish(reply.keep_alive);
    }

    /// Logs a request. The loop has set a span with the client's address.
    pub(super) fn log(&self, status: u16, remark: &str) {
        self.log_request(Warning::None, status, remark);
    }

    fn log_request(&self, warning: Warning, status: u16, remark: &str) {
        match &self.state {
            State::Forward(it) => {
                let method = &it.exchange.method;
                self.log_line(
                    warning,
                    format_args!("{method} http://{}: {status} {remark}", it.to),
                );
            }
            State::Tunnel(to, _) => {
                self.log_line(warning, format_args!("CONNECT {to}: {status} {remark}"));
            }
            State::Head | State::LoggingIn | State::Ended => info!("{status} {remark}"),
        }
    }

    /// Ten warnings of one kind are logged in a second. They do not suppress those of the other kind.
    fn log_line(&self, warning: Warning, line: fmt::Arguments<'_>) {
        let user = self.user.as_deref();
        match warning {
            Warning::None => info!(user, "{line}"),
            Warning::Prohibited => warn!(user, "{line}"),
            Warning::WrongPassword => warn!("{line}"),
        }
    }
}

/// Which warning a reply causes. A request without a password causes none: every client sends one first.
#[derive(Clone, Copy)]
enum Warning {
    None,
    Prohibited,
    WrongPassword,
}

/// A response that the proxy makes itself.
struct Reply<'a> {
    status: u16,
    why: &'a str,
    /// Zero if the client need not wait.
    wait: Duration,
    /// Whether the request was HEAD, to which the reply has no body.
    is_head: bool,
    /// Whether another request may follow.
    keep_alive: bool,
}

impl Reply<'_> {
    fn push(&self, chat: &Chat) {
        let (status, why) = (self.status, self.why);
        let length = match why.is_empty() {
            true => 0,
            false => why.len() + 2,
        };
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
        if !self.keep_alive {
            chat.push("Connection: close\r\n");
        }
        chat.push("\r\n");
        if length > 0 && !self.is_head {
            chat.push_slices(&[why.as_bytes(), b"\r\n"]);
        }
    }
}
