//! The parser of requests. It copies nothing: an argument is a span of the input.

use asynchat::bytes::Bytes;

use super::arg::Arg;
use super::inline;
use crate::store::number::integer;
use crate::store::text::Text;

/// An argument of at least this length that has not arrived as a whole is collected by itself, so that it is copied
/// only once (`PROTO_MBULK_BIG_ARG` of Redis).
const LARGE: usize = 32 * 1024;

/// The longest line (`PROTO_INLINE_MAX_SIZE`).
const LONGEST_LINE: usize = 64 * 1024;

/// How many arguments a request may have. `client-query-buffer-limit` is reached before.
const MOST_ARGUMENTS: i64 = i32::MAX as i64;

/// What a client that has not logged in may send.
const MOST_ARGUMENTS_BEFORE_AUTH: i64 = 10;
const LONGEST_ARGUMENT_BEFORE_AUTH: i64 = 16_384;

/// Where an argument is: in the input, or, if `start` is `LARGE_SPAN`, at the index `len` of the large ones.
#[derive(Clone, Copy)]
pub struct Span {
    start: usize,
    len: usize,
}

const LARGE_SPAN: usize = usize::MAX;

/// The arguments of a request. The first one is the name of the command.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    base: &'a [u8],
    spans: &'a [Span],
    large: &'a [Bytes],
}

impl<'a> Args<'a> {
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The argument with this index, which must exist: the table of commands has the number that each needs.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        let Span { start, len } = self.spans[index];
        match start {
            LARGE_SPAN => &self.large[len],
            _ => &self.base[start..start + len],
        }
    }

    /// The argument, which becomes a part of what is stored without a copy if it is large.
    #[inline]
    pub fn arg(&self, index: usize) -> Arg<'a> {
        let Span { start, len } = self.spans[index];
        match start {
            LARGE_SPAN => Arg::Large(&self.large[len]),
            _ => Arg::InInput(&self.base[start..start + len]),
        }
    }

    /// The argument as a part of what is stored.
    #[inline]
    pub fn text(&self, index: usize) -> Text {
        self.arg(index).into()
    }

    /// The argument in lower case, if it may be the name of an option. Otherwise it may be long, and is nothing.
    pub fn option(&self, index: usize) -> Vec<u8> {
        const LONGEST: usize = 32;
        match self.get(index) {
            text if text.len() <= LONGEST => text.to_ascii_lowercase(),
            _ => Vec::new(),
        }
    }

    /// The argument as bytes of its own. A large one is not copied.
    pub fn bytes(&self, index: usize) -> Bytes {
        let Span { start, len } = self.spans[index];
        match start {
            LARGE_SPAN => self.large[len].clone(),
            _ => Bytes::copy_from_slice(&self.base[start..start + len]),
        }
    }

    /// Whether an argument was collected by itself.
    #[inline]
    pub fn has_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// The arguments from this index on.
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let args = *self;
        (index.min(args.len())..args.len()).map(move |index| args.get(index))
    }

    /// Whether the argument is this word, in any case. `word` is in lower case.
    #[inline]
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// A copy, for later.
    pub fn to_owned(self) -> OwnedArgs {
        let mut base = Vec::new();
        let spans = self.spans.iter().map(|span| match span.start {
            LARGE_SPAN => *span,
            _ => {
                let start = base.len();
                base.extend_from_slice(&self.base[span.start..span.start + span.len]);
                Span { start, ..*span }
            }
        });
        OwnedArgs {
            spans: spans.collect(),
            large: self.large.to_vec(),
            base,
        }
    }
}

/// The arguments of a request that waits: in a transaction, or for an element of a list.
pub struct OwnedArgs {
    base: Vec<u8>,
    spans: Vec<Span>,
    large: Vec<Bytes>,
}

impl OwnedArgs {
    /// The bytes of memory.
    pub fn size(&self) -> usize {
        self.base.len() + self.spans.len() * size_of::<Span>() + total(&self.large)
    }

    pub fn args(&self) -> Args<'_> {
        Args {
            base: &self.base,
            spans: &self.spans,
            large: &self.large,
        }
    }
}

