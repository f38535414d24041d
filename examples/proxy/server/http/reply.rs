//! The proxy's own replies.

use asynchat::Chat;

use crate::http1::status::reason;

/// A response that the proxy makes itself.
pub struct Reply<'a> {
    pub status: u16,
    pub why: &'a str,
    /// Whether the request was HEAD, to which the reply has no body.
    pub is_head: bool,
    /// Whether another request may follow.
    pub keep_alive: bool,
}

impl Reply<'_> {
    pub fn push(&self, chat: &Chat) {
        let (status, why) = (self.status, self.why);
        let length = match why.is_empty() {
            true => 0,
            false => why.len() + 2,
        };
        write!(chat, "HTTP/1.1 {status} {}\r\n", reason(status));
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
