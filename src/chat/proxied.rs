//! The proxy that has forwarded the connection of a chat.

use super::handle::Chat;
use crate::Addr;
use crate::proxy_protocol::Header;

impl Chat {
    /// The PROXY header of the connection, of a [server that reads it](crate::Server::proxy_protocol). `None` for other
    /// connections, and after [`handle_close`](crate::AsyncChat::handle_close) has returned.
    /// [`peer_addr`](Chat::peer_addr) is the address of the client.
    ///
    /// Needs the feature `proxy-protocol`.
    ///
    /// ```
    /// use asynchat::{Server, sim::Network};
    ///
    /// # fn main() -> asynchat::Result {
    /// let network = Network::new(1);
    /// let event_loop = network.event_loop()?;
    /// Server::new("10.0.0.1:119")
    ///     .proxy_protocol(["10.0.0.0/8".parse()?])
    ///     .listen_on(&event_loop, |chat| {
    ///         if let (Some(client), Some(header)) = (chat.peer_addr(), chat.proxy_header()) {
    ///             let name = header.authority().unwrap_or("no name");
    ///             write!(chat, "200 {client} asks for {name}\r\n");
    ///         }
    ///         |_: &[u8]| Ok(())
    ///     })?;
    ///
    /// let proxy: std::net::SocketAddr = "10.0.0.2:50000".parse()?;
    /// let proxy = network.connect_from(proxy, "10.0.0.1:119")?;
    /// proxy.send("PROXY TCP4 192.0.2.1 198.51.100.1 40000 119\r\n");
    /// network.settle(&event_loop)?;
    /// assert_eq!(proxy.received(), b"200 192.0.2.1:40000 asks for no name\r\n");
    /// # Ok(()) }
    /// ```
    pub fn proxy_header(&self) -> Option<Header> {
        self.state().proxy_header()
    }

    /// The address of the proxy that has forwarded the connection. `None` when [`proxy_header`](Chat::proxy_header) is.
    ///
    /// Needs the feature `proxy-protocol`.
    pub fn proxy_addr(&self) -> Option<Addr> {
        self.state().proxy_addr()
    }
}
