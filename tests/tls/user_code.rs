//! User code that rustls calls in the middle of a handshake, and that closes the channel.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use asynchat::tls::rustls::server::StoresServerSessions;
use asynchat::tls::rustls::version::{TLS12, TLS13};
use asynchat::tls::rustls::{ClientConfig, KeyLog, ServerConfig};
use asynchat::{Channel, Chat, Close, Connector, Dispatcher, Result, Server, tls};

use crate::common::name;
use crate::scene::Scene;
use crate::tls::{TlsPeer, client_config, client_config_of, server_config};

thread_local! {
    /// What is closed, instead of everything.
    static CHAT: RefCell<Option<Chat>> = const { RefCell::new(None) };
}

/// Closes when the handshake comes to this secret.
#[derive(Debug)]
struct CloseAt(&'static str);

impl KeyLog for CloseAt {
    fn log(&self, label: &str, _: &[u8], _: &[u8]) {
        if label == self.0 {
            close();
        }
    }
}

/// Closes when a session is stored: in the last step of a server.
#[derive(Debug)]
struct CloseAtPut;

impl StoresServerSessions for CloseAtPut {
    fn put(&self, _: Vec<u8>, _: Vec<u8>) -> bool {
        close();
        true
    }
    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn take(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn can_cache(&self) -> bool {
        true
    }
}

fn close() {
    match CHAT.take() {
        Some(chat) => chat.close(),
        None => asynchat::close_all(),
    }
}

/// The secrets of TLS 1.3 in the order in which they are made. The last three are of the last step of a client.
const SECRETS: [&str; 5] = [
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "CLIENT_TRAFFIC_SECRET_0",
    "SERVER_TRAFFIC_SECRET_0",
    "EXPORTER_SECRET",
];

fn client(secret: &'static str) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client_config());
    config.key_log = Arc::new(CloseAt(secret));
    Arc::new(config)
}

fn server(secret: &'static str) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&server_config());
    config.key_log = Arc::new(CloseAt(secret));
    Arc::new(config)
}

#[test]
fn a_close_in_any_step_of_the_handshake_of_a_connector_is_final() -> Result {
    for secret in SECRETS {
        let scene = Scene::new()?;
        let service = scene.network.listen("127.0.0.1:563")?;
        Connector::new("127.0.0.1:563")
            .tls(client(secret))
            .connect_on(&scene.event_loop, scene.log.session())?;
        scene.settle()?;
        let mut peer = TlsPeer::server(service.accept().ok_or("no connection")?);
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(scene.log.lines(), ["close Dropped"], "{secret}");
        assert!(scene.event_loop.is_empty(), "{secret}");
        let stats = scene.event_loop.stats();
        assert_eq!((stats.handshakes, stats.handshakes_failed), (0, 1));
    }
    Ok(())
}

#[test]
fn a_close_in_any_step_of_the_handshake_of_a_server_is_final() -> Result {
    for secret in SECRETS {
        let scene = Scene::new()?;
        Server::new("127.0.0.1:563")
            .tls(server(secret))
            .listen_on(&scene.event_loop, scene.log.session())?;
        let mut peer = TlsPeer::client(scene.network.connect("127.0.0.1:563")?, client_config());
        peer.exchange(|| scene.settle().unwrap());
        assert!(scene.log.lines().is_empty(), "{secret}");
        assert!(scene.event_loop.is_empty(), "{secret}");
        assert!(peer.peer.has_ended(), "{secret}");
    }
    Ok(())
}

#[test]
fn a_close_in_the_last_step_of_a_server_is_final() -> Result {
    for version in [&TLS12, &TLS13] {
        let mut config = ServerConfig::clone(&server_config());
        config.session_storage = Arc::new(CloseAtPut);
        let scene = Scene::new()?;
        Server::new("127.0.0.1:563")
            .tls(Arc::new(config))
            .listen_on(&scene.event_loop, scene.log.session())?;
        let socket = scene.network.connect("127.0.0.1:563")?;
        let mut peer = TlsPeer::client(socket, client_config_of(version));
        peer.exchange(|| scene.settle().unwrap());
        assert!(scene.log.lines().is_empty(), "{:?}", scene.log.lines());
        assert!(scene.event_loop.is_empty() && peer.peer.has_ended());
    }
    Ok(())
}

#[test]
fn a_close_in_any_step_after_start_tls_is_final() -> Result {
    for secret in SECRETS {
        let scene = Scene::new()?;
        let (chat, peer) = scene.connection(scene.log.session())?;
        let side = tls::Client::from(client(secret)).name("localhost");
        chat.start_tls(side)?;
        CHAT.set(Some(chat.clone()));
        let mut peer = TlsPeer::server(peer);
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(scene.log.lines(), ["connect", "close Local"], "{secret}");
        assert!(!chat.is_open() && scene.event_loop.is_empty(), "{secret}");
    }
    Ok(())
}

#[test]
fn a_close_in_any_step_is_final_for_a_dispatcher() -> Result {
    struct Ending(Channel, Rc<RefCell<Vec<String>>>);
    impl Dispatcher for Ending {
        fn channel(&self) -> &Channel {
            &self.0
        }
        fn handle_tls(&mut self) -> Result {
            self.1.borrow_mut().push("tls".to_owned());
            Ok(())
        }
        fn handle_close(&mut self, why: &Close) {
            self.1.borrow_mut().push(name(why));
        }
    }
    for secret in SECRETS {
        let scene = Scene::new()?;
        let (socket, peer) = scene.network.pair();
        let channel = Channel::adopt(socket)?;
        let calls: Rc<RefCell<Vec<String>>> = Rc::default();
        channel.start_tls(tls::Client::from(client(secret)).name("localhost"))?;
        scene
            .event_loop
            .register(Ending(channel, Rc::clone(&calls)))?;
        let mut peer = TlsPeer::server(peer);
        peer.exchange(|| scene.settle().unwrap());
        assert_eq!(*calls.borrow(), ["Local"], "{secret}");
        assert!(scene.event_loop.is_empty(), "{secret}");
    }
    Ok(())
}
