//! What no compiler checks: which way the arrows point, how long a file may be,
//! and what must not be written anywhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rings of `src/lib.rs`, outermost last; a ring may use itself and those
/// before it.
const RINGS: [(&str, &[&str]); 6] = [
    (
        "words",
        &[
            "ids", "secret", "states", "profile", "error", "clock", "config", "metrics", "peer", "trace",
            "proto",
        ],
    ),
    ("means", &["store", "threads", "sealing", "flights", "signed_request", "issuers", "rates"]),
    ("bag", &["service"]),
    (
        "flows",
        &[
            "accounts",
            "erasures",
            "notices",
            "events",
            "refreshes",
            "authorizations",
            "tokens",
            "profiles",
            "refresher",
            "housekeeping",
            "imports",
            "exports",
        ],
    ),
    ("edges", &["listener", "grpc", "web", "readiness", "ops", "serve", "doctor"]),
    ("assembly", &["cli", "telemetry", "dev", "main"]),
];

/// What uses nothing of the crate, and only the assembly uses.
const ISLANDS: [&str; 2] = ["simulator", "postgres"];

/// A file is a noun that fits in a head.
const LINES_MAX: usize = 400;

/// What the examples fetch, generate and build is not theirs.
const NOT_OURS: [&str; 6] = ["node_modules", ".venv", "gen", "generated", "dist", "target"];

/// Where no constant text is to be had: the name of a database or of a role, or
/// a role's password, cannot be a parameter of a statement, and nor can the name of
/// a table that is not ours.
const UNCHECKED_SQL: [&str; 2] = ["src/postgres", "src/store/foreign.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder with one of these endings, by their path from the
/// root.
fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let is_ours = |path: &Path| !NOT_OURS.iter().any(|name| path.ends_with(name));
            match path.is_dir() {
                true if is_ours(&path) => walk(&path, found),
                true => {}
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    let fits = |path: &PathBuf| path.extension().is_some_and(|ending| endings.iter().any(|e| ending == *e));
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    found.into_iter().filter(fits).map(read).collect()
}

fn sources() -> Vec<(String, String)> {
    files("src", &["rs"])
}

/// The text without its inline tests, which may use anything.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap()
}

/// The module of the crate that a file belongs to: `src/store/links.rs` is
/// `store`.
fn module(file: &str) -> &str {
    let path = file.strip_prefix("src/").unwrap();
    path.split(['/', '.']).next().unwrap()
}

/// The modules of the crate that a text names after `crate::`.
fn used(text: &str) -> BTreeSet<String> {
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let group = part.strip_prefix('{').and_then(|part| part.split(';').next());
        let first =
            |path: &str| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        match group {
            // The top level of `use crate::{a, b::{c, d}}`.
            Some(group) => {
                let mut depth = 0;
                let top = group.split(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    c == ',' && depth == 0
                });
                names.extend(top.map(first).filter(|name: &String| !name.is_empty()));
            }
            None => {
                names.insert(first(part));
            }
        }
    }
    names
}

fn ring(module: &str) -> Option<usize> {
    RINGS.iter().position(|(_, modules)| modules.contains(&module))
}

/// Why `user` must not use `target`.
fn forbidden(user: &str, target: &str) -> Option<&'static str> {
    const MEANS: usize = 1;
    const FLOWS: usize = 3;
    const ASSEMBLY: usize = 5;
    if user == target {
        return None;
    }
    if ISLANDS.contains(&user) {
        return Some("an island uses nothing of the crate");
    }
    let from = ring(user).unwrap_or_else(|| panic!("src/{user}: is in no ring"));
    if ISLANDS.contains(&target) {
        return (from != ASSEMBLY).then_some("only the assembly knows the islands");
    }
    let to = ring(target).unwrap_or_else(|| panic!("src/{user}: names `{target}`, which is in no ring"));
    let place = |name: &str| RINGS[from].1.iter().position(|module| *module == name);
    if to > from {
        Some("arrows point inward")
    } else if (from, to) == (MEANS, MEANS) {
        Some("a means never uses another")
    } else if (from, to) == (FLOWS, FLOWS) && place(target) > place(user) {
        Some("a flow uses only those listed above it")
    } else {
        None
    }
}

