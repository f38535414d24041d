//! Commands that write what takes long to make: SORT with STORE, SUNIONSTORE, LREM and their kind.
//!
//! A value of many elements is made a part at a time, from a snapshot, while the client waits and others are served. It
//! is stored if the keys from which it was made have not changed meanwhile. So it is the value that the command would
//! have made at once at that time. If one of the keys has changed, the value is made again from a new snapshot. If a key
//! has changed during each of the attempts, the value is made at once, and all clients wait for that.
//!
//! The values for one key are made one after another.

use std::rc::Rc;
use std::sync::Arc;

use asynchat::Chat;

use super::{Context, Failure, Mode, Outcome, PANICKED, fail, long};
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::server::client::{Blocking, Client};
use crate::server::progress::Progress;
use crate::server::shared::Data;
use crate::server::targets::Target;
use crate::server::waiting::end_wait;
use crate::store::database::Database;
use crate::store::dropper;
use crate::store::text::Text;
use crate::store::value::Value;
use crate::store::watch::{Family, Watch};

/// How often a value is made in parts.
const ATTEMPTS: usize = 3;

/// A collection that is made a part at a time, each of some hundred elements.
pub(super) trait Making {
    /// How many elements it is made from.
    fn len(&self) -> usize;

    /// Whether it takes long.
    fn is_long(&self) -> bool {
        self.len() > long::MANY
    }

    /// Makes one more part, if there is one.
    fn advance(&mut self) -> Result<Progress, Failure>;

    /// Stores what was made under the key `target`, and replies, when there are no more parts.
    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply);
}

/// From which keys a value is made.
pub(super) struct Sources {
    pub keys: Vec<Text>,
    pub families: Vec<Family>,
}

impl From<Vec<Text>> for Sources {
    fn from(keys: Vec<Text>) -> Sources {
        let families = Vec::new();
        Sources { keys, families }
    }
}

/// Makes a value of the keys `sources`, from which `make` takes a snapshot, and stores it.
pub(super) fn store<M: Making + Send + 'static>(
    context: &mut Context<'_>,
    target: &[u8],
    sources: impl Into<Sources>,
    make: impl Fn(&mut Database) -> Result<M, Failure> + 'static,
) -> Outcome {
    let mut making = make(context.db())?;
    let may_wait = context.mode == Mode::Request && making.is_long();
    if !may_wait {
        while making.advance()? == Progress::More {}
        let db = context
            .data
            .keyspace
            .database(context.client.database.load());
        making.store(db, target, context.reply);
        return Ok(());
    }
    // The snapshot is taken when no other command makes a value for this key.
    drop(making);
    let request = Request {
        waiter: Waiter::begin(context),
        chat: context.chat.clone(),
        sources: sources.into(),
        make,
    };
    context.server.begin_for(
        context.data,
        context.client.id,
        (context.client.database.load(), target.into()),
        Box::new(move |server, target| request.begin(server, target)),
    );
    Ok(())
}

/// Replaces a value by a new collection, and replies with the number of its elements. Without any, there is no such
/// key.
pub(super) fn replace(db: &mut Database, key: &[u8], value: Value, reply: &mut Reply) {
    let len = value.len();
    if db.contains(key) {
        db.delete(key);
    }
    if len > 0 {
        db.set(key, value, 0);
        db.signal(key);
    }
    reply.count(len);
}

/// Replaces a collection by what is left of it.
pub(super) fn leave(db: &mut Database, key: &[u8], value: Value) {
    match value.len() {
        0 => drop(db.delete(key)),
        _ => db.replace(key, value),
    }
}

impl Sources {
    fn watch(&self, db: &mut Database) -> Watch {
        let watch = Watch::default();
        self.keys
            .iter()
            .for_each(|key| db.watch(key.as_bytes(), &watch));
        db.watch_families(&self.families, &watch);
        watch
    }

    /// Ends the watch. Returns whether no source has changed. A key whose time is over has changed, too.
    fn unwatch(&self, db: &mut Database, watch: &Watch) -> bool {
        let is_due = self.keys.iter().any(|key| db.is_due(key.as_bytes()))
            || (!self.families.is_empty() && db.may_be_due(&self.families));
        self.keys
            .iter()
            .for_each(|key| db.unwatch(key.as_bytes(), watch));
        db.unwatch_families(watch);
        !watch.is_broken() && !is_due
    }
}

/// The client that waits for a reply. Without one, because of a panic, its connection ends.
pub(super) struct Waiter(Option<Arc<Client>>);

impl Waiter {
    /// Lets the client of this request wait.
    pub(super) fn begin(context: &mut Context<'_>) -> Waiter {
        context.client.blocking.store(Blocking::OnCommand);
        let timeout = context.data.config.timeout;
        context.client.apply_timeout(context.chat, timeout);
        Waiter(Some(Arc::clone(context.client)))
    }

    pub(super) fn resp3(&self) -> bool {
        self.0.as_ref().is_some_and(|client| client.resp3.load())
    }

    pub(super) fn client_id(&self) -> Option<u64> {
        self.0.as_ref().map(|client| client.id)
    }

    /// Whether its connection has ended, or is about to.
    pub(super) fn has_left(&self) -> bool {
        self.0.as_ref().is_some_and(|client| client.closes.load())
    }

    /// Its command needs no memory any more.
    pub(super) fn release(&self, data: &mut Data) {
        if let Some(client) = &self.0 {
            data.release_command(client);
        }
    }

