//! The tables of redb, and what a transaction does with them.
//!
//! The first byte of a name says which table has the row, and is left out there. The rows of a value that was removed or
//! overwritten are only noted in the table `dead` if they are many. Other transactions remove them, some at a time, also
//! after the next start. No number of a value is used again while rows may have it.

use redb::{
    Database, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle, WriteTransaction,
};

use ring::rand::{SecureRandom, SystemRandom};

use super::Error;
use super::clear::{clear, cost, is_everything, remove_rows};
use super::loader::Loader;
use super::names::{ELEMENT, KEY, PREFIX};
use super::rows::each_row;
use super::table::{Definition, LargeTable, Rows, RowsDefinition, whole};
use super::unsaved::{Row, Unsaved};
use crate::store::keyspace::Keyspace;

const KEYS: Definition = Definition::new("keys", "parts of keys");
const ELEMENTS: Definition = Definition::new("elements", "parts of elements");

/// Ranges of names in the other table whose rows belong to no key any more. A row has the end of the range.
const DEAD: RowsDefinition = TableDefinition::new("dead");

/// The number of the last frame of the log that is in the rows, the format of these, and the marker of the frames.
const SAVED: TableDefinition<'_, &str, u64> = TableDefinition::new("saved");

/// That of `names.rs` and `rows.rs`, and of the log.
const FORMAT: u64 = 4;

/// The table of format 1, which had all rows.
const OLD: &str = "rows";

/// An empty table with the name of the old one and other types. The version of kvd with format 1 opens the old one first,
/// so it stops before it empties the log.
const NOT_OLD: TableDefinition<'_, u64, u64> = TableDefinition::new(OLD);

/// A transaction removes about so many rows of dead values, and as many more as it inserts.
const MANY_ROWS: usize = 10_000;

/// Creates the tables if they are missing. Returns the number of the last frame of the log that is in the rows, and the
/// marker of its frames.
pub fn prepare(database: &Database) -> Result<(u64, u64), Error> {
    let transaction = database.begin_write()?;
    let is_old = transaction.list_tables()?.any(|it| it.name() == OLD);
    let saved = {
        let mut table = transaction.open_table(SAVED)?;
        let format = table.get("format")?.map(|it| it.value());
        let format = format.unwrap_or(if is_old { 1 } else { FORMAT });
        if format != FORMAT {
            let age = if format < FORMAT {
                "an older"
            } else {
                "a newer"
            };
            return Err(format!(
                "{age} version of kvd has written this folder, in format {format}, and this version has format {FORMAT}. \
                 Use that version, and let a client copy the keys to a server with another folder"
            )
            .into());
        }
        table.insert("format", FORMAT)?;
        let marker = table.get("marker")?.map(|it| it.value());
        let marker = match marker {
            Some(marker) => marker,
            None => {
                let marker = random()?;
                table.insert("marker", marker)?;
                marker
            }
        };
        let number = table.get("log")?.map_or(0, |number| number.value());
        (number, marker)
    };
    KEYS.open(&transaction)?;
    ELEMENTS.open(&transaction)?;
    transaction.open_table(DEAD)?;
    transaction.open_table(NOT_OLD)?;
    transaction.commit()?;
    Ok(saved)
}

/// A number that no client can guess.
fn random() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| "the system has no random numbers")?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads all keys.
pub fn load(database: &Database) -> Result<Keyspace, Error> {
    let transaction = database.begin_read()?;
    let mut loader = Loader::default();
    let parts = transaction.open_table(KEYS.parts)?;
    for row in transaction.open_table(KEYS.rows)?.range::<&[u8]>(..)? {
        let (name, content) = row?;
        let content = whole(&parts, name.value(), content.value())?;
        loader.add_key(name.value(), &content)?;
    }
    let elements = transaction.open_table(ELEMENTS.rows)?;
    let parts = transaction.open_table(ELEMENTS.parts)?;
    let add = |loader: &mut Loader, from: &[u8], to: &[u8]| -> Result<(), Error> {
        if from < to {
            for row in elements.range(from..to)? {
                let (name, content) = row?;
                let content = whole(&parts, name.value(), content.value())?;
                loader.add_element(name.value(), &content)?;
            }
        }
        Ok(())
    };
    let mut from = Vec::new();
    for range in transaction.open_table(DEAD)?.range::<&[u8]>(..)? {
        let (start, end) = range?;
        loader.skip(end.value())?;
        add(&mut loader, &from, start.value())?;
        if *from < *end.value() {
            from = end.value().to_vec();
        }
    }
    add(&mut loader, &from, &[u8::MAX])?;
    Ok(loader.finish()?)
}

