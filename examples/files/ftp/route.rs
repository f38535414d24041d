//! How the data connection of the next transfer is made: PASV and EPSV (the client connects), PORT and EPRT (the server
//! connects).

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::{Channel, Chat, Close, Connector, Server, Terminator};
use ring::rand::{SecureRandom, SystemRandom};

use super::Refusal;
use super::address::{self, HostPort};
use super::command::Command;
use super::data::Data;
use super::ports::Taken;
use super::session::Session;
use crate::users::Share;

/// How many ports of the range are tried. Some may be open for other clients.
const MOST_TRIES: usize = 256;
/// How many of them are bound. Other programs may have some. Each takes several system calls.
const MOST_BINDS: usize = 16;
/// The dynamic ports (RFC 6335 section 6) that Linux gives to programs, too, unless it is configured otherwise. So no service
/// has one of its own among them, and a firewall that admits the ports which the system chooses admits these.
const DYNAMIC: RangeInclusive<u16> = 49_152..=60_999;
/// Whether a port is drawn from them if there is no other range. Linux looks for a free port for milliseconds when thousands
/// have been used within the last minute, and the loop would wait. BSD and macOS would open a passive port on which another
/// program listens at all addresses, and its clients would come here (SO_REUSEADDR). Windows reserves some of these ports.
const DRAWS: bool = cfg!(any(target_os = "linux", target_os = "android"));
/// How many of them are tried for a connection to a client, before the system looks for a free one.
const MOST_SOURCES: u32 = 4;

#[derive(Default)]
pub struct Route {
    pub way: Way,
    /// Counts them. A call that the data connection of an earlier one has posted comes too late.
    pub number: u64,
    /// After EPSV ALL the other three are refused (RFC 2428 section 4).
    only_epsv: bool,
    next: Option<Next>,
    /// Where the server connects to, and how often it has tried.
    connecting: Option<(SocketAddr, u32)>,
}

/// A passive port that is to be opened when another one has closed, which it replaces.
struct Next {
    /// The number of the other one.
    after: u64,
    share: Option<Rc<Share>>,
    reply: ReplyWithPort,
}

type ReplyWithPort = fn(&mut Session, SocketAddr);

#[derive(Default)]
pub enum Way {
    #[default]
    None,
    /// A listener for one connection, until the connection is here.
    Passive(Channel),
    /// Where the server connects to when there is something to transfer.
    Active(SocketAddr),
    /// It is connecting.
    Connecting(Chat),
    Connected(Chat),
    /// It has ended before there was something to transfer.
    Refused(Refusal),
}

impl Route {
    /// Closes the port, or aborts the connection.
    pub fn close(&mut self) {
        self.number += 1;
        match std::mem::take(&mut self.way) {
            Way::None | Way::Active(_) | Way::Refused(_) => {}
            Way::Passive(listener) => listener.close(),
            Way::Connecting(data) | Way::Connected(data) => data.abort(),
        }
    }

    /// Ends the connection, of which nothing is cut: the client has stopped sending.
    pub fn finish(&mut self) {
        if let Way::Connected(data) = &self.way {
            data.close_when_done();
            self.way = Way::None;
        }
        self.close();
    }

    /// Also forgets EPSV ALL.
    pub fn reset(&mut self) {
        self.close();
        self.only_epsv = false;
    }
}

impl Session {
    pub fn pasv(&mut self) {
        match self.refuse_after_epsv_all() {
            Ok(()) => self.open_passive_port(Session::reply_to_pasv),
            Err(refusal) => self.reply(refusal),
        }
    }

    fn reply_to_pasv(&mut self, addr: SocketAddr) {
        let ip = match (self.service.options.address, addr.ip()) {
            (Some(public), _) => public,
            (None, IpAddr::V4(own)) => own,
            (None, IpAddr::V6(_)) => {
                self.route.close();
                return self.reply("425 use EPSV: the connection is one of IPv6");
            }
        };
        let addr = HostPort(SocketAddrV4::new(ip, addr.port()));
        self.reply(&format!("227 Entering Passive Mode ({addr})."));
    }

    /// RFC 2428 section 3.
    pub fn epsv(&mut self, command: &Command) {
        let is_v6 = match self.own_addr() {
            Ok(addr) => addr.is_ipv6(),
            Err(refusal) => return self.reply(refusal),
        };
        match command.text().unwrap_or("?").to_ascii_uppercase().as_str() {
            "ALL" => {
                self.route.only_epsv = true;
                return self.reply("200 only EPSV from now on");
            }
            "" => {}
            "1" if !is_v6 => {}
            "2" if is_v6 => {}
            _ if is_v6 => return self.reply("522 use IPv6 (2)"),
            _ => return self.reply("522 use IPv4 (1)"),
        }
        self.open_passive_port(|session, addr| {
            let port = addr.port();
            session.reply(&format!("229 Entering Extended Passive Mode (|||{port}|)"));
        });
    }

