//! A table with rows of any size.
//!
//! redb allocates and writes each row in one piece, and one of 40 MB delays everything else. So the content
//! of a row here has at most [`PART`] bytes, and a second table has what is behind them, in parts.

use std::borrow::Cow;

use redb::{ReadableTable, Result, Table, TableDefinition, TableError, WriteTransaction};
use ring::digest::{SHA256, digest};

use super::names::ORDER;
use crate::store::change::PART;

pub type Rows<'a> = Table<'a, &'static [u8], &'static [u8]>;
pub type RowsDefinition = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub struct LargeTable<'a> {
    pub rows: Rows<'a>,
    parts: Rows<'a>,
}

/// The names of the two tables.
#[derive(Clone, Copy)]
pub struct Definition {
    pub rows: RowsDefinition,
    pub parts: RowsDefinition,
}

impl Definition {
    pub const fn new(rows: &'static str, parts: &'static str) -> Definition {
        Definition {
            rows: TableDefinition::new(rows),
            parts: TableDefinition::new(parts),
        }
    }

    /// Opens the table, or creates it.
    pub fn open(self, transaction: &WriteTransaction) -> Result<LargeTable<'_>, TableError> {
        Ok(LargeTable {
            rows: transaction.open_table(self.rows)?,
            parts: transaction.open_table(self.parts)?,
        })
    }

    /// Removes all rows but that with the order of the databases. The pages are dropped without a look at the rows.
    pub fn clear<'a>(
        self,
        transaction: &'a WriteTransaction,
        table: LargeTable<'a>,
    ) -> Result<LargeTable<'a>, TableError> {
        let order = table.rows.get(&ORDER[1..])?.map(|it| it.value().to_vec());
        transaction.delete_table(table.rows)?;
        transaction.delete_table(table.parts)?;
        let mut table = self.open(transaction)?;
        if let Some(order) = order {
            table.rows.insert(&ORDER[1..], &order[..])?;
        }
        Ok(table)
    }
}

impl LargeTable<'_> {
    /// Inserts or replaces a row, whose content is given in two pieces.
    pub fn insert(&mut self, name: &[u8], head: &[u8], content: &[u8]) -> Result {
        let content = if head.is_empty() {
            Cow::Borrowed(content)
        } else {
            Cow::Owned([head, content].concat())
        };
        let (row, rest) = content.split_at(content.len().min(PART));
        let old = self.rows.insert(name, row)?;
        if old.is_some_and(|it| may_have_parts(it.value())) {
            self.remove_parts(name)?;
        }
        if !rest.is_empty() {
            let name = digest(&SHA256, name);
            for (number, part) in (0..).zip(rest.chunks(PART)) {
                self.parts
                    .insert(&part_name(name.as_ref(), number)[..], part)?;
            }
        }
        Ok(())
    }

    /// Removes a row if it is there. Returns the number of its parts.
    pub fn remove(&mut self, name: &[u8]) -> Result<usize> {
        let old = self.rows.remove(name)?;
        if old.is_some_and(|it| may_have_parts(it.value())) {
            self.remove_parts(name)
        } else {
            Ok(0)
        }
    }

    fn remove_parts(&mut self, name: &[u8]) -> Result<usize> {
        let name = digest(&SHA256, name);
        let mut count = 0;
        while let Some(_removed) = self.parts.remove(&part_name(name.as_ref(), count)[..])? {
            count += 1;
        }
        Ok(count as usize)
    }
}

/// The content of a row, with its parts.
pub fn whole<'a>(
    parts: &impl ReadableTable<&'static [u8], &'static [u8]>,
    name: &[u8],
    row: &'a [u8],
) -> Result<Cow<'a, [u8]>> {
    let mut content = Cow::Borrowed(row);
    if may_have_parts(row) {
        let name = digest(&SHA256, name);
        let mut number = 0;
        while let Some(part) = parts.get(&part_name(name.as_ref(), number)[..])? {
            content.to_mut().extend_from_slice(part.value());
            number += 1;
        }
    }
    Ok(content)
}

/// Whether there may be more of the content than the row has.
fn may_have_parts(row: &[u8]) -> bool {
    row.len() == PART
}

fn part_name(digest: &[u8], number: u32) -> Vec<u8> {
    [digest, &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableTableMetadata};

    use super::*;
    use crate::disk::Error;

    const TABLE: Definition = Definition::new("rows", "parts");

    #[test]
    fn a_row_of_any_size_is_stored_replaced_and_removed() -> std::result::Result<(), Error> {
        let dir = tempfile::tempdir()?;
        let database = Database::create(dir.path().join("rows"))?;
        let transaction = database.begin_write()?;
        let mut table = TABLE.open(&transaction)?;
        let text: Vec<u8> = (0..4 * PART).map(|number| (number % 251) as u8).collect();
        table.insert(b"other", b"", &text)?;
        let sizes = [
            0,
            PART - 1,
            PART,
            PART + 1,
            3 * PART,
            2 * PART,
            PART,
            3 * PART + 1,
            5,
            4 * PART,
        ];
        for len in sizes {
            for head in [0, len / 2] {
                table.insert(b"name", &text[..head], &text[head..len])?;
                let row = table.rows.get(&b"name"[..])?.map(|it| it.value().to_vec());
                let row = row.unwrap_or_default();
                assert!(row.len() <= PART);
                assert!(*whole(&table.parts, b"name", &row)? == text[..len], "{len}");
                let parts = len.div_ceil(PART).saturating_sub(1) as u64;
                assert_eq!(table.parts.len()?, 3 + parts, "{len}");
            }
        }
        assert_eq!(table.remove(b"name")?, 3);
        assert_eq!(table.remove(b"name")?, 0);
        assert_eq!((table.rows.len()?, table.parts.len()?), (1, 3));
        let table = TABLE.clear(&transaction, table)?;
        assert_eq!((table.rows.len()?, table.parts.len()?), (0, 0));
        Ok(())
    }
}