/// Applies changes, notes the number of the last frame of the log, and removes some of the dead rows. Returns whether there
/// are more of these.
pub fn save(database: &Database, number: u64, unsaved: &Unsaved) -> Result<bool, Error> {
    // Without anything to do, nothing is written.
    if unsaved.is_empty() && database.begin_read()?.open_table(DEAD)?.is_empty()? {
        return Ok(false);
    }
    let transaction = database.begin_write()?;
    let has_dead;
    {
        let mut keys = KEYS.open(&transaction)?;
        let mut elements = ELEMENTS.open(&transaction)?;
        let mut dead = transaction.open_table(DEAD)?;
        for (start, end) in &unsaved.cleared {
            let names = (&start[1..], &end[1..]);
            match start[0] {
                KEY => keys = clear(&transaction, KEYS, keys, names)?,
                ELEMENT if start.len() == PREFIX => add_dead(&mut dead, names)?,
                ELEMENT => drop(remove_rows(&mut elements, names, &mut { usize::MAX })?),
                _ => return Err(UNKNOWN.into()),
            }
        }
        let mut budget = MANY_ROWS;
        elements = remove_dead(&transaction, elements, &mut dead, &mut budget)?;
        for (prefix, value) in &unsaved.collections {
            let mut outcome = Ok(());
            each_row(prefix, value, |name, head, content| {
                if outcome.is_ok() {
                    budget += cost(head.len() + content.len());
                    outcome = elements.insert(&name[1..], head, content);
                }
            });
            outcome?;
        }
        for (name, row) in &unsaved.rows {
            let table = match name[0] {
                KEY => &mut keys,
                ELEMENT => &mut elements,
                _ => return Err(UNKNOWN.into()),
            };
            match row {
                Row::Put(head, content) => {
                    budget += cost(head.len() + content.len());
                    table.insert(&name[1..], head, content)?;
                }
                Row::Delete => {
                    table.remove(&name[1..])?;
                }
            }
        }
        // Without a break between transactions that insert, the file would otherwise grow without end.
        drop(remove_dead(&transaction, elements, &mut dead, &mut budget)?);
        has_dead = !dead.is_empty()?;
        transaction.open_table(SAVED)?.insert("log", number)?;
    }
    transaction.commit()?;
    Ok(has_dead)
}

const UNKNOWN: &str =
    "the log has a row of no known kind, as if another version of kvd had written it";

/// Removes dead rows, at most about as many as `budget` says, or all of the table without looking at them.
fn remove_dead<'a>(
    transaction: &'a WriteTransaction,
    mut elements: LargeTable<'a>,
    dead: &mut Rows<'_>,
    budget: &mut usize,
) -> Result<LargeTable<'a>, Error> {
    while let Some((start, end)) = first(dead)? {
        let names = (&start[..], &end[..]);
        if !remove_rows(&mut elements, names, budget)? {
            if !is_everything(&elements, names)? {
                break;
            }
            elements = ELEMENTS.clear(transaction, elements)?;
        }
        dead.remove(&start[..])?;
    }
    Ok(elements)
}

/// Notes a range of names. An earlier one with the same start may be longer.
fn add_dead(dead: &mut Rows<'_>, (start, end): (&[u8], &[u8])) -> redb::Result {
    let is_longer = dead.get(start)?.is_some_and(|it| it.value() > end);
    if !is_longer {
        dead.insert(start, end)?;
    }
    Ok(())
}

