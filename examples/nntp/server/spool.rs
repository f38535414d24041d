//! The spool: which groups there are, and which article is number what.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::rc::Rc;

use super::article::{Article, Memory};
use super::date;
use super::head::Head;
use super::range::Range;

/// Octets of memory that an article takes in each group it is in, whatever its
/// text: the struct, its allocations, its places in the tables. Rounded up, for
/// articles of no text at all must not take more than they are said to.
pub const OVERHEAD: u64 = 1024;

/// A newsgroup. Sessions keep an `Rc` of the one they are in.
pub struct Group {
    pub name: String,
    pub description: String,
    /// In seconds of Unix time.
    pub created: i64,
    /// Whether it takes posts: `y` or `n` in LIST ACTIVE.
    pub postable: bool,
    /// The highest number that an article has had. It never falls (RFC 3977, section 6.1.1.2).
    high: Cell<u64>,
    /// The highest number given out: never given out twice, also when the article it was meant
    /// for was not kept. A client only sees it when the article is durable, or the high mark
    /// would fall at a restart.
    given: Cell<u64>,
    /// In the order of the numbers.
    articles: RefCell<Vec<Entry>>,
}

/// An article's place in a group.
struct Entry {
    number: u64,
    article: Rc<Article>,
    /// The latest arrival of this article and of those before it. Articles are mostly numbered
    /// as they arrive, but clocks are set back and mailboxes are not sorted; this is never less
    /// than the one before, so it can be searched.
    latest: i64,
}

impl Entry {
    fn found(&self) -> (u64, Rc<Article>) {
        (self.number, Rc::clone(&self.article))
    }
}

impl Group {
    pub fn count(&self) -> usize {
        self.articles.borrow().len()
    }

    pub fn high(&self) -> u64 {
        self.high.get()
    }

    /// Numbers up to this one have been given to articles, also if they are not here any more.
    pub fn raise(&self, high: u64) {
        self.high.set(self.high().max(high));
        self.given.set(self.given.get().max(high));
    }

    /// The lowest number; one over the highest in a group without articles.
    pub fn low(&self) -> u64 {
        let articles = self.articles.borrow();
        articles
            .first()
            .map_or(self.high() + 1, |first| first.number)
    }

    /// `y` or `n`.
    pub fn status(&self) -> char {
        if self.postable { 'y' } else { 'n' }
    }

    pub fn article(&self, number: u64) -> Option<Rc<Article>> {
        self.at_or_after(number)
            .filter(|&(n, _)| n == number)
            .map(|(_, article)| article)
    }

    /// The article of the lowest number that is not under `number`.
    pub fn at_or_after(&self, number: u64) -> Option<(u64, Rc<Article>)> {
        let articles = self.articles.borrow();
        let at = articles.partition_point(|entry| entry.number < number);
        articles.get(at).map(Entry::found)
    }

    /// The article of the highest number that is under `number`.
    pub fn before(&self, number: u64) -> Option<(u64, Rc<Article>)> {
        let articles = self.articles.borrow();
        let at = articles.partition_point(|entry| entry.number < number);
        articles.get(at.checked_sub(1)?).map(Entry::found)
    }

    /// The first number that an article which arrived at `time` or later may have: none before it
    /// did. `u64::MAX` when there is no such article.
    pub fn first_since(&self, time: i64) -> u64 {
        let articles = self.articles.borrow();
        let at = articles.partition_point(|entry| entry.latest < time);
        articles.get(at).map_or(u64::MAX, |entry| entry.number)
    }

    fn insert(&self, number: u64, article: &Rc<Article>) {
        let mut articles = self.articles.borrow_mut();
        let at = articles.partition_point(|entry| entry.number < number);
        let article = Rc::clone(article);
        let latest = article.arrived;
        articles.insert(
            at,
            Entry {
                number,
                article,
                latest,
            },
        );
        let before = at.checked_sub(1).and_then(|before| articles.get(before));
        let mut latest = before.map_or(i64::MIN, |entry| entry.latest);
        for entry in articles.iter_mut().skip(at) {
            latest = latest.max(entry.article.arrived);
            entry.latest = latest;
        }
    }

    /// The articles of a range, looked up one after the other as they are asked
    /// for: a listing of a million is no work for a client that hangs up.
    pub fn range(self: Rc<Self>, range: Range) -> impl Iterator<Item = (u64, Rc<Article>)> {
        let mut next = range.low;
        std::iter::from_fn(move || {
            let (number, article) = self.at_or_after(next)?;
            next = number + 1;
            (number <= range.high).then_some((number, article))
        })
    }
}

