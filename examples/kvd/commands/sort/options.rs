//! The options of SORT.

use crate::commands::{Failure, SYNTAX, fail, integer, pattern};
use crate::resp::request::Args;

/// How many patterns of GET there may be. Each is looked up for each element.
const MOST_WANTED: usize = 64;
const TOO_MANY_WANTED: Failure = fail("ERR too many GET patterns (64 at most)");

#[derive(Clone)]
pub struct Options {
    pub by: Option<Vec<u8>>,
    /// What is returned of each element. Itself if this is empty.
    pub wanted: Vec<Vec<u8>>,
    pub offset: usize,
    pub most: usize,
    pub descending: bool,
    pub alphabetic: bool,
}

impl Options {
    /// BY with a pattern that is the same for all elements leaves them in their order.
    pub fn is_sorted(&self) -> bool {
        self.by
            .as_ref()
            .is_none_or(|pattern| pattern.contains(&b'*'))
    }

    /// The options if the result of a set is stored. As in Redis, this has an order: without another one, that of the
    /// bytes.
    pub fn of_stored_set(&self) -> Options {
        let mut options = self.clone();
        if !options.is_sorted() {
            options.by = None;
            options.alphabetic = true;
        }
        options
    }

    /// Whether the result depends on other keys, too.
    pub fn refers_to_keys(&self) -> bool {
        self.look_ups() > 0
    }

    fn sorts_by_key(&self) -> bool {
        self.by.is_some() && self.is_sorted()
    }

    /// Whether other keys are looked up for what is returned.
    pub fn returns_of_keys(&self) -> bool {
        self.wanted.iter().any(|pattern| pattern != b"#")
    }

    /// How many other keys are looked up for each element.
    pub fn look_ups(&self) -> usize {
        let wanted = self.wanted.iter().filter(|pattern| *pattern != b"#");
        usize::from(self.sorts_by_key()) + wanted.count()
    }

    /// How many texts are made of each element: what it is sorted by, and what is returned of it.
    pub fn texts(&self) -> usize {
        usize::from(self.sorts_by_key()) + self.wanted.len().max(1)
    }
}

/// The options, and the key for the result.
pub fn parse(args: Args<'_>, may_store: bool) -> Result<(Options, Option<&[u8]>), Failure> {
    let mut options = Options {
        by: None,
        wanted: Vec::new(),
        offset: 0,
        most: usize::MAX,
        descending: false,
        alphabetic: false,
    };
    let mut target = None;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        match args.option(at).as_slice() {
            b"asc" => options.descending = false,
            b"desc" => options.descending = true,
            b"alpha" => options.alphabetic = true,
            b"limit" if left >= 2 => {
                options.offset = usize::try_from(integer(args.get(at + 1))?).unwrap_or(0);
                options.most = usize::try_from(integer(args.get(at + 2))?).unwrap_or(usize::MAX);
                at += 2;
            }
            b"store" if left >= 1 && may_store => {
                target = Some(args.get(at + 1));
                at += 1;
            }
            b"by" if left >= 1 => {
                options.by = Some(pattern(args.get(at + 1))?.to_vec());
                at += 1;
            }
            b"get" if left >= 1 => {
                if options.wanted.len() == MOST_WANTED {
                    return Err(TOO_MANY_WANTED);
                }
                options.wanted.push(pattern(args.get(at + 1))?.to_vec());
                at += 1;
            }
            _ => return Err(SYNTAX),
        }
        at += 1;
    }
    Ok((options, target))
}
