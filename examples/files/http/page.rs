//! The page of a folder. Its names are read and sorted, and then its rows are made, a bounded number in each turn.

use std::ffi::OsStr;
use std::fmt::{self, Display, Write as _};
use std::io;
use std::time::SystemTime;

use asynchat::{More, Producer};

use super::reply::{Content, Reply};
use crate::date::http_date;
use crate::failure::Logged;
use crate::names::{Names, encoded};
use crate::sorted::SortedNames;
use crate::tree::Listing;

/// How many rows a call makes. Each takes a system call.
const ROWS: usize = 100;

/// In the page: programs that mirror a folder would take a style sheet of its own for a part of it.
const STYLE: &str = include_str!("page.css");

/// `max_upload`: the most bytes of an upload, if there are any.
pub fn folder(names: &Names, listing: Listing, max_upload: Option<u64>) -> Reply {
    let rows = Rows {
        start: Some(start(names, max_upload)),
        names: SortedNames::new(listing),
        is_ended: false,
    };
    let rows = Logged::new(rows, names.clone());
    Reply::new(200, Content::Made(Box::new(rows)))
        .field("Content-Type", "text/html; charset=utf-8")
        .field("Cache-Control", "no-cache")
        .field(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
}

/// Everything before the rows.
fn start(names: &Names, max_upload: Option<u64>) -> String {
    let title = format!("/{}", names.display());
    let title = Escaped(title.trim_end_matches('/'));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}/</title>\n<style>\n{STYLE}</style>\n\
         <header>\n<h1><a href=\"/\">files</a>"
    );
    // Relative links: whole paths would make a page of megabytes of a long path.
    let depth = names.as_path().iter().count();
    for (n, name) in names.as_path().iter().enumerate() {
        let (up, shown) = ("../".repeat(depth - n - 1), name.to_string_lossy());
        let _ = write!(page, " / <a href=\"./{up}\">{}</a>", Escaped(shown));
    }
    page.push_str("</h1>\n</header>\n<main>\n");
    if let Some(most) = max_upload {
        let _ = writeln!(
            page,
            "<form id=\"upload\" data-most=\"{most}\" hidden><label>Upload files <input type=\"file\" multiple></label>\
             <span>up to {most} bytes each</span><output></output></form>\n<script src=\"/-/files.js\" defer></script>"
        );
    }
    page.push_str("<table>\n<thead><tr><th>Name<th>Size<th>Changed (UTC)</thead>\n<tbody>\n");
    if names.last().is_some() {
        page.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    page
}

struct Rows {
    start: Option<String>,
    names: SortedNames,
    is_ended: bool,
}

impl Rows {
    fn row(&self, page: &mut String, name: &OsStr) {
        let Some(entry) = self.names.look(name) else {
            return; // it was removed, or it is no file
        };
        let slash = if entry.is_folder { "/" } else { "" };
        let shown = name.to_string_lossy();
        let (href, shown) = (encoded(name), Escaped(shown));
        let _ = write!(page, "<tr><td><a href=\"{href}{slash}\">{shown}{slash}</a>");
        if entry.is_folder {
            page.push_str("<td>");
        } else {
            let _ = write!(
                page,
                "<td title=\"{} bytes\">{}",
                entry.size,
                Size(entry.size)
            );
        }
        let _ = writeln!(
            page,
            "<td>{}",
            entry.modified.map_or(String::new(), minutes)
        );
    }
}

impl Producer for Rows {
    fn more(&mut self, budget: usize) -> io::Result<More> {
        if let Some(start) = self.start.take() {
            return Ok(More::Chunk(start.into()));
        }
        if self.is_ended {
            return Ok(More::Done);
        }
        if self.names.read()? {
            return Ok(More::Chunk(Default::default()));
        }
        let mut page = String::new();
        for _ in 0..ROWS {
            if page.len() >= budget {
                break;
            }
            let Some(name) = self.names.pop() else {
                break;
            };
            self.row(&mut page, &name);
        }
        if self.names.is_at_end() {
            page.push_str("</tbody>\n</table>\n</main>\n");
            self.is_ended = true;
        }
        Ok(More::Chunk(page.into()))
    }
}

/// Text of a page. The characters that end it are escaped, and those that change the direction of what follows are replaced: a
/// name must not look like another one.
struct Escaped<T>(T);

impl<T: AsRef<str>> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.as_ref().chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A size for people: three digits, and a unit that is a power of 1000.
struct Size(u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        for unit in ["B", "kB", "MB", "GB", "TB", "PB"] {
            let digits = usize::from(size < 9.95 && unit != "B");
            if size < 999.5 {
                return write!(f, "{size:.digits$} {unit}");
            }
            size /= 1000.0;
        }
        write!(f, "{size:.0} EB")
    }
}

/// `06 Nov 1994 08:49`
fn minutes(time: SystemTime) -> String {
    let date = http_date(time);
    date.get(5..22).unwrap_or_default().to_owned()
}
