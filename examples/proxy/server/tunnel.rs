//! Tunnels, which CONNECT and SOCKS open: the client's connection is piped to another one.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;

use asynchat::{Addr, AsyncChat, Chat, Close, Result};

use tracing::info;

use super::dial::{Destination, LooksUp, check_own_host, connect};
use super::failure::Failure;
use super::{Options, Proxy};

/// A session that opens tunnels.
pub trait Opens: LooksUp {
    /// The reply when the connection is up. `local` is the proxy's address on it.
    fn opened(local: Option<Addr>) -> Vec<u8>;

    /// There is no connection, and the session is to say so.
    ///
    /// # Errors
    /// Those of a callback.
    fn failed(&mut self, why: Failure) -> Result;
}

/// Connects to these addresses, and pipes `near` to the connection when it is up. Before that, what the client sends
/// waits. Returns the connection, which the session closes if its client leaves before.
///
/// # Errors
/// When no connection can be begun.
pub fn open<S: Opens>(
    proxy: &Rc<Proxy>,
    near: &Chat,
    addrs: Vec<SocketAddr>,
) -> Result<Chat, Failure> {
    let (near, far_proxy) = (near.clone(), Rc::clone(proxy));
    connect(proxy, addrs, proxy.options.limits, move |chat| Far::<S> {
        near,
        chat,
        proxy: far_proxy,
        opener: PhantomData,
    })
}

/// The session of the connection to the destination.
struct Far<S> {
    near: Chat,
    chat: Chat,
    proxy: Rc<Proxy>,
    opener: PhantomData<fn(S)>,
}

impl<S: Opens> AsyncChat for Far<S> {
    fn handle_connect(&mut self) -> Result {
        if let Err(rule) = check_own_host(&self.proxy, &self.chat) {
            self.chat.abort();
            self.report(Failure::Prohibited(rule));
            return Ok(());
        }
        self.near.push(S::opened(self.chat.local_addr()));
        let deadlines = self
            .proxy
            .options
            .deadlines()
            .idle(self.proxy.options.tunnel_idle);
        self.near.set_deadlines(deadlines);
        self.chat.set_deadlines(deadlines);
        asynchat::pipe(&self.near, &self.chat)?;
        self.near.resume_reading();
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(()) // a piped connection has no records
    }

    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        if chunk.is_empty() {
            was_half_closed(&self.proxy, &self.chat);
        }
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        let failure = match why {
            Close::ConnectFailed(error) => {
                info!(target: "proxy::throttled", "{error}");
                Failure::of_connect(error)
            }
            // Before the connection was up. Afterwards `near` is piped, and the call below comes too late.
            Close::Shutdown | Close::Interrupted => Failure::Unavailable,
            _ => return,
        };
        self.report(failure);
    }
}

impl<S: Opens> Far<S> {
    fn report(&self, failure: Failure) {
        // An error means that the client has left.
        let _ = self.near.post::<S>(move |opener| opener.failed(failure));
    }
}

/// One end of a tunnel has sent everything. It may be gone: a peer that has closed its socket looks like one that has
/// finished sending, and the other end may never answer. So this end has to take something within a shorter time, as with `client-fin`
/// of HAProxy.
pub fn was_half_closed(proxy: &Proxy, chat: &Chat) {
    let Options {
        half_closed_idle,
        tunnel_idle,
        ..
    } = proxy.options;
    chat.set_idle_timeout(half_closed_idle.min(tunnel_idle));
}

/// Logs the end of a client's connection that has asked for a tunnel. If the tunnel `is_open`, it has cost the client a
/// connection to a server. Otherwise ten are logged in a second.
pub fn log_end(
    protocol: &str,
    client: &Chat,
    user: Option<&str>,
    to: Option<&Destination>,
    is_open: bool,
    why: &Close,
) {
    let stats = client.stats();
    let (sent, received) = (stats.bytes_in, stats.bytes_out);
    let to = to.map(tracing::field::display);
    match why {
        why if !is_open => {
            info!(target: "proxy::throttled", user, to, sent, received, "{protocol}: client: {why}");
        }
        Close::Piped(why) => info!(user, to, sent, received, "{protocol}: server: {why}"),
        why => info!(user, to, sent, received, "{protocol}: client: {why}"),
    };
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use std::cell::RefCell;

    use asynchat::sim::{Ended, Network};

    use super::*;
    use crate::server::access::Rule;

    /// Opens a tunnel at once, to an address that is not checked before.
    struct Near {
        chat: Chat,
        options: Option<Options>,
        failures: Rc<RefCell<Vec<Failure>>>,
    }

    const TO: ([u8; 4], u16) = ([127, 0, 0, 1], 9000);

    impl AsyncChat for Near {
        fn handle_connect(&mut self) -> Result {
            let proxy = Proxy::new(self.options.take().ok_or("it was opened before")?)?;
            match open::<Near>(&proxy, &self.chat, vec![TO.into()]) {
                Ok(_) => Ok(()),
                Err(why) => self.failed(why),
            }
        }

        fn found_terminator(&mut self, _: &[u8]) -> Result {
            Ok(())
        }
    }

    impl LooksUp for Near {
        fn looked_up(&mut self, _: Result<Vec<SocketAddr>, Failure>) -> Result {
            Err("nothing is looked up".into())
        }
    }

    impl Opens for Near {
        fn opened(_: Option<Addr>) -> Vec<u8> {
            b"opened".to_vec()
        }

        fn failed(&mut self, why: Failure) -> Result {
            self.failures.borrow_mut().push(why);
            Ok(())
        }
    }

    /// The system may not tell that an address is one of the host. The connection does: both of its ends have the address.
    #[test]
    fn a_tunnel_that_leads_to_the_host_of_the_proxy_is_closed() -> Result {
        for is_listed in [false, true] {
            let mut options = Options::default();
            if is_listed {
                options.access.allow.push("127.0.0.1/32".parse()?);
            }
            let network = Network::new(1);
            let service = network.listen(SocketAddr::from(TO))?;
            let event_loop = network.event_loop()?;
            let failures = Rc::new(RefCell::new(vec![]));
            let (options, of_session) = (RefCell::new(Some(options)), Rc::clone(&failures));
            event_loop.listen("192.0.2.1:8080", move |chat| Near {
                chat,
                options: options.take(),
                failures: Rc::clone(&of_session),
            })?;
            let client = network.connect("192.0.2.1:8080")?;
            client.send("for the server");
            network.settle(&event_loop)?;
            let server = service.accept().ok_or("it was not connected to")?;
            network.settle(&event_loop)?;
            if is_listed {
                assert_eq!(client.received(), b"opened");
                assert_eq!(server.received(), b"for the server");
                assert!(failures.borrow().is_empty());
            } else {
                assert!(client.received().is_empty() && server.received().is_empty());
                assert_eq!(server.ended(), Some(Ended::Reset));
                let rule = Rule::OwnHost(TO.0.into());
                assert_eq!(*failures.borrow(), [Failure::Prohibited(rule)]);
            }
        }
        Ok(())
    }
}
