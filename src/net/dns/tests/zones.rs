//! Zones as registrars and people write them, and as nobody should.

use super::*;

fn pinned(settings: &mut Settings) {
    settings.keys = vec![key(8).id(), key(9).id()];
}

fn three() -> Records {
    let mut records = Records::default();
    records.node(1).node(2).node(3);
    records
}

#[tokio::test]
async fn a_zone_of_a_registrar_says_who_is_where() {
    let found = ask(&three()).await.expect("a mesh");
    assert_eq!(places(&found), ["127.1.0.1:7443", "127.2.0.1:7443", "127.3.0.1:7443"]);
    let ids: std::collections::BTreeSet<_> = found.finds.iter().filter_map(|find| find.id).collect();
    assert_eq!(ids, [1, 2, 3].map(|number| key(number).id()).into());
    assert_eq!((found.refused.len(), found.ignored, found.is_here), (0, 0, false));
}

#[tokio::test]
async fn a_lookup_can_be_a_task_of_its_own() {
    let server = run(&three(), Mood::Good).await;
    let dns = Arc::new(Dns::new(settings(server.at)));
    let task = tokio::spawn(async move { dns.lookup(&zone(), NOW, 1).await });
    assert_eq!(task.await.expect("no panic").expect("a mesh").finds.len(), 3);
}

#[tokio::test]
async fn zones_written_by_hand_work_too() {
    let mut plain = Records::default();
    plain.srv(20, 7444, "birch.example.").srv(10, 7443, "Cedar.Example.");
    plain.ip("birch.example", "127.1.0.1").ip("birch.example", "::1").ip("cedar.example", "127.2.0.1");
    let found = ask(&plain).await.expect("a mesh");
    let at: Vec<Vec<String>> =
        found.finds.iter().map(|find| find.at.iter().map(HostPort::to_string).collect()).collect();
    assert_eq!(at, [vec!["127.2.0.1:7443".to_owned()], vec!["127.1.0.1:7444".to_owned(), "[::1]:7444".to_owned()]]);
    assert!(found.finds.iter().all(|find| find.id.is_none()), "nobody said who");

    let id = key(1).id();
    plain.txt("cedar.example", &["v=spf1 -all"]).txt("cedar.example", &[format!("id={id}")]);
    assert_eq!(ask(&plain).await.expect("a mesh").finds[0].id, Some(id));

    let mut texts = Records::default();
    let service = zone().service();
    texts.txt(&service, &["unrelated"]).txt(&service, &[format!("id={id}"), "addr=127.9.0.1:7443".into()]);
    texts.txt(&service, &[format!("id={} addr=birch.example:7445", key(2).id())]).ip("birch.example", "127.5.0.1");
    let found = ask(&texts).await.expect("a mesh");
    assert_eq!(places(&found), ["127.5.0.1:7445", "127.9.0.1:7443"]);
    assert!(found.finds.iter().all(|find| find.id.is_some()));
}

#[tokio::test]
async fn a_zone_says_that_it_has_no_mesh_or_says_nothing() {
    let mut none = Records::default();
    none.srv(0, 0, ".");
    assert_eq!(ask(&none).await, Err(TierFault::NoService));
    let mut beside = three();
    beside.srv(0, 0, ".");
    assert_eq!(ask(&beside).await.expect("a mesh").finds.len(), 3, "a stray one hides nobody");
    let mut other = Records::default();
    other.txt(&zone().service(), &["v=spf1 -all"]);
    assert_eq!(ask(&other).await, Err(TierFault::NoRecords));
    assert_eq!(ask(&Records::default()).await, Err(TierFault::NoName));
}

#[tokio::test]
async fn a_signed_zone_counts_and_every_other_does_not() {
    let mut good = three();
    good.signed(9, 7);
    let found = ask_as(&good, Mood::Good, pinned).await.expect("a mesh");
    assert_eq!(found.finds.len(), 3);
    assert_eq!(ask(&good).await.expect("a mesh").finds.len(), 3, "without pinned keys a manifest is ignored");

    let fault = |error| Err(TierFault::Manifest(error));
    assert_eq!(ask_as(&three(), Mood::Good, pinned).await, Err(TierFault::Unsigned));
    let mut foreign = three();
    foreign.signed(5, 7);
    assert_eq!(ask_as(&foreign, Mood::Good, pinned).await, fault(ZoneError::UnknownKey));
    assert_eq!(ask(&foreign).await.expect("a mesh").finds.len(), 3);
    let mut added = good.clone();
    added.node(4);
    assert_eq!(ask_as(&added, Mood::Good, pinned).await, fault(ZoneError::Entries));
    let mut forged = three();
    let mut strings = Manifest::sign(&key(9), &zone(), 7, u64::MAX, &forged.services()).strings();
    strings[1] = "seq=8".to_owned();
    forged.txt(&zone().service(), &strings);
    assert_eq!(ask_as(&forged, Mood::Good, pinned).await, fault(ZoneError::Signature));
    let mut old = three();
    let strings = Manifest::sign(&key(9), &zone(), 7, 1_795_243_262, &old.services()).strings();
    old.txt(&zone().service(), &strings);
    assert_eq!(ask_as(&old, Mood::Good, pinned).await, fault(ZoneError::Expired));
    // While a key is changed two stand there, and one is enough.
    good.signed(5, 7);
    assert!(ask_as(&good, Mood::Good, pinned).await.is_ok());
}

