//! No feature changes behaviour that exists without it.
//!
//! CI runs the tests that need no feature twice: with all features (`cargo test --all-features`), and without any
//! (on poll(2), in `.ci/run`). Both runs compare the behaviour with the same expectations, because a test cannot
//! expect something else where a feature is on. That is checked here. What a feature adds, a test may use.

use std::fs;
use std::path::{Path, PathBuf};

/// The only expectations that differ: with the simulated network each connection has more state.
const DIFFERENT: [&str; 2] = ["allocations.rs", "memory.rs"];

#[test]
fn no_test_expects_other_behaviour_where_a_feature_is_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50, "{}", files.len());
    let mut different = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let code: String = source.split_whitespace().collect();
        // `#[cfg(feature = ..)]` adds a test or a statement. A negation and `cfg!` choose between two.
        let chooses = code.match_indices("feature=").any(|(at, _)| {
            let (_, condition) = code[..at].rsplit_once("cfg").unwrap_or_default();
            condition.starts_with('!') || condition.contains("not(")
        });
        if chooses {
            different.push(file.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    different.sort();
    assert_eq!(different, DIFFERENT);
}

/// All Rust files of the folder and the folders in it, apart from those that look for features themselves.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|it| it == "rs")
            && !path.ends_with("features.rs")
            && !path.ends_with("layers.rs")
        {
            files.push(path);
        }
    }
}