#[test]
fn arrows_point_inward() {
    let mut wrong = Vec::new();
    for (file, text) in sources().iter().filter(|(file, _)| file != "src/lib.rs") {
        let user = module(file);
        // `src/main.rs` names the crate from outside.
        let text = without_tests(text).replace("threads_identity::", "crate::");
        for target in used(&text) {
            if let Some(why) = forbidden(user, &target) {
                wrong.push(format!("{file} uses {target}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn arrows_are_read_as_they_are_written() {
    let text = "use crate::{ids, store::{accounts, links::Link}, secret as s};\n// crate::grpc\nlet x = crate::clock::now();";
    let names: Vec<String> = used(text).into_iter().collect();
    assert_eq!(names, ["clock", "ids", "secret", "store"]);
    for (user, target, allowed) in [
        ("store", "ids", true),
        ("store", "threads", false),
        ("store", "accounts", false),
        ("profiles", "accounts", true),
        ("accounts", "profiles", false),
        ("grpc", "store", true),
        ("service", "grpc", false),
        ("dev", "simulator", true),
        ("grpc", "simulator", false),
        ("simulator", "ids", false),
    ] {
        assert_eq!(forbidden(user, target).is_none(), allowed, "{user} -> {target}");
    }
}

#[test]
fn the_front_page_lists_every_module_in_its_ring_and_says_what_it_is() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let listed: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let order = ["flows", "bag", "means", "words", "edges", "assembly"];
    let ring = |name: &str| RINGS.iter().find(|(ring, _)| *ring == name).unwrap().1;
    let mut expected: Vec<&str> = order.iter().flat_map(|name| ring(name)).copied().collect();
    expected.retain(|name| *name != "main");
    expected.extend(ISLANDS);
    assert_eq!(listed, expected, "the order of `src/lib.rs` is the order of reading");
    let documentation: String =
        text.lines().filter(|line| line.contains("//!") || line.contains("doc")).collect();
    for module in listed {
        assert!(documentation.contains(&format!("[`{module}`]")), "the front page does not tell of {module}");
        let own = fs::read_to_string(root().join(format!("src/{module}.rs"))).unwrap();
        assert!(own.starts_with("//! "), "src/{module}.rs does not say what it is");
    }
}

#[test]
fn every_file_says_what_it_is_and_fits_in_a_head() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//!") && !file.ends_with("/tests.rs") {
            wrong.push(format!("{file} does not say what it is"));
        }
        let lines = without_tests(&text).lines().count();
        if lines > LINES_MAX && !file.ends_with("/tests.rs") {
            wrong.push(format!("{file} has {lines} lines"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_example_is_of_pieces_that_can_be_pasted() {
    const PASTED_MAX: usize = 250;
    let mut wrong = Vec::new();
    let mut languages = BTreeSet::new();
    for (file, text) in files("examples", &["go", "py", "ts", "java", "rs"]) {
        languages.insert(file.split('/').nth(1).unwrap().to_owned());
        let is_test = file.to_lowercase().contains("test");
        let (lines, most) = (text.lines().count(), if is_test { LINES_MAX } else { PASTED_MAX });
        if lines > most {
            wrong.push(format!("{file} has {lines} lines, more than {most}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(languages.into_iter().collect::<Vec<_>>(), ["go", "java", "python", "rust", "typescript"]);
}

#[test]
fn nothing_is_left_for_another_day() {
    // Taken apart, so that this file does not find itself.
    let words = [["to", "do!"], ["TO", "DO"], ["FIX", "ME"], ["for ", "now"], ["in a ", "real"], ["XX", "X"]];
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "proto", "docs", "migrations", "templates", "examples"] {
        for (file, text) in
            files(folder, &["rs", "proto", "md", "sql", "py", "html", "toml", "go", "ts", "java"])
        {
            for (i, line) in text.lines().enumerate() {
                if words.iter().any(|word| line.contains(&word.concat())) {
                    wrong.push(format!("{file}:{}: {}", i + 1, line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_secret_is_never_compared_with_an_operator() {
    // It would stop at the first difference, and how long that took can be measured.
    let secret = ["expose()", "expose_secret()", "signature", "client_secret", "caller_key", "password"];
    let compares = |line: &str| {
        let words = |side: &str| secret.iter().any(|word| side.contains(word)) && !side.contains(".len()");
        [" == ", " != "].iter().any(|operator| {
            line.match_indices(operator)
                .any(|(at, _)| words(&line[..at]) || words(&line[at + operator.len()..]))
        })
    };
    assert!(compares("if given.expose() == known.expose() {") && compares("a != signature"));
    assert!(!compares("bytes.len() == SIGNATURE_LEN") && !compares("if a >= b { expose() }"));
    let mut wrong = lines_that(compares);
    // What cannot be compared, or shown, at all needs no care.
    let secrets = fs::read_to_string(root().join("src/secret.rs")).unwrap();
    let traits = ["PartialEq", "Eq)", "Hash", "fmt::Display for", "Serialize"];
    wrong.extend(
        traits
            .into_iter()
            .filter(|name| {
                let says = |line: &&str| line.contains(name) && !line.trim_start().starts_with("//");
                without_tests(&secrets).lines().any(|line| says(&line))
            })
            .map(|name| format!("src/secret.rs: a secret is {name}")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_secret_is_never_printed() {
    const PRINTS: [&str; 14] = [
        "format!(",
        "write!(",
        "writeln!(",
        "print(",
        "println!(",
        "panic!(",
        "tracing::",
        "trace!(",
        "debug!(",
        "info!(",
        "warn!(",
        "error!(",
        "_span!(",
        ":?}",
    ];
    let prints = |line: &str| {
        (line.contains("expose()") || line.contains("expose_secret()"))
            && PRINTS.iter().any(|p| line.contains(p))
    };
    assert!(prints("tracing::warn!(\"{}\", token.expose());") && prints("format!(\"{:?}\", x.expose())"));
    assert!(!prints("AccessToken::new(token.expose().to_owned())"));
    let wrong = lines_that(prints);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The lines of the service's own sources, without tests and comments, that are so.
/// The islands have no secrets.
fn lines_that(are_so: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources() {
        if ISLANDS.contains(&module(&file)) || file.ends_with("/tests.rs") {
            continue;
        }
        let lines = without_tests(&text).lines().enumerate();
        let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
        let so = code.filter(|(_, line)| are_so(line));
        found.extend(so.map(|(i, line)| format!("{file}:{}: {}", i + 1, line.trim())));
    }
    found
}

#[test]
fn sql_is_checked_when_it_is_compiled() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let is_allowed = UNCHECKED_SQL.iter().any(|place| file.starts_with(place));
        if !is_allowed && without_tests(&text).contains("AssertSqlSafe") {
            wrong.push(file);
        }
    }
    assert!(wrong.is_empty(), "SQL that is put together: {wrong:#?}");
}

#[test]
fn batches_do_not_show_the_planner_how_many_they_carry() {
    let is_batch = |text: &str| text.contains("impl Batch for ");
    let batches: Vec<_> = sources().into_iter().filter(|(_, text)| is_batch(without_tests(text))).collect();
    assert!(batches.len() > 5, "{}", batches.len());
    for (file, text) in batches {
        assert!(text.contains("(select $1::uuid[])"), "{file}");
        for shown in ["unnest($1", "= any($1)"] {
            assert!(!without_tests(&text).contains(shown), "{file}: {shown}; see Batch::run");
        }
    }
}

#[test]
fn migrations_are_numbered_without_gaps() {
    let names: Vec<String> = files("migrations", &["sql"]).into_iter().map(|(name, _)| name).collect();
    assert!(!names.is_empty());
    for (i, name) in names.iter().enumerate() {
        let name = name.strip_prefix("migrations/").unwrap();
        let (number, words) = name.split_once('_').unwrap();
        assert_eq!(number, format!("{:04}", i + 1), "{name}");
        let words = words.strip_suffix(".sql").unwrap();
        assert!(words.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
    }
}
