//! Which callbacks a session must get, computed from the whole stream rather than from its
//! segments.

use std::ops::Range;

use asynchat::Terminator;

/// A terminator in its simplest form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Crlf,
    Line,
    Needle(&'static [u8; 4]),
    Count(usize),
    Dot,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) ends: Ends,
    pub(crate) streamed: bool,
    /// Not with `streamed`.
    pub(crate) owned: bool,
    /// Only where the stream contains the terminator.
    pub(crate) inclusive: bool,
}

impl Mode {
    pub(crate) const CRLF: Mode = Mode {
        ends: Ends::Crlf,
        streamed: false,
        owned: false,
        inclusive: false,
    };

    pub(crate) fn terminator(self) -> Terminator {
        let terminator = match self.ends {
            Ends::Crlf => Terminator::crlf(),
            Ends::Line => Terminator::line(),
            Ends::Needle(needle) => Terminator::bytes(needle),
            Ends::Count(n) => Terminator::count(n as u64),
            Ends::Dot => Terminator::dot_block(),
            Ends::Never => Terminator::none(),
        };
        let terminator = if self.inclusive {
            terminator.inclusive()
        } else {
            terminator
        };
        match (self.streamed, self.owned) {
            (true, _) => terminator.streamed(),
            (false, true) => terminator.owned(),
            (false, false) => terminator,
        }
    }

    /// The end of the record at the start of `rest`, and the start of the next one; `None` if it is
    /// incomplete.
    fn end_in(self, rest: &[u8]) -> Option<(usize, usize)> {
        let (end, next) = self.terminator_in(rest)?;
        Some((if self.inclusive { next } else { end }, next))
    }

    /// The start and the end of the terminator of the record at the start of `rest`.
    fn terminator_in(self, rest: &[u8]) -> Option<(usize, usize)> {
        let find = |needle: &[u8]| rest.windows(needle.len()).position(|at| at == needle);
        match self.ends {
            Ends::Crlf => find(b"\r\n").map(|at| (at, at + 2)),
            Ends::Needle(needle) => find(needle).map(|at| (at, at + needle.len())),
            Ends::Line => find(b"\n").map(|at| {
                if rest[..at].ends_with(b"\r") {
                    (at - 1, at + 1)
                } else {
                    (at, at + 1)
                }
            }),
            Ends::Count(n) => (n <= rest.len()).then_some((n, n)),
            Ends::Dot => {
                if rest.starts_with(b".\r\n") {
                    Some((0, 3))
                } else {
                    find(b"\r\n.\r\n").map(|at| (at + 2, at + 5))
                }
            }
            Ends::Never => None,
        }
    }
}

impl Mode {
    /// What is delivered of the bytes of a record.
    fn delivered(self, bytes: &[u8]) -> Vec<u8> {
        match self.ends {
            Ends::Dot if !self.inclusive => unstuffed(bytes),
            _ => bytes.to_vec(),
        }
    }

    /// Whether the chunks of a record have to be collected: their bytes, or where one ends, do not show where
    /// the rest of the record begins.
    fn collects_chunks(self) -> bool {
        self.streamed && (self.ends == Ends::Dot || self.inclusive)
    }
}

/// The block as it is delivered: without the first dot of each line that begins with one.
fn unstuffed(block: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(block.len());
    let mut rest = block;
    while !rest.is_empty() {
        let line = rest.windows(2).position(|at| at == b"\r\n");
        let (line, behind) = rest.split_at(line.map_or(rest.len(), |at| at + 2));
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = behind;
    }
    content
}

/// Follows a session through its input.
#[derive(Debug)]
pub(crate) struct Oracle {
    mode: Mode,
    /// Set while a record is being discarded. Applies from its end.
    next: Option<Mode>,
    /// The start of the current record, or of the rest of it if it is streamed.
    at: usize,
    /// What has been delivered of a record whose chunks are collected.
    block: Vec<u8>,
    /// How much has been delivered of a streamed count.
    counted: usize,
    /// Whether a part of a streamed record has been delivered.
    in_chunks: bool,
    discarding: bool,
    limit: usize,
}

type Verdict = Result<(), String>;

impl Oracle {
    pub(crate) fn new(limit: usize) -> Self {
        Oracle {
            mode: Mode::CRLF,
            next: None,
            at: 0,
            block: Vec::new(),
            counted: 0,
            in_chunks: false,
            discarding: false,
            limit,
        }
    }

