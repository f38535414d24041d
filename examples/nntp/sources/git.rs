//! A git history as a group, with an article for each commit: its message and the
//! list of changed files.
//!
//! One `git log` reads the history at the start. A process for each requested
//! article would block the loop.

use std::path::Path;
use std::process::Command;

use super::address::{mailbox, text};
use super::crlf;
use crate::server::Spool;
use crate::server::article::Memory;
use crate::server::date::rfc5322;
use crate::server::head::Head;

/// The name of the group.
pub const GROUP: &str = "asynchat.git";

/// The domain of Message-IDs, and of authors without an address.
const DOMAIN: &str = "git.asynchat.invalid";

/// The output for each commit is a NUL, seven fields that each end with a NUL, and
/// the output of `--stat`. No field can contain a NUL.
const FORMAT: &str = "--format=%x00%H%x00%P%x00%an%x00%ae%x00%at%x00%ct%x00%B%x00";
const FIELDS: usize = 8;

/// Adds the group with the last `most` commits of the clone that contains
/// `directory`, the oldest first. The error is the reason why there are none.
pub fn add(spool: &mut Spool, directory: &Path, most: usize, talk: &str) -> Result<(), String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args([
            "log",
            "--reverse",
            "--stat=76",
            "--no-color",
            "--encoding=UTF-8",
        ])
        .arg(format!("--max-count={most}"))
        .arg(FORMAT)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(why.lines().next().unwrap_or("git log failed").to_owned());
    }
    let log = String::from_utf8_lossy(&output.stdout);
    let fields: Vec<&str> = log.split('\0').skip(1).collect();
    let commits = fields.chunks_exact(FIELDS).filter_map(Commit::parse);
    let mut commits = commits.peekable();
    let Some(oldest) = commits.peek() else {
        return Err("no commits yet".to_owned());
    };
    let group = spool.add_group(GROUP, "The commits of asynchat", oldest.committed, false);
    for commit in commits {
        spool.append(&group, commit.text(talk).article(commit.committed));
    }
    Ok(())
}

struct Commit<'a> {
    hash: &'a str,
    parents: &'a str,
    name: &'a str,
    email: &'a str,
    /// Seconds of Unix time.
    authored: i64,
    committed: i64,
    message: &'a str,
    stat: &'a str,
}

impl<'a> Commit<'a> {
    fn parse(fields: &[&'a str]) -> Option<Commit<'a>> {
        let &[
            hash,
            parents,
            name,
            email,
            authored,
            committed,
            message,
            stat,
        ] = fields
        else {
            return None;
        };
        Some(Commit {
            hash,
            parents,
            name,
            email,
            authored: authored.parse().ok()?,
            committed: committed.parse().ok()?,
            message: message.trim_end(),
            stat: stat.trim_matches('\n'),
        })
    }

    fn text(&self, talk: &str) -> Memory {
        let Commit {
            hash,
            parents,
            message,
            stat,
            ..
        } = self;
        let subject = message.lines().next().unwrap_or_default();
        let mut head = Head::default();
        for (name, value) in [
            ("Path", "git!not-for-mail"),
            ("From", &mailbox(self.name, self.email, DOMAIN)),
            ("Newsgroups", GROUP),
            ("Followup-To", talk),
            (
                "Subject",
                &text(if subject.trim().is_empty() {
                    hash
                } else {
                    subject
                }),
            ),
            ("Date", &rfc5322(self.authored)),
            ("Message-ID", &format!("<{hash}@{DOMAIN}>")),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=UTF-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ] {
            head.push(name, value);
        }
        // The first commit has no parents, and a merge has no stat. Their lines are then empty.
        let lines = [
            format!("commit {hash}"),
            format!("parent {parents}"),
            String::new(),
            format!("{message}\n"),
            (*stat).to_owned(),
        ];
        Memory::new(head, crlf(lines.join("\n").trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use asynchat::{More, Producer};

    use super::*;

    #[test]
    fn a_commit_becomes_an_article() {
        let log = "\0abc\0\0Zoë\0z@x.invalid\x001000000000\x001000000001\0subject\n\n.body\n\0\n\n f | 1 +\n";
        let fields: Vec<&str> = log.split('\0').skip(1).collect();
        let commit = Commit::parse(&fields).unwrap();
        let article = commit.text("talk").article(commit.committed);
        assert_eq!(article.message_id, "<abc@git.asynchat.invalid>");
        assert_eq!(article.subject, b"subject");
        assert!(article.from.starts_with(b"=?utf-8?"));
        assert_eq!(article.date, b"Sun, 9 Sep 2001 01:46:40 +0000");
        assert_eq!((article.arrived, article.lines), (1_000_000_001, 8));
    }

    #[test]
    fn hostile_names_and_messages_make_a_valid_article() {
        let fields = [
            "abc",
            "",
            "Doe, Jane \"J.\" <x>\r\nApproved: y",
            "no address",
            "99999999999999",
            "1",
            "subject\r\nApproved: mod@x\rtwo\n\n.\nthree\rfour\u{7}\n",
            "",
        ];
        let commit = Commit::parse(&fields).unwrap();
        let article = commit.text("talk").article(commit.committed);
        assert_eq!(
            article.from,
            br#""Doe, Jane \"J.\" <x> Approved: y" <noaddress@git.asynchat.invalid>"#
        );
        assert_eq!(article.subject, b"subject");
        assert_eq!(article.date, b"Fri, 31 Dec 9999 23:59:59 +0000");
        let head = article.head("srv").unwrap();
        assert_eq!(Head::parse(head.as_bytes()).as_ref(), Ok(&head));
        assert!(head.value("Approved").is_none());
        let More::Chunk(body) = article.body().unwrap().more(1000).unwrap() else {
            panic!("there is a body");
        };
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            body.contains("\r\nApproved: mod@x two\r\n\r\n.\r\nthree four\u{7}\r\n"),
            "{body:?}"
        );
        assert_eq!(
            article.bytes("srv"),
            (head.as_bytes().len() + 2 + body.len()) as u64
        );
    }
}
