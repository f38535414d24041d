//! Commands that end subscriptions: UNSUBSCRIBE and its kind, and RESET. Many of them end a part at a time.

use std::vec;

use asynchat::bytes::Bytes;

use super::pubsub::confirm;
use super::{Context, Mode};
use crate::server::parts::execute_later;
use crate::server::progress::Progress;
use crate::server::pubsub::Kind;
use crate::server::shared::lock;

/// How many end at a time: this takes less than a millisecond.
const AT_ONCE: usize = 1000;

/// Executes the parts of a command until it is complete. Others are served in between, unless it is one of a transaction.
pub(super) fn execute_in_parts(
    context: &mut Context<'_>,
    mut command: impl FnMut(&mut Context<'_>) -> Progress + 'static,
) {
    while command(context) == Progress::More {
        if context.mode == Mode::Request {
            let (server, client) = (context.server, context.client);
            return execute_later(server, client, context.chat, Box::new(command));
        }
    }
}

/// Subscriptions that end.
pub(super) struct Ending {
    kind: Kind,
    /// All of this kind if it is `None`.
    names: Option<vec::IntoIter<Bytes>>,
    /// Whether the client gets a confirmation of each.
    confirms: bool,
    has_begun: bool,
}

impl Ending {
    pub(super) fn new(kind: Kind, names: Option<Vec<Bytes>>, confirms: bool) -> Ending {
        Ending {
            kind,
            names: names.map(Vec::into_iter),
            confirms,
            has_begun: false,
        }
    }

    /// Ends some.
    pub(super) fn advance(&mut self, context: &mut Context<'_>) -> Progress {
        for _ in 0..AT_ONCE {
            let Some(name) = self.next(context) else {
                if !self.has_begun {
                    self.confirm(context, None);
                }
                let timeout = context.data.config.timeout;
                context.client.apply_timeout(context.chat, timeout);
                return Progress::Complete;
            };
            self.has_begun = true;
            let (server, client) = (context.server, context.client);
            server.unsubscribe(context.data, client, context.chat, self.kind, &name);
            self.confirm(context, Some(&name));
        }
        Progress::More
    }

    fn next(&mut self, context: &Context<'_>) -> Option<Bytes> {
        match &mut self.names {
            Some(names) => names.next(),
            None => {
                let all = lock(&context.client.subscriptions);
                all.of(self.kind).keys().next().cloned()
            }
        }
    }

    fn confirm(&self, context: &mut Context<'_>, name: Option<&[u8]>) {
        if self.confirms {
            let event = match self.kind {
                Kind::Channel => b"unsubscribe".as_slice(),
                Kind::Pattern => b"punsubscribe",
            };
            confirm(context, event, name);
        }
    }
}