    pub(super) fn end(&mut self, reply: Reply) {
        if let Some(client) = self.0.take() {
            end_wait(&client, reply, None);
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(client) = &self.0 {
            client.closes.store(true);
            let mut reply = Reply::default();
            reply.error(&PANICKED.0);
            self.end(reply);
        }
    }
}

/// The value that a client has asked for.
struct Request<F> {
    waiter: Waiter,
    chat: Chat,
    sources: Sources,
    make: F,
}

impl<F> Request<F> {
    fn begin<M>(mut self, server: &Rc<Server>, target: Target)
    where
        M: Making + Send + 'static,
        F: Fn(&mut Database) -> Result<M, Failure> + 'static,
    {
        let begun = {
            let data = &mut *server.shared.lock();
            data.keyspace.set_time(server.now());
            let begun = self.take_snapshot(data.keyspace.database(target.database));
            // A key may have expired.
            server.invalidate(data, None);
            begun
        };
        match begun {
            Ok((making, watch)) => {
                let attempts = Attempts {
                    request: self,
                    target,
                    watch,
                    making,
                    attempts_left: ATTEMPTS - 1,
                };
                attempts.add_task(server, None);
            }
            Err(failure) => {
                server.shared.lock().stats.note_error(&failure.0);
                let mut reply = Reply::default();
                reply.error(&failure.0);
                self.waiter.end(reply);
            }
        }
    }

    /// Begins to make the value.
    fn take_snapshot<M>(&self, db: &mut Database) -> Result<(M, Watch), Failure>
    where
        F: Fn(&mut Database) -> Result<M, Failure>,
    {
        let making = (self.make)(db)?;
        Ok((making, self.sources.watch(db)))
    }
}

/// The attempts to make a value, one after another.
struct Attempts<M, F> {
    request: Request<F>,
    target: Target,
    /// Of the sources, since the snapshot was taken.
    watch: Watch,
    making: M,
    attempts_left: usize,
}

const KILLED: Failure = fail("ERR the client was killed");

impl<M, F> Attempts<M, F>
where
    M: Making + Send + 'static,
    F: Fn(&mut Database) -> Result<M, Failure> + 'static,
{
    /// `finished`: the outcome, if there are no more parts.
    fn add_task(self, server: &Rc<Server>, mut finished: Option<Outcome>) {
        let mut attempts = Some(self);
        server.add_task(move |server| {
            let current = attempts.take()?;
            if current.request.waiter.has_left() {
                current.finish(server, Ok(()));
                return None;
            }
            attempts = match finished.take() {
                Some(outcome) => current.finish(server, outcome),
                None => current.turn(server),
            };
            Some(Progress::more_if(attempts.is_some()))
        });
    }

    /// Returns itself if there is more to do.
    fn turn(mut self, server: &Rc<Server>) -> Option<Self> {
        for _ in 0..long::PARTS_AT_ONCE {
            match self.making.advance() {
                Ok(Progress::More) => {}
                Ok(Progress::Complete) => return self.finish(server, Ok(())),
                Err(failure) => return self.finish(server, Err(failure)),
            }
        }
        Some(self)
    }

    /// Stores the value, or returns itself to make it again.
    fn finish(mut self, server: &Rc<Server>, outcome: Outcome) -> Option<Self> {
        let mut reply = Reply {
            resp3: self.request.waiter.resp3(),
            ..Reply::default()
        };
        let mut locked = server.shared.lock();
        let data = &mut *locked;
        if data.pause.is_on() && !self.request.waiter.has_left() {
            // No key changes meanwhile.
            let this = Rc::downgrade(server);
            server.call_after_pause(move || {
                if let Some(server) = this.upgrade() {
                    self.add_task(&server, Some(outcome));
                }
            });
            return None;
        }
        data.keyspace.set_time(server.now());
        let db = data.keyspace.database(self.target.database);
        let is_unchanged = self.request.sources.unwatch(db, &self.watch);
        if self.request.waiter.has_left() {
            drop(locked);
            return self.end(Err(KILLED), reply);
        }
        if !is_unchanged && self.attempts_left > 0 {
            self.attempts_left -= 1;
            let snapshot = self.request.take_snapshot(db);
            // The time of a key may have been over.
            server.invalidate(data, None);
            match snapshot {
                Ok((making, watch)) => {
                    dropper::drop_elsewhere(std::mem::replace(&mut self.making, making));
                    self.watch = watch;
                    return Some(self);
                }
                Err(failure) => {
                    drop(locked);
                    return self.end(Err(failure), reply);
                }
            }
        }
        let outcome = if is_unchanged {
            outcome
        } else {
            self.make_at_once(db)
        };
        if outcome.is_ok() {
            self.making
                .store(db, self.target.key.as_bytes(), &mut reply);
        }
        reply.written = data.keyspace.take_written();
        let by = self.request.waiter.client_id();
        server.invalidate(data, by);
        server.serve_ready(&self.request.chat, data, by.unwrap_or_default());
        server.schedule_expiry(data.keyspace.take_new_expiry());
        server.note_write();
        if let Err(failure) = &outcome {
            data.stats.note_error(&failure.0);
        }
        drop(locked);
        self.end(outcome, reply)
    }

    fn make_at_once(&mut self, db: &mut Database) -> Outcome {
        let making = (self.request.make)(db)?;
        dropper::drop_elsewhere(std::mem::replace(&mut self.making, making));
        while self.making.advance()? == Progress::More {}
        Ok(())
    }

    /// Lets the client continue. There is nothing more to do.
    fn end(mut self, outcome: Outcome, mut reply: Reply) -> Option<Self> {
        reply.has_written = outcome.is_ok();
        if let Err(failure) = outcome {
            reply.error(&failure.0);
        }
        self.request.waiter.end(reply);
        // The snapshots may have become the last owners of many elements.
        dropper::drop_elsewhere(self.making);
        None
    }
}
