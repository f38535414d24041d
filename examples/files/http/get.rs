//! GET and HEAD: a file, a part of it, or the page of a folder.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use std::slice;
use std::time::SystemTime;

use asynchat::{Addr, Chat};

use super::coding::{self, Coding};
use super::conditions::{self, Outcome, Validators, modified};
use super::range::Range;
use super::reply::{Content, Reply};
use super::{Service, own, page};
use crate::date::http_date;
use crate::failure::Failure;
use crate::http1::{AbsoluteForm, Request};
use crate::names::{Invalid, LONGEST, MOST_NAMES, Names};
use crate::tree::{Folder, Found};

/// Paths that begin so belong to the server itself. A folder of the name `-` is reached as `/%2D/`.
const OWN: &str = "/-/";

/// What a folder shows instead of its names.
const INDEX: &str = "index.html";

/// A file up to this size is read at once. A larger one is read while it is sent.
const SMALL: u64 = 16 << 10;

/// The client is the one that a proxy has named. Without an address it is unknown.
pub fn get(
    service: &Rc<Service>,
    request: &Request<'_>,
    (chat, client): (&Chat, Option<&Addr>),
    shutting_down: bool,
) -> Reply {
    let Some((path, query)) = path_of(request.target) else {
        return Reply::text(400, "the target is not a path");
    };
    if let Some(path) = path.strip_prefix(OWN) {
        return own::own(service, request, path, (chat, client), shutting_down);
    }
    let names = match Names::parse(path) {
        Ok(names) => names,
        Err(Invalid::Name) => return Reply::text(404, "there is no such file"),
        Err(Invalid::TooDeep) => return too_deep(),
        Err(Invalid::TooLong) => return too_long(),
    };
    reply(service, request, &names, query).unwrap_or_else(|error| failed(&names, &error))
}

/// The folder that the file is in stays open meanwhile: a path is walked once, also for the index of a folder and for the
/// compressed files beside it.
fn reply(
    service: &Service,
    request: &Request<'_>,
    names: &Names,
    query: Option<&str>,
) -> io::Result<Reply> {
    let parent = service.tree.parent(names)?;
    let found = match names.last() {
        Some(name) => parent.find(name)?,
        None => return folder(service, request, names, parent),
    };
    match found {
        Found::File(..) if names.is_folder => Ok(Reply::text(404, "it is a file")),
        Found::File(file, metadata) => {
            send_file(service, request, names, &parent, (file, metadata))
        }
        Found::Folder(found) if names.is_folder => folder(service, request, names, found),
        Found::Folder(_) => {
            let query = query.map_or(String::new(), |query| format!("?{query}"));
            let location = format!("{}{query}", names.as_folder());
            Ok(Reply::text(301, "it is a folder").field("Location", location))
        }
    }
}

pub fn too_deep() -> Reply {
    Reply::text(414, format!("the path has more than {MOST_NAMES} names"))
}

pub fn too_long() -> Reply {
    Reply::text(414, format!("the path has more than {LONGEST} bytes"))
}

