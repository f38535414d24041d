//! Requests that depend on the state of a file (RFC 9110 section 13).

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::digits::hexadecimal;
use crate::http1::Fields;

/// What identifies a representation: it changes when the file does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// A strong entity tag, with its quotes.
    pub tag: String,
    /// In whole seconds, or the time at which this was made, if that is earlier.
    pub modified: SystemTime,
}

impl Validators {
    /// Of a file, and of its content with this coding (or `""`). A time after `now` is taken for `now`, as the client gets it:
    /// Last-Modified is not later than Date (RFC 9110 section 8.8.2.1).
    pub fn new(file: &Metadata, coding: &str, now: SystemTime) -> Validators {
        let since = modified(file).duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let seconds = since.as_secs();
        let mut tag = Vec::with_capacity(96);
        let mut push = |before, number| {
            tag.push(before);
            tag.extend_from_slice(hexadecimal(number).as_bytes());
        };
        push(b'"', seconds);
        push(b'.', since.subsec_nanos().into());
        push(b'.', file.len());
        // Whoever changes a file can set the other time back, as MFMT does. Nobody sets this one. It can stand still for some
        // milliseconds, in which a file that is replaced has another number.
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            push(b'.', file.ctime().cast_unsigned());
            push(b'.', file.ctime_nsec().cast_unsigned());
            push(b'.', file.ino());
        }
        if !coding.is_empty() {
            tag.push(b'-');
        }
        tag.extend_from_slice(coding.as_bytes());
        tag.push(b'"');
        Validators {
            tag: String::from_utf8(tag).unwrap_or_default(),
            modified: (UNIX_EPOCH + Duration::from_secs(seconds)).min(whole_seconds(now)),
        }
    }
}

pub fn modified(file: &Metadata) -> SystemTime {
    file.modified().unwrap_or(UNIX_EPOCH)
}

/// A date of HTTP has no fraction of a second.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// What the conditions of a request say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To perform the request.
    Perform,
    /// The client has this representation: 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the conditions in the order of RFC 9110 section 13.2.2. `current` is what there is, if anything: a tag is compared
/// with all of it, and a date with the first one. `reads` is whether the method is GET or HEAD.
pub fn evaluate(fields: Fields<'_>, current: &[Validators], reads: bool) -> Outcome {
    let (exists, modified) = (!current.is_empty(), current.first().map(|it| it.modified));
    let is_current = |tag: Tag<'_>| current.iter().any(|it| it.tag == tag.text);
    if fields.has("if-match") {
        let strong = |tag: Tag<'_>| !tag.weak && is_current(tag);
        if !matches(fields, "if-match", exists, strong) {
            return Outcome::Failed;
        }
    } else if let Some(date) = date(fields, "if-unmodified-since")
        // Section 13.1.4: it is ignored if there is no date to compare it with.
        && modified.is_some_and(|modified| modified > date)
    {
        return Outcome::Failed;
    }
    if fields.has("if-none-match") {
        if matches(fields, "if-none-match", exists, is_current) {
            return if reads {
                Outcome::NotModified
            } else {
                Outcome::Failed
            };
        }
    } else if let Some(date) = date(fields, "if-modified-since")
        && reads
        && modified.is_some_and(|modified| modified <= date)
    {
        return Outcome::NotModified;
    }
    Outcome::Perform
}

/// Whether Range applies: without If-Range, or if the client's part is of this representation (section 13.1.5). A date there
/// has to be a strong validator, and none is: two contents can have one date (section 8.8.2.2). A client that has the tag,
/// which is in each reply, must not send the date.
pub fn range_applies(fields: Fields<'_>, current: &Validators) -> bool {
    !fields.has("if-range") || fields.text("if-range") == Some(&*current.tag)
}

fn date(fields: Fields<'_>, name: &str) -> Option<SystemTime> {
    // A recipient ignores the field if it is no date.
    httpdate::parse_http_date(fields.text(name)?).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag<'a> {
    weak: bool,
    /// With its quotes.
    text: &'a str,
}

/// Whether the field is `*` and there is something, or lists a tag that matches. A malformed list ends at its error.
fn matches(
    fields: Fields<'_>,
    name: &str,
    exists: bool,
    mut is: impl FnMut(Tag<'_>) -> bool,
) -> bool {
    fields
        .all(name)
        .any(|value| match std::str::from_utf8(value) {
            Ok("*") => exists,
            Ok(list) => Tags(list).any(&mut is),
            Err(_) => false,
        })
}

/// The tags of a list. A tag may contain commas.
struct Tags<'a>(&'a str);

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        let rest = self.0.trim_start_matches([' ', '\t', ',']);
        let (weak, rest) = match rest.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let end = rest.strip_prefix('"')?.find('"')? + 2;
        self.0 = &rest[end..];
        Some(Tag {
            weak,
            text: &rest[..end],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{self, Write};

    use super::*;

    /// Files that were uploaded within a tick of the system's clock, of one length.
    #[test]
    fn the_tag_has_the_fine_time_and_the_number_of_the_file() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |nanos| UNIX_EPOCH + Duration::new(1_000_000_000, nanos);
        let file = |name: &str, modified: SystemTime| -> io::Result<(String, File)> {
            let mut file = File::create(folder.path().join(name))?;
            file.write_all(b"content")?;
            file.set_modified(modified)?;
            Ok((Validators::new(&file.metadata()?, "", modified).tag, file))
        };
        // What is in front of the ctime, also if the number of the file is used again.
        let start = |tag: &str| {
            let parts = tag.trim_matches('"').split('.');
            parts.take(3).collect::<Vec<_>>().join(".")
        };
        // Windows has steps of 100 ns.
        let (first, _open) = file("1", at(100))?;
        let (later, _) = file("1", at(200))?;
        assert_eq!(start(&first), "3b9aca00.64.7");
        assert_eq!(start(&later), "3b9aca00.c8.7");
        let (other, _open) = file("2", at(200))?;
        assert_eq!(start(&later), start(&other));
        if cfg!(unix) {
            let number = |tag: &str| tag.split('.').next_back().map(str::to_owned);
            assert_ne!(number(&later), number(&other));
        }
        Ok(())
    }
}
