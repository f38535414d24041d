//! Wildmats: the patterns that name sets of newsgroups (RFC 3977, section 4).

/// A comma-separated list of patterns. The rightmost one that matches decides.
#[derive(Debug)]
pub struct Wildmat(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    negated: bool,
    text: Vec<char>,
}

impl Wildmat {
    /// Returns `None` when `text` is not a wildmat: a pattern is empty or contains
    /// a character that section 4.1 forbids (`[`, `]` and `\`).
    pub fn parse(text: &str) -> Option<Wildmat> {
        text.split(',')
            .map(|pattern| {
                let (negated, pattern) = match pattern.strip_prefix('!') {
                    Some(rest) => (true, rest),
                    None => (false, pattern),
                };
                let valid = !pattern.is_empty() && !pattern.contains(['!', '[', ']', '\\']);
                valid.then(|| Pattern {
                    negated,
                    text: pattern.chars().collect(),
                })
            })
            .collect::<Option<Vec<_>>>()
            .map(Wildmat)
    }

    /// An upper bound for the comparisons that [`matches`](Wildmat::matches) makes for `name`.
    pub fn comparisons(&self, name: &str) -> usize {
        let lengths = self.0.iter().map(|pattern| pattern.text.len() + 1);
        lengths.sum::<usize>() * (name.len() + 1)
    }

    /// Whether a pattern matches `name`, and the rightmost that does is not negated.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let deciding = self.0.iter().rev().find(|p| glob(&p.text, &name));
        deciding.is_some_and(|pattern| !pattern.negated)
    }
}

/// Matches `*` and `?` against characters, not octets. It backtracks to the last
/// star only, so the time for a hostile `*a*a*a*a*b` grows with the product of the
/// two lengths, not exponentially.
fn glob(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(wildmat: &str, name: &str) -> bool {
        Wildmat::parse(wildmat).unwrap().matches(name)
    }

    #[test]
    fn the_examples_of_rfc_3977_section_4_4() {
        for (wildmat, yes, no) in [
            ("a", &["a"][..], &["b", "aa"][..]),
            ("a*", &["a", "ab", "abc"], &["ba", ""]),
            ("*b*", &["b", "abc", "xxbxx"], &["axc"]),
            ("a*,*b", &["aaa", "bbb", "ab"], &["bba"]),
            ("a*,!*b", &["aa"], &["ab", "bb"]),
            ("a*,!*b,c*", &["aac", "cb", "cab"], &["ab"]),
            ("a*,c*,!*b", &["aac", "cc"], &["cb", "ab"]),
            ("?a*", &["xa", "xaxx"], &["a", "axx"]),
            ("??a*", &["xxa", "abaxx"], &["xa"]),
            ("*a?", &["xax", "ab"], &["xa"]),
            ("*a??", &["xaxx"], &["xax"]),
        ] {
            for name in yes {
                assert!(matches(wildmat, name), "{wildmat} must match {name}");
            }
            for name in no {
                assert!(!matches(wildmat, name), "{wildmat} must not match {name}");
            }
        }
    }

    #[test]
    fn the_rightmost_match_decides() {
        assert!(!matches("a*,!*b,*c*", "ab"));
        assert!(matches("!a,a", "a"));
        assert!(!matches("!a", "b"), "nothing matched is no match");
    }

    #[test]
    fn characters_are_not_octets() {
        assert!(matches("?", "é"));
        assert!(!matches("??", "é"));
    }

    #[test]
    fn malformed_wildmats_are_refused() {
        for bad in ["", ",", "a,", "a[bc]", "a\\b", "!", "a!b"] {
            assert!(Wildmat::parse(bad).is_none(), "{bad:?}");
        }
    }
}
