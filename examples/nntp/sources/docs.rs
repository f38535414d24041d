//! The crate's documentation as a group, with an article for each file.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::address::text;
use super::crlf;
use crate::server::Spool;
use crate::server::article::Memory;
use crate::server::date::{now, rfc5322, unix};
use crate::server::head::Head;

/// The name of the group.
pub const GROUP: &str = "asynchat.docs";

static FILES: &[(&str, &str)] = &[
    ("README.md", include_str!("../../../README.md")),
    ("guide.md", include_str!("../../../docs/guide.md")),
    ("porting.md", include_str!("../../../docs/porting.md")),
    (
        "architecture.md",
        include_str!("../../../docs/architecture.md"),
    ),
    ("CHANGELOG.md", include_str!("../../../CHANGELOG.md")),
];

/// Adds the group with its articles. `talk` is the group for follow-ups.
pub fn add(spool: &mut Spool, talk: &str) {
    let date = built();
    let group = spool.add_group(GROUP, "The documentation of asynchat", date, false);
    for (file, markdown) in FILES {
        let title = markdown.lines().find_map(|line| line.strip_prefix("# "));
        let subject = format!("{file}: {}", title.unwrap_or("asynchat"));
        // The Message-ID depends on the text. So newsreaders show a changed text as a new article.
        let mut hasher = DefaultHasher::new();
        markdown.hash(&mut hasher);
        let head = format!(
            "Path: docs!not-for-mail\r\n\
             From: \"The asynchat project\" <docs@asynchat.invalid>\r\n\
             Newsgroups: {GROUP}\r\nFollowup-To: {talk}\r\n\
             Subject: {}\r\nDate: {}\r\nMessage-ID: <{file}.{:016x}@docs.asynchat.invalid>\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=UTF-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n",
            text(&subject),
            rfc5322(date),
            hasher.finish(),
        );
        spool.append(
            &group,
            Memory::new(Head::repair(head.as_bytes()), crlf(markdown)).article(date),
        );
    }
}

/// When this program was built, which is the date of the documentation in it.
fn built() -> i64 {
    let program = std::env::current_exe().and_then(std::fs::metadata);
    let time = program.and_then(|metadata| metadata.modified());
    time.map_or_else(|_| now(), unix)
}