fn total(large: &[Bytes]) -> usize {
    large.iter().map(Bytes::len).sum()
}

/// What the client may send.
#[derive(Clone, Copy)]
pub struct Allowed {
    /// `proto-max-bulk-len`.
    pub argument: i64,
    pub authenticated: bool,
}

/// What the parser has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A request: [`Parser::args`]. It ends at [`Parser::at`].
    Request,
    /// Nothing to do up to [`Parser::at`]: an empty line, or an empty array.
    Nothing,
    /// The request is not complete.
    Incomplete,
    /// An argument of this length begins at [`Parser::at`], and is to be collected by itself, with the two bytes
    /// that follow it.
    Large(usize),
    /// The connection has to end, with this text.
    Error(String),
}

/// The state of a request that is being read. Its input begins with the request, whenever it is called.
#[derive(Default)]
pub struct Parser {
    spans: Vec<Span>,
    large: Vec<Bytes>,
    /// Their bytes.
    large_len: usize,
    /// How many arguments are missing. `None` before the request has begun.
    missing: Option<usize>,
    /// How much of the input is parsed.
    pub at: usize,
    /// The words of an inline request, instead of the input.
    inline: Option<Vec<u8>>,
}

impl Parser {
    /// Continues with the input, which begins where the request begins.
    #[inline]
    pub fn next(&mut self, input: &[u8], allowed: Allowed) -> Step {
        if self.missing.is_none() {
            match input.first() {
                None => return Step::Incomplete,
                Some(b'*') => {}
                Some(_) => return self.next_inline(input),
            }
            let count = match line(input, 1, "too big mbulk count string") {
                Line::Number(count, next) => {
                    self.at = next;
                    count
                }
                Line::Incomplete => return Step::Incomplete,
                Line::Invalid => i64::MAX,
                Line::TooLong(text) => return error(text),
            };
            if count > MOST_ARGUMENTS {
                return error("invalid multibulk length");
            }
            if count > MOST_ARGUMENTS_BEFORE_AUTH && !allowed.authenticated {
                return error("unauthenticated multibulk length");
            }
            if count <= 0 {
                return Step::Nothing;
            }
            self.missing = Some(count as usize);
        }
        while self.missing != Some(0) {
            match self.argument(input, allowed) {
                None => self.missing = self.missing.map(|missing| missing - 1),
                Some(step) => return step,
            }
        }
        Step::Request
    }

    /// Reads one argument.
    #[inline]
    fn argument(&mut self, input: &[u8], allowed: Allowed) -> Option<Step> {
        let Some(first) = input.get(self.at) else {
            return Some(Step::Incomplete);
        };
        if *first != b'$' {
            let got = String::from_utf8_lossy(std::slice::from_ref(first)).into_owned();
            return Some(error(&format!("expected '$', got '{got}'")));
        }
        let (len, start) = match line(input, self.at + 1, "too big bulk count string") {
            Line::Number(len, next) => (len, next),
            Line::Incomplete => return Some(Step::Incomplete),
            Line::Invalid => (-1, 0),
            Line::TooLong(text) => return Some(error(text)),
        };
        if len < 0 || len > allowed.argument {
            return Some(error("invalid bulk length"));
        }
        if len > LONGEST_ARGUMENT_BEFORE_AUTH && !allowed.authenticated {
            return Some(error("unauthenticated bulk length"));
        }
        let len = len as usize;
        if input.len() - start < len + 2 {
            if len < LARGE {
                return Some(Step::Incomplete);
            }
            self.at = start;
            return Some(Step::Large(len));
        }
        self.spans.push(Span { start, len });
        self.at = start + len + 2;
        None
    }

    /// Adds the large argument that has been collected. The input that follows continues at [`Parser::at`].
    pub fn add_large(&mut self, data: Bytes) {
        self.spans.push(Span {
            start: LARGE_SPAN,
            len: self.large.len(),
        });
        self.large_len += data.len();
        self.large.push(data);
        self.missing = self.missing.map(|missing| missing - 1);
    }

