use super::*;
use crate::time::Wall;
use crate::wire::Keypair;

const NOW: Wall = Wall::from_millis(1_795_243_262_123);
const LATER: u64 = 1_795_243_262 + 3_600;

fn key(number: u8) -> Keypair {
    Keypair::from_seed(&[number; 32])
}

fn zone(text: &str) -> ZoneName {
    text.parse().expect("a zone")
}

fn services() -> Vec<Service> {
    let service = |node: u8| {
        let target = zone("mesh.example").node(&Label::of(&key(node).id()));
        Service::new(10, 7, 7443, &target).expect("a service")
    };
    vec![service(2), service(3), service(4)]
}

fn manifest() -> Manifest {
    Manifest::sign(&key(1), &zone("mesh.example"), 5, LATER, &services())
}

/// The text with the value of one key replaced.
fn with(strings: &[String], key: &str, value: &str) -> Vec<String> {
    let put = |string: &String| match string.split_once('=') {
        Some((name, _)) if name == key => format!("{key}={value}"),
        _ => string.clone(),
    };
    strings.iter().map(put).collect()
}

#[test]
fn a_label_is_the_start_of_the_hash_of_the_key() {
    let id = key(1).id();
    let label = Label::of(&id);
    assert_eq!(label.to_string().len(), Label::LEN);
    assert_eq!(label.to_string().parse(), Ok(label));
    assert_eq!(label.to_string().to_uppercase().parse(), Ok(label), "the DNS keeps no case");
    // Made with Python: base64.b32encode(sha256(public_key).digest()[:10]).
    assert_eq!(label.to_string(), "gr2q7gf5lh6pzfdn");
    for wrong in ["", "gr2q7gf5lh6pzfd", "gr2q7gf5lh6pzfdnn", "gr2q7gf5lh6pzfd1", "gr2q7gf5lh6pzfd\u{e9}"] {
        assert_eq!(wrong.parse::<Label>(), Err(ZoneError::Label), "{wrong}");
    }
    assert_ne!(Label::of(&key(2).id()), label);
}

#[test]
fn names_in_a_zone_are_made_and_read() {
    let zone = zone("Mesh.Example.");
    let label = Label::of(&key(1).id());
    assert_eq!(zone.service(), "_mesh._tcp.mesh.example");
    assert_eq!(zone.node(&label), "gr2q7gf5lh6pzfdn.n.mesh.example");
    assert_eq!(zone.tenure(&label), "_reg.gr2q7gf5lh6pzfdn.n.mesh.example");
    assert_eq!(zone.label_in(&zone.node(&label)), Some(label));
    for other in ["birch.mesh.example", "gr2q7gf5lh6pzfdn.mesh.example", "gr2q7gf5lh6pzfdn.n.other.example", ""] {
        assert_eq!(zone.label_in(other), None, "{other}");
    }
    let long = format!("{}.example", ["a"; 120].join("."));
    for wrong in ["", ".", "a b", "192.0.2.1", "[::1]", "-x.example", &long] {
        assert_eq!(wrong.parse::<ZoneName>(), Err(ZoneError::Zone), "{wrong}");
    }
}

#[test]
fn entries_have_one_digest_whatever_their_order_and_spelling() {
    let there = Service::new(10, 0, 7443, "Birch.Example.").expect("a service");
    assert_eq!(there.to_string(), "10 0 7443 birch.example");
    assert_eq!(Service::new(0, 0, 0, ".").expect("a service").to_string(), "0 0 0 .");
    for wrong in ["", "..", "192.0.2.1", "a b", "x\\032y", "[::1]"] {
        assert_eq!(Service::new(1, 1, 1, wrong), Err(ZoneError::Target), "{wrong}");
    }
    let here = Service::new(9, 1, 7443, "cedar.example").expect("a service");
    let digest = Service::digest(&[there.clone(), here.clone()]);
    // Bytes are sorted, not numbers: 10 before 9.
    let expected = Digest::of(b"10 0 7443 birch.example\n9 1 7443 cedar.example");
    assert_eq!(digest, expected);
    assert_eq!(Service::digest(&[here.clone(), there, here.clone()]), expected);
    assert_ne!(Service::digest(&[here]), expected);
    assert_eq!(Service::digest(&[]), Digest::of(b""));
}