    /// Whether `received` bytes of the stream contain an incomplete record at their end.
    pub(crate) fn is_begun(&self, received: usize) -> bool {
        self.at < received || self.in_chunks || self.discarding
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// A new terminator is set. It applies from the first byte that has not been delivered.
    pub(crate) fn set(&mut self, mode: Mode) {
        if self.mode.inclusive {
            self.at += self.block.len();
        }
        if self.discarding {
            self.next = Some(mode);
        } else {
            self.begin(mode);
        }
    }

    /// Input that was received and not delivered is discarded.
    pub(crate) fn discard_until(&mut self, at: usize) {
        self.at = at;
        self.discarding = false;
        let mode = self.next.take().unwrap_or(self.mode);
        self.begin(mode);
    }

    fn begin(&mut self, mode: Mode) {
        self.mode = mode;
        self.counted = 0;
        self.block.clear();
        self.in_chunks = false;
    }

    /// The mode for the rest of the current record.
    fn mode_now(&self) -> Mode {
        match self.mode {
            Mode {
                ends: Ends::Count(n),
                streamed: true,
                ..
            } => Mode {
                ends: Ends::Count(n - self.counted),
                ..self.mode
            },
            mode => mode,
        }
    }

    /// The next record in the stream: its content, and the start of the one after it.
    fn find(&self, stream: &[u8]) -> Option<(Range<usize>, usize)> {
        let rest = stream.get(self.at..)?;
        let (end, next) = self.mode_now().end_in(rest)?;
        Some((self.at..self.at + end, self.at + next))
    }

    /// Skips the record that is being discarded, if its end has arrived.
    fn skip(&mut self, stream: &[u8]) {
        if self.discarding
            && let Some((_, next)) = self.find(stream)
        {
            self.discard_until(next);
        }
    }

    /// Whether a complete record has not been delivered.
    pub(crate) fn has_record(&mut self, stream: &[u8]) -> bool {
        self.skip(stream);
        // A count of zero fires once. The session knows whether it has fired.
        !self.discarding && self.mode.ends != Ends::Count(0) && self.find(stream).is_some()
    }

    pub(crate) fn record(&mut self, stream: &[u8], record: &[u8]) -> Verdict {
        self.skip(stream);
        let Some((content, next)) = self.find(stream).filter(|_| !self.discarding) else {
            return Err(format!(
                "an incomplete record was delivered: {self:?}, {record:?}"
            ));
        };
        let content = self.mode.delivered(&stream[content]);
        let delivered = match self.mode.streamed {
            false => record,
            true if self.mode.collects_chunks() => &self.block,
            // The chunks before it are checked already.
            true => b"",
        };
        if self.mode.streamed && !record.is_empty() {
            return Err(format!(
                "the end of a streamed record is not empty: {record:?}"
            ));
        }
        if content != delivered {
            return Err(format!("{delivered:?} instead of {content:?}: {self:?}"));
        }
        if !self.mode.streamed && content.len() > self.limit {
            return Err(format!("a record of {} exceeds its limit", content.len()));
        }
        self.at = next;
        self.begin(self.mode);
        Ok(())
    }

    pub(crate) fn chunk(&mut self, stream: &[u8], chunk: &[u8]) -> Verdict {
        self.skip(stream);
        if !self.mode.streamed || chunk.is_empty() || self.discarding {
            return Err(format!("an unexpected chunk: {self:?}, {chunk:?}"));
        }
        self.in_chunks = true;
        if self.mode.collects_chunks() {
            let end = self
                .find(stream)
                .map_or(stream.len(), |(content, _)| content.end);
            self.block.extend_from_slice(chunk);
            let content = self.mode.delivered(&stream[self.at..end]);
            return if content.starts_with(&self.block) {
                Ok(())
            } else {
                Err(format!("a wrong chunk of a block: {self:?}, {chunk:?}"))
            };
        }
        let end = self
            .find(stream)
            .map_or(stream.len(), |(content, _)| content.end);
        if !stream[self.at..end].starts_with(chunk) {
            return Err(format!("a wrong chunk: {self:?}, {chunk:?}"));
        }
        self.at += chunk.len();
        self.counted += chunk.len();
        Ok(())
    }

    pub(crate) fn overflow(&mut self, stream: &[u8], discards: bool) -> Verdict {
        self.skip(stream);
        let over = match (self.mode.ends, self.find(stream)) {
            (Ends::Count(n), _) => n > self.limit,
            (_, Some((content, _))) => self.mode.delivered(&stream[content]).len() > self.limit,
            (_, None) => stream.len() - self.at > self.limit,
        };
        if self.mode.streamed || self.discarding || !over {
            return Err(format!("an unexpected overflow: {self:?}"));
        }
        self.discarding = discards;
        Ok(())
    }

    /// The end of the stream, with this partial record.
    pub(crate) fn end(&mut self, stream: &[u8], partial: &[u8]) -> Verdict {
        self.skip(stream);
        // The partial content of a streamed block is unknown here, and so is what is stored of a
        // discarded record.
        if self.discarding || self.mode.ends == Ends::Dot && !self.mode.inclusive {
            return Ok(());
        }
        let delivered = if self.mode.collects_chunks() {
            &self.block[..]
        } else {
            b""
        };
        let rest = stream.get(self.at..).unwrap_or_default();
        match self.find(stream) {
            Some(_) if self.mode.ends != Ends::Count(0) => Err(format!(
                "handle_eof before a complete record was delivered: {self:?}"
            )),
            _ if rest == [delivered, partial].concat() => Ok(()),
            _ => Err(format!("a wrong partial record: {self:?}, {partial:?}")),
        }
    }
}
