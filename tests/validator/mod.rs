//! The schemas of `schemas/`, and an independent validator of them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use afferent::admin::{SCHEMA_URN, SCHEMAS};
use serde_json::{Value, json};

/// A JSON text, the thing that it should be, and whether it is one.
pub(crate) struct Case {
    pub(crate) thing: String,
    pub(crate) text: String,
    pub(crate) is_good: bool,
}

impl Case {
    pub(crate) fn good(thing: &str, text: &str) -> Case {
        Case { thing: thing.to_owned(), text: text.to_owned(), is_good: true }
    }
}

/// Judges all cases; with `closed`, members that no schema describes are wrong too.
pub(crate) fn judge(cases: &[Case], closed: bool) {
    let schemas: Vec<Value> = SCHEMAS
        .iter()
        .map(|(name, text)| serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}")))
        .collect();
    let cases: Vec<Value> = cases
        .iter()
        .map(|case| json!({ "schema": format!("{SCHEMA_URN}{}:1", case.thing), "instance": case.text, "good": case.is_good }))
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/validator/validate.py");
    let mut python = Command::new("/usr/bin/python3")
        .args(["-W", "ignore"])
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is missing: run tests/run");
    let asked = json!({ "schemas": schemas, "cases": cases, "closed": closed }).to_string();
    python
        .stdin
        .take()
        .expect("a pipe")
        .write_all(asked.as_bytes())
        .expect("python3-jsonschema is missing: run tests/run");
    let output = python.wait_with_output().expect("it ends");
    let faults = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && faults.is_empty(), "{} cases:\n{faults}", cases.len());
}
