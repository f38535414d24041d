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
            if let Err(error) = connect(&near, &options) {
                tracing::error!(id = %near.id(), "{error}");
                near.close();
            }
            End::new(Side::Client, near, &options)
        })
}

/// Connects to the target, and `near` with it.
fn connect(near: &Chat, options: &Options) -> Result {
    let of_far = options.clone();
    let far = Connector::new(&options.to)
        .limits(options.limits())
        .deadlines(Deadlines::default().connect(CONNECT).idle(options.idle))
        .connect(move |far| End::new(Side::Target, far, &of_far))?;
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

/// Who is at one end of a forwarded connection.
#[derive(PartialEq)]
enum Side {
    Client,
    Target,
}

/// One end of a forwarded connection: what it receives is passed on at the rate that is allowed.
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

    /// The client's end tells for both, in the span of its connection.
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