#[test]
fn a_manifest_travels_as_text_and_is_good_for_its_zone_key_list_and_time() {
    let zone_name = zone("mesh.example");
    let read = Manifest::parse(&manifest().strings()).expect("a manifest");
    assert_eq!(read, manifest());
    assert!(manifest().strings().iter().all(|string| string.len() <= 255));
    let verified = read.clone().verify(&zone_name, &[key(9).id(), key(1).id()]).expect("ours");
    assert_eq!(verified.check(&services(), NOW), Ok(()));
    let mut reordered = services();
    reordered.reverse();
    assert_eq!(verified.check(&reordered, NOW), Ok(()));

    assert_eq!(verified.check(&services()[1..], NOW), Err(ZoneError::Entries));
    let mut moved = services();
    moved[0].port = 6379;
    assert_eq!(verified.check(&moved, NOW), Err(ZoneError::Entries));
    assert_eq!(verified.check(&services(), Wall::from_millis(1_000 * 1_795_246_862)), Err(ZoneError::Expired));
    assert_eq!(read.clone().verify(&zone_name, &[key(2).id()]).err(), Some(ZoneError::UnknownKey));
    assert_eq!(read.clone().verify(&zone_name, &[]).err(), Some(ZoneError::UnknownKey));
    assert_eq!(read.verify(&zone("other.example"), &[key(1).id()]).err(), Some(ZoneError::Signature));
}

#[test]
fn every_signed_value_of_a_manifest_is_signed() {
    let strings = manifest().strings();
    let other = Manifest::sign(&key(2), &zone("mesh.example"), 5, LATER, &services());
    for (key_name, value) in [
        ("seq", "6".to_owned()),
        ("exp", (LATER + 1).to_string()),
        ("n", "4".to_owned()),
        ("h", Digest::of(b"other").to_string()),
        ("s", other.strings()[6][2..].to_owned()),
    ] {
        let changed = Manifest::parse(&with(&strings, key_name, &value)).expect("well formed");
        let outcome = changed.verify(&zone("mesh.example"), &[key(1).id(), key(2).id()]);
        assert_eq!(outcome.err(), Some(ZoneError::Signature), "{key_name}");
    }
    let changed = Manifest::parse(&with(&strings, "k", &KeyId::of(&key(2).id()).to_string())).expect("well formed");
    assert!(changed.verify(&zone("mesh.example"), &[key(1).id(), key(2).id()]).is_err());
}

#[test]
fn a_signature_under_another_type_is_none() {
    let zone = zone("mesh.example");
    let label = Label::of(&key(2).id());
    let tenure = Tenure::sign(&key(1), &zone, &label, 1, 2, 3);
    let strings = with(&manifest().strings(), "s", &tenure.strings()[4][2..]);
    let manifest = Manifest::parse(&strings).expect("well formed");
    assert_eq!(manifest.verify(&zone, &[key(1).id()]).err(), Some(ZoneError::Signature));
}

#[test]
fn a_tenure_is_good_for_one_node_of_one_zone() {
    let (here, label) = (zone("mesh.example"), Label::of(&key(2).id()));
    let tenure = Tenure::sign(&key(1), &here, &label, 100, 200, 99);
    assert_eq!(tenure.score, Tenure::SCORE_MAX);
    let read = Tenure::parse(&tenure.strings()).expect("a tenure");
    assert_eq!(read, tenure);
    assert!(read.clone().verify(&here, &label, &[key(9).id(), key(1).id()]).is_ok());
    let refused = |tenure: &Tenure, zone: &ZoneName, label: &Label, pinned: &[NodeId]| {
        tenure.clone().verify(zone, label, pinned).err() == Some(ZoneError::Signature)
    };
    assert!(refused(&read, &here, &label, &[key(2).id()]));
    assert!(refused(&read, &here, &label, &[]));
    assert!(refused(&read, &here, &Label::of(&key(3).id()), &[key(1).id()]));
    assert!(refused(&read, &zone("other.example"), &label, &[key(1).id()]));
    for (name, value) in [("since", "101"), ("ok", "201"), ("sc", "15")] {
        let changed = Tenure::parse(&with(&tenure.strings(), name, value)).expect("well formed");
        assert!(refused(&changed, &here, &label, &[key(1).id()]), "{name}");
    }
    assert_eq!(Tenure::parse(&with(&tenure.strings(), "sc", "17")), Err(ZoneError::Value("sc")));
}

