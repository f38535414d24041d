//! SOCKS 5 (RFC 1928): CONNECT, with or without a name and a password (RFC 1929).
//!
//! The protocol announces the length of each part in the part before it, so each step sets the terminator of the next.

use std::mem;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use asynchat::{Addr, AsyncChat, AtShutdown, Chat, Close, Result, Terminator, TimerId};

use super::Proxy;
use super::access::Rule;
use super::dial::{Destination, Host, LookUp, LooksUp, look_up};
use super::failure::Failure;
use super::places::Place;
use super::tunnel::{Opens, log_end, open, was_half_closed};
use super::under_way::Begun;
use super::users::{Login, log_wrong_password};

const VERSION: u8 = 5;
/// Methods: section 3.
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_IS_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
/// Types of addresses: section 5.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// Replies: section 6. Those of a [`Failure`] are there.
const SUCCEEDED: u8 = 0;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const TYPE_NOT_SUPPORTED: u8 = 8;

/// The session of a client that speaks SOCKS.
pub struct Socks {
    chat: Chat,
    proxy: Rc<Proxy>,
    timer: TimerId,
    step: Step,
    /// Until the log-in.
    name: Vec<u8>,
    /// Who has logged in. For the log.
    user: Option<String>,
    to: Option<Destination>,
    /// Of the request.
    under_way: Option<Begun>,
    _place: Place,
}

/// What the next record is.
enum Step {
    /// How many methods the client offers.
    MethodCount,
    Methods,
    /// The version of RFC 1929, and the length of the name.
    NameLength,
    /// The name, and the length of the password.
    Name,
    Password,
    /// Nothing: the password is being checked.
    LoggingIn,
    /// Version, command, a zero, the type of the address.
    Request,
    NameSize,
    Address(u8),
    /// Nothing: the request is being carried out.
    LookingUp(#[expect(dead_code, reason = "dropping it withdraws the look-up")] LookUp),
    Connecting(Chat),
    /// A reply has ended the session.
    Ended,
}

impl Socks {
    /// The first byte, the version, was received.
    pub fn new(chat: Chat, proxy: Rc<Proxy>, timer: TimerId, place: Place) -> Socks {
        let mut socks = Socks {
            chat,
            proxy,
            timer,
            step: Step::MethodCount,
            name: vec![],
            user: None,
            to: None,
            under_way: None,
            _place: place,
        };
        socks.expect(1, Step::MethodCount);
        socks
    }

    fn expect(&mut self, count: usize, step: Step) {
        self.step = step;
        self.chat.set_terminator(Terminator::count(count as u64));
    }

    fn choose_method(&mut self, offered: &[u8]) {
        let method = if self.proxy.options.logins.is_empty() {
            NO_AUTHENTICATION
        } else {
            USER_AND_PASSWORD
        };
        if !offered.contains(&method) {
            self.chat.push_slice(&[VERSION, NONE_IS_ACCEPTABLE]);
            return self.end("the client offers no acceptable method");
        }
        self.chat.push_slice(&[VERSION, method]);
        match method {
            USER_AND_PASSWORD => self.expect(2, Step::NameLength),
            _ => self.expect(4, Step::Request),
        }
    }

    fn log_in(&mut self, password: &[u8]) {
        let (name, proxy) = (self.name.clone(), Rc::clone(&self.proxy));
        let then = |socks: &mut Socks, login| {
            socks.checked(login);
            Ok(())
        };
        let logins = &proxy.options.logins;
        match logins.check(&self.chat, name, password.to_vec(), then) {
            Some(login) => self.end_login(login),
            None => {
                self.step = Step::LoggingIn;
                self.chat.pause_reading();
            }
        }
    }

    fn checked(&mut self, login: Login) {
        if matches!(self.step, Step::LoggingIn) && !self.chat.is_closing() {
            self.chat.resume_reading();
            self.end_login(login);
        }
    }

    fn end_login(&mut self, login: Login) {
        let name = mem::take(&mut self.name);
        if login == Login::Right {
            self.user = Some(String::from_utf8_lossy(&name).into_owned());
            self.chat.push_slice(&[1, 0]);
            return self.expect(4, Step::Request);
        }
        self.chat.push_slice(&[1, 1]);
        match login {
            Login::Busy => self.end("the password cannot be checked now"),
            Login::TooMany(_) => self.end("too many wrong passwords from this address"),
            Login::Right | Login::Wrong => {
                log_wrong_password(&name, self.chat.peer_addr().as_ref());
                self.end("the name or the password is wrong");
            }
        }
    }

    fn request(&mut self, request: &[u8]) {
        match *request {
            [VERSION, CONNECT, _, IPV4] => self.expect(4 + 2, Step::Address(IPV4)),
            [VERSION, CONNECT, _, IPV6] => self.expect(16 + 2, Step::Address(IPV6)),
            [VERSION, CONNECT, _, NAME] => self.expect(1, Step::NameSize),
            [VERSION, CONNECT, ..] => self.refuse(
                TYPE_NOT_SUPPORTED,
                "the type of the address is not supported",
            ),
            [VERSION, ..] => self.refuse(COMMAND_NOT_SUPPORTED, "the command is not supported"),
            _ => self.refuse(Failure::Other.socks(), "this is not SOCKS 5"),
        }
    }