    #[cold]
    fn next_inline(&mut self, input: &[u8]) -> Step {
        if self.inline.is_some() {
            // It is complete, and has waited.
            return Step::Request;
        }
        let Some(end) = find(input, b'\n') else {
            return if input.len() > LONGEST_LINE {
                error("too big inline request")
            } else {
                Step::Incomplete
            };
        };
        self.at = end + 1;
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        let Some(words) = inline::split(line) else {
            return error("unbalanced quotes in request");
        };
        if words.is_empty() {
            return Step::Nothing;
        }
        let mut base = Vec::new();
        for word in words {
            self.spans.push(Span {
                start: base.len(),
                len: word.len(),
            });
            base.extend_from_slice(&word);
        }
        self.inline = Some(base);
        Step::Request
    }

    /// The arguments of the complete request.
    #[inline]
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        Args {
            base: self.inline.as_deref().unwrap_or(input),
            spans: &self.spans,
            large: &self.large,
        }
    }

    /// The memory beside the input: of the large arguments so far, and of the places of all arguments. An empty argument
    /// has 6 bytes of input, and its place has 16.
    pub fn size(&self) -> usize {
        self.large_len + self.spans.capacity() * size_of::<Span>()
    }

    /// The memory of the complete request if its arguments are copied as keys, about. Large ones are not copied.
    pub fn size_of_copies(&self) -> usize {
        2 * self.at + self.large_len + 200 * self.spans.len()
    }

    /// Begins the next request.
    #[inline]
    pub fn reset(&mut self) {
        self.spans.clear();
        self.missing = None;
        self.at = 0;
        if !self.large.is_empty() {
            self.large.clear();
            self.large_len = 0;
        }
        if self.inline.is_some() {
            self.inline = None;
        }
        // A request with very many arguments leaves no memory behind.
        if self.spans.capacity() > 4096 {
            self.spans = Vec::new();
        }
    }
}

/// Where a line ends. As in Redis, a line that has a NUL byte does not end: its connection is closed when it is too long.
fn find(input: &[u8], end: u8) -> Option<usize> {
    let found = input.iter().position(|byte| *byte == end || *byte == 0);
    found.filter(|at| input[*at] == end)
}

fn error(text: &str) -> Step {
    Step::Error(format!("ERR Protocol error: {text}"))
}

enum Line {
    /// A number, and where the next line begins.
    Number(i64, usize),
    Incomplete,
    Invalid,
    TooLong(&'static str),
}

/// Reads a number and its line end.
#[inline]
fn line(input: &[u8], start: usize, too_long: &'static str) -> Line {
    let rest = input.get(start..).unwrap_or_default();
    let mut value = 0;
    for (index, byte) in rest.iter().enumerate().take(10) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            if *byte == b'\r' && index > 0 && (rest[0] != b'0' || index == 1) {
                return if index + 1 < rest.len() {
                    Line::Number(value, start + index + 2)
                } else {
                    Line::Incomplete
                };
            }
            break;
        }
        value = value * 10 + i64::from(digit);
    }
    unusual_line(rest, start, too_long)
}