/// All groups and all articles.
#[derive(Default)]
pub struct Spool {
    groups: BTreeMap<String, Rc<Group>>,
    articles: HashMap<String, Rc<Article>>,
    /// Message-IDs of posts on their way here, and the octets set aside for each.
    expected: HashMap<String, u64>,
    posts: u64,
}

impl Spool {
    /// `count` generated articles of two kilobytes in the group `misc.test`,
    /// the same ones every time: for measurements.
    pub fn demo(count: usize) -> Spool {
        let mut spool = Spool::default();
        let born = 1_000_000_000;
        let group = spool.add_group("misc.test", "Generated articles", born, true);
        let line = "The quick brown fox jumps over the lazy dog, again and again.\r\n";
        for n in 1..=count {
            let arrived = born + n as i64;
            let head = format!(
                "Path: demo!not-for-mail\r\nFrom: Demo <demo@example.invalid>\r\n\
                 Newsgroups: misc.test\r\nSubject: Generated article {n}\r\n\
                 Date: {}\r\nMessage-ID: <{n}@demo.invalid>\r\n",
                date::rfc5322(arrived)
            );
            let body = format!("Article {n}\r\n{}", line.repeat(28));
            let head = Head::repair(head.as_bytes());
            spool.append(&group, Memory::new(head, body).article(arrived));
        }
        spool
    }

    /// Adds a group, or finds the one that is there.
    pub fn add_group(
        &mut self,
        name: &str,
        description: &str,
        created: i64,
        postable: bool,
    ) -> Rc<Group> {
        let group = || {
            Rc::new(Group {
                name: name.to_owned(),
                description: description.to_owned(),
                created,
                postable,
                high: Cell::new(0),
                given: Cell::new(0),
                articles: RefCell::default(),
            })
        };
        Rc::clone(self.groups.entry(name.to_owned()).or_insert_with(group))
    }

    pub fn group(&self, name: &str) -> Option<Rc<Group>> {
        self.groups.get(name).cloned()
    }

    /// All groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = &Rc<Group>> {
        self.groups.values()
    }

    /// The first group whose name comes after this one, so that a list of all groups can be made
    /// a few at a time.
    pub fn group_after(&self, name: &str) -> Option<Rc<Group>> {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        let mut groups = self.groups.range::<str, _>(after);
        groups.next().map(|(_, group)| Rc::clone(group))
    }

    pub fn article(&self, message_id: &str) -> Option<Rc<Article>> {
        self.articles.get(message_id).cloned()
    }

    /// True when the article is on its way to the disk.
    pub fn expects(&self, message_id: &str) -> bool {
        self.expected.contains_key(message_id)
    }

    /// Octets of memory that posts take, with those that are on their way.
    pub fn posts(&self) -> u64 {
        self.posts
    }

    /// Takes the next number of each group, and sets `octets` aside, for a post
    /// that [`file`] will bring, or [`forget`] will not.
    ///
    /// [`file`]: Spool::file
    /// [`forget`]: Spool::forget
    pub fn reserve(
        &mut self,
        message_id: &str,
        groups: &[Rc<Group>],
        octets: u64,
    ) -> Vec<(String, u64)> {
        self.expected.insert(message_id.to_owned(), octets);
        self.posts += octets;
        groups.iter().map(next_number).collect()
    }

    pub fn forget(&mut self, message_id: &str) {
        self.posts -= self.expected.remove(message_id).unwrap_or_default();
    }

    /// Files a post under the numbers given.
    pub fn file(&mut self, article: Article, numbers: &[(String, u64)]) {
        self.forget(&article.message_id);
        if !self.articles.contains_key(&article.message_id) {
            self.posts += article.in_memory();
        }
        self.posts += OVERHEAD * numbers.len() as u64;
        self.place(article, numbers);
    }

    /// Files an article that is no post under the next number of a group.
    pub fn append(&mut self, group: &Rc<Group>, article: Article) {
        self.place(article, &[next_number(group)]);
    }

    /// One that is known already is not placed twice: it is one article in more
    /// groups.
    fn place(&mut self, article: Article, numbers: &[(String, u64)]) {
        let article = self
            .articles
            .entry(article.message_id.clone())
            .or_insert_with(|| Rc::new(article));
        for (name, number) in numbers {
            let Some(group) = self.groups.get(name) else {
                continue;
            };
            group.insert(*number, article);
            group.raise(*number);
            article.locate(name, *number);
        }
    }
}

