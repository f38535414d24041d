//! The proxy, its servers and its clients.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::time::Duration;

use asynchat::Result;
use asynchat::sim::{Ended, Listener, Network, Peer};

use crate::scene::Scene;
use crate::server::resolver::Resolver;
use crate::server::{Options, Proxy};

pub(crate) const LISTEN: &str = "192.0.2.1:8080";
pub(crate) const ORIGIN: &str = "192.0.2.80:80";
pub(crate) const SERVERS: [&str; 3] = ["192.0.2.64/26", "198.51.100.0/24", "2001:db8::/32"];
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// The proxy, and a server at `www.example:80`.
pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) origin: Option<Listener>,
}

impl Deref for World {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.scene
    }
}

/// The names of this world, some of which are those of an attacker.
pub(crate) fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if name == "holes.example" {
        return Ok((100..200)
            .map(|n| ([198, 51, 100, n], port).into())
            .collect());
    }
    let ips: &[&str] = match name {
        "www.example" | "other.example" => &["192.0.2.80"],
        "down.example" => &["192.0.2.81"],
        "hole.example" => &["192.0.2.82"],
        "six.example" => &["2001:db8::80"],
        "rebind.example" | "localhost" | "127.1" | "2130706433" => &["127.0.0.1"],
        "mapped.example" => &["::ffff:127.0.0.1"],
        "zero.example" => &["0.0.0.0"],
        "metadata.example" => &["169.254.169.254"],
        "self.example" => &["192.0.2.1"],
        "mixed.example" => &["10.0.0.1", "::1", "192.0.2.80"],
        "unclear.example" => return Err(io::Error::other("Temporary failure in name resolution")),
        // WSAHOST_NOT_FOUND.
        _ if cfg!(windows) => return Err(io::Error::from_raw_os_error(11_001)),
        _ => return Err(io::Error::other("Name or service not known")),
    };
    let ips = ips.iter().map(|ip| ip.parse::<IpAddr>());
    let ips: Vec<_> = ips.collect::<Result<_, _>>().map_err(io::Error::other)?;
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect())
}

impl World {
    pub(crate) fn new() -> Result<World> {
        World::with(|_| {})
    }

    pub(crate) fn with(set: impl FnOnce(&mut Options)) -> Result<World> {
        let network = Network::new(1);
        let origin = Some(network.listen(ORIGIN)?);
        let mut options = Options {
            resolver: Resolver::new(0, resolve),
            name: "proxy".to_owned(),
            ..Options::default()
        };
        // The servers of this world have addresses of documentation, which are not public.
        for network in SERVERS {
            options.access.allow.push(network.parse()?);
        }
        // This world has its own hosts.
        options.access.is_own = |_| Some(false);
        set(&mut options);
        let scene = Scene::new(network, || Proxy::serve(LISTEN, options))?;
        Ok(World { scene, origin })
    }

    pub(crate) fn client(&self) -> Result<Peer> {
        Ok(self.network.connect(LISTEN)?)
    }

    /// The next connection to the server.
    pub(crate) fn accept(&self) -> Result<Peer> {
        let accepted = self.origin.as_ref().and_then(Listener::accept);
        accepted.ok_or_else(|| "the server was not connected to".into())
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.origin.as_ref().and_then(Listener::accept).is_none()
    }

    /// A client that has sent this, and its server.
    pub(crate) fn begin(&self, request: impl AsRef<[u8]>) -> Result<(Peer, Peer)> {
        let client = self.client()?;
        client.send(request);
        self.settle()?;
        let server = self.accept()?;
        self.settle()?;
        Ok((client, server))
    }

    /// What a client receives for this, and how the connection ends for it.
    pub(crate) fn outcome(&self, input: impl AsRef<[u8]>) -> Result<(String, Option<Ended>)> {
        let client = self.client()?;
        client.send(input);
        self.settle()?;
        Ok((text(&client), client.ended()))
    }

    pub(crate) fn send(&self, from: &Peer, data: impl AsRef<[u8]>) -> Result {
        from.send(data);
        self.settle()
    }
}

pub(crate) fn text(peer: &Peer) -> String {
    String::from_utf8_lossy(&peer.take_received()).into_owned()
}

/// Removes the Date field, which the proxy adds where the server has none.
pub(crate) fn without_date(response: &str) -> String {
    let lines = response.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

pub(crate) fn get(host: &str) -> String {
    format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

pub(crate) fn status(reply: &str) -> &str {
    reply.get(9..12).unwrap_or_default()
}

/// SOCKS 5 without authentication: the greeting, and a request for a name.
pub(crate) fn socks(name: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.extend(port.to_be_bytes());
    bytes
}
