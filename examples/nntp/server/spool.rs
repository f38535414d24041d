//! The spool: all groups, and the articles under their numbers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::rc::Rc;

use super::article::{Article, Memory};
use super::date;
use super::head::Head;
use super::range::Range;

/// Octets of memory that an article uses in each of its groups besides its text:
/// the struct, its allocations and its entries in the tables. The number is
/// rounded up, so that empty articles cannot use more than is counted.
pub const OVERHEAD: u64 = 1024;

/// A newsgroup. A session has an `Rc` of its selected group.
pub struct Group {
    pub name: String,
    pub description: String,
    /// The time of creation, in seconds of Unix time.
    pub created: i64,
    /// Whether the group accepts posts: `y` or `n` in LIST ACTIVE.
    pub postable: bool,
    /// The highest number that an article has had. It never decreases (RFC 3977, section 6.1.1.2).
    high: Cell<u64>,
    /// The highest number that was assigned to a post, even if that post was not stored. No number is
    /// assigned twice. `high` follows when the post is durable: a number that clients saw before that
    /// could be lost at a restart, and the high water mark would decrease.
    assigned: Cell<u64>,
    /// Sorted by number.
    articles: RefCell<Vec<Entry>>,
}

/// An article in a group.
struct Entry {
    number: u64,
    article: Rc<Article>,
    /// The latest arrival among this article and those before it. Times of arrival may be out of
    /// order, because clocks are set back and mailboxes are not sorted. This value never decreases
    /// from one entry to the next, so it can be searched with bisection.
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

    /// Records that articles have had numbers up to this one, even if these articles no longer exist.
    pub fn raise(&self, high: u64) {
        self.high.set(self.high().max(high));
        self.assigned.set(self.assigned.get().max(high));
    }

    /// The lowest number. In a group without articles, it is the highest plus one.
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

    /// The first article whose number is at least `number`.
    pub fn at_or_after(&self, number: u64) -> Option<(u64, Rc<Article>)> {
        let articles = self.articles.borrow();
        let at = articles.partition_point(|entry| entry.number < number);
        articles.get(at).map(Entry::found)
    }

    /// The last article whose number is below `number`.
    pub fn before(&self, number: u64) -> Option<(u64, Rc<Article>)> {
        let articles = self.articles.borrow();
        let at = articles.partition_point(|entry| entry.number < number);
        articles.get(at.checked_sub(1)?).map(Entry::found)
    }

    /// The number of the first article that arrived at `time` or later; `u64::MAX` if there is none.
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

    /// The articles of a range. Each is looked up when the iterator reaches it, so
    /// a listing that is not read to its end costs nothing for the rest.
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
    /// Message-IDs of posts that the store is writing, with the octets reserved for each.
    pending: HashMap<String, u64>,
    /// Octets of memory that posts use, including reserved octets.
    post_octets: u64,
}