fn next_number(group: &Rc<Group>) -> (String, u64) {
    group.given.set(group.given.get() + 1);
    (group.name.clone(), group.given.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn water_marks_of_an_empty_group() {
        let mut spool = Spool::default();
        let group = spool.add_group("a", "", 0, true);
        assert_eq!((group.count(), group.low(), group.high()), (0, 1, 0));
        spool.reserve("<lost@x>", &[Rc::clone(&group)], 1000);
        assert_eq!(spool.posts(), 1000);
        spool.forget("<lost@x>");
        assert_eq!(spool.posts(), 0);
        // Nobody has seen its number, and nobody else gets it.
        assert_eq!((group.count(), group.low(), group.high()), (0, 1, 0));
        let numbers = spool.reserve("<kept@x>", &[Rc::clone(&group)], 1000);
        assert_eq!(numbers, [("a".to_owned(), 2)]);
        let text = Memory::new(Head::repair(b"Message-ID: <kept@x>\r\n"), "text\r\n");
        spool.file(text.article(0), &numbers);
        assert_eq!((group.count(), group.low(), group.high()), (1, 2, 2));
        group.raise(7);
        assert_eq!((group.count(), group.low(), group.high()), (1, 2, 7));
        let numbers = spool.reserve("<next@x>", &[group], 1000);
        assert_eq!(numbers, [("a".to_owned(), 8)]);
    }

    #[test]
    fn neighbours_and_ranges() {
        let spool = Spool::demo(5);
        let group = spool.group("misc.test").unwrap();
        assert_eq!(group.before(1).map(|(n, _)| n), None);
        assert_eq!(group.before(4).map(|(n, _)| n), Some(3));
        assert_eq!(group.at_or_after(6).map(|(n, _)| n), None);
        let range = Range { low: 4, high: 9 };
        let numbers: Vec<u64> = Rc::clone(&group).range(range).map(|(n, _)| n).collect();
        assert_eq!(numbers, [4, 5]);
        let range = Range { low: 4, high: 2 };
        assert_eq!(group.range(range).count(), 0);
    }

    #[test]
    fn one_article_in_two_groups() {
        let mut spool = Spool::default();
        let a = spool.add_group("a", "", 0, true);
        let b = spool.add_group("b", "", 0, true);
        for group in [&a, &b] {
            let text = Memory::new(Head::repair(b"Message-ID: <1@x>\r\n"), "text\r\n");
            spool.append(group, text.article(0));
        }
        assert!(Rc::ptr_eq(&a.article(1).unwrap(), &b.article(1).unwrap()));
        assert_eq!(a.article(1).unwrap().xref("srv"), "srv a:1 b:1");
    }

    #[test]
    fn arrivals_are_searched_though_they_are_not_sorted() {
        let mut spool = Spool::default();
        let group = spool.add_group("a", "", 0, true);
        for (n, arrived) in [10, 30, 20, 40, 40].into_iter().enumerate() {
            let head = Head::repair(format!("Message-ID: <{n}@x>\r\n").as_bytes());
            let text = Memory::new(head, "text\r\n");
            spool.append(&group, text.article(arrived));
        }
        let first = [0, 10, 11, 20, 30, 31, 40].map(|time| group.first_since(time));
        assert_eq!(first, [1, 1, 2, 2, 2, 4, 4]);
        assert_eq!(group.first_since(41), u64::MAX);
        // Not only the last number may be filed last.
        let late = Memory::new(Head::repair(b"Message-ID: <late@x>\r\n"), "text\r\n");
        spool.file(late.article(90), &[("a".to_owned(), 0)]);
        assert_eq!(group.first_since(41), 0);
    }

    #[test]
    fn posts_are_counted_and_nothing_else() {
        let mut spool = Spool::demo(3);
        let group = spool.group("misc.test").unwrap();
        assert_eq!(spool.posts(), 0);
        let head = Head::repair(b"Message-ID: <1@x>\r\nSubject: s\r\n");
        let text = Memory::new(head, "text\r\n");
        let numbers = spool.reserve("<1@x>", &[group], 5000);
        spool.file(text.article(0), &numbers);
        let fields = 2 * "<1@x>".len() + "s".len();
        let text = "Message-ID: <1@x>\r\nSubject: s\r\ntext\r\n".len();
        assert_eq!(spool.posts(), OVERHEAD + (fields + text) as u64);
    }
}
