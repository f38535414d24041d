//! What the documents promise is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All functions that are tests, by name, under `dir`.
fn tests_under(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            tests_under(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("it is text");
            let mut lines = source.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line != "#[test]" {
                    continue;
                }
                let function = lines.by_ref().find_map(|line| line.strip_prefix("fn "));
                let name = function.and_then(|rest| rest.split('(').next());
                found.extend(name.map(str::to_owned));
            }
        }
    }
}

/// Each row of a table in docs/security.md ends in the tests that hold its promise.
#[test]
fn every_promise_about_security_names_a_test_that_exists() {
    let mut tests = BTreeSet::new();
    for folder in ["tests", "src", "examples"] {
        tests_under(&root().join(folder), &mut tests);
    }
    let text = fs::read_to_string(root().join("docs/security.md")).expect("it is there");
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let mut promises = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let named = cells.last().expect("a row has cells");
        if matches!(*named, "test" | "script") {
            continue;
        }
        for name in named.split(", ") {
            let name = name.trim_matches('`');
            let exists = match name.contains('/') {
                true => root().join(name).exists(),
                false => tests.contains(name),
            };
            assert!(exists, "no such test: {name}, in: {row}");
            promises += 1;
        }
    }
    assert!(promises > 30, "{promises}");
}

/// What a document links to by a path is in the repository.
#[test]
fn every_link_between_files_leads_to_one() {
    let entries = fs::read_dir(root().join("docs")).expect("the folder is there");
    let mut documents: Vec<_> = entries
        .map(|it| it.expect("it can be listed").path())
        .collect();
    documents.retain(|path| path.extension().is_some_and(|it| it == "md"));
    documents.push(root().join("README.md"));
    let mut links = 0;
    for document in documents {
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
