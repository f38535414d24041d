//! The structure that docs/architecture.md describes, checked against the source.
//!
//! * A folder is a layer, and imports point down.
//! * The two paths of a byte name functions that exist, each called by the step that the list names; they
//!   have ten steps at most, and enter no file twice.
//! * The tables of flags and requests have each of them, with the functions that set and clear it.
//! * One file calls `catch_unwind`, and all `unsafe` code is in `sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, from the top. A module may use those below its own, and none beside it.
const LAYERS: [&[&str]; 14] = [
    &["lib"],
    &["signal", "sim"],
    &["workers"],
    &["net"],
    &["event_loop"],
    &["chat"],
    &["channel"],
    &["runtime"],
    &["state"],
    &["framing", "output", "proxy_protocol", "stage", "time"],
    &["sys"],
    &["error", "limits", "target"],
    &["addr"],
    &["log", "serial", "user_code"],
];

/// The uses within a layer: the first uses the second. docs/architecture.md says why these two use each
/// other.
const BESIDE: [(&str, &str); 2] = [("log", "user_code"), ("user_code", "log")];

#[test]
fn imports_point_down() {
    let exports = exports();
    let mut upward = Vec::new();
    let mut seen = BTreeSet::new();
    let mut beside = BTreeSet::new();
    for (path, source) in sources() {
        let from = module_of(&path);
        let code = without_tests(&source);
        assert!(!code.contains("crate as "), "{}", path.display());
        for name in crate_paths(&code) {
            // `chat` is a function that lib.rs exports, and `chat::` the module.
            let to = match name.strip_suffix("::") {
                Some(module) => module.to_owned(),
                None => exports.get(&name).cloned().unwrap_or(name),
            };
            if from == to || level(&from) < level(&to) {
                // Points down, or stays in the folder.
            } else if let Some(pair) = BESIDE.iter().find(|pair| **pair == (&*from, &*to)) {
                beside.insert(pair);
            } else {
                upward.push(format!("{} uses {to}", path.display()));
            }
            seen.insert(to);
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
    assert_eq!(
        beside.len(),
        BESIDE.len(),
        "only these are used: {beside:?}"
    );
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
        // In attributes, too: `unsafe(no_mangle)`. The name of a lint, `unsafe_code`, is another word.
        if !path.starts_with("sys") {
            let code = without_comments(&source);
            assert!(
                words(&code, "unsafe").next().is_none(),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_received_byte_takes_the_path_that_is_described() {
    check_path("### A received byte", "found_terminator");
}

#[test]
fn a_pushed_byte_takes_the_path_that_is_described() {
    check_path("### A pushed byte", "rustix::net::send");
}

/// One step: a function, the file it is in, its body without comments, and how it is reached.
struct Step {
    function: String,
    file: String,
    body: String,
    reached: Reached,
}

enum Reached {
    /// The step with this index calls it.
    Step(usize),
    /// The step before it adds the channel to the run queue, and the loop calls it later.
    RunQueue,
}

fn check_path(heading: &str, last: &str) {
    let steps = steps_of(heading);
    assert!((3..=10).contains(&steps.len()), "{} steps", steps.len());
    let mut left = BTreeSet::new();
    for (n, step) in steps.iter().enumerate().skip(1) {
        let before = &steps[n - 1];
        if before.file != step.file {
            left.insert(&before.file);
        }
        assert!(!left.contains(&step.file), "{} is entered twice", step.file);
        let (caller, call) = match step.reached {
            Reached::Step(caller) => (&steps[..n][caller], &*step.function),
            Reached::RunQueue => (before, "schedule"),
        };
        assert!(
            calls(&caller.body, call),
            "step {}: {} does not call {call}",
            n + 1,
            caller.function
        );
    }
    let ends = steps.iter().any(|step| calls(&step.body, last));
    assert!(ends, "the path does not reach {last}");
}

/// The numbered list below a heading: "2. `Type::function` (`src/file.rs`) ...". The step before calls the
/// function, unless the parenthesis says "from step 1" or "from the run queue".
fn steps_of(heading: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in section(heading).lines() {
        let Some((number, rest)) = line.split_once(". `") else {
            continue;
        };
        let index = steps.len();
        assert_eq!(number.parse(), Ok(index + 1), "{line}");
        let (name, rest) = rest.split_once("` (`").expect("a file follows");
        let (file, rest) = rest.split_once('`').expect("the file ends");
        let (from, _) = rest.split_once(')').expect("the parenthesis ends");
        let reached = match from {
            "" => Reached::Step(index.saturating_sub(1)),
            ", from the run queue" => Reached::RunQueue,
            _ => {
                let step = from.strip_prefix(", from step ").expect("from a step");
                let step: usize = step.parse().expect("a number");
                Reached::Step(step - 1)
            }
        };
        let (of_type, function) = match name.split_once("::") {
            Some((of_type, function)) => (Some(of_type), function),
            None => (None, name),
        };
        steps.push(Step {
            function: function.to_owned(),
            file: file.to_owned(),
            body: body_of(of_type, function, &without_comments(&read(file))),
            reached,
        });
    }
    steps
}

/// The text between a heading and the next one.
fn section(heading: &str) -> String {
    let text = read("docs/architecture.md");
    let (_, section) = text.split_once(heading).expect("the heading is there");
    let section = section.split("\n#").next();
    section.expect("a section has a text").to_owned()
}

/// What is between the braces of a function, which is in an `impl` of this type, or in none.
fn body_of(of_type: Option<&str>, function: &str, code: &str) -> String {
    let blocks = match of_type {
        Some(of_type) => impls_of(of_type, code),
        None => vec![code],
    };
    blocks
        .into_iter()
        .find_map(|block| {
            let start = words(block, &format!("fn {function}")).next()?;
            let (signature, _) = block[start..].split_once('{')?;
            let line = block[..start].rfind('\n').map_or(0, |at| at + 1);
            let indent = block[line..].chars().take_while(|it| *it == ' ');
            let end = format!("\n{}}}", indent.collect::<String>());
            let body = &block[start + signature.len()..];
            Some(body[..body.find(&end)?].to_owned())
        })
        .unwrap_or_else(|| panic!("there is no {function} of {of_type:?}"))
}

/// The `impl` blocks of a type.
fn impls_of<'a>(of_type: &str, code: &'a str) -> Vec<&'a str> {
    let blocks = code.match_indices("\nimpl").map(|(start, _)| {
        let block = &code[start + 1..];
        &block[..block.find("\n}").unwrap_or(block.len())]
    });
    blocks
        .filter(|block| {
            let header = block.split(" {").next().unwrap_or_default();
            words(header, of_type).next().is_some()
        })
        .collect()
}

/// Whether the code has `function(`, and not as the end of a longer name.
fn calls(code: &str, function: &str) -> bool {
    words(code, function).any(|at| code[at + function.len()..].starts_with('('))
}

/// Where a word stands in the code.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |it: char| it.is_alphanumeric() || it == '_';
    let stands_alone = move |at: &usize| {
        !code[..*at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
    };
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(stands_alone)
}

/// A feature only adds code. What exists without the feature is the same with it.
#[test]
fn nothing_is_compiled_because_a_feature_is_absent() {
    for (path, source) in sources() {
        let code: String = without_comments(&source).split_whitespace().collect();
        for (at, _) in code.match_indices("feature=") {
            let (_, condition) = code[..at].rsplit_once("cfg").expect("a condition");
            assert!(
                !condition.starts_with('!'),
                "{path:?}: cfg{condition}feature"
            );
            let negated = condition.rsplit_once("not(");
            let negated = negated.is_some_and(|(_, within)| !within.contains(')'));
            // A lint may differ: code for a feature can be unused without it.
            let rest = code[at..].split_once(')').map(|(_, rest)| rest);
            let is_lint = rest.is_some_and(|it| it.starts_with(",allow("));
            assert!(is_lint || !negated, "{path:?}: cfg{condition}feature");
        }
    }
}

/// For each flag or request: the functions that set or add it, and those that clear or take it.
type Table = BTreeMap<String, [BTreeSet<String>; 2]>;

#[test]
fn the_tables_of_flags_and_requests_are_complete() {
    let (constants, combined) = constants();
    let described = described();
    let rows: BTreeSet<_> = described.keys().cloned().collect();
    assert_eq!(rows, constants);
    let mut written = Table::new();
    for (path, source) in sources() {
        if path.ends_with("flags.rs") {
            continue;
        }
        for (name, function, columns) in writes(&on_one_line(&without_tests(&source))) {
            let names = combined.get(&name).cloned().unwrap_or(vec![name]);
            for name in names {
                let row = written.entry(name).or_default();
                for column in columns {
                    row[*column].insert(function.clone());
                }
            }
        }
    }
    for name in constants {
        assert_eq!(
            described[&name], written[&name],
            "{name}: described, in the code"
        );
    }
}

/// The constants of flags.rs, and those that are combined from others.
fn constants() -> (BTreeSet<String>, BTreeMap<String, Vec<String>>) {
    let source = without_comments(&read("src/state/flags.rs"));
    let (mut constants, mut combined) = (BTreeSet::new(), BTreeMap::new());
    for item in source.split("pub(crate) const ").skip(1) {
        let (name, value) = item.split_once(": ").expect("a type follows");
        let value = value.split(';').next().expect("a value");
        let parts: Vec<_> = value.split("Request::").skip(1).collect();
        if parts.is_empty() {
            constants.insert(name.to_owned());
        } else {
            let parts = parts.into_iter().filter_map(first_name).collect();
            combined.insert(name.to_owned(), parts);
        }
    }
    (constants, combined)
}

/// The rows whose first column is a constant: the functions that the third and the fourth column name.
fn described() -> Table {
    let mut table = Table::new();
    for line in section("## The state of a channel").lines() {
        let columns: Vec<_> = line.split('|').collect();
        let [_, name, _, first, second, _] = columns[..] else {
            continue;
        };
        let name = name.trim().trim_matches('`');
        if !name.is_empty() && name.chars().all(|it| it.is_ascii_uppercase() || it == '_') {
            let functions = |column: &str| {
                let quoted = column.split('`').skip(1).step_by(2);
                quoted.map(str::to_owned).collect()
            };
            table.insert(name.to_owned(), [functions(first), functions(second)]);
        }
    }
    table
}

/// The flags and requests that this code writes, each with the function and the columns of the table in
/// which it belongs. A value that is known only at run time may set and clear.
fn writes(code: &str) -> Vec<(String, String, &'static [usize])> {
    const CALLS: [(&str, &str, &[usize]); 4] = [
        ("flags.set(", "Flag::", &[0, 1]),
        ("flags.replace(", "Flag::", &[0, 1]),
        ("requests.add(", "Request::", &[0]),
        ("requests.take(", "Request::", &[1]),
    ];
    let mut found = Vec::new();
    for (call, prefix, columns) in CALLS {
        for (at, _) in code.match_indices(call) {
            let argument = code[at + call.len()..].strip_prefix(prefix);
            let argument = argument.expect("a constant");
            let name = first_name(argument).expect("its name");
            let columns: &[usize] = match argument[name.len()..].trim_start_matches([',', ' ']) {
                rest if rest.starts_with("true)") => &[0],
                rest if rest.starts_with("false)") => &[1],
                _ => columns,
            };
            found.push((name, function_at(&code[..at]), columns));
        }
    }
    found
}

/// `Type::function` at the end of this code.
fn function_at(code: &str) -> String {
    let (_, block) = code.rsplit_once("\nimpl").expect("a method");
    let (header, _) = block.split_once(" {").expect("its block");
    let of_type = header
        .rsplit([' ', '>'])
        .find(|it| !it.is_empty() && !it.starts_with('<'));
    let of_type = first_name(of_type.expect("a type")).expect("its name");
    let (_, function) = block.rsplit_once("fn ").expect("a function");
    format!("{of_type}::{}", first_name(function).expect("its name"))
}

/// The code with each chain of calls and each argument on one line.
fn on_one_line(code: &str) -> String {
    let mut joined = String::new();
    for line in code.lines() {
        if line.trim_start().starts_with('.') || joined.ends_with('(') {
            joined.push_str(line.trim_start());
        } else {
            joined.push('\n');
            joined.push_str(line);
        }
    }
    joined
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
    assert!(!text.starts_with('*'), "`crate::*` hides what is used");
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
        // Without a path it is a crate.
        let Some((path, names)) = item.rsplit_once("::") else {
            continue;
        };
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

/// Removes comments, also those at the end of a line: `//` after an even number of quotation marks.
fn without_comments(source: &str) -> String {
    let mut code = String::new();
    for line in source.lines() {
        let is_comment = |at: &usize| line[..*at].matches('"').count() % 2 == 0;
        let mut marks = line.match_indices("//").map(|(at, _)| at);
        let end = marks.find(is_comment).unwrap_or(line.len());
        if end == line.len() || !line[..end].trim().is_empty() {
            code.push_str(line[..end].trim_end());
            code.push('\n');
        }
    }
    code
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
