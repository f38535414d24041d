//! The documents of the repository: their links to files, and their code.

use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of the root, such as the README, and those of docs/.
fn documents() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs")];
    let entries = folders.map(|it| fs::read_dir(it).expect("the folder is there"));
    let mut documents: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|it| it.expect("it can be listed").path())
        .collect();
    documents.retain(|path| path.extension().is_some_and(|it| it == "md"));
    assert!(documents.len() > 10, "{documents:?}");
    documents
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
