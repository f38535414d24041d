//! Requests that a person types: words, which may be quoted.

/// Splits a line into words. `None` if its quotes are not balanced, as `sdssplitargs` of Redis does it.
pub(super) fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [first, after @ ..] = rest
            && is_space(*first)
        {
            rest = after;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let [first, after @ ..] = rest
            && !matches!(first, b' ' | b'\t' | b'\r' | b'\n')
        {
            rest = match first {
                b'"' => double_quoted(after, &mut word)?,
                b'\'' => single_quoted(after, &mut word)?,
                _ => {
                    word.push(*first);
                    after
                }
            };
        }
        words.push(word);
    }
}

/// Reads to the closing quote, behind which the word must end.
fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'x', a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*a) << 4 | digit(*b));
                after
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [b'"', after @ ..] => return ends_word(after),
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                after
            }
            [b'\'', after @ ..] => return ends_word(after),
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
            [] => return None,
        };
    }
}

fn ends_word(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(|it| is_space(*it)).then_some(rest)
}

/// As C's `isspace`. Only some of these end a word.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_and_quotes_are_split_as_in_redis() {
        let words = |line: &str| split(line.as_bytes());
        assert_eq!(
            words("  set a  b "),
            Some(vec![b"set".to_vec(), b"a".to_vec(), b"b".to_vec()])
        );
        assert_eq!(
            words(r#"set "a b" '\'x'"#).unwrap()[1..],
            [b"a b".to_vec(), b"'x".to_vec()]
        );
        assert_eq!(words(r#""\x41\n\"""#), Some(vec![b"A\n\"".to_vec()]));
        assert_eq!(words(r#""""#), Some(vec![Vec::new()]));
        assert_eq!(words(r#"a "b"#), None);
        assert_eq!(words(r#""a"b"#), None);
        assert_eq!(words(""), Some(vec![]));
        assert_eq!(words("\x0b\x0ca\x0cb"), Some(vec![b"a\x0cb".to_vec()]));
    }
}
