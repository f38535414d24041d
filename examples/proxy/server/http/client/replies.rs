//! The replies that the proxy makes itself, and what it logs.

use asynchat::Chat;
use tracing::info;

use super::super::response::date;
use super::{Client, State};
use crate::http1::status::reason;
use crate::http1::{Framing, Rejected, Request, Version};
use crate::server::failure::Failure;

impl Client {
    /// Answers a request that is not forwarded. Where its body would follow, and after CONNECT, the connection ends: a
    /// client that does not wait for the reply sends what must not be taken for a request.
    pub(super) fn reply(&mut self, request: &Request<'_>, status: u16, why: &str) {
        let keep_alive = request.version == Version::Http11
            && request.keep_alive()
            && request.framing == Framing::Empty
            && request.method != "CONNECT"
            && !self.is_last;
        self.send_reply(status, why, request.method == "HEAD", keep_alive);
        // The target may contain a password.
        info!("{}: {status} {why}", request.method);
    }

    /// Answers what is no request, or none that can be understood.
    pub(super) fn refuse(&mut self, rejected: Rejected) {
        self.send_reply(rejected.status, rejected.why, false, false);
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
        self.log(why.status(), &why.to_string());
        self.send_reply(why.status(), &why.to_string(), is_head, keep_alive);
    }

    fn send_reply(&mut self, status: u16, why: &str, is_head: bool, keep_alive: bool) {
        let reply = Reply {
            status,
            why,
            is_head,
            keep_alive,
        };
        reply.push(&self.chat);
        self.finish(keep_alive);
    }

    /// Logs a request. The loop has set a span with the client's address.
    pub(super) fn log(&self, status: u16, remark: &str) {
        match &self.state {
            State::Forward(it) => {
                info!("{} http://{}: {status} {remark}", it.exchange.method, it.to);
            }
            State::Tunnel(to, _) => info!("CONNECT {to}: {status} {remark}"),
            State::Head | State::LoggingIn | State::Ended => info!("{status} {remark}"),
        }
    }
}

/// A response that the proxy makes itself.
struct Reply<'a> {
    status: u16,
    why: &'a str,
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