/// The first range of names of dead rows.
fn first(dead: &Rows<'_>) -> redb::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let first = dead.first()?;
    Ok(first.map(|(start, end)| (start.value().to_vec(), end.value().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::changes::take_changes;
    use crate::store::change::PART;
    use crate::store::list::End;
    use crate::store::text::Text;
    use crate::store::value::Value;

    const MANY: usize = MANY_ROWS + 5_000;

    struct Scene {
        dir: tempfile::TempDir,
        keyspace: Keyspace,
        number: u64,
    }

    impl Scene {
        fn new() -> Result<Scene, Error> {
            Ok(Scene {
                dir: tempfile::tempdir()?,
                keyspace: Loader::default().finish()?,
                number: 0,
            })
        }

        /// A start.
        fn open(&self) -> Result<Database, Error> {
            let database = Database::create(self.dir.path().join("kvd.redb"))?;
            assert_eq!(prepare(&database)?.0, self.number);
            Ok(database)
        }

        /// Adds a set.
        fn set(&mut self, key: &[u8], len: usize) {
            let db = self.keyspace.database(0);
            for number in 0..len {
                let name = number.to_string();
                let Ok(set) = db.members_or_new(key) else {
                    return;
                };
                set.insert(name.as_bytes().into());
            }
        }

        fn save(&mut self, database: &Database) -> Result<bool, Error> {
            let mut unsaved = Unsaved::default();
            let ops = take_changes(&mut self.keyspace);
            ops.into_iter().for_each(|op| unsaved.add(op));
            self.number += 1;
            save(database, self.number, &unsaved)
        }
    }

    fn len(keyspace: &mut Keyspace, key: &[u8]) -> usize {
        keyspace.database(0).find(key).map_or(0, Value::len)
    }

    fn rows(database: &Database) -> Result<u64, Error> {
        Ok(database.begin_read()?.open_table(ELEMENTS.rows)?.len()?)
    }

    /// Each transaction may be the last one before the end of the process.
    #[test]
    fn dead_rows_are_removed_some_at_a_time_and_each_start_ignores_those_that_are_left()
    -> Result<(), Error> {
        let mut scene = Scene::new()?;
        let database = scene.open()?;
        scene.set(b"other", 10);
        scene.set(b"s", MANY);
        scene.set(b"t", MANY);
        assert!(!scene.save(&database)?);
        drop(database);
        scene.keyspace.database(0).delete(b"s");
        scene.set(b"s", 100);
        scene.keyspace.database(0).rename(b"t", b"u");
        scene.keyspace.database(0).delete(b"u");
        let mut has_dead = true;
        let mut count = 0;
        while has_dead {
            let database = scene.open()?;
            has_dead = scene.save(&database)?;
            count += 1;
            let left = rows(&database)?;
            assert!(
                left as usize <= (2 * MANY).saturating_sub(count * MANY_ROWS) + 1_000,
                "{left} after {count}"
            );
            // The next start, in which a number is not used twice.
            scene.keyspace = load(&database)?;
            assert_eq!(scene.keyspace.database(0).len(), 2);
            assert_eq!(len(&mut scene.keyspace, b"other"), 10);
            assert_eq!(len(&mut scene.keyspace, b"s"), 100 * count.min(2));
            if count < 2 {
                scene.keyspace.database(0).delete(b"s");
                scene.set(b"s", 100 * (count + 1));
            }
        }
        let database = scene.open()?;
        assert_eq!(rows(&database)?, 210);
        assert!(database.begin_read()?.open_table(DEAD)?.is_empty()?);
        Ok(())
    }

    #[test]
    fn a_large_value_that_is_overwritten_without_end_leaves_as_many_rows_as_it_has()
    -> Result<(), Error> {
        const LEN: usize = 2 * MANY_ROWS;
        let mut scene = Scene::new()?;
        let database = scene.open()?;
        // Otherwise the whole table would be dead.
        scene.set(b"other", 1);
        for round in 1..5 {
            scene.keyspace.database(0).delete(b"s");
            scene.set(b"s", LEN);
            scene.save(&database)?;
            let left = rows(&database)?;
            assert!(left as usize <= LEN + 100, "{left} after {round}");
        }
        Ok(())
    }

    #[test]
    fn an_emptied_database_has_no_rows_after_one_transaction() -> Result<(), Error> {
        let mut scene = Scene::new()?;
        let database = scene.open()?;
        scene.set(b"s", MANY);
        scene.keyspace.swap(0, 1);
        scene.keyspace.swap(0, 1);
        scene.save(&database)?;
        scene.keyspace.database(0).clear();
        scene.set(b"new", 5);
        assert!(!scene.save(&database)?);
        assert_eq!(rows(&database)?, 5);
        let mut loaded = load(&database)?;
        assert_eq!((loaded.database(0).len(), len(&mut loaded, b"new")), (1, 5));
        Ok(())
    }

    #[test]
    fn large_keys_and_elements_are_loaded_and_leave_nothing() -> Result<(), Error> {
        let mut scene = Scene::new()?;
        let database = scene.open()?;
        let large = vec![b'x'; 5 * PART];
        let parts = |definition: Definition| -> Result<u64, Error> {
            Ok(database.begin_read()?.open_table(definition.parts)?.len()?)
        };
        scene.set(b"s", MANY);
        let db = scene.keyspace.database(0);
        for key in [&b"h"[..], &large] {
            let hash = db.hash_or_new(key).map_err(|_| "another type")?;
            hash.insert(&large, large[..].into());
            let list = db.list_or_new(&[b"l", key].concat());
            list.map_err(|_| "another type")?
                .push(End::Right, large[..].into());
        }
        scene.save(&database)?;
        assert!(parts(KEYS)? >= 10 && parts(ELEMENTS)? >= 26);
        let mut loaded = load(&database)?;
        let db = loaded.database(0);
        for key in [&b"h"[..], &large] {
            let hash = db.hash(key).map_err(|_| "another type")?;
            let value = hash.and_then(|it| it.find(&large));
            assert_eq!(value.map(Text::as_bytes), Some(&large[..]));
            let list = db.list(&[b"l", key].concat());
            let list = list.map_err(|_| "another type")?;
            let item = list.and_then(|it| it.get(0));
            assert_eq!(item.map(Text::as_bytes), Some(&large[..]));
            db.delete(key);
            db.delete(&[b"l", key].concat());
        }
        scene.keyspace = loaded;
        assert!(!scene.save(&database)?);
        assert_eq!((parts(KEYS)?, parts(ELEMENTS)?), (0, 0));
        Ok(())
    }

    #[test]
    fn a_range_of_dead_rows_is_not_shortened() -> Result<(), Error> {
        let scene = Scene::new()?;
        let database = scene.open()?;
        let transaction = database.begin_write()?;
        let mut dead = transaction.open_table(DEAD)?;
        for end in [b"c", b"d", b"c"] {
            add_dead(&mut dead, (b"a", end))?;
        }
        assert_eq!(first(&dead)?, Some((b"a".to_vec(), b"d".to_vec())));
        Ok(())
    }

    #[test]
    fn a_folder_in_another_format_is_refused() -> Result<(), Error> {
        const OLD_ROWS: RowsDefinition = TableDefinition::new(OLD);
        let scene = Scene::new()?;
        let database = scene.open()?;
        let transaction = database.begin_write()?;
        // What an older version does first with a folder in this format.
        assert!(transaction.open_table(OLD_ROWS).is_err());
        transaction.open_table(SAVED)?.insert("format", 5)?;
        transaction.commit()?;
        let error = prepare(&database).map(drop).map_err(|it| it.to_string());
        assert!(
            error.is_err_and(|it| it.starts_with("a newer version") && it.contains("format 5,"))
        );
        let database = Database::create(scene.dir.path().join("old.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(OLD_ROWS)?;
        transaction.open_table(SAVED)?.insert("log", 7)?;
        transaction.commit()?;
        for _ in 0..2 {
            let error = prepare(&database).map(drop).map_err(|it| it.to_string());
            assert!(error.is_err_and(|it| it.starts_with("an older version") && it.contains("format 1,")));
        }
        Ok(())
    }
}
