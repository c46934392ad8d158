//! Seeded mutation of valid messages: never a panic, always a `Rejection`, and the good one passes
//! right after. `SEED=17 cargo test --test malformed` repeats one round.

use bytes::Bytes;

use afferent::time::Wall;
use afferent::wire::message::{Hello, Problem, Receipt};
use afferent::wire::zone::{Label, Manifest, NodeText, Service, Tenure};
use afferent::wire::{
    Draft, HostPort, Interests, Keypair, Keys, Line, Network, NodeId, Pattern, PeerAddress, Record, RecordDraft,
    Scalar, ZoneName, envelope, json, timestamp,
};

const NOW: Wall = Wall::from_millis(1_795_243_262_123);
const ROUNDS: u64 = 4_000;

fn seeds() -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..ROUNDS).collect(),
    }
}

fn key() -> Keypair {
    Keypair::from_seed(&[1; 32])
}

fn good_event() -> String {
    let data =
        r#"{"service":"proxy","list":[1,2.5,-3,true,null,{"deep":[[["x"]]]}],"note":"D\u00e9j\u00e0 \ud83d\ude00"}"#;
    let draft = Draft::new("e-1", "deployment.failed", NOW)
        .with("subject", Scalar::Text("service:proxy".into()))
        .with("level", Scalar::Integer(3))
        .with("to", Scalar::Text(Keypair::from_seed(&[2; 32]).id().uri()))
        .with_data(serde_json::value::RawValue::from_string(data.into()).expect("JSON"));
    envelope::seal(&draft, &key()).expect("a good draft").line(0, true)
}

fn good_record() -> String {
    let patterns = ["deployment.*", "a.+.c"].map(|text| text.parse::<Pattern>().expect("a pattern"));
    let draft = RecordDraft {
        seq: 1,
        addresses: vec!["birch.example:7443".parse().expect("an address")],
        interests: Interests::new(patterns).expect("interests"),
        network: Network::default(),
    };
    draft.seal(NOW, &key()).expect("a record").envelope().line(0, false)
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
    for good in [good_event(), good_record()] {
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
fn injured_events_signed_by_their_author_never_panic_and_stay_within_the_limits() {
    // The signer is the attacker here: everything up to the signature passes, so parsing stands alone.
    let line = good_event();
    let event = &line.as_bytes()[line.find('{').expect("an event")..];
    for seed in seeds() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = event.to_vec();
        injure(&mut rng, &mut bytes);
        let Ok(event) = afferent::wire::Event::parse(Bytes::from(bytes.clone()), &mut Keys::default()) else {
            continue;
        };
        assert_eq!(event.bytes(), &bytes, "SEED={seed}: the bytes are never touched");
        json::check(event.text()).unwrap_or_else(|fault| panic!("SEED={seed}: {fault}"));
        for (name, value) in event.attributes() {
            assert!(value.len() <= 991 && !value.contains(char::is_control), "SEED={seed}: {name}");
        }
    }
}

#[test]
fn injured_answers_and_texts_never_panic() {
    let hello = Hello::answer(&key(), None, "nonce", "127.0.0.1:7443".into(), timestamp::format(NOW), good_record());
    let texts = [
        serde_json::to_string(&hello).expect("a hello"),
        r#"{"stored":2,"duplicate":1,"rejected":[{"i":1,"code":"bad_signature"}],"retry":[{"i":3,"after_ms":2000}],"no_duty":[4],"credit":64}"#.into(),
        r#"{"status":429,"code":"rate","title":"x","retry_after_ms":5}"#.into(),
        format!("mesh://{}@[2001:4860::1]:7443", key().id()),
        "deployment.+.failed.*".into(),
        "2026-11-21T06:41:02.123456+01:00".into(),
    ];
    for seed in seeds() {
        let mut rng = fastrand::Rng::with_seed(seed);
        for text in &texts {
            let mut bytes = text.clone().into_bytes();
            injure(&mut rng, &mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(hello) = serde_json::from_str::<Hello>(&text) {
                let _ = hello.is_answer_of(&key().id(), None, "nonce");
            }
            let _ = serde_json::from_str::<Receipt>(&text);
            let _ = serde_json::from_str::<Problem>(&text);
            let _ = text.parse::<PeerAddress>();
            let _ = text.parse::<HostPort>();
            let _ = text.parse::<NodeId>();
            let _ = text.parse::<Pattern>();
            let _ = timestamp::parse(&text);
            let _ = Line::split(&Bytes::from(bytes));
        }
    }
}

#[test]
fn injured_texts_of_a_zone_never_panic_and_say_nothing_that_was_not_signed() {
    let zone: ZoneName = "mesh.example".parse().expect("a zone");
    let label = Label::of(&Keypair::from_seed(&[2; 32]).id());
    let services = ["birch.example", "."].map(|target| Service::new(10, 5, 7443, target).expect("a service"));
    let manifest = Manifest::sign(&key(), &zone, 7, 1_795_250_000, &services);
    let tenure = Tenure::sign(&key(), &zone, &label, 1, 2, 3);
    let node = NodeText {
        id: key().id(),
        network: Some(Network::default()),
        seq: Some(1),
        at: Some("birch.example:7443".parse().expect("a place")),
    };
    for seed in seeds() {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut injured = |strings: Vec<String>| {
            let mut strings: Vec<Vec<u8>> = strings.into_iter().map(String::into_bytes).collect();
            let at = rng.usize(0..strings.len());
            injure(&mut rng, &mut strings[at]);
            strings
        };
        let strings = injured(manifest.strings());
        let _ = Manifest::is_meant(&strings);
        if let Ok(read) = Manifest::parse(&strings)
            && let Ok(verified) = read.verify(&zone, &[key().id()])
        {
            assert_eq!(*verified, manifest, "SEED={seed}");
            verified.check(&services, NOW).unwrap_or_else(|error| panic!("SEED={seed}: {error}"));
        }
        if let Ok(read) = Tenure::parse(&injured(tenure.strings()))
            && let Ok(verified) = read.verify(&zone, &label, &[key().id()])
        {
            assert_eq!(*verified, tenure, "SEED={seed}");
        }
        let _ = NodeText::parse(&injured(node.strings()));
        for text in ["a.birch.example", "mesh.example", "b4.n.mesh.example"] {
            let mut bytes = text.as_bytes().to_vec();
            injure(&mut rng, &mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            let _ = text.parse::<ZoneName>();
            let _ = text.parse::<Label>();
            let _ = zone.label_in(&text);
            if let Ok(service) = Service::new(1, 2, 3, &text) {
                assert!(service.target().is_none_or(|target| target.len() <= 253), "SEED={seed}");
            }
        }
    }
    assert!(Manifest::parse(&manifest.strings()).expect("whole").verify(&zone, &[key().id()]).is_ok());
}
