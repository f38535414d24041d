//! Patterns as those of Redis (KEYS, SCAN, PSUBSCRIBE): `*`, `?`, `[a-z]`, `[^a]`, and `\` before a literal. They are compared
//! byte by byte. Several examples include this file by its path.

/// Whether `text` matches `pattern`. The time is linear in each of the two for most patterns. For any it is bounded by the
/// length of the text, times a 64th of that of the pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let steps = most_steps(pattern, text);
    retry_last_star(pattern, text, steps).unwrap_or_else(|| follow_all(pattern, text))
}

/// Few patterns need more.
fn most_steps(pattern: &[u8], text: &[u8]) -> usize {
    64 + 4 * (pattern.len() + text.len())
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

/// Follows all places in the pattern that can be reached, 64 at a time: the Shift-And algorithm (Baeza-Yates and Gonnet,
/// 1992), in which a place behind a `*` stays.
fn follow_all(pattern: &[u8], text: &[u8]) -> bool {
    let words = pattern.len() / 64 + 1;
    // A bit for each place: whether it is behind a `*`, and whether the element at this place fits each byte.
    let mut stays = vec![0_u64; words];
    let mut fits = vec![0_u64; 256 * words];
    let (mut place, mut rest) = (0, pattern);
    while let Some(first) = rest.first() {
        let (word, bit) = (place / 64, 1 << (place % 64));
        let mut length = 1;
        if *first == b'*' {
            stays[word] |= bit;
        } else {
            for byte in 0..=u8::MAX {
                let (is_fit, number) = one(rest, byte);
                length = number;
                if is_fit {
                    fits[usize::from(byte) * words + word] |= bit;
                }
            }
            place += 1;
        }
        rest = &rest[length..];
    }
    let mut reached = vec![0_u64; words];
    reached[0] = 1;
    for byte in text {
        let fits = &fits[usize::from(*byte) * words..][..words];
        let (mut carry, mut any) = (0, 0);
        for ((reached, fits), stays) in reached.iter_mut().zip(fits).zip(&stays) {
            let next = *reached & fits;
            *reached = (next << 1) | carry | (*reached & stays);
            carry = next >> 63;
            any |= *reached;
        }
        if any == 0 {
            return false;
        }
    }
    reached[place / 64] >> (place % 64) & 1 == 1
}

/// Whether the first element of the pattern fits this byte, and how many bytes of the pattern it has.
fn one(pattern: &[u8], byte: u8) -> (bool, usize) {
    match pattern {
        [] => (false, 0),
        [b'?', ..] => (true, 1),
        [b'\\', literal, ..] => (*literal == byte, 2),
        [b'[', class @ ..] => {
            let (found, length) = in_class(class, byte);
            (found, 1 + length)
        }
        [literal, ..] => (*literal == byte, 1),
    }
}

/// Whether the byte is in the class, and how long the class is. A class without `]` ends with the pattern.
fn in_class(class: &[u8], byte: u8) -> (bool, usize) {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &class[at..] {
            [] => return (found != negated, at),
            [b']', ..] => return (found != negated, at + 1),
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [a, b'-', b, ..] => {
                found |= (*a.min(b)..=*a.max(b)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{follow_all, matches, most_steps, retry_last_star};

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
            match found {
                true => matching += 1,
                false => others += 1,
            }
        }
        assert!(matching > 1_000 && others > 1_000, "{matching} {others}");
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