#[test]
fn a_node_text_says_who_and_by_hand_also_where() {
    let id = key(2).id();
    let text = NodeText { id, network: Some("main".parse().expect("a network")), seq: Some(7), at: None };
    assert_eq!(text.strings(), ["v=afferent1".to_owned(), format!("id={id}"), "net=main".into(), "seq=7".into()]);
    assert_eq!(NodeText::parse(&text.strings()), Ok(text));

    let by_hand = NodeText::parse(&[format!("id={id}"), "addr=birch.example:7443".into()]).expect("a text");
    assert_eq!(by_hand.at.map(|at| at.to_string()), Some("birch.example:7443".to_owned()));
    assert_eq!((by_hand.id, by_hand.network, by_hand.seq), (id, None, None));
    // One string, as the form of a provider takes it; other case, a comment, an unknown key, a second id.
    let odd = format!("ID={id} note addr=192.0.2.1 x-team=blue id=nonsense");
    let odd = NodeText::parse(&[odd]).expect("a text");
    assert_eq!(odd.at.map(|at| at.to_string()), Some("192.0.2.1:7443".to_owned()));
}

#[test]
fn texts_that_are_wrong_say_how() {
    let id = format!("id={}", key(2).id());
    for (strings, error) in [
        (vec![], ZoneError::Missing("id")),
        (vec!["v=spf1 -all"], ZoneError::Version),
        (vec!["v=afferent2", &id], ZoneError::Version),
        (vec!["v=afferent1"], ZoneError::Missing("id")),
        (vec!["id=x"], ZoneError::Value("id")),
        (vec![&id, "net=a.b"], ZoneError::Value("net")),
        (vec![&id, "seq=+1"], ZoneError::Value("seq")),
        (vec![&id, "seq=01"], ZoneError::Value("seq")),
        (vec![&id, "seq=18446744073709551616"], ZoneError::Value("seq")),
        (vec![&id, "seq="], ZoneError::Value("seq")),
        (vec![&id, "addr=0x7f.1:80"], ZoneError::Value("addr")),
        (vec![&id, "addr=x:0"], ZoneError::Value("addr")),
    ] {
        assert_eq!(NodeText::parse(&strings), Err(error), "{strings:?}");
    }
    let good = manifest().strings();
    for (name, value) in [("seq", "-1"), ("exp", ""), ("n", "257"), ("h", "AA"), ("k", "zz"), ("s", "AAAA")] {
        assert_eq!(Manifest::parse(&with(&good, name, value)), Err(ZoneError::Value(leak(name))), "{name}");
    }
    for left_out in 1..good.len() {
        let mut strings = good.clone();
        let name = strings.remove(left_out);
        assert!(matches!(Manifest::parse(&strings), Err(ZoneError::Missing(_))), "{name}");
    }
    assert_eq!(Manifest::parse(&good[1..]), Err(ZoneError::Version));
    assert!(Manifest::is_meant(&good) && !Manifest::is_meant(&[id]));
}

fn leak(name: &str) -> &'static str {
    ["seq", "exp", "n", "h", "k", "s"].into_iter().find(|known| *known == name).expect("a key of a manifest")
}

#[test]
fn more_than_any_text_of_ours_has_is_not_read() {
    let id = format!("id={}", key(2).id());
    let many = vec![id.clone(); STRINGS_MAX + 1];
    assert_eq!(NodeText::parse(&many), Err(ZoneError::Size));
    assert_eq!(NodeText::parse(&[id.clone(), "x".repeat(TEXT_BYTES_MAX)]), Err(ZoneError::Size));
    assert_eq!(NodeText::parse(&["a=b ".repeat(STRINGS_MAX + 1)]), Err(ZoneError::Size));
    assert_eq!(
        NodeText::parse(&[b"\xff=\xfe".as_slice(), b"", b"=x", b"\0", id.as_bytes()]).map(|text| text.id),
        Ok(key(2).id())
    );
}