#[cold]
fn unusual_line(rest: &[u8], start: usize, too_long: &'static str) -> Line {
    let Some(end) = find(rest, b'\r') else {
        return if rest.len() > LONGEST_LINE {
            Line::TooLong(too_long)
        } else {
            Line::Incomplete
        };
    };
    if end + 1 >= rest.len() {
        return Line::Incomplete;
    }
    match integer(&rest[..end]) {
        Some(number) => Line::Number(number, start + end + 2),
        None => Line::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowed = Allowed {
        argument: 512 << 20,
        authenticated: true,
    };

    /// Parses the input in pieces of `size` bytes.
    fn parse(input: &[u8], size: usize) -> Vec<Result<Vec<Vec<u8>>, String>> {
        let (mut found, mut parser, mut buffer) = (Vec::new(), Parser::default(), Vec::new());
        let mut pending: Option<(usize, Vec<u8>)> = None;
        for byte in input.chunks(size) {
            match &mut pending {
                Some((_, data)) => data.extend_from_slice(byte),
                None => buffer.extend_from_slice(byte),
            }
            loop {
                if let Some((len, data)) = &mut pending {
                    if data.len() < *len + 2 {
                        break;
                    }
                    let rest = data.split_off(*len + 2);
                    data.truncate(*len);
                    parser.add_large(std::mem::take(data).into());
                    buffer.extend_from_slice(&rest);
                    pending = None;
                }
                match parser.next(&buffer, ALLOWED) {
                    Step::Request => {
                        let args = parser.args(&buffer);
                        found.push(Ok(args.from(0).map(<[u8]>::to_vec).collect()));
                        buffer.drain(..parser.at);
                        parser.reset();
                    }
                    Step::Nothing => {
                        buffer.drain(..parser.at);
                        parser.reset();
                    }
                    Step::Incomplete => break,
                    Step::Large(len) => {
                        pending = Some((len, buffer.split_off(parser.at)));
                    }
                    Step::Error(text) => {
                        found.push(Err(text));
                        return found;
                    }
                }
            }
        }
        found
    }

    #[test]
    fn requests_are_the_same_in_pieces_of_any_size() {
        let big = "x".repeat(40_000);
        let input = format!(
            "*1\r\n$4\r\nPING\r\nset a \"b c\"\r\n\r\n*0\r\n*-1\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$40000\r\n{big}\r\n\
             *2\r\n$0\r\n\r\n$2\r\n\r\n\r\nPING\n"
        );
        let whole = parse(input.as_bytes(), input.len());
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[2].as_ref().map(|args| args[2].len()), Ok(40_000));
        assert_eq!(whole[3], Ok(vec![vec![], b"\r\n".to_vec()]));
        for size in [1, 2, 3, 7, 1_000, 39_999] {
            assert_eq!(parse(input.as_bytes(), size), whole, "{size}");
        }
    }

    #[test]
    fn what_is_no_request_has_the_error_of_redis() {
        for (input, text) in [
            ("*x\r\n", "invalid multibulk length"),
            ("*2147483648\r\n", "invalid multibulk length"),
            ("*1\r\n:1\r\n", "expected '$', got ':'"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$999999999999\r\n", "invalid bulk length"),
            ("get \"a\r\n", "unbalanced quotes in request"),
        ] {
            let expected = format!("ERR Protocol error: {text}");
            assert_eq!(parse(input.as_bytes(), 1000), [Err(expected)], "{input}");
        }
        let mut parser = Parser::default();
        let step = parser.next(b"*2000000\r\n$4\r\nMSET\r\n", ALLOWED);
        assert_eq!(step, Step::Incomplete, "this is one");
        let long = "x".repeat(70_000);
        assert!(parse(long.as_bytes(), 1_000_000)[0].is_err());
    }

    /// The end of a line is searched with `strchr`.
    #[test]
    fn a_line_with_a_nul_byte_does_not_end_as_in_redis() {
        for (begin, text) in [
            ("PING\0\r\n", "too big inline request"),
            ("*1\0\r\n", "too big mbulk count string"),
            ("*1\r\n$4\0\r\n", "too big bulk count string"),
        ] {
            assert_eq!(parse(begin.as_bytes(), 1), [], "{begin:?}");
            let input = begin.to_owned() + &"PING\r\n".repeat(12_000);
            let expected = format!("ERR Protocol error: {text}");
            assert_eq!(parse(input.as_bytes(), input.len()), [Err(expected)]);
        }
        assert_eq!(parse(b"PING\r\n\0\r\n", 1).len(), 1);
    }

    #[test]
    fn a_client_that_has_not_logged_in_may_send_little() {
        let mut parser = Parser::default();
        let allowed = Allowed {
            authenticated: false,
            ..ALLOWED
        };
        let step = parser.next(b"*11\r\n", allowed);
        assert_eq!(step, error("unauthenticated multibulk length"));
        parser.reset();
        let step = parser.next(b"*1\r\n$20000\r\n", allowed);
        assert_eq!(step, error("unauthenticated bulk length"));
    }
}
