//! Patterns as those of Redis (KEYS, SCAN, PSUBSCRIBE): `*`, `?`, `[a-z]`, `[^a]`, and `\` before a literal. They are compared
//! byte by byte. Several examples include this file by its path.

/// Whether `text` matches `pattern`. The time is linear in each of the two for most patterns. For any it is bounded by the
/// product of their lengths, and for a long text by the lengths, times 32, and a 64th of their product.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let steps = most_steps(pattern, text);
    retry_last_star(pattern, text, steps).unwrap_or_else(|| follow_all(pattern, text))
}

/// A text of more bytes than this is long. With a pattern of 1024 bytes a shorter one takes two milliseconds at most.
pub const LONG: usize = 64 * 1024;

/// So many words of [`Places`] are changed in a part of a comparison.
const PART: usize = 512 * 1024;

/// A comparison. That of a long text is made in parts.
#[derive(Default)]
pub struct Comparison(Option<Places>);

impl Comparison {
    /// Whether the text matches. `None` after a part of a long text: the next call, with the same pattern and the same text,
    /// goes on.
    pub fn advance(&mut self, pattern: &[u8], text: &[u8]) -> Option<bool> {
        if text.len() <= LONG {
            return Some(matches(pattern, text));
        }
        let places = self.0.get_or_insert_with(|| Places::new(pattern));
        let outcome = places.advance(text, PART / places.words());
        if outcome.is_some() {
            self.0 = None;
        }
        outcome
    }
}

/// So many steps take about as long as what [`follow_all`] prepares. A short text needs fewer with any pattern.
fn most_steps(pattern: &[u8], text: &[u8]) -> usize {
    64 + 32 * pattern.len() + 4 * text.len()
}

/// Of several `*` only the last one is tried again. The time is bounded by the product of the lengths. `None` if it takes
/// more than so many steps.
fn retry_last_star(pattern: &[u8], text: &[u8], mut steps: usize) -> Option<bool> {
    let (mut p, mut t) = (0, 0);
    // Where to continue when a literal does not match: behind the last `*`, one byte later in the text.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return Some(true);
            }
            retry = Some((p, t));
            continue;
        }
        let Some(byte) = text.get(t) else {
            return Some(p == pattern.len());
        };
        let (fits, length) = one(&pattern[p..], *byte);
        steps = steps.checked_sub(length.max(1))?;
        match (fits, &mut retry) {
            (true, _) => {
                p += length;
                t += 1;
            }
            (false, Some((after, from))) => {
                *from += 1;
                (p, t) = (*after, *from);
            }
            (false, None) => return Some(false),
        }
    }
}

/// Follows all places in the pattern that can be reached.
fn follow_all(pattern: &[u8], text: &[u8]) -> bool {
    Places::new(pattern)
        .advance(text, usize::MAX)
        .unwrap_or(false)
}

/// All places in the pattern that can be reached, 64 in a word: the Shift-And algorithm (Baeza-Yates and Gonnet, 1992), in
/// which a place behind a `*` stays.
struct Places {
    /// A bit for each place: whether it is behind a `*`, whether the element at this place fits most bytes, and whether
    /// each byte is an exception.
    stays: Vec<u64>,
    fits_most: Vec<u64>,
    exceptions: Vec<u64>,
    /// The place behind the last element.
    end: usize,
    /// The places that are reached behind so many bytes of the text.
    reached: Vec<u64>,
    at: usize,
}

impl Places {
    fn new(pattern: &[u8]) -> Places {
        let words = pattern.len() / 64 + 1;
        let mut stays = vec![0_u64; words];
        let mut fits_most = vec![0_u64; words];
        let mut exceptions = vec![0_u64; 256 * words];
        let (mut place, mut rest) = (0, pattern);
        while let Some(first) = rest.first() {
            let (word, bit) = (place / 64, 1 << (place % 64));
            let mut length = 1;
            if *first == b'*' {
                stays[word] |= bit;
            } else {
                let set;
                (set, length) = element(rest);
                let is_most = set.len() > 128;
                if is_most {
                    fits_most[word] |= bit;
                }
                for byte in set.toggled_if(is_most).bytes() {
                    exceptions[usize::from(byte) * words + word] |= bit;
                }
                place += 1;
            }
            rest = &rest[length..];
        }
        let mut reached = vec![0_u64; words];
        reached[0] = 1;
        Places {
            stays,
            fits_most,
            exceptions,
            end: place,
            reached,
            at: 0,
        }
    }

    fn words(&self) -> usize {
        self.reached.len()
    }

