//! The documents of the repository: their links to files, and their code.

use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of the root, such as the README, those of docs/, and those of the examples.
fn documents() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs")].into_iter();
    let examples = entries(root().join("examples"));
    let mut documents: Vec<_> = folders
        .chain(examples.into_iter().filter(|path| path.is_dir()))
        .flat_map(entries)
        .collect();
    documents.retain(|path| path.extension().is_some_and(|it| it == "md"));
    assert!(documents.len() > 10, "{documents:?}");
    documents
}

fn entries(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    entries
        .map(|it| it.expect("it can be listed").path())
        .collect()
}

/// rustdoc hides lines of code that begin with `# `. In a Markdown file they are visible, and code that is
/// copied with them does not compile.
#[test]
fn no_code_has_hidden_lines() {
    let mut blocks = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("it is text");
        let mut in_rust = false;
        for (n, line) in text.lines().enumerate() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                in_rust = language.starts_with("rust");
                blocks += usize::from(in_rust);
            }
            let hidden = in_rust && (line.trim() == "#" || line.trim_start().starts_with("# "));
            assert!(!hidden, "{}:{}: {line}", document.display(), n + 1);
        }
    }
    assert!(blocks > 30, "{blocks}");
}

/// Each link of a document to a path leads to an existing file.
#[test]
fn every_link_between_documents_leads_to_a_file() {
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("it is text");
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains(':') {
                continue;
            }
            let folder = document.parent().expect("it is in a folder");
            let exists = folder.join(target).exists();
            assert!(exists, "{} links to {target}", document.display());
            links += 1;
        }
    }
    assert!(links > 30, "{links}");
}

/// Each link to a heading of the same document, or of another one, leads to an existing heading.
#[test]
fn every_link_to_a_heading_leads_to_one() {
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("it is text");
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let Some((target, anchor)) = link.split_once('#').filter(|(it, _)| !it.contains(':'))
            else {
                continue;
            };
            let linked = match target {
                "" => text.clone(),
                _ if !target.ends_with(".md") => continue,
                _ => fs::read_to_string(document.with_file_name(target)).expect("it is text"),
            };
            let is_there = headings(&linked).iter().any(|it| it == anchor);
            assert!(is_there, "{} links to {link}", document.display());
            links += 1;
        }
    }
    assert!(links > 30, "{links}");
}

/// The anchors that GitHub makes of the headings: in lower case, with hyphens for spaces, and without punctuation.
fn headings(text: &str) -> Vec<String> {
    let is_part = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let lines = text.lines().filter(|it| it.starts_with('#'));
    lines
        .map(|it| it.trim_start_matches('#').trim().to_lowercase())
        .map(|it| it.chars().filter(is_part).collect::<String>())
        .map(|it| it.replace(' ', "-"))
        .collect()
}
