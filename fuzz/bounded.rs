//! Runs a fuzz target without a fuzzer: over its corpus, and over `ASYNCHAT_FUZZ_RUNS` inputs that
//! are made from the corpus, the same ones in each run. `fuzz/run` uses the fuzzer itself.
//!
//! If an input fails, the command that adds it to the corpus is printed.

use std::fs;
use std::path::{Path, PathBuf};

/// Mutated inputs for each target, unless `ASYNCHAT_FUZZ_RUNS` is set. Few enough for a debug
/// build.
const RUNS: usize = 1000;

pub(crate) fn fuzz(target: &str, run: fn(&[u8])) {
    // The package under test is the root of the workspace or a folder in it.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut corpora = package.ancestors().map(|it| it.join("fuzz/corpus"));
    let directory = corpora.find(|it| it.exists()).expect("there are corpora");
    let corpus = read(&directory.join(target));
    assert!(!corpus.is_empty(), "{target} has no corpus");
    let run = |input: &[u8]| {
        let on_panic = PrintOnPanic(target, input);
        run(input);
        drop(on_panic);
    };
    corpus.iter().for_each(|input| run(input));

    let runs = match std::env::var("ASYNCHAT_FUZZ_RUNS") {
        Ok(runs) => runs.parse().expect("ASYNCHAT_FUZZ_RUNS is a number"),
        Err(_) => RUNS,
    };
    let mut random = Random(1);
    for _ in 0..runs {
        run(&mutated(&mut random, &corpus));
    }
}

/// Reads the files of a directory, sorted by name.
fn read(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).expect("there is a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

struct PrintOnPanic<'i>(&'i str, &'i [u8]);

impl Drop for PrintOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let octal: String = self.1.iter().map(|byte| format!("\\{byte:03o}")).collect();
            eprintln!("printf '{octal}' > fuzz/corpus/{}/NAME", self.0);
        }
    }
}

/// Applies a few random changes to one of the inputs.
fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.one_of(corpus).clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let end = at + random.below(input.len() - at + 1).min(16);
        match random.below(7) {
            0 => drop(input.drain(at..end)),
            1 => drop(input.splice(at..at, random.one_of(TOKENS).iter().copied())),
            2 => drop(input.splice(at..end, random.one_of(TOKENS).iter().copied())),
            3 => input.extend_from_within(at..end),
            4 => {
                let other = random.one_of(corpus);
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                for byte in input.iter_mut().skip(at).take(1 + random.below(3)) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    input
}

/// Byte strings that have a meaning for at least one target.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\r\n.\r\n",
    b"\n.\n",
    b"\0",
    b"a",
    b"q",
    b"aq",
    b" ",
    b"\t",
    b",",
    b"!",
    b"*",
    b"?",
    b"-",
    b"<",
    b">",
    b":",
    b"\xff",
    b"\xc3\xa9",
    b"ARTICLE",
    b"HDR ",
    b"POST\r\n",
    b"LIST ACTIVE ",
    b"GROUP misc.test\r\n",
    b"1-",
    b"20240229",
    b"99999999",
    b"Subject: ",
    b"\x00\x00\x00",
    b"\x80",
    b"\xaa",
    b"PROXY ",
    b"TCP4 192.0.2.1 ",
    b"TCP6 ::1 ",
    b"UNKNOWN",
    b" 65535",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\x00\x0c",
    b"\x05\x00\x02id",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b";",
];

/// Xorshift (Marsaglia, 2003). The quality of the numbers does not matter; each run has the same
/// ones.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one_of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