    /// Goes on with at most so many bytes of the text. Whether the text matches, when that is known.
    fn advance(&mut self, text: &[u8], most: usize) -> Option<bool> {
        let words = self.words();
        let part = text[self.at..].iter().take(most);
        self.at += part.len();
        for byte in part {
            let exceptions = &self.exceptions[usize::from(*byte) * words..][..words];
            let fits = self.fits_most.iter().zip(exceptions);
            let (mut carry, mut any) = (0, 0);
            for ((reached, (most, exceptions)), stays) in
                self.reached.iter_mut().zip(fits).zip(&self.stays)
            {
                let next = *reached & (most ^ exceptions);
                *reached = (next << 1) | carry | (*reached & stays);
                carry = next >> 63;
                any |= *reached;
            }
            if any == 0 {
                return Some(false);
            }
        }
        let is_end = self.reached[self.end / 64] >> (self.end % 64) & 1 == 1;
        // Whatever follows fits a `*` at the end.
        let stays_there = self.stays[self.end / 64] >> (self.end % 64) & 1 == 1;
        (self.at == text.len() || (is_end && stays_there)).then_some(is_end)
    }
}

/// Whether the first element of the pattern fits this byte, and how many bytes of the pattern it has.
fn one(pattern: &[u8], byte: u8) -> (bool, usize) {
    match pattern {
        [] => (false, 0),
        [b'?', ..] => (true, 1),
        [b'\\', literal, ..] => (*literal == byte, 2),
        [b'[', class @ ..] => {
            let mut found = false;
            let (negated, length) = each_range(class, |a, b| found |= (a..=b).contains(&byte));
            (found != negated, 1 + length)
        }
        [literal, ..] => (*literal == byte, 1),
    }
}

/// Which bytes the first element of the pattern fits, and how many bytes of the pattern it has.
fn element(pattern: &[u8]) -> (Set, usize) {
    let mut set = Set::default();
    let length = match pattern {
        [] => 0,
        [b'?', ..] => {
            set.insert(0, u8::MAX);
            1
        }
        [b'\\', literal, ..] => {
            set.insert(*literal, *literal);
            2
        }
        [b'[', class @ ..] => {
            let (negated, length) = each_range(class, |a, b| set.insert(a, b));
            set = set.toggled_if(negated);
            1 + length
        }
        [literal, ..] => {
            set.insert(*literal, *literal);
            1
        }
    };
    (set, length)
}

/// Calls `visit` with the first and the last byte of each range of the class. Returns whether the class is negated, and
/// how long it is. A class without `]` ends with the pattern.
fn each_range(class: &[u8], mut visit: impl FnMut(u8, u8)) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    loop {
        match &class[at..] {
            [] => return (negated, at),
            [b']', ..] => return (negated, at + 1),
            [b'\\', literal, ..] => {
                visit(*literal, *literal);
                at += 2;
            }
            [a, b'-', b, ..] => {
                visit(*a.min(b), *a.max(b));
                at += 3;
            }
            [literal, ..] => {
                visit(*literal, *literal);
                at += 1;
            }
        }
    }
}

/// Some of the 256 bytes: a bit for each, in two halves.
#[derive(Clone, Copy, Default)]
struct Set([u128; 2]);

impl Set {
    /// Inserts the bytes from `a` to `b`, in constant time.
    fn insert(&mut self, a: u8, b: u8) {
        for (half, bits) in self.0.iter_mut().enumerate() {
            let start = 128 * half as u32;
            let (from, to) = (u32::from(a).max(start), u32::from(b).min(start + 127));
            if from <= to {
                *bits |= (u128::MAX >> (127 - (to - from))) << (from - start);
            }
        }
    }

    /// All other bytes if this is true.
    fn toggled_if(self, is_toggled: bool) -> Set {
        if is_toggled {
            Set(self.0.map(|bits| !bits))
        } else {
            self
        }
    }

    fn len(self) -> u32 {
        self.0.iter().map(|bits| bits.count_ones()).sum()
    }

