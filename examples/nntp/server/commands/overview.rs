//! OVER and HDR (RFC 3977, sections 8.3 and 8.5), and their predecessors XOVER and
//! XHDR (RFC 2980, sections 2.8 and 2.6).

use std::io::Write as _;
use std::rc::Rc;

use super::super::article::Article;
use super::super::range::Range;
use super::super::session::Session;
use super::super::throttled_warning::ThrottledWarning;
use super::articles::{NO_SUCH_NUMBER, by_id, current};
use super::rows::{Rows, of_articles};
use super::{Outcome, Refusal, SYNTAX};

/// The fields of an overview line after its number. Section 8.4.2 allows `Bytes:`
/// and `Lines:` instead of `:bytes` and `:lines`, and slrn 1.0.3 uses the overview
/// only with these names.
pub const FORMAT: [&str; 8] = [
    "Subject:",
    "From:",
    "Date:",
    "Message-ID:",
    "References:",
    "Bytes:",
    "Lines:",
    "Xref:full",
];

pub fn over(session: &mut Session, arguments: &[&str]) -> Outcome {
    let articles = choose(session, arguments.first(), NO_SUCH_NUMBER)?;
    push_overview(session, articles);
    Ok(())
}

pub fn xover(session: &mut Session, arguments: &[&str]) -> Outcome {
    if arguments.first().is_some_and(|word| word.starts_with('<')) {
        return Err(SYNTAX);
    }
    let articles = choose(session, arguments.first(), NONE_SELECTED)?;
    push_overview(session, articles);
    Ok(())
}

pub fn hdr(session: &mut Session, arguments: &[&str]) -> Outcome {
    let field = Field::parse(arguments[0])?;
    let articles = choose(session, arguments.get(1), NO_SUCH_NUMBER)?;
    session.reply("225 headers follow");
    push_field(session, field, articles, None);
    Ok(())
}

pub fn xhdr(session: &mut Session, arguments: &[&str]) -> Outcome {
    let field = Field::parse(arguments[0])?;
    let articles = choose(session, arguments.get(1), NONE_SELECTED)?;
    session.reply("221 header follows");
    let by_id = arguments.get(1).filter(|word| word.starts_with('<'));
    push_field(session, field, articles, by_id.map(|&id| id.to_owned()));
    Ok(())
}

/// The reply of RFC 2980 to a range without articles. OVER and HDR reply 423.
const NONE_SELECTED: Refusal = Refusal("420 no articles selected");

type Articles = Box<dyn Iterator<Item = (u64, Rc<Article>)>>;

/// The articles that an argument selects: one by message-id, a range, or the
/// current one without an argument. If there are none, the result is a refusal.
fn choose(session: &Session, argument: Option<&&str>, none: Refusal) -> Outcome<Articles> {
    match argument {
        None => Ok(Box::new(std::iter::once(current(session)?))),
        Some(id) if id.starts_with('<') => Ok(Box::new(std::iter::once(by_id(session, id)?))),
        Some(range) => {
            let range = Range::parse(range).ok_or(SYNTAX)?;
            let mut articles = session.selected()?.range(range).peekable();
            articles.peek().ok_or(none)?;
            Ok(Box::new(articles))
        }
    }
}

fn push_overview(session: &Session, articles: Articles) {
    session.reply("224 overview information follows");
    let name = session.service.options.name.clone();
    session.chat.push_with_producer(Rows::new(of_articles(
        articles,
        move |row, number, article| {
            // Writing to memory does not fail.
            let _ = write!(row, "{number}");
            let texts = [
                article.subject.as_slice(),
                &article.from,
                &article.date,
                article.message_id.as_bytes(),
                &article.references,
            ];
            for text in texts {
                row.push(b'\t');
                row.extend_from_slice(text);
            }
            let (bytes, lines) = (article.bytes(&name), article.lines);
            let xref = article.xref(&name);
            let _ = write!(row, "\t{bytes}\t{lines}\tXref: {xref}");
            FIELDS_COST + row.len() / 64
        },
    )));
}

/// Pushes a line for each article with the value of `field`. If `label` is set, it
/// replaces the number: XHDR repeats the requested message-id, where HDR has 0.
fn push_field(session: &Session, field: Field, articles: Articles, label: Option<String>) {
    let name = session.service.options.name.clone();
    session.chat.push_with_producer(Rows::new(of_articles(
        articles,
        move |row, number, article| {
            let _ = match &label {
                Some(id) => write!(row, "{id} "),
                None => write!(row, "{number} "),
            };
            field.write(row, article, &name)
        },
    )));
}

/// The argument of HDR: a header field, or a metadata item.
enum Field {
    Bytes,
    Lines,
    Xref,
    Header(String),
}

impl Field {
    fn parse(name: &str) -> Outcome<Field> {
        let metadata = name.strip_prefix(':');
        match metadata.unwrap_or(name).to_ascii_lowercase().as_str() {
            "bytes" if metadata.is_some() => Ok(Field::Bytes),
            "lines" if metadata.is_some() => Ok(Field::Lines),
            _ if metadata.is_some() => Err(Refusal("503 no such metadata item")),
            "xref" => Ok(Field::Xref),
            "" => Err(SYNTAX),
            field if field.contains(':') || !field.is_ascii() => Err(SYNTAX),
            field => Ok(Field::Header(field.to_owned())),
        }
    }

    /// Appends the value and returns the cost of doing so, in the units of [`Rows`].
    fn write(&self, row: &mut Vec<u8>, article: &Article, name: &str) -> usize {
        let _ = match self {
            Field::Bytes => write!(row, "{}", article.bytes(name)),
            Field::Lines => write!(row, "{}", article.lines),
            Field::Xref => row.write_all(article.xref(name).as_bytes()),
            Field::Header(field) => match field.as_str() {
                "subject" => row.write_all(&article.subject),
                "from" => row.write_all(&article.from),
                "date" => row.write_all(&article.date),
                "message-id" => row.write_all(article.message_id.as_bytes()),
                "references" => row.write_all(&article.references),
                _ => return write_from_head(row, article, field, name),
            },
        };
        // The list of groups is read for Xref and for its length.
        FIELDS_COST + article.locations_size() / 64
    }
}

/// The cost of a line that is made from fields in memory.
const FIELDS_COST: usize = 4;

/// The cost of a line for which a header is read, possibly from the disk.
const HEAD_COST: usize = 64;

fn write_from_head(row: &mut Vec<u8>, article: &Article, field: &str, server: &str) -> usize {
    match article.head(server) {
        Ok(head) => {
            row.extend_from_slice(&head.value(field).unwrap_or_default());
            HEAD_COST + head.as_bytes().len() / 64
        }
        // The line must remain in the list, so it has an empty value. RFC 3977 has no reply for an
        // error in the middle of a list.
        Err(error) => {
            static UNREADABLE: ThrottledWarning =
                ThrottledWarning::new("cannot read the header of an article");
            UNREADABLE.log(&error);
            HEAD_COST
        }
    }
}
