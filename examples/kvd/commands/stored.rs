//! Commands that write what takes long to make: SORT with STORE, SUNIONSTORE, LREM and their kind.
//!
//! A value of many elements is made a part at a time, from a snapshot, while the client waits and others are served. It
//! is stored if the keys from which it was made have not changed meanwhile, so that it is what the command would have
//! made at once then. If they have changed it is made again, and the last time at once: a key that never rests has its
//! clients wait for that.

use std::rc::Rc;
use std::sync::Arc;

use asynchat::Chat;

use super::{Context, Failure, Mode, Outcome, PANICKED, long};
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::server::client::Client;
use crate::server::waiting::end_wait;
use crate::store::database::Database;
use crate::store::dropper;
use crate::store::text::Text;
use crate::store::value::Value;

/// How often a value is made in parts.
const ATTEMPTS: usize = 3;

/// How many parts are made at a time.
const PARTS_AT_ONCE: usize = 2;

/// A collection that is made a part at a time, each of some hundred elements.
pub(super) trait Making {
    /// How many elements it is made from.
    fn len(&self) -> usize;

    /// Makes one more part. Returns false if there is none.
    fn advance(&mut self) -> Result<bool, Failure>;

    /// Stores what was made under the key `target`, and replies, when there are no more parts.
    fn store(&mut self, db: &mut Database, target: &[u8], reply: &mut Reply);
}

/// Makes a value of the keys `sources`, from which `make` takes a snapshot, and stores it. `sources` is `None` if these
/// may be any keys.
pub(super) fn store<M: Making + Send + 'static>(
    context: &mut Context<'_>,
    target: &[u8],
    sources: Option<Vec<Text>>,
    make: impl Fn(&mut Database) -> Result<M, Failure> + 'static,
) -> Outcome {
    let mut making = make(context.db())?;
    let may_wait = context.mode == Mode::Request && making.len() > long::MANY;
    if !may_wait {
        while making.advance()? {}
        let db = context
            .data
            .keyspace
            .database(context.client.database.load());
        making.store(db, target, context.reply);
        return Ok(());
    }
    let work = Work {
        server: Rc::clone(context.server),
        waiter: Waiter(Some(Arc::clone(context.client))),
        chat: context.chat.clone(),
        database: context.client.database.load(),
        target: target.into(),
        versions: watch(context.db(), sources.as_deref()),
        sources,
        make,
        making,
        attempts_left: ATTEMPTS - 1,
    };
    context.client.is_blocked.store(true);
    let timeout = context.data.config.timeout;
    context.client.apply_timeout(context.chat, timeout);
    asynchat::call_soon(move || work.turn());
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

/// How often the keys have changed, or all keys together. These watches end with [`Work::unwatch`].
fn watch(db: &mut Database, keys: Option<&[Text]>) -> Vec<u64> {
    match keys {
        Some(keys) => keys.iter().map(|key| db.watch(key.as_bytes())).collect(),
        None => db.version_of_all().into_iter().collect(),
    }
}

/// The client that waits for a reply. Without one, because of a panic, its connection ends.
struct Waiter(Option<Arc<Client>>);

impl Waiter {
    fn resp3(&self) -> bool {
        self.0.as_ref().is_some_and(|client| client.resp3.load())
    }

    fn end(&mut self, reply: Reply) {
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

/// A value that is being made for a client.
struct Work<M, F> {
    server: Rc<Server>,
    waiter: Waiter,
    chat: Chat,
    database: usize,
    target: Text,
    sources: Option<Vec<Text>>,
    /// How often the sources had changed when the snapshot was taken.
    versions: Vec<u64>,
    make: F,
    making: M,
    attempts_left: usize,
}

impl<M, F> Work<M, F>
where
    M: Making + Send + 'static,
    F: Fn(&mut Database) -> Result<M, Failure> + 'static,
{
    fn turn(mut self) {
        for _ in 0..PARTS_AT_ONCE {
            match self.making.advance() {
                Ok(true) => {}
                Ok(false) => return self.finish(Ok(())),
                Err(failure) => return self.finish(Err(failure)),
            }
        }
        asynchat::call_soon(move || self.turn());
    }

    /// Stores the value, or makes it again.
    fn finish(mut self, outcome: Outcome) {
        let server = Rc::clone(&self.server);
        let mut reply = Reply {
            resp3: self.waiter.resp3(),
            ..Reply::default()
        };
        let mut locked = server.shared.lock();
        let data = &mut *locked;
        data.keyspace.set_time(server.now());
        let db = data.keyspace.database(self.database);
        let is_unchanged = self.unwatch(db);
        if !is_unchanged && self.attempts_left > 0 {
            self.attempts_left -= 1;
            match (self.make)(db) {
                Ok(making) => {
                    dropper::drop_elsewhere(std::mem::replace(&mut self.making, making));
                    self.versions = watch(db, self.sources.as_deref());
                    return asynchat::call_soon(move || self.turn());
                }
                Err(failure) => {
                    drop(locked);
                    return self.end(Err(failure), reply);
                }
            }
        }
        let outcome = match is_unchanged {
            true => outcome,
            false => self.make_at_once(db),
        };
        if outcome.is_ok() {
            self.making.store(db, self.target.as_bytes(), &mut reply);
        }
        server.serve_ready(&self.chat, data);
        server.schedule_expiry(data.keyspace.take_new_expiry());
        server.note_write();
        drop(locked);
        self.end(outcome, reply);
    }

    fn make_at_once(&mut self, db: &mut Database) -> Outcome {
        let making = (self.make)(db)?;
        dropper::drop_elsewhere(std::mem::replace(&mut self.making, making));
        while self.making.advance()? {}
        Ok(())
    }

    /// Ends the watches. Returns whether no source has changed.
    fn unwatch(&self, db: &mut Database) -> bool {
        let Some(sources) = &self.sources else {
            let before = self.versions.first().copied();
            return before.is_some() && db.version_of_all() == before;
        };
        let mut is_unchanged = true;
        for (key, version) in sources.iter().zip(&self.versions) {
            is_unchanged &= db.version(key.as_bytes()) == *version;
            db.unwatch(key.as_bytes());
        }
        is_unchanged
    }

    /// Lets the client continue.
    fn end(mut self, outcome: Outcome, mut reply: Reply) {
        reply.has_written = outcome.is_ok();
        if let Err(failure) = outcome {
            reply.error(&failure.0);
        }
        self.waiter.end(reply);
        // The snapshots may have become the last owners of many elements.
        dropper::drop_elsewhere(self.making);
    }
}