    fn bytes(self) -> impl Iterator<Item = u8> {
        let Set(mut halves) = self;
        std::iter::from_fn(move || {
            let half = halves.iter().position(|bits| *bits != 0)?;
            let bit = halves[half].trailing_zeros();
            halves[half] &= halves[half] - 1;
            Some((128 * half as u32 + bit) as u8)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, LONG, element, follow_all, matches, most_steps, one, retry_last_star};

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("key:*:end", "key:1:end", true),
            ("[abc", "a", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn both_ways_to_match_have_the_same_outcome() {
        let mut random = 7_u64;
        let mut next = |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as usize % below
        };
        let (mut matching, mut others) = (0, 0);
        for round in 0..20_000 {
            // Some have more elements than a word has bits.
            let most = if round % 10 == 0 { 200 } else { 8 };
            let elements = ["a", "b", "*", "*", "?", "[ab]", "[^a]", "\\*", "[b-c]"];
            let pattern: String = (0..next(most)).map(|_| elements[next(9)]).collect();
            let text: Vec<u8> = (0..next(2 * most)).map(|_| b"abc*"[next(4)]).collect();
            let wanted = retry_last_star(pattern.as_bytes(), &text, usize::MAX);
            let found = follow_all(pattern.as_bytes(), &text);
            assert_eq!(Some(found), wanted, "{pattern} {}", text.escape_ascii());
            if found { matching += 1 } else { others += 1 }
        }
        assert!(matching > 1_000 && others > 1_000, "{matching} {others}");
    }

    #[test]
    fn a_comparison_in_parts_has_the_same_outcome() {
        let mut text = vec![b'a'; 2 * LONG];
        let elements = |element: &str| format!("*{}b", element.repeat(1_000 / element.len()));
        let patterns = [
            "*", "*b", "a*", "b*", "?*a", "", "aaa", "*\\*", "*[^a]", "*b*", "*b*a*", "*ab*b",
        ];
        let long = ["a", "a?", "[ab]"].map(elements);
        let patterns = patterns.into_iter().chain(long.iter().map(String::as_str));
        let patterns: Vec<&str> = patterns.collect();
        let mut comparison = Comparison::default();
        let mut most_parts = 0;
        for end in [&b""[..], b"b", b"ba", b"*"] {
            text.truncate(2 * LONG);
            text.extend(end);
            for pattern in &patterns {
                let pattern = pattern.as_bytes();
                let mut parts = 1;
                let found = loop {
                    match comparison.advance(pattern, &text) {
                        Some(found) => break found,
                        None => parts += 1,
                    }
                };
                let name = pattern.escape_ascii();
                assert_eq!(found, matches(pattern, &text), "{name} {end:?}");
                most_parts = most_parts.max(parts);
            }
        }
        assert_eq!(most_parts, 5, "a part has 32 KB");
        // A short text is compared at once.
        assert_eq!(comparison.advance(b"*b", b"ab"), Some(true));
    }

    #[test]
    fn an_element_fits_the_same_bytes_in_both_ways() {
        for pattern in [
            &b"a"[..],
            b"?",
            b"\\*x",
            b"\\",
            b"[abc]d",
            b"[^abc",
            b"[",
            b"[^]",
            b"[z-a]",
            b"[\0-\xff]",
            b"[^\0-\xff]",
            b"[\x70-\x7f\x80\x81-\x90]",
            b"[\x80-\xff]",
            b"[\\]-]",
        ] {
            let (set, length) = element(pattern);
            let fitting: Vec<u8> = (0..=u8::MAX).filter(|it| one(pattern, *it).0).collect();
            let name = pattern.escape_ascii();
            assert_eq!(set.bytes().collect::<Vec<_>>(), fitting, "{name}");
            assert_eq!(set.len() as usize, fitting.len(), "{name}");
            assert_eq!(length, one(pattern, b'a').1, "{name}");
        }
    }

    /// To prepare the other way would take longer.
    #[test]
    fn a_short_text_is_compared_without_a_table() {
        for pattern in [
            format!("*[{}]q", "x".repeat(1_000)),
            format!("*{}q", "?".repeat(1_000)),
            format!("*{}", "[x]*[y]".repeat(140)),
        ] {
            for text in ["", "x", "xxxxx", &"x".repeat(31)] {
                let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
                let steps = most_steps(pattern, text);
                assert!(steps <= 64 + 36 * pattern.len());
                assert_eq!(retry_last_star(pattern, text, steps), Some(false));
            }
        }
    }

    /// It would be minutes without an end to the steps.
    #[test]
    fn no_pattern_takes_time_by_the_product_of_the_lengths() {
        let text = vec![b'a'; 1 << 20];
        for element in ["a", "?", "[ab]"] {
            let pattern = format!("*{}b", element.repeat(200_000 / element.len()));
            let steps = most_steps(pattern.as_bytes(), &text);
            assert_eq!(retry_last_star(pattern.as_bytes(), &text, steps), None);
        }
        let pattern = "*".to_owned() + &"a".repeat(1_000) + "b";
        assert!(!matches(pattern.as_bytes(), &text));
        assert!(matches(pattern.as_bytes(), &[&text[..], b"b"].concat()));
    }
}