    pub fn port(&mut self, command: &Command) {
        let addr = address::parse_port(command.text().unwrap_or_default());
        self.set_active(addr);
    }

    pub fn eprt(&mut self, command: &Command) {
        let addr = address::parse_eprt(command.text().unwrap_or_default());
        self.set_active(addr);
    }

    fn set_active(&mut self, addr: Result<SocketAddr, Refusal>) {
        if self.service.options.passive_only {
            return self.reply("502 only PASV and EPSV");
        }
        self.route.close();
        let checked = addr.and_then(|addr| {
            self.refuse_after_epsv_all()?;
            // RFC 2577 section 3: the server must not be made to connect to somebody else (FTP bounce), or to a service
            // of the client's host.
            let peer = self.chat.peer_addr().and_then(|peer| peer.inet());
            let peer = peer.filter(|peer| peer.ip() == addr.ip() && addr.port() >= 1024);
            // A client on the host of the server would make it connect to a service there.
            let is_own = |peer: &SocketAddr| {
                !peer.ip().to_canonical().is_loopback()
                    && self.own_addr().is_ok_and(|own| own.ip() == peer.ip())
            };
            if peer.as_ref().is_some_and(is_own) {
                return Err("504 not to the address of the server: use PASV or EPSV");
            }
            if peer.is_some() {
                self.refuse_own_port(addr)?;
            }
            match peer {
                // A link-local address has a scope, which the client cannot tell.
                Some(mut peer) => {
                    peer.set_port(addr.port());
                    Ok(peer)
                }
                None => Err("504 only to your own address, and to a port from 1024 on"),
            }
        });
        match checked {
            Ok(addr) => {
                self.route.way = Way::Active(addr);
                self.reply("200 done");
            }
            Err(refusal) => self.reply(refusal),
        }
    }

    /// On loopback the server does not connect to itself: a file with FTP commands, sent to the port for commands, would make
    /// it send this file to itself for ever.
    fn refuse_own_port(&self, addr: SocketAddr) -> Result<(), Refusal> {
        let is_loopback = addr.ip().to_canonical().is_loopback();
        if is_loopback && self.service.listens_on(addr.port()) {
            Err("504 not to a port of the server")
        } else {
            Ok(())
        }
    }

    fn refuse_after_epsv_all(&self) -> Result<(), Refusal> {
        if self.route.only_epsv {
            Err("503 only EPSV, after EPSV ALL")
        } else {
            Ok(())
        }
    }

    fn client(&self) -> Option<IpAddr> {
        self.chat.peer_addr().and_then(|addr| addr.ip())
    }

    /// The address that the client has connected to.
    fn own_addr(&self) -> Result<SocketAddr, Refusal> {
        let addr = self.chat.local_addr().and_then(|addr| addr.inet());
        addr.ok_or("425 the connection has no IP address")
    }

    /// Replaces the route by a new passive port, and replies with its address. The old socket has to close first, at the end
    /// of the turn or later, and the next command waits for that. Otherwise a client that sends many commands at once could
    /// have all ports of the range, or a socket for each command of a turn.
    fn open_passive_port(&mut self, reply: ReplyWithPort) {
        let replaces = matches!(&self.route.way, Way::Passive(listener) if listener.is_open());
        let share = match self.share_of_ports(replaces) {
            Ok(share) => share,
            // What there was stays.
            Err(refusal) => return self.reply(refusal),
        };
        let after = self.route.number;
        self.route.close();
        let next = Next {
            after,
            share,
            reply,
        };
        if replaces {
            self.begin_wait();
            self.route.next = Some(next);
        } else {
            self.open_next(&next);
        }
    }

    fn open_next(&mut self, next: &Next) {
        match self.listen(next.share.as_ref()) {
            Ok((listener, addr)) => {
                self.route.way = Way::Passive(listener);
                (next.reply)(self, addr);
            }
            Err(refusal) => self.reply(refusal),
        }
    }

    /// The socket of a passive port has closed, by this side or because nobody has come.
    fn port_closed(&mut self, number: u64, by_us: bool) {
        if let Some(next) = self.route.next.take_if(|next| next.after == number) {
            if !self.chat.is_closing() {
                self.open_next(&next);
                self.end_wait();
            }
        } else if !by_us {
            self.nobody_came(number);
        }
    }

    /// A session can always replace its own port. `None` if there is no range of ports.
    fn share_of_ports(&self, replaces: bool) -> Result<Option<Rc<Share>>, Refusal> {
        if self.service.options.ports.is_none() {
            return Ok(None);
        }
        let peer = self.chat.peer_addr();
        match self.service.ports.share(peer.as_ref(), replaces) {
            Some(share) => Ok(Some(share)),
            None => Err("425 too many ports wait for connections, try again later"),
        }
    }