    fn connect(&mut self, kind: u8, address: &[u8]) {
        let Some((host, port)) = address.split_last_chunk::<2>() else {
            return self.refuse(Failure::Other.socks(), "the address is too short");
        };
        let host = match (kind, host) {
            (IPV4, host) => <[u8; 4]>::try_from(host).ok().map(|it| Host::Ip(it.into())),
            (IPV6, host) => <[u8; 16]>::try_from(host)
                .ok()
                .map(|it| Host::Ip(it.into())),
            // Some clients send an address here, of either kind and without brackets.
            (_, host) => {
                std::str::from_utf8(host)
                    .ok()
                    .and_then(|host| match host.parse::<Ipv6Addr>() {
                        Ok(ip) => Some(Host::Ip(ip.into())),
                        Err(_) => Host::parse(host),
                    })
            }
        };
        let Some(host) = host else {
            return self.refuse(Failure::Unknown.socks(), "the name is invalid");
        };
        let to = Destination {
            host,
            port: u16::from_be_bytes(*port),
        };
        self.chat.pause_reading();
        self.chat.reschedule(self.timer, self.proxy.options.connect);
        self.step = Step::LookingUp(look_up::<Socks>(&self.proxy, &self.chat, &to));
        self.to = Some(to);
        self.under_way = Some(self.proxy.options.under_way.begin());
    }

    /// Sends a reply that is an error, and closes: section 6.
    fn refuse(&mut self, reply: u8, why: &str) {
        self.chat.push(reply_with(reply, None));
        self.end(why);
    }

    /// A prohibited destination is logged as a warning.
    fn prohibit(&mut self, rule: Rule) {
        let reply = Failure::Prohibited(rule).socks();
        self.chat.push(reply_with(reply, None));
        let user = self.user.as_deref();
        let to = self.to.as_ref().map(tracing::field::display);
        tracing::warn!(user, to, "SOCKS: {rule}");
        self.close();
    }

    fn end(&mut self, why: &str) {
        let user = self.user.as_deref();
        let to = self.to.as_ref().map(tracing::field::display);
        tracing::info!(target: "proxy::throttled", user, to, "SOCKS: {why}");
        self.close();
    }

    /// Closes behind the last reply.
    fn close(&mut self) {
        self.step = Step::Ended;
        self.under_way = None;
        self.chat.close_when_done();
    }
}

/// A reply with the address of the proxy's end: section 6.
fn reply_with(reply: u8, bound: Option<&Addr>) -> Vec<u8> {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let bound = match bound {
        Some(Addr::Inet(addr)) => *addr,
        _ => unspecified,
    };
    let mut bytes = vec![VERSION, reply, 0];
    match bound.ip() {
        IpAddr::V4(ip) => {
            bytes.push(IPV4);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(IPV6);
            bytes.extend(ip.octets());
        }
    }
    bytes.extend(bound.port().to_be_bytes());
    bytes
}

impl AsyncChat for Socks {
    fn found_terminator(&mut self, record: &[u8]) -> Result {
        match (&self.step, record) {
            (Step::MethodCount, &[count]) => self.expect(count.into(), Step::Methods),
            (Step::Methods, methods) => self.choose_method(methods),
            (Step::NameLength, &[1, length]) => self.expect(usize::from(length) + 1, Step::Name),
            (Step::NameLength, _) => {
                self.chat.push_slice(&[1, 1]);
                self.end("the log-in is not that of RFC 1929");
            }
            (Step::Name, [name @ .., length]) => {
                self.name = name.to_vec();
                self.expect(usize::from(*length), Step::Password);
            }
            (Step::Password, password) => self.log_in(password),
            (Step::Request, request) => self.request(request),
            (Step::NameSize, &[length]) => {
                self.expect(usize::from(length) + 2, Step::Address(NAME));
            }
            (&Step::Address(kind), address) => self.connect(kind, address),
            _ => {} // the connection is closing, or piped
        }
        Ok(())
    }

    /// Of a tunnel.
    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        if chunk.is_empty() {
            was_half_closed(&self.proxy, &self.chat);
        }
        Ok(())
    }

    /// The client did not complete its request in time, or the look-up did not end in time.
    fn handle_timer(&mut self, _: TimerId) -> Result {
        match self.step {
            Step::LookingUp(_) => return self.failed(Failure::TimedOut),
            Step::LoggingIn => self.end_login(Login::Busy),
            Step::Connecting(_) | Step::Ended => {}
            _ => {
                tracing::info!(target: "proxy::throttled", "SOCKS: the request was not complete in time");
                self.chat.close();
            }
        }
        Ok(())
    }

    /// A request that is being carried out is completed. A tunnel is piped, and ends by itself.
    fn handle_shutdown(&mut self) -> Result<AtShutdown> {
        Ok(match self.step {
            Step::LookingUp(_) | Step::Connecting(_) => AtShutdown::Stay,
            _ => AtShutdown::CloseWhenDone,
        })
    }

    fn handle_close(&mut self, why: &Close) {
        if let Step::Connecting(far) = &self.step {
            // If it is piped, it follows by itself.
            let is_open = !far.is_connecting();
            if !is_open {
                far.close();
            }
            let user = self.user.as_deref();
            log_end("SOCKS", &self.chat, user, self.to.as_ref(), is_open, why);
        }
    }
}

impl LooksUp for Socks {
    fn looked_up(&mut self, outcome: Result<Vec<SocketAddr>, Failure>) -> Result {
        self.chat.cancel(self.timer);
        let far = outcome.and_then(|addrs| open::<Socks>(&self.proxy, &self.chat, addrs));
        match far {
            Ok(far) => self.step = Step::Connecting(far),
            Err(why) => self.failed(why)?,
        }
        Ok(())
    }
}

impl Opens for Socks {
    fn opened(local: Option<Addr>) -> Vec<u8> {
        reply_with(SUCCEEDED, local.as_ref())
    }

    fn failed(&mut self, why: Failure) -> Result {
        match why {
            Failure::Prohibited(rule) => self.prohibit(rule),
            why => self.refuse(why.socks(), &why.to_string()),
        }
        Ok(())
    }
}
