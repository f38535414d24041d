//! The tests of CPython 3.11's `test_asyncore.py`, over IPv4, IPv6 and Unix sockets. Those that do
//! not depend on the kind of socket are in `dispatcher.rs`.

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use asynchat::{Addr, Channel, Close, Dispatcher, Result, Socket, TimerId};
use common::family::{Family, ListenAddr, over_all_families};
use common::{Log, failure, idle, name, new_loop, run_to_end, run_until};
#[cfg(target_os = "linux")]
use common::{Peer, tcp_pair};

/// A dispatcher that logs its callbacks, and reads all input.
struct Recorder {
    channel: Channel,
    log: Log,
    /// Whether it wants to write. Each `handle_write` sends this and clears it.
    sends: Option<&'static [u8]>,
    /// The callback that fails.
    fails: &'static str,
}

impl Recorder {
    fn new(socket: Socket, log: &Log) -> Self {
        Recorder::on(Channel::adopt(socket).unwrap(), log)
    }

    fn on(channel: Channel, log: &Log) -> Self {
        Recorder {
            channel,
            log: log.clone(),
            sends: None,
            fails: "",
        }
    }

    fn record(&self, callback: &str) -> Result {
        self.log.add(callback);
        if self.fails == callback {
            return Err(failure());
        }
        Ok(())
    }
}

impl Dispatcher for Recorder {
    fn channel(&self) -> &Channel {
        &self.channel
    }
    fn writable(&self) -> bool {
        self.sends.is_some()
    }
    fn handle_accepted(&mut self, socket: Socket, peer: Addr) -> Result {
        drop(socket);
        assert_eq!(
            peer.inet().is_some(),
            self.channel.local_addr().unwrap().inet().is_some()
        );
        self.record("accepted")
    }
    fn handle_connect(&mut self) -> Result {
        self.record("connect")
    }
    fn handle_read(&mut self) -> Result {
        self.record("read")?;
        let count = self.channel.recv(&mut [0; 4096])?;
        self.log.add(format!("{count} bytes"));
        Ok(())
    }
    fn handle_write(&mut self) -> Result {
        self.record("write")?;
        if let Some(data) = self.sends.take() {
            self.channel.send(data)?;
        }
        Ok(())
    }
    fn handle_expt(&mut self) -> Result {
        self.record("expt")
    }
    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.record("timer")
    }
    fn handle_error(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.log.add(format!("error: {error}"));
    }
    fn handle_close(&mut self, why: &Close) {
        self.log.add(format!("close {}", name(why)));
    }
}

over_all_families!(
    handle_connect,
    handle_accepted,
    handle_read,
    handle_write,
    handle_close,
    a_send_on_a_broken_connection_closes_it,
    handle_error,
    errors_of_each_callback_reach_handle_error,
    an_error_of_handle_accepted_leaves_the_listener_open,
    one_event_is_one_callback,
    connection_attributes,
    quick_connect,
    close_all_of_a_loop,
    a_channel_that_is_dropped_is_closed,
    an_adopted_socket_is_made_non_blocking,
    a_read_that_would_block_is_no_error,
);

/// `test_handle_connect`. An adopted connection is up already, so there is no `handle_connect`, as
/// in asyncore.
fn handle_connect(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (_listener, listen_addr) = family.listen();
    let channel = match &listen_addr {
        ListenAddr::Inet(addr) => Channel::connect(addr).unwrap(),
        #[cfg(unix)]
        ListenAddr::Unix(_) => Channel::adopt(listen_addr.connect()).unwrap(),
    };
    event_loop.register(Recorder::on(channel, &log)).unwrap();
    if family.is_inet() {
        run_until(&event_loop, || log.has("connect"));
    }
    idle(&event_loop);
    assert_eq!(log.lines().len(), usize::from(family.is_inet()));
}

/// `test_handle_accepted`, and the part of `test_handle_accept` that applies here.
fn handle_accepted(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (listener, listen_addr) = family.listen();
    event_loop.register(Recorder::new(listener, &log)).unwrap();
    for count in 1..3 {
        let peer = Log::default();
        event_loop
            .register(Recorder::new(listen_addr.connect(), &peer))
            .unwrap();
        // The socket was dropped, which closes it.
        run_until(&event_loop, || peer.has("close Eof"));
        assert_eq!(log.count("accepted"), count);
    }
}

/// `test_handle_read`.
fn handle_read(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = family.pair();
    event_loop.register(Recorder::new(near, &log)).unwrap();
    let mut sender = Recorder::new(far, &Log::default());
    sender.sends = Some(&[b'x'; 1024]);
    event_loop.register(sender).unwrap();
    run_until(&event_loop, || log.has("1024 bytes"));
    assert_eq!(log.lines(), ["read", "1024 bytes"]);
}

