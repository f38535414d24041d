//! The parsers of arguments, compared with naive implementations.

// These two are private to the server module, so they are compiled again here.
#![allow(clippy::duplicate_mod)]

#[path = "../../../examples/nntp/server/range.rs"]
mod range;
#[allow(dead_code, reason = "the cost of a match matters to the server only")]
#[path = "../../../examples/nntp/server/wildmat.rs"]
mod wildmat;

use super::super::naive;
use super::server::date;
use super::server::head::{Head, is_message_id};
use range::Range;
use wildmat::Wildmat;

/// 15 June 2026, noon.
const NOW: i64 = 1_781_524_800;

pub fn parse(input: &[u8]) {
    parse_head(input);
    let text = String::from_utf8_lossy(input);
    // No word is longer than a command line, and the naive implementations are slow.
    let words: Vec<&str> = text
        .split_ascii_whitespace()
        .filter(|word| word.len() <= 64)
        .take(32)
        .collect();
    for pair in words.windows(2) {
        parse_date(pair[0], pair[1]);
        match_wildmat(pair[0], pair[1]);
    }
    for word in words {
        parse_range(word);
        match_wildmat(word, "misc.test");
        let is_id = is_message_id(word.as_bytes());
        assert!(!is_id || !word.contains(['\r', '\n', '\0', ' ']));
    }
}

/// A header is well-formed whatever it was made from, and no octet of a value ends its line or its
/// field.
fn parse_head(input: &[u8]) {
    let end = naive::find(b"\r\n\r\n", input).map_or(input.len(), |at| at + 2);
    let repaired = Head::repair(&input[..end]);
    assert_eq!(Head::parse(repaired.as_bytes()).as_ref(), Ok(&repaired));
    if let Ok(parsed) = Head::parse(&input[..end]) {
        assert_eq!(parsed, repaired);
    }
    let mut pushed = repaired.without(&["x-a"]);
    pushed.push("X-A", input);
    assert!(Head::parse(pushed.as_bytes()).is_ok());
    pushed.date();
    pushed.has_author();
    for name in ["Subject", "From", "Message-ID", "Newsgroups", "Path", "X-A"] {
        let value = pushed.value(name).unwrap_or_default();
        assert!(!value.iter().any(|octet| b"\r\n\t\0".contains(octet)));
    }
}

fn parse_date(day: &str, time: &str) {
    let Some(seconds) = date::parse(day, time, NOW) else {
        return;
    };
    let compact = date::compact(seconds);
    assert_eq!(compact.len(), 14);
    if day.len() == 8 && !time.ends_with("60") {
        assert_eq!(compact, [day, time].concat());
    }
    date::rfc5322(seconds);
}

fn parse_range(word: &str) {
    let digits = |text: &str| {
        let short = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        short.then(|| text.parse::<u64>().expect("it fits"))
    };
    let parts: Vec<_> = word.splitn(2, '-').collect();
    let wanted = match parts[..] {
        [one] => digits(one).map(|n| (n, n)),
        [low, ""] => digits(low).map(|n| (n, u64::MAX)),
        [low, high] => digits(low).zip(digits(high)),
        _ => None,
    };
    let got = Range::parse(word).map(|range| (range.low, range.high));
    assert_eq!(got, wanted, "{word:?}");
    assert_eq!(range::number(word), digits(word));
}

fn match_wildmat(text: &str, name: &str) {
    let Some(wildmat) = Wildmat::parse(text) else {
        return;
    };
    let patterns = text.split(',').rev();
    let deciding = patterns
        .map(|pattern| match pattern.strip_prefix('!') {
            Some(rest) => (rest, false),
            None => (pattern, true),
        })
        .find(|(pattern, _)| glob(pattern, name));
    let wanted = deciding.is_some_and(|(_, wanted)| wanted);
    assert_eq!(wildmat.matches(name), wanted, "{text:?} on {name:?}");
}

/// By dynamic programming over the prefixes of the pattern and of the name.
fn glob(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // Whether the pattern so far matches the first n characters.
    let mut matches = vec![false; name.len() + 1];
    matches[0] = true;
    for p in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        if p == '*' {
            let first = matches.iter().position(|&is| is).unwrap_or(next.len());
            next[first..].fill(true);
        } else {
            for (n, &c) in name.iter().enumerate() {
                next[n + 1] = matches[n] && (p == '?' || p == c);
            }
        }
        matches = next;
    }
    matches[name.len()]
}
