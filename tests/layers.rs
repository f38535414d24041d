//! The structure that docs/architecture.md describes, checked against the source.
//!
//! * A folder is a layer, and imports point down.
//! * The two paths of a byte name functions that exist, each called by one before it in the list; they
//!   have ten steps at most, and enter no file twice.
//! * One file calls `catch_unwind`, and all `unsafe` code is in `sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, from the top. A module may use those below its own, and none beside it.
const LAYERS: [&[&str]; 12] = [
    &["lib"],
    &["sim"],
    &["net", "signal"],
    &["event_loop"],
    &["chat"],
    &["channel"],
    &["runtime"],
    &["state"],
    &["framing", "output", "time"],
    &["sys"],
    &["addr", "error", "limits", "target"],
    &["log", "serial", "user_code"],
];

/// Modules of one layer that use each other one way.
const BESIDE: [(&str, &str); 5] = [
    ("target", "error"),
    ("log", "user_code"),
    ("error", "limits"),
    ("user_code", "log"),
    ("limits", "error"),
];

#[test]
fn imports_point_down() {
    let exports = exports();
    let mut upward = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, source) in sources() {
        let from = module_of(&path);
        let code = without_tests(&source);
        for name in crate_paths(&code) {
            // `chat` is a function that lib.rs exports, and `chat::` the module.
            let to = match name.strip_suffix("::") {
                Some(module) => module.to_owned(),
                None => exports.get(&name).cloned().unwrap_or(name),
            };
            let beside = BESIDE.contains(&(from.as_str(), to.as_str()));
            if from != to && level(&from) >= level(&to) && !beside {
                upward.push(format!("{} uses {to}", path.display()));
            }
            seen.insert(to);
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
    // The parser has found what it looks for.
    for module in ["state", "sys", "output", "framing", "user_code"] {
        assert!(seen.contains(module), "nothing uses {module}");
    }
}

/// A file of a folder reaches the rest of the crate by `crate::` alone, so that the check above sees
/// everything.
#[test]
fn no_path_leaves_its_folder_by_super() {
    for (path, source) in sources() {
        let code = without_tests(&source);
        let is_top = path.components().count() == 1 || path.ends_with("mod.rs");
        let depth = path.components().count() - 1 - usize::from(path.ends_with("mod.rs"));
        assert!(
            !(is_top && depth == 0 && code.contains("super::")),
            "{}",
            path.display()
        );
        let chain = "super::".repeat(depth + 1);
        assert!(
            !code.contains(&chain),
            "{} leaves its folder",
            path.display()
        );
    }
}

#[test]
fn user_code_is_entered_in_one_file_and_unsafe_code_is_in_sys() {
    for (path, source) in sources() {
        let code = without_tests(&source);
        if path != Path::new("user_code.rs") {
            assert!(!code.contains("catch_unwind("), "{}", path.display());
        }
        if !path.starts_with("sys") {
            assert!(!code.contains("unsafe {"), "{}", path.display());
        }
    }
}

#[test]
fn a_received_byte_takes_the_path_that_is_described() {
    check_path("### A received byte", "found_terminator(");
}

#[test]
fn a_pushed_byte_takes_the_path_that_is_described() {
    check_path("### A pushed byte", "rustix::net::send(");
}

/// One step: a function, the file it is in, and the source of it.
struct Step {
    function: String,
    file: String,
    body: String,
}

fn check_path(heading: &str, last: &str) {
    let steps = steps_of(heading);
    assert!((3..=10).contains(&steps.len()), "{} steps", steps.len());
    let mut left = BTreeSet::new();
    for (n, step) in steps.iter().enumerate() {
        if n > 0 && steps[n - 1].file != step.file {
            left.insert(steps[n - 1].file.clone());
        }
        assert!(!left.contains(&step.file), "{} is entered twice", step.file);
        let call = format!("{}(", step.function);
        let called = steps[..n].iter().any(|caller| caller.body.contains(&call));
        // The run queue lies between a push and the turn in which it is sent.
        let is_queued = step.function == "turn";
        assert!(
            n == 0 || called || is_queued,
            "nothing calls {}",
            step.function
        );
    }
    let ends = steps.iter().any(|step| step.body.contains(last));
    assert!(ends, "the path does not reach {last}");
}

/// The numbered list below a heading: "1. `Type::function` (`src/file.rs`) ...".
fn steps_of(heading: &str) -> Vec<Step> {
    let text = read("docs/architecture.md");
    let (_, section) = text.split_once(heading).expect("the heading is there");
    let section = section.split("\n#").next().expect("a section has a text");
    let mut steps = Vec::new();
    for line in section.lines() {
        let Some((number, rest)) = line.split_once(". `") else {
            continue;
        };
        assert_eq!(number.parse(), Ok(steps.len() + 1), "{line}");
        let (name, rest) = rest.split_once("` (`").expect("a file follows");
        let (file, _) = rest.split_once('`').expect("the file ends");
        let function = name.rsplit("::").next().expect("a name").to_owned();
        let body = body_of(&function, &read(file));
        let file = file.to_owned();
        steps.push(Step {
            function,
            file,
            body,
        });
    }
    steps
}

/// From `fn name` to the brace that closes it.
fn body_of(function: &str, source: &str) -> String {
    let start = [format!("fn {function}("), format!("fn {function}<")]
        .iter()
        .find_map(|head| source.find(head))
        .unwrap_or_else(|| panic!("there is no {function}"));
    let line = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let indent: String = source[line..].chars().take_while(|it| *it == ' ').collect();
    let end = source[start..]
        .find(&format!("\n{indent}}}"))
        .expect("it ends");
    source[start..start + end].to_owned()
}

fn level(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("{module} is in no layer"))
}