/// `test_handle_write`. It is called only if `writable` asks for it.
fn handle_write(family: Family) {
    let (event_loop, asks, other) = (new_loop(), Log::default(), Log::default());
    let (near, far) = family.pair();
    let mut writer = Recorder::new(near, &asks);
    writer.sends = Some(b"");
    event_loop.register(writer).unwrap();
    event_loop.register(Recorder::new(far, &other)).unwrap();
    run_until(&event_loop, || asks.has("write"));
    idle(&event_loop);
    assert_eq!(
        (asks.lines(), other.lines().len()),
        (vec!["write".to_owned()], 0)
    );
}

/// `test_handle_close`.
fn handle_close(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = family.pair();
    event_loop.register(Recorder::new(near, &log)).unwrap();
    drop(far);
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["read", "0 bytes", "close Eof"]);
}

/// Sends for as long as it can. The flag says whether it reads.
struct Sends(Recorder, bool);

impl Dispatcher for Sends {
    fn channel(&self) -> &Channel {
        &self.0.channel
    }
    fn readable(&self) -> bool {
        self.1
    }
    fn handle_read(&mut self) -> Result {
        self.0.channel.recv(&mut [0; 4096])?;
        Ok(())
    }
    fn writable(&self) -> bool {
        true
    }
    fn handle_write(&mut self) -> Result {
        self.0.channel.send(&[0; 128])?;
        Ok(())
    }
    fn handle_error(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.0.handle_error(error);
    }
    fn handle_close(&mut self, why: &Close) {
        self.0.handle_close(why);
    }
}

/// `test_handle_close_after_conn_broken` (bpo-5661, bpo-11265): a connection that breaks during a
/// send is closed, which is not an error of the handler, whether it reads or not.
fn a_send_on_a_broken_connection_closes_it(family: Family) {
    for reads in [true, false] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (near, far) = family.pair();
        let sends = Sends(Recorder::new(near, &log), reads);
        event_loop.register(sends).unwrap();
        event_loop.run_once(Duration::ZERO).unwrap();
        // Its input is unread, so TCP answers with a reset.
        drop(far);
        run_to_end(&event_loop);
        let lines = log.lines();
        assert!(
            lines == ["close Reset"] || lines == ["close Eof"],
            "{lines:?}"
        );
    }
}

/// `test_handle_expt`. Unix sockets have no urgent data, and not every poller reports it.
#[cfg(target_os = "linux")]
#[test]
fn handle_expt() {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = tcp_pair();
    event_loop
        .register(Recorder::new(near.into(), &log))
        .unwrap();
    socket2::SockRef::from(&far).send_out_of_band(b"!").unwrap();
    run_until(&event_loop, || log.has("expt"));
    idle(&event_loop);
    // Some pollers report urgent data as input too. Then a read that returns nothing follows.
    let lines = log.lines();
    assert_eq!((&*lines[0], log.count("expt")), ("expt", 1), "{lines:?}");
    assert!(!log.has("0 bytes") && !log.has("close"), "{lines:?}");
    Peer::new(far).send("x");
    run_until(&event_loop, || log.has("1 bytes"));
}

/// `test_handle_error`.
fn handle_error(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, _far) = family.pair();
    let mut fails = Recorder::new(near, &log);
    fails.sends = Some(b"x");
    fails.fails = "write";
    event_loop.register(fails).unwrap();
    run_to_end(&event_loop);
    assert_eq!(
        log.lines(),
        ["write", "error: it was to fail", "close Handler"]
    );
}

/// `test_readwriteexc`. `stop` replaces `ExitNow`: see `shutdown.rs`.
fn errors_of_each_callback_reach_handle_error(family: Family) {
    for callback in ["read", "write", "connect", "timer"] {
        let (event_loop, log) = (new_loop(), Log::default());
        let (near, far) = family.pair();
        let (_listener, listen_addr) = family.listen();
        let mut fails = match (callback, &listen_addr) {
            ("connect", ListenAddr::Inet(addr)) => {
                Recorder::on(Channel::connect(addr).unwrap(), &log)
            }
            #[cfg(unix)]
            ("connect", ListenAddr::Unix(_)) => continue,
            _ => Recorder::new(near, &log),
        };
        if callback == "write" {
            fails.sends = Some(b"x");
        }
        fails.fails = callback;
        let channel = fails.channel.clone();
        event_loop.register(fails).unwrap();
        // The end of the input is reported as input.
        let far = (callback != "read").then_some(far);
        if callback == "timer" {
            channel.call_later(Duration::ZERO);
        }
        run_to_end(&event_loop);
        let lines = log.lines();
        assert_eq!(lines, [callback, "error: it was to fail", "close Handler"]);
        drop(far);
    }
}

/// An error that concerns one connection does not close the listener.
fn an_error_of_handle_accepted_leaves_the_listener_open(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (listener, listen_addr) = family.listen();
    let mut fails = Recorder::new(listener, &log);
    fails.fails = "accepted";
    event_loop.register(fails).unwrap();
    for count in 1..3 {
        drop(listen_addr.connect());
        run_until(&event_loop, || log.count("error: it was to fail") == count);
    }
    assert!(!log.has("close"));
}

