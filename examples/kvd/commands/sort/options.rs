//! The options of SORT.

use crate::commands::{Failure, SYNTAX, fail, integer, pattern};
use crate::resp::request::Args;
use crate::store::watch::Family;

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

    /// The other keys that may be looked up.
    pub fn families(&self) -> Vec<Family> {
        let by = self.by.iter().filter(|_| self.is_sorted());
        let wanted = self.wanted.iter().filter(|pattern| *pattern != b"#");
        let references = by.chain(wanted).filter_map(|it| Reference::of(it));
        references
            .map(|it| Family {
                start: it.start.to_vec(),
                end: it.end.to_vec(),
            })
            .collect()
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

/// A pattern of BY or GET: a key, or a field of a hash (`key->field`), with the element for `*`.
pub struct Reference<'a> {
    /// What the key has before the element, and behind it.
    pub start: &'a [u8],
    pub end: &'a [u8],
    pub field: Option<&'a [u8]>,
}

impl Reference<'_> {
    /// `None` if the pattern has no `*`: then it refers to nothing.
    pub fn of(pattern: &[u8]) -> Option<Reference<'_>> {
        let star = pattern.iter().position(|byte| *byte == b'*')?;
        let (start, rest) = (&pattern[..star], &pattern[star + 1..]);
        let arrow = rest.windows(2).position(|it| it == b"->");
        let arrow = arrow.filter(|at| at + 2 < rest.len());
        Some(Reference {
            start,
            end: &rest[..arrow.unwrap_or(rest.len())],
            field: arrow.map(|at| &rest[at + 2..]),
        })
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
