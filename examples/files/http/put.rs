//! PUT and DELETE, which need a user.

use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use tracing::info;

use super::Service;
use super::coding::CODINGS;
use super::conditions::{self, Outcome, Validators, modified};
use super::get::{failed, path_of, too_deep, too_long};
use super::reply::{Content, Reply};
use crate::author::Author;
use crate::http1::{Framing, Request};
use crate::names::{Invalid, Names};
use crate::status::Connection;
use crate::tree::{self, Found};

/// A file that is being received.
pub struct Upload {
    file: tree::Upload,
    names: Names,
    author: Author,
    /// The tag of the file with which the conditions of the request were evaluated, if it has any. It must not have changed at
    /// the end.
    condition: Option<Option<String>>,
}

/// Begins an upload. Everything that can be checked is checked before the client sends the body.
pub fn begin(
    service: &Service,
    request: &Request<'_>,
    connection: &Connection,
    author: Author,
) -> Result<Upload, Reply> {
    let names = target(request)?;
    if names.is_folder {
        return Err(Reply::text(409, "it is the name of a folder"));
    }
    // RFC 9110 section 14.5: a part must not be taken for the whole.
    if request.fields.has("content-range") {
        return Err(Reply::text(400, "a part of a file cannot be uploaded"));
    }
    // Section 8.4: the file would be sent without the coding, and its content would be another one.
    let is_identity = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
    if !request.fields.list("content-encoding").all(is_identity) {
        return Err(
            Reply::text(415, "a file is stored as it is sent").field("Accept-Encoding", "identity")
        );
    }
    match request.framing {
        Framing::Empty if !request.fields.has("content-length") => {
            return Err(Reply::text(411, "the length of the file is missing"));
        }
        Framing::Length(length) if length > service.options.max_upload => {
            return Err(too_large());
        }
        _ => {}
    }
    let current = current(service, request, &names)?;
    let condition = condition(request, current)?;
    let open_file = service.open_file(connection);
    let open_file = open_file.ok_or_else(Reply::too_many_files)?;
    let file = service.tree.upload(&names, open_file).map_err(|error| {
        match error.kind() {
            // RFC 4918 section 9.7.1 names the status.
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                Reply::text(409, "there is no such folder: a PUT makes none")
            }
            _ => failed(&names, &error),
        }
    })?;
    Ok(Upload {
        file,
        names,
        author,
        condition,
    })
}

impl Upload {
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Reply> {
        let outcome = self.file.write(piece);
        outcome.map_err(|error| failed(&self.names, &error))
    }

    /// The body is complete.
    pub fn finish(mut self, service: &Rc<Service>) -> Reply {
        let before = match self.before(service) {
            Ok(before) => before,
            Err(reply) => return reply,
        };
        if self
            .condition
            .as_ref()
            .is_some_and(|expected| *expected != before)
        {
            return Reply::text(412, "the file was changed meanwhile");
        }
        let metadata = match self.file.finish((service.options.clock)()) {
            Ok(metadata) => metadata,
            Err(error) => return failed(&self.names, &error),
        };
        let size = metadata.as_ref().map(Metadata::len);
        info!(names = ?self.names.display(), author = %self.author, size, "uploaded");
        stored(&self.names, before.is_some(), metadata.as_ref())
    }

    /// The tag of what will be replaced. It is in the folder in which the upload has begun.
    fn before(&self, service: &Service) -> Result<Option<String>, Reply> {
        let folder = service.tree.folder_of(&self.file);
        let folder = folder.map_err(|error| failed(&self.names, &error))?;
        let folder = folder.ok_or_else(|| {
            Reply::text(409, "the folder was renamed, removed or replaced meanwhile")
        })?;
        let name = self.names.last().unwrap_or_default();
        let file = file(&self.names, folder.find(name))?;
        Ok(file.map(|metadata| tag(&metadata)))
    }
}

/// The tag of a file, which does not depend on the time now.
fn tag(file: &Metadata) -> String {
    Validators::new(file, "", modified(file)).tag
}