/// `test_readwrite`.
fn one_event_is_one_callback(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = family.pair();
    event_loop.register(Recorder::new(near, &log)).unwrap();
    let far = Channel::adopt(far).unwrap();
    let mut sender = Recorder::on(far.clone(), &Log::default());
    sender.sends = Some(b"x");
    event_loop.register(sender).unwrap();
    run_until(&event_loop, || log.has("1 bytes"));
    idle(&event_loop);
    assert_eq!(log.lines(), ["read", "1 bytes"]);
    far.close();
    run_until(&event_loop, || log.has("close"));
    assert_eq!(log.lines()[2..], ["read", "0 bytes", "close Eof"]);
}

/// `test_connection_attributes`.
fn connection_attributes(family: Family) {
    let event_loop = new_loop();
    let (listener, listen_addr) = family.listen();
    let server = Channel::adopt(listener).unwrap();
    let client = Channel::adopt(listen_addr.connect()).unwrap();
    let accepts = Recorder::on(server.clone(), &Log::default());
    event_loop.register(accepts).unwrap();
    event_loop
        .register(Sends(Recorder::on(client.clone(), &Log::default()), false))
        .unwrap();
    assert!(server.is_open() && client.is_open());
    let attributes = |channel: &Channel| {
        let (connected, connecting) = (channel.is_connected(), channel.is_connecting());
        (connected, connecting, channel.is_listening())
    };
    assert_eq!(attributes(&server), (false, false, true));
    assert_eq!(attributes(&client), (true, false, false));
    let outgoing = Channel::connect("127.0.0.1:9").unwrap();
    assert_eq!(attributes(&outgoing), (false, true, false));
    assert_eq!(
        (server.peer_addr(), client.peer_addr()),
        (None, server.local_addr())
    );
    assert!(server.recv(&mut [0]).is_err());
    client.close();
    assert!(server.is_open() && !client.is_open());
    server.close();
    assert!(!server.is_open());
    for closed in [&server, &client] {
        assert_eq!(attributes(closed), (false, false, false));
    }
    run_to_end(&event_loop);
    assert_eq!((server.local_addr(), client.local_addr()), (None, None));
}

/// `test_quick_connect` (bpo-10340): a peer resets its connection before it is accepted.
fn quick_connect(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (listener, listen_addr) = family.listen();
    event_loop.register(Recorder::new(listener, &log)).unwrap();
    let quick = Channel::adopt(listen_addr.connect()).unwrap();
    // The connection is dropped unregistered, which closes it.
    quick.abort();
    assert!(!quick.is_open());
    drop(listen_addr.connect());
    run_until(&event_loop, || log.count("accepted") >= 1);
    idle(&event_loop);
    assert!(!log.has("error") && !log.has("close"));
}

/// `test_closeall`.
fn close_all_of_a_loop(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let mut far = Vec::new();
    for _ in 0..10 {
        let (near, other) = family.pair();
        event_loop.register(Recorder::new(near, &log)).unwrap();
        far.push(other);
    }
    let (listener, _place) = family.listen();
    event_loop.register(Recorder::new(listener, &log)).unwrap();
    assert_eq!(event_loop.len(), 11);
    event_loop.close_all();
    run_to_end(&event_loop);
    assert!(event_loop.is_empty());
    assert_eq!(log.lines(), ["close Local"; 11]);
}

/// `test_resource_warning` (bpo-11453): a dropped channel does not leak, so no warning is needed.
fn a_channel_that_is_dropped_is_closed(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = family.pair();
    drop(Channel::adopt(near).unwrap());
    event_loop.register(Recorder::new(far, &log)).unwrap();
    run_to_end(&event_loop);
    assert_eq!(log.lines(), ["read", "0 bytes", "close Eof"]);
}

/// `test_create_socket`, as far as it applies to `set_socket`.
fn an_adopted_socket_is_made_non_blocking(family: Family) {
    let (near, _far) = family.pair();
    let channel = Channel::adopt(near).unwrap();
    let error = channel.recv(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

/// Reads twice where there is input for one read.
struct ReadsOn(Recorder);

impl Dispatcher for ReadsOn {
    fn channel(&self) -> &Channel {
        &self.0.channel
    }
    fn handle_read(&mut self) -> Result {
        loop {
            self.0.handle_read()?;
        }
    }
    fn handle_error(&mut self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.0.handle_error(error);
    }
}

/// `test_blockingioerror` of `test_asynchat.py` (bpo-16133).
fn a_read_that_would_block_is_no_error(family: Family) {
    let (event_loop, log) = (new_loop(), Log::default());
    let (near, far) = family.pair();
    event_loop
        .register(ReadsOn(Recorder::new(near, &log)))
        .unwrap();
    let mut sender = Recorder::new(far, &Log::default());
    sender.sends = Some(b"x");
    event_loop.register(sender).unwrap();
    run_until(&event_loop, || log.has("1 bytes"));
    idle(&event_loop);
    assert_eq!(log.lines(), ["read", "1 bytes", "read"]);
    assert_eq!(event_loop.len(), 2);
}
