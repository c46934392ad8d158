//! The house keeps its shape: imports go downwards only, the lower floors read no clock and do no IO,
//! and no room is crowded. A failure names the file, the line and the rule.

use std::fs;
use std::path::{Path, PathBuf};

/// Each floor with the floors it may import; its own folder is always allowed.
const FLOORS: [(&str, &[&str]); 13] = [
    ("time", &[]),
    ("wire", &["time"]),
    ("core", &["time", "wire"]),
    ("store", &["time", "wire", "core"]),
    ("net", &["time", "wire", "core"]),
    ("bus", &["time", "wire", "core"]),
    ("admin", &["time", "wire", "core"]),
    ("config", &["time", "wire", "core"]),
    ("daemon", &["time", "wire", "core", "store", "net", "bus", "admin", "config"]),
    ("sim", &["time", "wire", "core"]),
    ("cli", &["time", "wire", "core", "store", "net", "bus", "admin", "config", "daemon", "sim"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Words that have no place on the floors `time`, `wire` and `core`: clocks, IO, async, chance.
const FORBIDDEN_BELOW: [&str; 17] = [
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::io",
    "std::thread",
    "std::process",
    "std::env::",
    "SystemTime",
    "Instant",
    "tokio",
    "async fn",
    ".await",
    "getrandom",
    "tracing",
    "Mutex",
    "RwLock",
    "println!",
];

/// Longest file in lines, tests apart. Aim at 100-400.
const LINES_MAX: usize = 600;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn floor_of(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("a source of ours");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file: without comments, and without the tests at its bottom.
fn code(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    // A single item for tests in the middle of a file ends nothing, and neither does `mod tests;`.
    let begins_tests =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && !pair[1].ends_with(';');
    let end = lines.windows(2).position(begins_tests).unwrap_or(lines.len());
    let numbered = lines[..end].iter().enumerate();
    numbered.map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default().to_owned())).collect()
}

/// The floors of ours that a line of code names.
fn names_of_floors(line: &str) -> Vec<&str> {
    let after = line.split("crate::").skip(1);
    let words = after.flat_map(|rest| match rest.strip_prefix('{') {
        Some(list) => list.split(['{', '}', ',']).collect::<Vec<_>>(),
        None => vec![rest],
    });
    words
        .filter_map(|word| word.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .filter(|word| FLOORS.iter().any(|(floor, _)| floor == word))
        .collect()
}

/// Rules broken by one file, as it would be printed.
fn faults(path: &Path, text: &str) -> Vec<String> {
    let floor = floor_of(path);
    let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == floor) else {
        return vec![format!("{}: `{floor}` is no floor of the house", path.display())];
    };
    let is_low = ["time", "wire", "core"].contains(&floor.as_str());
    let mut faults = Vec::new();
    let is_test_file = path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests");
    for (number, line) in code(text) {
        let mut broken =
            |rule: String| faults.push(format!("{}:{number}: {rule}\n    {}", path.display(), line.trim()));
        if floor != "lib" {
            for named in names_of_floors(&line) {
                if named != floor && !allowed.contains(&named) {
                    broken(format!("`{floor}` imports `{named}`, which is not below it"));
                }
            }
        }
        if is_low && !is_test_file {
            for word in FORBIDDEN_BELOW {
                if line.contains(word) {
                    broken(format!("`{floor}` has no `{word}`: IO, clocks, chance and waiting belong to the devices"));
                }
            }
        }
    }
    let length = code(text).len();
    if length > LINES_MAX && !is_test_file {
        faults.push(format!("{}: {length} lines are a crowded room; split it", path.display()));
    }
    faults
}

#[test]
fn imports_go_downwards_and_the_lower_floors_do_no_io() {
    let mut found = Vec::new();
    for path in sources(&root()) {
        found.extend(faults(&path, &fs::read_to_string(&path).expect("a text file")));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_rules_see_what_they_forbid() {
    let core = root().join("core/mod.rs");
    for line in [
        "use crate::net::Report;",
        "use crate::{time::Now, net};",
        "let x = crate::store::Journal;",
        "let now = std::time::Instant::now();",
        "async fn f() {}",
        "use tokio::sync::mpsc;",
    ] {
        assert_eq!(faults(&core, line).len(), 1, "{line}");
    }
    assert!(faults(&core, "// crate::net is a device\nuse crate::wire::NodeId;").is_empty());
    assert!(faults(&root().join("net/mod.rs"), "use crate::store::Journal;").len() == 1, "no device imports another");
    assert!(faults(&root().join("attic/mod.rs"), "").len() == 1);
}

#[test]
fn only_the_tests_at_the_bottom_are_left_out() {
    let net = root().join("net/mod.rs");
    let wrong = "use crate::store::Journal;\n";
    for before in
        ["#[cfg(test)]\nuse std::fs;\n", "impl X {\n    #[cfg(test)]\n    fn y() {}\n}\n", "#[cfg(test)]\nmod tests;\n"]
    {
        assert_eq!(faults(&net, &format!("{before}{wrong}")).len(), 1, "{before}");
        let long = format!("{before}{}", "fn f() {}\n".repeat(LINES_MAX));
        assert_eq!(faults(&net, &long).len(), 1, "{before}");
    }
    let tests = format!("#[cfg(test)]\nmod tests {{\n    {wrong}{}}}\n", "    fn f() {}\n".repeat(LINES_MAX));
    assert!(faults(&net, &tests).is_empty());
}

#[test]
fn every_folder_says_what_it_is_for() {
    for path in sources(&root()).into_iter().filter(|path| path.file_name().is_some_and(|name| name == "mod.rs")) {
        let text = fs::read_to_string(&path).expect("a text file");
        assert!(text.starts_with("//! "), "{}: a folder opens with what it is for", path.display());
    }
}

/// What ends in `_MAX` and bounds nothing that the daemon holds, with the reason.
const NO_BOUNDS: &[(&str, &str)] = &[
    ("store::SEQNO_MAX", "a number that is never reached, not a size"),
    ("core::SCORE_MAX", "a mark that is given, not a size"),
    ("wire::SCORE_MAX", "the same mark, as it is written down"),
];

/// `const NAME_MAX` in the code of a file, whoever may see it.
fn maxima(text: &str) -> Vec<String> {
    let name_of = |line: &str| {
        let rest = line.split_once("const ")?.1;
        let name = rest.split(':').next()?.trim();
        (name.ends_with("_MAX") && !name.contains(' ')).then(|| name.to_owned())
    };
    code(text).iter().filter_map(|(_, line)| name_of(line)).collect()
}

/// The paths such as `net::bounds::PINGS_MAX` that a text names.
fn paths(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').filter(|path| path.contains("::")).collect()
}

/// Limits that are declared and not printed, as they would be told.
fn unprinted(declared: &[(String, String, String)], printed: &str) -> Vec<String> {
    let paths = paths(printed);
    let mut missing = Vec::new();
    for (floor, module, name) in declared {
        let has_twin = declared.iter().filter(|(other, _, twin)| other == floor && twin == name).count() > 1;
        // A path begins with the floor, or with a module that was imported, such as `event` for `event/read`.
        let leads_there = |path: &&&str| {
            let parts: Vec<&str> = path.split("::").collect();
            let holds = |module: &str| parts.contains(&module);
            let is_the_file = module.rsplit('/').next().is_some_and(holds);
            parts.last() == Some(&name.as_str())
                && (parts[0] == floor || module.split('/').any(holds))
                && (!has_twin || is_the_file)
        };
        let is_no_bound = NO_BOUNDS.iter().any(|(exempt, _)| *exempt == format!("{floor}::{name}"));
        if !is_no_bound && !paths.iter().any(|path| leads_there(&path)) {
            missing.push(format!("src/{floor}/{module}.rs: {name}"));
        }
    }
    missing
}

#[test]
fn every_limit_is_printed() {
    let printed = fs::read_to_string(root().join("cli/limits.rs")).expect("the list");
    let mut declared = Vec::new();
    let not_the_daemon = ["cli", "sim", "main"];
    for path in sources(&root()) {
        let floor = floor_of(&path);
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        if is_test
            || not_the_daemon.contains(&floor.as_str())
            || path.file_name().is_some_and(|name| name == "tests.rs")
        {
            continue;
        }
        let inside = path.strip_prefix(root()).expect("a source of ours").with_extension("");
        let module = inside.strip_prefix(&floor).unwrap_or(&inside).to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a text file");
        declared.extend(maxima(&text).into_iter().map(|name| (floor.clone(), module.clone(), name)));
    }
    assert!(declared.len() > 80, "the search finds what there is: {}", declared.len());
    let missing = unprinted(&declared, &printed);
    assert!(missing.is_empty(), "src/cli/limits.rs does not print these:\n{}", missing.join("\n"));

    let settings = fs::read_to_string(root().join("net/settings.rs")).expect("the settings");
    let (_, rest) = settings.split_once("pub struct Limits {").expect("the limits of the receptor");
    let fields = rest.split_once('}').expect("its end").0.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    for field in fields.map(|field| field.split(':').next().unwrap_or_default()) {
        assert!(printed.contains(&format!("net.{field}")), "src/cli/limits.rs does not print net.{field}");
    }
}

#[test]
fn a_limit_that_is_not_printed_is_found() {
    let of = |floor: &str, module: &str, text: &str| {
        let names = maxima(text).into_iter();
        names.map(|name| (floor.to_owned(), module.to_owned(), name)).collect::<Vec<_>>()
    };
    for declaration in ["pub const X_MAX: usize = 1;", "pub(super) const X_MAX: u8 = 1;", "const X_MAX: Duration = A;"]
    {
        let declared = of("net", "lane", declaration);
        assert_eq!(unprinted(&declared, "net::bounds::Y_MAX, bus::X_MAX, X_MAX").len(), 1, "{declaration}");
        assert!(unprinted(&declared, "(net::bounds::X_MAX)").is_empty());
    }
    let inner = of("wire", "event/read", "pub const X_MAX: u8 = 1;");
    assert!(unprinted(&inner, "event::X_MAX").is_empty() && unprinted(&inner, "admin::X_MAX").len() == 1);
    let twins = [of("store", "peers", "const X_MAX: u64 = 1;"), of("store", "mutes", "const X_MAX: u64 = 1;")].concat();
    assert_eq!(unprinted(&twins, "store::peers::X_MAX"), ["src/store/mutes.rs: X_MAX"]);
    assert!(of("net", "lane", "// const X_MAX: u8 = 1;\nfn f() { g(const { Y }, Z_MAX) }").is_empty());
}

/// Queues and semaphores: each is as long as something that is printed says.
#[test]
fn every_queue_has_a_named_length() {
    // What the length is named where it comes from.
    let named = [("net/limits.rs", "bytes / 2", "Limits::body_bytes_in_all")];
    let mut found = 0;
    for path in sources(&root()).into_iter().filter(|path| !["cli", "sim"].contains(&floor_of(path).as_str())) {
        if path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a text file");
        for (number, line) in code(&text) {
            for call in ["mpsc::channel(", "broadcast::channel(", "sync_channel(", "Semaphore::new("] {
                let Some((_, rest)) = line.split_once(call) else { continue };
                let length = rest.split(')').next().unwrap_or_default();
                if length.is_empty() {
                    continue; // the standard library's own is unbounded, and told by its name elsewhere
                }
                found += 1;
                let is_named = length == "1" || length.contains("_MAX") || length.contains("limits");
                let is_known = named.iter().any(|(file, what, _)| path.ends_with(file) && length == *what);
                assert!(is_named || is_known, "{}:{number}: a queue of `{length}`: name its limit", path.display());
            }
        }
    }
    assert!(found >= 10, "the search finds what there is: {found}");
}

#[test]
fn nothing_is_left_lying_about() {
    // Split, so that this file does not find itself.
    let marks = [["to", "do!("], ["unimplemen", "ted!("], ["FIX", "ME"], ["XX", "X"], ["db", "g!("], ["#[ign", "ore"]]
        .map(|parts| parts.concat());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for path in sources(&root()).into_iter().chain(sources(&tests)) {
        let text = fs::read_to_string(&path).expect("a text file");
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{}: {mark}", path.display());
        }
    }
}
