//! The proxy: accepts, connects, pipes; and holds up what passes too fast.

mod bucket;

use std::rc::Rc;
use std::time::Duration;

use asynchat::{
    AsyncChat, Channel, Chat, Close, Connector, Deadlines, Limits, Result, Server, TimerId,
};
use bucket::Bucket;

/// How long the target may take to answer.
const CONNECT: Duration = Duration::from_secs(10);

/// The time that has passed since some moment; not the system's own, so that a test can make it pass.
pub type Clock = Rc<dyn Fn() -> Duration>;

/// What is forwarded, and within what bounds.
#[derive(Clone)]
pub struct Options {
    /// Host and port of the target.
    pub to: String,
    /// Bytes a second, for each connection and each way.
    pub rate: Option<u64>,
    pub max_connections: usize,
    /// How long nothing may move.
    pub idle: Duration,
    pub clock: Clock,
}

/// Starts to forward what comes in at `listen`, on this thread's loop.
pub fn serve(listen: &str, options: Options) -> Result<Channel> {
    Server::new(listen)
        .limits(options.limits())
        .deadlines(Deadlines::default().idle(options.idle))
        .listen(move |near| {
            let client = near
                .peer_addr()
                .map_or_else(String::new, |addr| addr.to_string());
            if let Err(error) = connect(&near, &options) {
                tracing::error!(client, "{error}");
                near.close();
            }
            let end = End::new(near, &options);
            Near { end, client }
        })
}

/// Connects to the target, and `near` with it.
fn connect(near: &Chat, options: &Options) -> Result {
    let of_far = options.clone();
    let far = Connector::new(&options.to)
        .limits(options.limits())
        .deadlines(Deadlines::default().connect(CONNECT).idle(options.idle))
        .connect(move |far| End::new(far, &of_far))?;
    asynchat::pipe(near, &far)
}

impl Options {
    fn limits(&self) -> Limits {
        let most = Limits::default();
        // A read takes a tenth of a second's worth, so that what passes does so evenly.
        let read = self.rate.map_or(most.turn_read, |rate| {
            usize::try_from(rate / 10)
                .unwrap_or(usize::MAX)
                .clamp(1, most.turn_read)
        });
        most.turn(read, most.turn_write, most.turn_records)
            .connections(self.max_connections)
            .per_address(self.max_connections)
    }
}

/// One end of a forwarded connection: what it receives is passed on at the rate that is allowed.
struct End {
    chat: Chat,
    bucket: Option<Bucket>,
    clock: Clock,
}

impl End {
    fn new(chat: Chat, options: &Options) -> Self {
        End {
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
}

/// The client's end, which also tells what has become of the connection.
struct Near {
    end: End,
    client: String,
}

impl AsyncChat for Near {
    fn handle_piped(&mut self, chunk: &[u8]) -> Result {
        self.end.handle_piped(chunk)
    }

    fn handle_timer(&mut self, timer: TimerId) -> Result {
        self.end.handle_timer(timer)
    }

    fn found_terminator(&mut self, record: &[u8]) -> Result {
        self.end.found_terminator(record)
    }

    fn handle_close(&mut self, why: &Close) {
        let (client, stats) = (&self.client, self.end.chat.stats());
        let (sent, received) = (stats.bytes_in, stats.bytes_out);
        match why {
            Close::Piped(why) if matches!(**why, Close::ConnectFailed(_)) => {
                tracing::warn!(client, "{why}");
            }
            Close::Piped(why) => tracing::info!(client, sent, received, "target: {why}"),
            why => tracing::info!(client, sent, received, "client: {why}"),
        }
    }
}
