//! Removes the rows with names in a range.
//!
//! Each row is removed by itself. `Table::retain_in` copies the path to each row, and frees the copies only at its end:
//! the file grew by about 20 KB for each row, so that deleting a large set could fill the disk.

use redb::{ReadableTable, StorageError, TableError, WriteTransaction};

use super::names::ORDER;
use super::table::{Definition, LargeTable};
use crate::store::change::PART;

/// So many bytes of names are collected at a time.
const NAMES: usize = 64 * 1024;

/// A row of many bytes counts as several, one for so many bytes.
const BYTES: usize = 4 * 1024;

/// Removes rows. Of a whole table, it drops the pages without looking at the rows.
pub fn clear<'a>(
    transaction: &'a WriteTransaction,
    definition: Definition,
    mut table: LargeTable<'a>,
    names: (&[u8], &[u8]),
) -> Result<LargeTable<'a>, TableError> {
    if is_everything(&table, names)? {
        return definition.clear(transaction, table);
    }
    remove_rows(&mut table, names, &mut { usize::MAX })?;
    Ok(table)
}

/// Whether the range has the rows of all keys, or of all elements.
pub fn is_everything(
    table: &LargeTable<'_>,
    (start, end): (&[u8], &[u8]),
) -> Result<bool, StorageError> {
    let mut rows = table.rows.range::<&[u8]>(..&ORDER[1..])?;
    let Some(first) = rows.next().transpose()? else {
        return Ok(false);
    };
    let last = rows.next_back().transpose()?;
    let has = |name: &[u8]| start <= name && name < end;
    Ok(has(first.0.value()) && last.is_none_or(|it| has(it.0.value())))
}

/// What a row with so many bytes takes from the budget.
pub fn cost(len: usize) -> usize {
    if len <= PART {
        cost_of_part(len)
    } else {
        len.div_ceil(PART) * cost_of_part(PART)
    }
}

fn cost_of_part(len: usize) -> usize {
    1 + len / BYTES
}

/// Removes rows, at most about as many as `budget` says. Returns whether that were all.
pub fn remove_rows(
    table: &mut LargeTable<'_>,
    (start, end): (&[u8], &[u8]),
    budget: &mut usize,
) -> Result<bool, StorageError> {
    loop {
        let mut found = Vec::new();
        let mut size = 0;
        let mut is_all = true;
        for row in table.rows.range(start..end)? {
            if *budget == 0 || size >= NAMES {
                is_all = false;
                break;
            }
            let (name, content) = row?;
            let name = name.value().to_vec();
            size += name.len();
            *budget = budget.saturating_sub(cost_of_part(content.value().len()));
            found.push(name);
        }
        for name in found {
            let parts = table.remove(&name)?;
            *budget = budget.saturating_sub(parts * cost_of_part(PART));
        }
        if is_all || *budget == 0 {
            return Ok(is_all);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use redb::Database;

    use super::*;
    use crate::disk::Error;

    const TABLE: Definition = Definition::new("rows", "parts");
    const COUNT: u32 = 4_000;

    fn name(database: u8, number: u32) -> Vec<u8> {
        [&[database][..], &number.to_be_bytes()].concat()
    }

    /// Removes a range of rows. Returns the names of those that are left, and the growth of the file.
    fn left(names: Range<Vec<u8>>) -> Result<(Vec<Vec<u8>>, u64), Error> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("rows");
        let database = Database::builder().set_cache_size(1 << 20).create(&path)?;
        let transaction = database.begin_write()?;
        {
            let mut table = TABLE.open(&transaction)?;
            table.insert(&ORDER[1..], b"", b"order")?;
            for number in 0..COUNT {
                table.insert(&name(1, number), b"", b"content")?;
            }
            for number in [0, COUNT] {
                table.insert(&name(3, number), b"", b"content")?;
            }
        }
        transaction.commit()?;
        let before = path.metadata()?.len();
        let transaction = database.begin_write()?;
        let table = TABLE.open(&transaction)?;
        let table = clear(&transaction, TABLE, table, (&names.start, &names.end))?;
        let mut left = Vec::new();
        for row in table.rows.range::<&[u8]>(..)? {
            left.push(row?.0.value().to_vec());
        }
        let order = table.rows.get(&ORDER[1..])?.map(|it| it.value().to_vec());
        assert_eq!(order.as_deref(), Some(&b"order"[..]));
        drop(table);
        transaction.commit()?;
        Ok((left, path.metadata()?.len() - before))
    }

    #[test]
    fn the_rows_of_a_range_are_removed_and_no_others() -> Result<(), Error> {
        let (first, last) = (name(3, 0), name(3, COUNT));
        let others = [first.clone(), last.clone(), ORDER[1..].to_vec()];
        for (names, expected) in [
            (vec![1]..vec![2], &others[..]),
            (name(1, 0)..name(2, 0), &others),
            (vec![0]..vec![4], &others[2..]),
        ] {
            assert_eq!(left(names)?.0, expected);
        }
        for names in [vec![0]..vec![1], vec![2]..vec![3], vec![4]..vec![5]] {
            assert_eq!(left(names)?.0.len(), COUNT as usize + 3);
        }
        let some = left(name(1, 1)..name(1, COUNT - 1))?.0;
        assert_eq!(
            some,
            [&[name(1, 0), name(1, COUNT - 1)][..], &others].concat()
        );
        Ok(())
    }

    #[test]
    fn the_cost_of_a_removed_row_is_that_of_the_inserted_one() -> Result<(), Error> {
        let dir = tempfile::tempdir()?;
        let database = Database::create(dir.path().join("rows"))?;
        let transaction = database.begin_write()?;
        let mut table = TABLE.open(&transaction)?;
        for len in [
            0,
            1,
            BYTES,
            PART - 1,
            PART,
            PART + 1,
            2 * PART,
            2 * PART + 1,
        ] {
            table.insert(b"name", b"", &vec![b'x'; len])?;
            let mut budget = 1_000;
            assert!(remove_rows(&mut table, (b"a", b"z"), &mut budget)?);
            assert_eq!(1_000 - budget, cost(len), "{len}");
        }
        Ok(())
    }

    #[test]
    fn removed_rows_use_no_more_of_the_file_than_before() -> Result<(), Error> {
        for names in [name(1, 0)..name(2, 0), vec![0]..vec![4]] {
            let grown = left(names)?.1;
            assert!(grown < 1 << 20, "{grown} bytes");
        }
        Ok(())
    }
}