/// `runtime` for `runtime/turn.rs`, `error` for `error.rs`.
fn module_of(path: &Path) -> String {
    let first = path.iter().next().expect("a file").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// What follows `crate::` in the code: modules, with their `::`, and names that lib.rs exports.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = group.split("};").next().unwrap_or_default();
                let mut depth = 0;
                let mut name = String::new();
                for it in group.chars() {
                    match it {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.extend(first_name(&std::mem::take(&mut name))),
                        _ if depth == 0 => name.push(it),
                        _ => {}
                    }
                }
                names.extend(first_name(&name));
            }
            None => names.extend(first_name(rest)),
        }
    }
    names
}

fn first_name(text: &str) -> Option<String> {
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    let text = text.trim();
    let end = text.find(|it| !is_part(it)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let colons = if rest.starts_with("::") { "::" } else { "" };
    (!name.is_empty() && name != "self").then(|| format!("{name}{colons}"))
}

/// The names that lib.rs exports, and the modules they are from.
fn exports() -> BTreeMap<String, String> {
    let code = without_comments(&read("src/lib.rs"));
    let mut exports = BTreeMap::new();
    for item in code.split("pub use ").skip(1) {
        let item = item.split(';').next().unwrap_or_default();
        let (path, names) = item.rsplit_once("::").expect("a path");
        let module = path.split("::").next().expect("a module").to_owned();
        for name in names.trim_matches(['{', '}']).split(',') {
            exports.extend(first_name(name).map(|name| (name, module.clone())));
        }
    }
    exports
}

/// The code of a file without its comments and its tests, which stand at its end.
fn without_tests(source: &str) -> String {
    let code = without_comments(source);
    let tests = ["#[cfg(test)]\nmod", "#[cfg(all(test"]
        .iter()
        .filter_map(|mark| code.find(mark))
        .min();
    code[..tests.unwrap_or(code.len())].to_owned()
}

fn without_comments(source: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let lines: Vec<&str> = source.lines().filter(is_code).collect();
    lines.join("\n")
}

/// All files of src/, with their paths in it.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let source = fs::read_to_string(&path).expect("a text");
                let path = path.strip_prefix(&root).expect("below src").to_owned();
                files.push((path, source));
            }
        }
    }
    assert!(files.len() > 50);
    files
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
