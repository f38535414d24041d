//! Commands that store what takes long to make: SORT with STORE, SUNIONSTORE and its kind.
//!
//! A value of many elements is made a part at a time, from a snapshot, while the client waits and others are served. It
//! is stored if the keys from which it was made have not changed meanwhile, so that it is what the command would have
//! made at once then. If they have changed it is made again, and the last time at once.

use std::rc::Rc;
use std::sync::Arc;

use asynchat::Chat;

use super::{Context, Failure, Mode, Outcome, long};
use crate::resp::reply::Reply;
use crate::server::Server;
use crate::server::client::Client;
use crate::server::waiting::end_wait;
use crate::store::database::Database;
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

    /// The collection, when there are no more parts.
    fn value(&mut self) -> Value;
}

fn make_at_once(making: &mut impl Making) -> Result<Value, Failure> {
    while making.advance()? {}
    Ok(making.value())
}

/// Makes a value, which replaces that of the key `target`. `sources` are the keys from which `make` takes a snapshot.
/// It is `None` if there may be others.
pub(super) fn store<M: Making + 'static>(
    context: &mut Context<'_>,
    target: &[u8],
    sources: Option<Vec<Text>>,
    make: impl Fn(&mut Database) -> Result<M, Failure> + 'static,
) -> Outcome {
    let mut making = make(context.db())?;
    let may_wait = context.mode == Mode::Request && making.len() > long::MANY;
    let Some(sources) = sources.filter(|_| may_wait) else {
        let value = make_at_once(&mut making)?;
        let len = replace(context.db(), target, value);
        context.reply.count(len);
        return Ok(());
    };
    let work = Work {
        server: Rc::clone(context.server),
        client: Arc::clone(context.client),
        chat: context.chat.clone(),
        database: context.client.database.load(),
        target: target.into(),
        versions: watch(context.db(), &sources),
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

/// Replaces a value by a collection. Returns how many elements that has. Without any, there is no such key.
fn replace(db: &mut Database, key: &[u8], value: Value) -> usize {
    let len = value.len();
    if db.contains(key)
        && let Some(old) = db.remove(key)
    {
        long::drop_later(old.value);
    }
    if len > 0 {
        db.set(key, value, 0);
        db.signal(key);
    }
    len
}

fn watch(db: &mut Database, keys: &[Text]) -> Vec<u64> {
    keys.iter().map(|key| db.watch(key.as_bytes())).collect()
}

/// A value that is being made for a client.
struct Work<M, F> {
    server: Rc<Server>,
    client: Arc<Client>,
    chat: Chat,
    database: usize,
    target: Text,
    sources: Vec<Text>,
    /// How often the sources had changed when the snapshot was taken.
    versions: Vec<u64>,
    make: F,
    making: M,
    attempts_left: usize,
}

impl<M, F> Work<M, F>
where
    M: Making + 'static,
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
        let mut locked = server.shared.lock();
        let data = &mut *locked;
        data.keyspace.set_time(server.now());
        let db = data.keyspace.database(self.database);
        let is_unchanged = self.unwatch(db);
        if !is_unchanged && self.attempts_left > 0 {
            self.attempts_left -= 1;
            match (self.make)(db) {
                Ok(making) => {
                    self.making = making;
                    self.versions = watch(db, &self.sources);
                    return asynchat::call_soon(move || self.turn());
                }
                Err(failure) => return self.end(Err(failure)),
            }
        }
        let value = match is_unchanged {
            true => outcome.map(|()| self.making.value()),
            false => (self.make)(db).and_then(|mut making| make_at_once(&mut making)),
        };
        let len = value.map(|value| replace(db, self.target.as_bytes(), value));
        server.serve_ready(&self.chat, data);
        server.schedule_expiry(data.keyspace.take_new_expiry());
        self.end(len);
    }

    /// Ends the watches. Returns whether no source has changed.
    fn unwatch(&self, db: &mut Database) -> bool {
        let mut is_unchanged = true;
        for (key, version) in self.sources.iter().zip(&self.versions) {
            is_unchanged &= db.version(key.as_bytes()) == *version;
            db.unwatch(key.as_bytes());
        }
        is_unchanged
    }

    /// Lets the client continue.
    fn end(&self, outcome: Result<usize, Failure>) {
        let mut reply = Reply {
            has_written: outcome.is_ok(),
            ..Reply::default()
        };
        match outcome {
            Ok(len) => reply.count(len),
            Err(failure) => reply.error(&failure.0),
        }
        self.server.note_write();
        end_wait(&self.client, reply, None);
    }
}
