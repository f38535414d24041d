//! OVER and HDR (RFC 3977, sections 8.3 and 8.5), and the XOVER and XHDR that
//! came before them (RFC 2980, sections 2.8 and 2.6).

use std::io::{self, Write as _};
use std::rc::Rc;

use asynchat::{More, Producer};
use bytes::BytesMut;

use super::super::article::Article;
use super::super::complaint::Complaint;
use super::super::range::Range;
use super::super::session::Session;
use super::articles::{NO_SUCH_NUMBER, by_id, current};
use super::{Outcome, Refusal, SYNTAX};

/// The fields of an overview line after its number. Section 8.4.2 allows these
/// names for `:bytes` and `:lines`, and slrn 1.0.3 uses no overview without.
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

/// RFC 2980 had another code for a range without articles.
const NONE_SELECTED: Refusal = Refusal("420 no articles selected");

type Articles = Box<dyn Iterator<Item = (u64, Rc<Article>)>>;

/// The articles that an argument means: one by message-id, a range, or without
/// an argument the current one. There is at least one.
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
    session.block(Rows::new(articles, move |row, number, article| {
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
    }));
}

/// `label` is what stands in the place of the number: XHDR repeats the
/// message-id it was asked for, where HDR says 0.
fn push_field(session: &Session, field: Field, articles: Articles, label: Option<String>) {
    let name = session.service.options.name.clone();
    session.block(Rows::new(articles, move |row, number, article| {
        let _ = match &label {
            Some(id) => write!(row, "{id} "),
            None => write!(row, "{number} "),
        };
        field.write(row, article, &name);
    }));
}

/// What HDR is asked for: a header field, or a metadata item.
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

    fn write(&self, row: &mut Vec<u8>, article: &Article, name: &str) {
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
                _ => match article.head(name) {
                    Ok(head) => row.write_all(&head.value(field).unwrap_or_default()),
                    // In the middle of a list there is no other answer left.
                    Err(error) => {
                        static HEADLESS: Complaint = Complaint::new("a head can not be read");
                        HEADLESS.tell(&error);
                        Ok(())
                    }
                },
            },
        };
    }
}

/// Rows in one call of the producer: each may read a head from the disk.
const ROWS: usize = 64;

/// A producer of lines, one for each article, made when they are wanted: an
/// overview of a million articles is never in memory.
pub struct Rows<I, F> {
    articles: I,
    write: F,
    ready: BytesMut,
    row: Vec<u8>,
}

impl<I, F> Rows<I, F>
where
    I: Iterator<Item = (u64, Rc<Article>)>,
    F: FnMut(&mut Vec<u8>, u64, &Article),
{
    /// `write` appends an article's line, without the CRLF.
    pub fn new(articles: I, write: F) -> Rows<I, F> {
        Rows {
            articles,
            write,
            ready: BytesMut::new(),
            row: Vec::new(),
        }
    }
}

impl<I, F> Producer for Rows<I, F>
where
    I: Iterator<Item = (u64, Rc<Article>)>,
    F: FnMut(&mut Vec<u8>, u64, &Article),
{
    fn more(&mut self, budget: usize) -> io::Result<More> {
        for _ in 0..ROWS {
            if self.ready.len() >= budget {
                break;
            }
            let Some((number, article)) = self.articles.next() else {
                break;
            };
            self.row.clear();
            (self.write)(&mut self.row, number, &article);
            self.row.extend_from_slice(b"\r\n");
            self.ready.extend_from_slice(&self.row);
        }
        if self.ready.is_empty() {
            return Ok(More::Done);
        }
        let size = budget.min(self.ready.len());
        Ok(More::Chunk(self.ready.split_to(size).freeze()))
    }
}