/// The path and the query of a target in origin-form or absolute-form (RFC 9112 section 3.2).
pub fn path_of(target: &str) -> Option<(&str, Option<&str>)> {
    let rest = if target.starts_with('/') {
        target
    } else {
        let known = |it: &AbsoluteForm<'_>| it.has_scheme("http") || it.has_scheme("https");
        AbsoluteForm::parse(target).filter(known)?.path
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    Some((if path.is_empty() { "/" } else { path }, query))
}

/// The reply to an error of the file system.
pub fn failed(names: &Names, error: &io::Error) -> Reply {
    match Failure::of(names, error) {
        Failure::Missing => Reply::text(404, "there is no such file"),
        Failure::Refused => Reply::text(403, "the server may not do this"),
        Failure::IsFolder | Failure::NotEmpty => Reply::text(409, "it is a folder"),
        Failure::Exists => Reply::text(409, "there is something of this name"),
        Failure::Impossible => Reply::text(409, "this is not possible"),
        Failure::NoRoom | Failure::TooLarge => Reply::text(507, "there is no room for it"),
        Failure::InUse | Failure::Busy => {
            Reply::text(503, "the file cannot be used now").field("Retry-After", "10")
        }
        Failure::Broken => Reply::text(500, "the file cannot be used: the server has logged why"),
    }
}

fn folder(
    service: &Service,
    request: &Request<'_>,
    names: &Names,
    folder: Folder<'_>,
) -> io::Result<Reply> {
    match folder.find(OsStr::new(INDEX)) {
        Ok(Found::File(file, metadata)) => {
            let index = names.join(INDEX);
            return send_file(service, request, &index, &folder, (file, metadata));
        }
        Ok(Found::Folder(_)) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A folder with an index is not listed because the index cannot be read.
        Err(error) => return Err(error),
    }
    let listing = folder.list()?;
    let options = &service.options;
    let max_upload = options.write.then_some(options.max_upload);
    Ok(page::folder(names, listing, max_upload))
}

/// `folder` is the one that the file is in.
fn send_file(
    service: &Service,
    request: &Request<'_>,
    names: &Names,
    folder: &Folder<'_>,
    (file, metadata): (File, Metadata),
) -> io::Result<Reply> {
    let compressed = compressed(request, names, folder, modified(&metadata));
    let (mut file, metadata, coding) = match compressed {
        Some((file, metadata, coding)) => (file, metadata, coding.name),
        None => (file, metadata, ""),
    };
    let size = metadata.len();
    let validators = Validators::new(&metadata, coding, (service.options.clock)());
    let outcome = conditions::evaluate(request.fields, slice::from_ref(&validators), true);
    // Each reply that depends on which file is chosen.
    let chosen = |reply: Reply| reply.field("Vary", "Accept-Encoding");
    let identified = |reply: Reply| {
        let reply = chosen(reply.field("ETag", &validators.tag));
        // Otherwise a cache guesses how long the file stays the same (RFC 9111 section 4.2.2).
        reply.field("Cache-Control", "no-cache")
    };
    match outcome {
        Outcome::Perform => {}
        // The client has the other fields (RFC 9110 section 15.4.5).
        Outcome::NotModified => return Ok(identified(Reply::new(304, Content::None))),
        Outcome::Failed => return Ok(chosen(Reply::text(412, "the file is another one"))),
    }
    // RFC 9110 section 14.2: Range is for GET. Several ranges are answered with the whole file.
    let range = match request.fields.text("range") {
        Some(range)
            if request.method == "GET"
                && conditions::range_applies(request.fields, &validators) =>
        {
            Range::parse(range, size)
        }
        _ => Range::Whole,
    };
    let (status, start, length) = match range {
        Range::Whole => (200, 0, size),
        Range::Part { start, length } => (206, start, length),
        Range::Unsatisfiable => {
            let reply = chosen(Reply::text(416, "the file has no such part"));
            return Ok(reply.field("Content-Range", format!("bytes */{size}")));
        }
    };
    if start > 0 {
        file.seek(SeekFrom::Start(start))?;
    }
    let content = if length <= SMALL {
        // The file is closed before the reply is sent.
        let mut bytes = Vec::with_capacity(length as usize);
        let read = file.take(length).read_to_end(&mut bytes)?;
        if (read as u64) < length {
            // It has been truncated meanwhile, and with it its tag.
            let reply = Reply::text(503, "the file is being changed");
            return Ok(reply.field("Retry-After", "1"));
        }
        Content::Bytes(bytes)
    } else {
        Content::File(file, length, names.clone())
    };
    let reply = identified(Reply::new(status, content))
        .field("Last-Modified", http_date(validators.modified))
        .field("Content-Type", content_type(names.as_path()))
        .field("Accept-Ranges", "bytes");
    let reply = match coding {
        "" => reply,
        coding => reply.field("Content-Encoding", coding),
    };
    Ok(match range {
        Range::Part { .. } => {
            let last = start + length - 1;
            reply.field("Content-Range", format!("bytes {start}-{last}/{size}"))
        }
        _ => reply,
    })
}

/// The compressed file that is sent instead of the original, if there is one that the client accepts.
fn compressed(
    request: &Request<'_>,
    names: &Names,
    folder: &Folder<'_>,
    original: SystemTime,
) -> Option<(File, Metadata, Coding)> {
    let name = names.last()?;
    coding::accepted(request.fields).find_map(|coding| {
        let (file, metadata) = coding.find(folder, name, original)?;
        Some((file, metadata, coding))
    })
}

/// By the extension. Text is taken for UTF-8, as everything is today.
fn content_type(path: &Path) -> Cow<'static, str> {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let found = mime_guess::from_ext(extension).first_raw();
    match found.unwrap_or("application/octet-stream") {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8").into(),
        other => other.into(),
    }
}
