//! The small files of a daemon, destroyed: it starts, says so, and finds everybody again.

use std::path::PathBuf;

use crate::support::primary::{Primary, Zone};
use crate::support::{Daemon, PATIENCE, eventually};

fn aside(daemon: &Daemon, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(daemon.data()).expect("a directory").filter_map(Result::ok);
    let start = format!("{name}.corrupt-");
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
}

/// The book as its file is, once somebody stands in it.
fn book(daemon: &Daemon, who: &str) -> String {
    eventually("the book is written", PATIENCE, || {
        std::fs::read_to_string(daemon.data().join("book")).ok().filter(|text| text.contains(who))
    })
}

#[test]
fn a_destroyed_book_is_said_kept_aside_and_filled_again_from_the_zone() {
    let b = Daemon::running("b", &["a.*"], "", "");
    let id = b.id();
    let entry = format!("_mesh._tcp TXT \"id={id}\" \"addr=127.0.0.1:{}\"", b.port);
    let primary = Primary::start(&[Zone::written("mesh.test", entry)]);
    let mut a = Daemon::running(
        "a",
        &["a.*"],
        "",
        &format!("[discovery]\ndns = [\"mesh.test\"]\ndns_server = \"{}\"", primary.at()),
    );
    a.wait_connected(&b);
    assert_eq!(a.stop(), Some(0));
    let whole = book(&a, &id);

    for injury in ["cut", "flipped", "newer"] {
        let mut bytes = whole.clone().into_bytes();
        match injury {
            "cut" => bytes.truncate(bytes.len() / 2),
            "flipped" => *bytes.last_mut().expect("bytes") ^= 1,
            _ => bytes = whole.replacen("\"format\":", "\"format\":9", 1).into_bytes(),
        }
        for name in ["book", "peers"] {
            std::fs::write(a.data().join(name), &bytes).expect("written");
        }
        a.start();
        for name in ["book", "peers"] {
            let moved = aside(&a, name).unwrap_or_else(|| panic!("{injury}: {name} is not kept"));
            assert_eq!(std::fs::read(&moved).expect("kept"), bytes, "{injury}: as it was");
            let log = a.log();
            let said = log.lines().find(|line| line.contains(&moved.display().to_string()));
            let said = said.unwrap_or_else(|| panic!("{injury}: {name} is not told of:\n{log}"));
            for part in [&format!("{}", a.data().join(name).display()), "cannot be used", "it is now", "this node"] {
                assert!(said.contains(part), "{said}");
            }
            std::fs::remove_file(moved).expect("a file");
        }
        a.wait_connected(&b);
        assert_eq!(a.stop(), Some(0));
        let (head, _) = whole.split_once(',').expect("a header");
        assert!(book(&a, &id).starts_with(head), "{injury}: whole again");
    }
    // Whole: the next start says nothing of it, and moves nothing.
    let before = a.log().matches("cannot be used").count();
    a.start();
    a.wait_connected(&b);
    assert_eq!((a.log().matches("cannot be used").count(), aside(&a, "book")), (before, None));
}

#[test]
fn a_book_that_cannot_be_written_costs_nothing_but_a_line() {
    let b = Daemon::running("b", &["a.*"], "", "");
    let mut a = Daemon::new("a", &["a.*"], "", "");
    a.start();
    a.befriend(&b);
    // Where it would be written first stands a directory.
    std::fs::create_dir(a.data().join("book.new")).expect("a directory");
    let c = Daemon::running("c", &["a.*"], "", "");
    c.befriend(&a);
    a.wait_connected(&c);
    let digest = a.publish("a.told", "1");
    assert_eq!(c.digests(1), [digest]);
    assert_eq!(a.stop(), Some(0));
    assert!(a.log().contains("the book of known nodes is not saved"), "{}", a.log());
    std::fs::remove_dir(a.data().join("book.new")).expect("a directory");
    a.start();
    a.wait_connected(&b);
}
