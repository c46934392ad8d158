//! Seeded mutation of everything a stranger can send: never a panic, always a refusal or a value that keeps its
//! promises, and the good one passes right after. `SEED=17 cargo test --test malformed` repeats one round,
//! `ROUNDS=100000` makes more of them; `fuzz/` drives the same entries.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use afferent::wire::{Keys, Network, Record, envelope};

mod entries;

use entries::{ENTRIES, NOW, good_event, record};

/// Rounds of each test, unless `ROUNDS` says otherwise.
const ROUNDS: u64 = 4_000;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUNDS").unwrap_or(ROUNDS),
    }
}

/// One to four small injuries: a byte changed, dropped, doubled or inserted, a slice moved, cut or
/// repeated, a piece of JSON that tends to hurt put in.
fn injure(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    const SHARP: [&[u8]; 16] = [
        b"\"",
        b"{",
        b"}",
        b"[[[[[[[[",
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"18446744073709551616",
        b"\xff\xfe",
        b"\0",
        b" ",
        b"+",
        b"\"id\":\"x\",",
        b"-",
        b"null",
        b"\r\n",
    ];
    for _ in 0..rng.usize(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(0..bytes.len());
        let end = (at + rng.usize(0..40)).min(bytes.len());
        match rng.u8(0..7) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes[at] ^= 1 << rng.u8(0..8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let slice = bytes[at..end].to_vec();
                bytes.splice(at..at, slice);
            }
            4 => drop(bytes.splice(at..at, SHARP[rng.usize(0..SHARP.len())].iter().copied())),
            5 => bytes.truncate(at),
            _ => {
                let slice: Vec<u8> = bytes.drain(at..end).collect();
                let to = rng.usize(0..=bytes.len());
                bytes.splice(to..to, slice);
            }
        }
    }
}

/// True when nothing that is signed, nor the framing around it, differs.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let signed = |line: &[u8]| line.iter().position(|byte| *byte == b' ').map(|at| line[at..].to_vec());
    signed(one) == signed(other)
}

#[test]
fn injured_lines_are_refused_and_the_good_one_passes_right_after() {
    let mut keys = Keys::default();
    let network = Network::default();
    for good in [good_event(), record(1, &["birch.example:7443"])] {
        let good = Bytes::from(good);
        for seed in seeds() {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = good.to_vec();
            injure(&mut rng, &mut bytes);
            let accepted = envelope::open(&Bytes::from(bytes.clone()), NOW, &network, &mut keys);
            if let Ok(accepted) = accepted {
                assert!(says_the_same(&bytes, &good), "SEED={seed}: {:?}", String::from_utf8_lossy(&bytes));
                let _ = Record::read(&accepted);
            }
        }
        envelope::open(&good, NOW, &network, &mut keys).expect("the good one");
    }
}

#[test]
fn nothing_that_a_stranger_sends_breaks_a_promise() {
    for entry in &ENTRIES {
        let good = (entry.seeds)();
        assert!(!good.is_empty(), "{} has something to begin with", entry.name);
        for bytes in &good {
            (entry.take)(bytes);
        }
        for seed in seeds() {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = good[rng.usize(..good.len())].clone();
            injure(&mut rng, &mut bytes);
            let outcome = catch_unwind(AssertUnwindSafe(|| (entry.take)(&bytes)));
            assert!(outcome.is_ok(), "SEED={seed}: {} of {:?}", entry.name, String::from_utf8_lossy(&bytes));
        }
        for bytes in &good {
            (entry.take)(bytes);
        }
    }
}

#[test]
fn good_ones_are_taken_and_not_passed_over() {
    // What the entries take for granted: a seed that is refused at once would prove nothing.
    let of = |name: &str| (ENTRIES.iter().find(|entry| entry.name == name).expect("an entry").seeds)();
    let network = Network::default();
    let opened = |line: Vec<u8>| envelope::open(&Bytes::from(line), NOW, &network, &mut Keys::default()).is_ok();
    assert!(of("envelope").into_iter().filter(|line| opened(line.clone())).count() >= 5);
    let is_frame = |bytes: &Vec<u8>| afferent::wire::sync::Frame::read(bytes).is_ok();
    assert!(of("sync").iter().filter(|bytes| is_frame(bytes)).count() >= 6);
    let answers: Vec<_> = of("dns").iter().map(|bytes| afferent::net::dns::read_answer(bytes).expect("good")).collect();
    let targets: Vec<_> = answers[0].services.iter().map(|service| service.to_string()).collect();
    assert_eq!(targets, ["10 5 7443 birch.mesh.example", "10 5 7443 ."]);
    assert!(afferent::wire::zone::Manifest::parse(&answers[1].texts[0]).is_ok());
    assert_eq!((answers[2].addresses.len(), answers[3].addresses.len()), (1, 1));
    let every_target = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).expect("fuzz/");
    for entry in &ENTRIES {
        assert!(every_target.contains(&format!("name = \"{}\"", entry.name)), "fuzz/ has no target {}", entry.name);
    }
}