    fn listen(&self, share: Option<&Rc<Share>>) -> Result<(Channel, SocketAddr), Refusal> {
        let mut addr = self.own_addr()?;
        let dynamic = DRAWS.then_some(DYNAMIC);
        let Some(ports) = self.service.options.ports.clone().or(dynamic) else {
            addr.set_port(0);
            return self.listen_on(addr, None);
        };
        let first = unpredictable()? as usize;
        let tries = ports.len().min(MOST_TRIES);
        let addrs = (0..tries).map(|n| {
            addr.set_port(nth(&ports, first.wrapping_add(n)));
            addr
        });
        let open = &self.service.ports;
        let free = addrs.filter_map(|addr| Some((addr, open.take(share, addr)?)));
        let free = free.take(MOST_BINDS);
        let mut opened = free.map(|(addr, taken)| self.listen_on(addr, Some(taken)));
        match opened.find_map(Result::ok) {
            Some(opened) => Ok(opened),
            None if share.is_some() => Err("425 all ports are in use"),
            None => {
                let mut addr = self.own_addr()?;
                addr.set_port(0);
                self.listen_on(addr, None)
            }
        }
    }

    fn listen_on(
        &self,
        addr: SocketAddr,
        taken: Option<Taken>,
    ) -> Result<(Channel, SocketAddr), Refusal> {
        let options = &self.service.options;
        let (client, number, control) = (self.client(), self.route.number, self.chat.clone());
        let make = self.data_factory(false);
        // One that the system chooses is known afterwards.
        let taken = Rc::new(Cell::new(taken));
        let until_closed = Rc::clone(&taken);
        let listener = Server::new(addr)
            // Whoever else connects must not receive the file, or send it (RFC 2577 section 4).
            .accept_if(move |peer| peer.ip() == client)
            .once(options.wait)
            .deadlines(options.data_deadlines.handshake(options.wait))
            .on_close(move |why| {
                drop(until_closed.take());
                let by_us = matches!(why, Close::Local);
                let _ = control.post(move |session: &mut Session| {
                    session.port_closed(number, by_us);
                    Ok(())
                });
            })
            .listen(make);
        let listener = listener.map_err(|error| {
            tracing::debug!(%error, "no passive port");
            "425 no port can be opened"
        })?;
        let Some(addr) = listener.local_addr().and_then(|addr| addr.inet()) else {
            // A channel that is dropped stays open.
            listener.close();
            return Err("425 the port has no IP address");
        };
        let known = taken.take().or_else(|| self.service.ports.take(None, addr));
        taken.set(known);
        Ok((listener, addr))
    }

    /// Connects to the client.
    pub fn connect_to(&mut self, client: SocketAddr) -> Result<(), Refusal> {
        self.route.connecting = Some((client, 0));
        self.connect_from_another_port()
    }

    /// The port that was drawn is in use. Nothing has been sent, so another one is tried.
    pub fn source_in_use(&mut self, number: u64) {
        if number == self.route.number
            && let Err(refusal) = self.connect_from_another_port()
        {
            self.close_transfer(refusal);
        }
    }

    fn connect_from_another_port(&mut self) -> Result<(), Refusal> {
        let Some((client, tries)) = &mut self.route.connecting else {
            return Ok(());
        };
        let client = *client;
        *tries += 1;
        let is_last = !DRAWS || *tries > MOST_SOURCES;
        // The server may have opened the port since PORT.
        self.refuse_own_port(client)?;
        let options = &self.service.options;
        let mut own = self.own_addr()?;
        own.set_port(if is_last {
            0
        } else {
            nth(&DYNAMIC, unpredictable()? as usize)
        });
        let connector = Connector::new(client)
            .bind(own)
            .connect_timeout(options.wait)
            .deadlines(options.data_deadlines.handshake(options.wait))
            .connect(self.data_factory(!is_last));
        match connector {
            Ok(data) => {
                self.route.way = Way::Connecting(data);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "no connection to the client");
                Err("425 the server cannot connect to you")
            }
        }
    }

    /// Makes the handler of the next data connection. `may_retry`: another port is tried if that of this side is in use.
    fn data_factory(&self, may_retry: bool) -> impl Fn(Chat) -> Data + 'static {
        let (control, number) = (self.chat.clone(), self.route.number);
        let security = self.security.as_ref().filter(|_| self.login.is_private());
        let tls = security.map(|security| Arc::clone(&security.data));
        let must_resume = self.service.options.require_reuse;
        move |chat| {
            chat.set_terminator(Terminator::none());
            // Until STOR comes.
            chat.pause_reading();
            Data::new(
                chat,
                control.clone(),
                number,
                tls.clone(),
                must_resume,
                may_retry,
            )
        }
    }
}

/// A port of a range. The last one is followed by the first one.
fn nth(ports: &RangeInclusive<u16>, n: usize) -> u16 {
    ports.start() + (n % ports.len()) as u16
}

/// A number that does not follow from earlier ones. A stranger who can compute the next port connects to it before the
/// client (RFC 2577 section 4).
fn unpredictable() -> Result<u32, Refusal> {
    let mut bytes = [0; 4];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| "425 the system has no random numbers")?;
    Ok(u32::from_ne_bytes(bytes))
}
