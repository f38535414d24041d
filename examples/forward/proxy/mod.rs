//! The proxy: accepts a client, connects to the target, pipes the two connections, and limits the rate.

mod bucket;

use std::rc::Rc;
use std::time::Duration;

use asynchat::proxy_protocol::{Header, Ssl, Version, tlv};
use asynchat::{
    Addr, AsyncChat, Channel, Chat, Close, Connector, Deadlines, Error, Limits, Result, Server,
    TimerId, tls,
};
use bucket::Bucket;

/// The time limit for connecting to the target.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A monotonic clock. Tests pass a virtual one.
pub type Clock = Rc<dyn Fn() -> Duration>;

/// The options of [`serve`].
#[derive(Clone)]
pub struct Options {
    /// Host and port of the target.
    pub to: String,
    /// Bytes a second, for each direction of each connection.
    pub rate: Option<u64>,
    /// The version of the PROXY header that is sent to the target.
    pub send_proxy: Option<Version>,
    pub max_connections: usize,
    /// The idle timeout of a connection.
    pub idle: Duration,
    /// If set, clients have to use TLS.
    pub tls_in: Option<tls::Acceptor>,
    /// If set, the connections to the target use TLS.
    pub tls_out: Option<tls::Client>,
    pub clock: Clock,
}

/// Listens on `listen` and forwards each connection, on this thread's loop.
pub fn serve(listen: &str, options: Options) -> Result<Channel, Error> {
    let mut server = Server::new(listen)
        .limits(options.limits())
        .deadlines(Deadlines::default().idle(options.idle));
    if let Some(acceptor) = &options.tls_in {
        server = server.tls(acceptor);
    }
    server.listen(move |client| {
        if let Err(error) = connect(&client, &options) {
            tracing::error!(id = %client.id(), "{error}");
            client.close();
        }
        End::new(Side::Client, client, &options)
    })
}

/// Connects to the target, and pipes `client` to it.
fn connect(client: &Chat, options: &Options) -> Result<(), Error> {
    let target_options = options.clone();
    let mut connector = Connector::new(&options.to)
        .limits(options.limits())
        .deadlines(
            Deadlines::default()
                .connect(CONNECT_TIMEOUT)
                .idle(options.idle),
        );
    if let Some(with_tls) = &options.tls_out {
        connector = connector.tls(with_tls.clone());
    }
    if let Some(version) = options.send_proxy {
        let addresses = client.peer_addr().zip(client.local_addr());
        // Without a header, the target would take what the client sends for one.
        let (from, to) = addresses.ok_or("the address of the client is not known")?;
        connector = connector.proxy_protocol(header(version, from, to, client.tls())?);
    }
    let target =
        connector.connect(move |target| End::new(Side::Target, target, &target_options))?;
    asynchat::pipe(client, &target)
}

/// Tells the target who the client is. Version 2 also tells about its TLS, which ends here.
fn header(
    version: Version,
    from: Addr,
    to: Addr,
    info: Option<tls::Info>,
) -> Result<Header, Error> {
    let header = Header::new(version, from, to);
    let Some(info) = info.filter(|_| version == Version::V2) else {
        return Ok(header);
    };
    let mut ssl = Ssl::default();
    ssl.uses_tls = true;
    // The names that haproxy sends: TLSv1.3 and TLS_AES_128_GCM_SHA256. Those of rustls are TLSv1_3 and TLS13_AES_...
    ssl.version = info.version.as_str().map(|name| name.replace('_', "."));
    let cipher = info.cipher_suite.as_str();
    ssl.cipher = cipher.map(|name| name.replacen("TLS13_", "TLS_", 1));
    let mut header = header.with_tlv(tlv::SSL, &ssl.encode())?;
    if let Some(name) = info.server_name {
        header = header.with_tlv(tlv::AUTHORITY, name.as_bytes())?;
    }
    Ok(header)
}

impl Options {
    fn limits(&self) -> Limits {
        let defaults = Limits::default();
        // A read takes at most the bytes of a tenth of a second, so that the rate is even.
        let read = self.rate.map_or(defaults.turn_read, |rate| {
            usize::try_from(rate / 10)
                .unwrap_or(usize::MAX)
                .clamp(1, defaults.turn_read)
        });
        defaults
            .turn_read(read)
            .turn_write(defaults.turn_write)
            .turn_records(defaults.turn_records)
            .connections(self.max_connections)
            .per_address(self.max_connections)
    }
}

/// The peer of one of the two connections.
#[derive(PartialEq)]
enum Side {
    Client,
    Target,
}

/// The handler of one of the two connections. It limits the rate of the bytes that it receives.
struct End {
    side: Side,
    chat: Chat,
    bucket: Option<Bucket>,
    clock: Clock,
}

impl End {
    fn new(side: Side, chat: Chat, options: &Options) -> Self {
        End {
            side,
            chat,
            bucket: options.rate.map(Bucket::new),
            clock: Rc::clone(&options.clock),
        }
    }
}

impl AsyncChat for End {
    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        if let Some(bucket) = &mut self.bucket {
            let wait = bucket.take(chunk.len(), (self.clock)());
            if !wait.is_zero() {
                self.chat.pause_reading();
                self.chat.call_later(wait);
            }
        }
        Ok(())
    }

    fn handle_timer(&mut self, _: TimerId) -> Result {
        self.chat.resume_reading();
        Ok(())
    }

    fn found_terminator(&mut self, _: &[u8]) -> Result {
        Ok(()) // a piped connection has no records
    }

    /// Only the client's connection is logged, so that there is one line for both.
    fn handle_close(&mut self, why: &Close) {
        if self.side == Side::Target {
            return;
        }
        let stats = self.chat.stats();
        let (sent, received) = (stats.bytes_in, stats.bytes_out);
        match why {
            Close::Piped(why) if matches!(**why, Close::ConnectFailed(_)) => {
                tracing::warn!("{why}");
            }
            Close::Piped(why) => tracing::info!(sent, received, "target: {why}"),
            why => tracing::info!(sent, received, "client: {why}"),
        }
    }
}
