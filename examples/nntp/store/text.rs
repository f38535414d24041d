//! The text of an article in the database. The loop's thread reads it: mostly from the cache of the database
//! or of the operating system.

use std::io;
use std::sync::Arc;

use asynchat::{More, Producer};
use bytes::Bytes;

use super::super::server::article::Text;
use super::super::server::head::Head;
use super::database::Shared;
use super::{ARTICLES, BODIES};

pub struct Stored {
    pub database: Arc<Shared>,
    pub serial: u64,
}

impl Text for Stored {
    fn head(&self) -> io::Result<Head> {
        let head = self.database.read(|read| {
            let table = read.open_table(ARTICLES)?;
            let row = table.get(self.serial)?.ok_or("an article is missing")?;
            Ok(Head::repair(row.value().3))
        });
        head.map_err(io::Error::other)
    }

    fn body(&self) -> io::Result<Box<dyn Producer>> {
        Ok(Box::new(StoredBody {
            database: Arc::clone(&self.database),
            serial: self.serial,
            index: 0,
            piece: Bytes::new(),
        }))
    }
}

/// A producer that reads a body piece by piece. Each piece has its own transaction:
/// one that stays open while a slow client reads would prevent the file from
/// shrinking. Articles never change, so several transactions read the same text.
struct StoredBody {
    database: Arc<Shared>,
    serial: u64,
    index: u32,
    piece: Bytes,
}

impl Producer for StoredBody {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if self.piece.is_empty() {
            let piece = self.database.read(|read| {
                let table = read.open_table(BODIES)?;
                let row = table.get((self.serial, self.index))?;
                Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
            });
            let Some(piece) = piece.map_err(io::Error::other)? else {
                return Ok(More::Done);
            };
            self.piece = piece;
            self.index += 1;
        }
        let size = budget.min(self.piece.len());
        Ok(More::Chunk(self.piece.split_to(size)))
    }
}
