//! A body that is being received: a file, or what nobody wants.

use std::rc::Rc;
use std::time::Instant;

use asynchat::Terminator;
use tracing::debug;

use super::put::{self, Upload};
use super::reply::{Exchange, Reply};
use crate::http1::{Body, Framing, Rejected};
use crate::status::{Connection, Progress};

/// A body that nobody wants is received up to this length, so that the connection can be used again.
pub const MOST_DISCARDED: u64 = 256 << 10;

/// A body makes progress if it has so many bytes in [`Options::receive_time`](super::Options::receive_time).
const PROGRESS: u64 = 64 << 10;

pub struct Incoming {
    body: Body,
    /// The bytes of content so far.
    received: u64,
    /// When progress was checked, and how many bytes there were.
    checked: Instant,
    received_then: u64,
    /// Where it goes, and how to reply at its end. `None` for a body that nobody wants, after the reply.
    pub upload: Option<(Upload, Exchange)>,
    /// That of an upload, for the status page.
    progress: Option<Progress>,
}

impl Incoming {
    pub fn new(
        framing: Framing,
        upload: Option<(Upload, Exchange)>,
        connection: &Rc<Connection>,
    ) -> Incoming {
        let length = match framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        Incoming {
            body: Body::new(framing),
            received: 0,
            checked: asynchat::now(),
            received_then: 0,
            progress: upload.as_ref().map(|_| connection.transfer(length)),
            upload,
        }
    }

    /// The terminator of the next part, or `None` at the end.
    pub fn terminator(&self) -> Option<Terminator> {
        self.body.terminator()
    }

    pub fn found_terminator(&mut self, record: &[u8]) -> Result<(), Rejected> {
        self.body.found_terminator(record)
    }

    /// Takes a piece of the content.
    pub fn collect(&mut self, piece: &[u8], max_upload: u64) -> Result<(), Reply> {
        self.received += piece.len() as u64;
        if let Some(progress) = &self.progress {
            progress.advance(piece.len());
        }
        match &mut self.upload {
            Some(_) if self.received > max_upload => Err(put::too_large()),
            Some((upload, _)) => upload.write(piece),
            None if self.received > MOST_DISCARDED => {
                debug!("a body that is not wanted is too long");
                Err(put::too_large())
            }
            None => Ok(()),
        }
    }

    /// Checks whether there was progress. Returns when it was found the last time.
    pub fn last_progress(&mut self) -> Instant {
        if self.received - self.received_then >= PROGRESS {
            self.received_then = self.received;
            self.checked = asynchat::now();
        }
        self.checked
    }
}