#[tokio::test]
async fn an_older_list_is_not_believed_again() {
    let (mut new, mut old) = (three(), three());
    new.signed(9, 8);
    old.signed(9, 7);
    let (new, old) = (run(&new, Mood::Good).await, run(&old, Mood::Good).await);
    let mut settings = settings(new.at);
    pinned(&mut settings);
    let mut dns = Dns::new(settings);
    assert!(dns.lookup(&zone(), NOW, 1).await.is_ok());
    dns.settings.server = Some(old.at);
    assert_eq!(dns.lookup(&zone(), NOW, 1).await, Err(TierFault::Manifest(ZoneError::Older)));
    dns.settings.server = Some(new.at);
    assert!(dns.lookup(&zone(), NOW, 1).await.is_ok());
}

#[tokio::test]
async fn what_a_manifest_does_not_sign_puts_nobody_in() {
    // The list is signed, the records below it are somebody else's.
    let mut records = three();
    records.srv(10, 7443, "mallory.example.").ip("mallory.example", "127.66.0.1").signed(9, 1);
    let name = zone().node(&Label::of(&key(1).id()));
    records.0.remove(&(name.clone(), RecordType::TXT));
    records.txt(&name, &[format!("id={}", key(66).id())]);
    let name = zone().node(&Label::of(&key(2).id()));
    records.0.remove(&(name, RecordType::TXT));
    let found = ask_as(&records, Mood::Good, pinned).await.expect("a mesh");
    assert_eq!(places(&found), ["127.3.0.1:7443"]);
    assert_eq!(found.ignored, 3);
    let found = ask(&records).await.expect("a mesh");
    assert_eq!(places(&found), ["127.3.0.1:7443", "127.66.0.1:7443"], "unsigned: a label still means its key");
}

#[tokio::test]
async fn ourselves_and_other_networks_are_passed_over() {
    let mut records = Records::default();
    records.node(1).node(200);
    let id = key(2).id();
    let name = zone().node(&Label::of(&id));
    records.srv(10, 7443, &format!("{name}.")).txt(&name, &[format!("v=afferent1 id={id} net=staging")]);
    records.ip(&name, "127.2.0.1");
    let found = ask(&records).await.expect("a mesh");
    assert_eq!(places(&found), ["127.1.0.1:7443"]);
    assert!(found.is_here);
    assert_eq!(found.ignored, 1);
    let own = |settings: &mut Settings| settings.own = vec!["127.1.0.1:7443".parse().expect("a place")];
    assert!(ask_as(&records, Mood::Good, own).await.expect("a mesh").finds.is_empty());
}

#[tokio::test]
async fn no_record_leads_to_a_forbidden_place() {
    for (port, ip) in [
        (6379, "127.0.0.1"),
        (7443, "127.0.0.1"),
        (443, "169.254.169.254"),
        (7443, "10.0.0.1"),
        (7443, "192.168.1.1"),
        (7443, "100.64.0.1"),
        (7443, "::1"),
        (7443, "::ffff:10.0.0.1"),
        (7443, "::ffff:127.0.0.1"),
        (7443, "64:ff9b::a00:1"),
        (7443, "2002:a00:1::"),
        (7443, "fd00::1"),
        (7443, "fe80::1"),
        (7443, "0.0.0.0"),
        (7443, "224.0.0.1"),
        (22, "8.8.8.8"),
        (6379, "8.8.8.8"),
        (0, "8.8.8.8"),
    ] {
        let mut records = Records::default();
        records.srv(10, port, "bait.example.").ip("bait.example", ip);
        let public = |settings: &mut Settings| settings.profile = Profile::Public;
        let outcome = ask_as(&records, Mood::Good, public).await;
        assert_eq!(outcome, Err(TierFault::Nothing { refused: 1, ignored: 1 }), "{ip} {port}");
    }
    let mut spelled = Records::default();
    let id = key(1).id();
    for spelling in ["0x7f.1:7443", "2130706433:7443", "127.1:7443", "[::ffff:10.0.0.1]:7443", "10.0.0.1:7443"] {
        spelled.txt(&zone().service(), &[format!("id={id}"), format!("addr={spelling}")]);
    }
    spelled.srv(10, 7443, "0x7f.1.").srv(10, 7443, "127.0.0.1.");
    let odd = Name::from_labels([b"a\0b".as_slice(), b"example"]).expect("a name to the DNS");
    spelled.put(&zone().service(), RData::SRV(SRV::new(10, 1, 7443, odd)));
    let public = |settings: &mut Settings| settings.profile = Profile::Public;
    let outcome = ask_as(&spelled, Mood::Good, public).await;
    assert_eq!(outcome, Err(TierFault::Nothing { refused: 2, ignored: 5 }));

    // One bad address beside a good one costs the good one nothing.
    let mut mixed = Records::default();
    mixed.srv(10, 7443, "birch.example.").ip("birch.example", "10.0.0.1").ip("birch.example", "8.8.8.8");
    let found = ask_as(&mixed, Mood::Good, |settings| settings.profile = Profile::Public).await.expect("a mesh");
    assert_eq!((places(&found), found.refused.len()), (vec!["8.8.8.8:7443".to_owned()], 1));
}

#[tokio::test]
async fn one_entry_has_few_places() {
    let mut records = Records::default();
    records.srv(10, 7443, "birch.example.");
    for number in 1..=9 {
        records.ip("birch.example", &format!("127.1.0.{number}"));
    }
    let found = ask(&records).await.expect("a mesh");
    assert_eq!(found.finds[0].at.len(), crate::wire::record::ADDRESSES_MAX);
}
