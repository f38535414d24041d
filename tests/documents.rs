//! The documents of the repository: their links to files.

use std::fs;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Each link of a document to a path leads to an existing file.
#[test]
fn every_link_between_documents_leads_to_a_file() {
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
