//! COMMAND DOCS: what the table says of a command, and `docs.txt`, which has what only people need.
//!
//! A line of it is `name | since | complexity | arguments`, as in Redis. An argument is `name=type@TOKEN`, where the type
//! or the token may be missing, followed by `?` if it is optional, `+` if there may be several, and `*` if each of these
//! has the token. One of the type `oneof` or `block` has arguments itself, in parentheses.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::Command;
use crate::resp::reply::Reply;

/// A line of `docs.txt` without its name.
#[derive(Clone, Copy, Default)]
struct Line {
    since: &'static str,
    complexity: &'static str,
    arguments: &'static str,
}

fn lines() -> &'static HashMap<&'static str, Line> {
    static LINES: OnceLock<HashMap<&str, Line>> = OnceLock::new();
    LINES.get_or_init(|| {
        let lines = include_str!("docs.txt").lines();
        lines
            .map(|line| {
                // Names and arguments have no spaces beside the bar.
                let mut fields = line.split(" |").map(str::trim);
                let mut next = || fields.next().unwrap_or_default();
                let name = next();
                let line = Line {
                    since: next(),
                    complexity: next(),
                    arguments: next(),
                };
                (name, line)
            })
            .collect()
    })
}

pub(super) fn document(reply: &mut Reply, command: &Command) {
    let line = lines().get(command.name).copied().unwrap_or_default();
    let arguments = parse(&mut { line.arguments });
    let texts = [
        ("summary", command.summary),
        ("since", line.since),
        ("group", command.group),
        ("complexity", line.complexity),
    ];
    let texts = texts.iter().filter(|(_, text)| !text.is_empty());
    let has = [!arguments.is_empty(), !command.subcommands.is_empty()];
    reply.text(command.name);
    reply.map(texts.clone().count() + has.iter().filter(|it| **it).count());
    for (field, text) in texts {
        reply.text(field);
        reply.text(text);
    }
    if !arguments.is_empty() {
        reply.text("arguments");
        encode_all(reply, &arguments);
    }
    if !command.subcommands.is_empty() {
        reply.text("subcommands");
        reply.map(command.subcommands.len());
        let subcommands = command.subcommands.iter();
        subcommands.for_each(|it| document(reply, it));
    }
}

#[derive(Debug, PartialEq)]
struct Argument<'a> {
    name: &'a str,
    kind: &'a str,
    token: Option<&'a str>,
    flags: &'a str,
    arguments: Vec<Argument<'a>>,
}

/// Parses arguments up to the end, or up to a closing parenthesis.
fn parse<'a>(rest: &mut &'a str) -> Vec<Argument<'a>> {
    let mut found = Vec::new();
    loop {
        *rest = rest.trim_start();
        let end = rest.find([' ', '(', ')']).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        *rest = tail;
        let (word, flags) = word.split_at(word.trim_end_matches(['?', '+', '*']).len());
        let (word, token) = match word.split_once('@') {
            Some((word, token)) => (word, Some(token)),
            None => (word, None),
        };
        let (name, kind) = word.split_once('=').unwrap_or((word, "pure-token"));
        let mut arguments = Vec::new();
        if let Some(tail) = rest.strip_prefix('(') {
            *rest = tail;
            arguments = parse(rest);
            *rest = rest.strip_prefix(')').unwrap_or(rest);
        }
        found.push(Argument {
            name,
            kind,
            token,
            flags,
            arguments,
        });
    }
}

fn encode_all(reply: &mut Reply, arguments: &[Argument<'_>]) {
    reply.array(arguments.len());
    arguments.iter().for_each(|it| encode(reply, it));
}

fn encode(reply: &mut Reply, argument: &Argument<'_>) {
    let has = [
        argument.token.is_some(),
        !argument.flags.is_empty(),
        !argument.arguments.is_empty(),
    ];
    reply.map(2 + has.iter().filter(|it| **it).count());
    reply.text("name");
    reply.text(argument.name);
    reply.text("type");
    reply.text(argument.kind);
    if let Some(token) = argument.token {
        reply.text("token");
        reply.text(token);
    }
    if !argument.flags.is_empty() {
        reply.text("flags");
        reply.set(argument.flags.len());
        argument.flags.chars().for_each(|flag| {
            reply.simple(match flag {
                '?' => "optional",
                '+' => "multiple",
                _ => "multiple_token",
            });
        });
    }
    if !argument.arguments.is_empty() {
        reply.text("arguments");
        encode_all(reply, &argument.arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table;

    #[test]
    fn each_command_has_a_line_and_each_line_a_command() {
        let commands = table().values().copied();
        let all = commands.flat_map(|it| std::iter::once(it).chain(it.subcommands));
        let mut names: Vec<&str> = all.map(|it| it.name).collect();
        let mut described: Vec<&str> = lines().keys().copied().collect();
        names.sort_unstable();
        described.sort_unstable();
        assert_eq!(names, described);
        for (name, line) in lines() {
            let mut rest = line.arguments;
            parse(&mut rest);
            assert!(rest.is_empty() && !line.since.is_empty(), "{name}");
        }
    }

    #[test]
    fn arguments_are_parsed() {
        let mut text = "key=key pattern=pattern@GET?+* order=oneof?(asc@ASC desc@DESC) last=string";
        let found = parse(&mut text);
        let names: Vec<&str> = found.iter().map(|it| it.name).collect();
        assert_eq!(names, ["key", "pattern", "order", "last"]);
        assert_eq!((found[1].token, found[1].flags), (Some("GET"), "?+*"));
        let inner = &found[2].arguments;
        assert_eq!(
            (inner[1].kind, inner[1].token),
            ("pure-token", Some("DESC"))
        );
    }
}