/// The reply to an upload that is complete. Without its metadata it has no entity tag.
fn stored(names: &Names, is_replaced: bool, metadata: Option<&Metadata>) -> Reply {
    let reply = if is_replaced {
        Reply::new(204, Content::None)
    } else {
        Reply::text(201, "the file is stored").field("Location", names.to_string())
    };
    match metadata {
        Some(metadata) => reply.field("ETag", tag(metadata)),
        None => reply,
    }
}

pub fn delete(
    service: &Service,
    request: &Request<'_>,
    connection: &Connection,
    author: &Author,
) -> Reply {
    let delete = || -> Result<Reply, Reply> {
        let names = target(request)?;
        let current = current(service, request, &names)?;
        if current.is_empty() {
            return Err(Reply::text(404, "there is no such file"));
        }
        condition(request, current)?;
        let open_file = service.open_file(connection);
        let open_file = open_file.ok_or_else(Reply::too_many_files)?;
        service
            .tree
            .remove(&names, open_file)
            .map_err(|error| failed(&names, &error))?;
        info!(names = ?names.display(), %author, "deleted");
        Ok(Reply::new(204, Content::None))
    };
    delete().unwrap_or_else(|reply| reply)
}

pub fn too_large() -> Reply {
    Reply::text(413, "the file is too large")
}

/// What to write.
fn target(request: &Request<'_>) -> Result<Names, Reply> {
    let path = path_of(request.target).map(|(path, _)| path);
    let path = path.filter(|path| !path.starts_with("/-/"));
    match path.map_or(Err(Invalid::Name), Names::parse) {
        Ok(names) => Ok(names),
        Err(Invalid::Name) => Err(Reply::text(403, "no file can have this name")),
        Err(Invalid::TooDeep) => Err(too_deep()),
        Err(Invalid::TooLong) => Err(too_long()),
    }
}

/// The validators of what GET would send for this name: first those of the file, then those of the compressed ones beside it,
/// one of which the client may have got.
fn current(
    service: &Service,
    request: &Request<'_>,
    names: &Names,
) -> Result<Vec<Validators>, Reply> {
    let Some(original) = file(names, service.tree.find(names))? else {
        return Ok(Vec::new());
    };
    let now = (service.options.clock)();
    let mut current = vec![Validators::new(&original, "", now)];
    let has_tags = ["if-match", "if-none-match"].map(|name| request.fields.has(name));
    if has_tags.contains(&true)
        && let (Ok(folder), Some(name)) = (service.tree.parent(names), names.last())
    {
        current.extend(CODINGS.iter().filter_map(|coding| {
            let (_, metadata) = coding.find(&folder, name, modified(&original))?;
            Some(Validators::new(&metadata, coding.name, now))
        }));
    }
    Ok(current)
}

/// The metadata of a file that was looked for, or `None` if there is none.
fn file(names: &Names, found: io::Result<Found<'_>>) -> Result<Option<Metadata>, Reply> {
    match found {
        Ok(Found::File(_, metadata)) => Ok(Some(metadata)),
        Ok(Found::Folder(_)) => Err(Reply::text(409, "it is a folder")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(names, &error)),
    }
}

/// The tag of the file for which the conditions of the request hold, if it has any.
fn condition(
    request: &Request<'_>,
    current: Vec<Validators>,
) -> Result<Option<Option<String>>, Reply> {
    let fields = request.fields;
    if conditions::evaluate(fields, &current, false) != Outcome::Perform {
        return Err(Reply::text(412, "the file is another one"));
    }
    let names = ["if-match", "if-none-match", "if-unmodified-since"];
    let has_condition = names.iter().any(|name| fields.has(name));
    let original = current.into_iter().next().map(|it| it.tag);
    Ok(has_condition.then_some(original))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_stored_is_no_error_without_its_metadata() -> Result<(), Invalid> {
        let names = Names::parse("/new")?;
        assert_eq!(stored(&names, false, None).status, 201);
        assert_eq!(stored(&names, true, None).status, 204);
        Ok(())
    }
}