impl Spool {
    /// A spool with `count` generated articles of two kilobytes in the group
    /// `misc.test`, for measurements. They are the same in each run.
    pub fn demo(count: usize) -> Spool {
        let mut spool = Spool::default();
        let created = 1_000_000_000;
        let group = spool.add_group("misc.test", "Generated articles", created, true);
        let line = "The quick brown fox jumps over the lazy dog, again and again.\r\n";
        for n in 1..=count {
            let arrived = created + n as i64;
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

    /// Adds a group, or returns the existing one with that name.
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
                assigned: Cell::new(0),
                articles: RefCell::default(),
            })
        };
        Rc::clone(self.groups.entry(name.to_owned()).or_insert_with(group))
    }

    pub fn group(&self, name: &str) -> Option<Rc<Group>> {
        self.groups.get(name).cloned()
    }

    /// All groups, sorted by name.
    pub fn groups(&self) -> impl Iterator<Item = &Rc<Group>> {
        self.groups.values()
    }

    /// The first group after this name in alphabetical order. With it, a list of all groups can be made
    /// in steps.
    pub fn group_after(&self, name: &str) -> Option<Rc<Group>> {
        let after = (Bound::Excluded(name), Bound::Unbounded);
        let mut groups = self.groups.range::<str, _>(after);
        groups.next().map(|(_, group)| Rc::clone(group))
    }

    pub fn article(&self, message_id: &str) -> Option<Rc<Article>> {
        self.articles.get(message_id).cloned()
    }

    /// Whether the store is writing an article with this Message-ID.
    pub fn is_pending(&self, message_id: &str) -> bool {
        self.pending.contains_key(message_id)
    }

    /// Octets of memory that posts use, including those that the store is writing.
    pub fn post_octets(&self) -> u64 {
        self.post_octets
    }

    /// Reserves `octets` and the next number in each group for a post. Call
    /// [`file`] when it has been stored, or [`forget`] if that failed.
    ///
    /// [`file`]: Spool::file
    /// [`forget`]: Spool::forget
    pub fn reserve(
        &mut self,
        message_id: &str,
        groups: &[Rc<Group>],
        octets: u64,
    ) -> Vec<(String, u64)> {
        self.pending.insert(message_id.to_owned(), octets);
        self.post_octets += octets;
        groups.iter().map(next_number).collect()
    }

    /// Releases the octets that [`reserve`](Spool::reserve) reserved for a post.
    pub fn forget(&mut self, message_id: &str) {
        self.post_octets -= self.pending.remove(message_id).unwrap_or_default();
    }

    /// Releases what is reserved for all posts that the store is writing.
    pub fn forget_all(&mut self) {
        self.post_octets -= self.pending.drain().map(|(_, octets)| octets).sum::<u64>();
    }

    /// Files a post under its reserved numbers.
    pub fn file(&mut self, article: Article, numbers: &[(String, u64)]) {
        self.forget(&article.message_id);
        if !self.articles.contains_key(&article.message_id) {
            self.post_octets += article.in_memory();
        }
        self.post_octets += OVERHEAD * numbers.len() as u64;
        self.insert(article, numbers);
    }

    /// Files an article from another source under the next number of a group.
    pub fn append(&mut self, group: &Rc<Group>, article: Article) {
        self.insert(article, &[next_number(group)]);
    }

    /// Adds an article to groups. If the Message-ID is known, the known article is
    /// added to these groups.
    fn insert(&mut self, article: Article, numbers: &[(String, u64)]) {
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
            article.add_location(name, *number);
        }
    }
}

fn next_number(group: &Rc<Group>) -> (String, u64) {
    group.assigned.set(group.assigned.get() + 1);
    (group.name.clone(), group.assigned.get())
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
        assert_eq!(spool.post_octets(), 1000);
        spool.forget("<lost@x>");
        assert_eq!(spool.post_octets(), 0);
        // No client has seen its number, and no other article gets it.
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
    fn unsorted_arrival_times_can_be_searched() {
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
        // An article with a low number may be filed last.
        let late = Memory::new(Head::repair(b"Message-ID: <late@x>\r\n"), "text\r\n");
        spool.file(late.article(90), &[("a".to_owned(), 0)]);
        assert_eq!(group.first_since(41), 0);
    }

    #[test]
    fn only_posts_count_against_the_memory_limit() {
        let mut spool = Spool::demo(3);
        let group = spool.group("misc.test").unwrap();
        assert_eq!(spool.post_octets(), 0);
        let head = Head::repair(b"Message-ID: <1@x>\r\nSubject: s\r\n");
        let text = Memory::new(head, "text\r\n");
        let numbers = spool.reserve("<1@x>", &[group], 5000);
        spool.file(text.article(0), &numbers);
        let fields = 2 * "<1@x>".len() + "s".len();
        let text = "Message-ID: <1@x>\r\nSubject: s\r\ntext\r\n".len();
        assert_eq!(spool.post_octets(), OVERHEAD + (fields + text) as u64);
    }
}
