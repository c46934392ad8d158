//! Servers that answer well, late, wrongly or not at all.

use super::*;

/// Short enough for a test, long enough for a busy machine to answer in.
fn hasty(settings: &mut Settings) {
    settings.patience = Patience { question: Duration::from_millis(300), whole: Duration::from_secs(5) };
}

fn forty() -> Records {
    let mut records = Records::default();
    for number in 1..=40 {
        records.node(number);
    }
    records
}

#[tokio::test]
async fn forty_entries_are_too_many_for_a_datagram_and_come_by_tcp() {
    let records = forty();
    let server = run(&records, Mood::Good).await;
    let found = Dns::new(settings(server.at)).lookup(&zone(), NOW, 1).await.expect("a mesh");
    assert_eq!(found.finds.len(), ENTRIES_MAX);
    assert_eq!(server.by_tcp.load(Ordering::Relaxed), 1, "the list alone, not what it names");
    assert!(found.finds.iter().all(|find| find.id.is_some() && find.at.len() == 1));
    let other = Dns::new(settings(server.at)).lookup(&zone(), NOW, 2).await.expect("a mesh");
    assert_ne!(found.finds, other.finds, "another seed, another draw");
    let again = Dns::new(settings(server.at)).lookup(&zone(), NOW, 2).await.expect("a mesh");
    assert_eq!(other.finds, again.finds, "the same seed, the same draw");
}

#[tokio::test]
async fn a_server_that_is_mute_by_udp_is_asked_by_tcp() {
    let found = ask_as(&forty(), Mood::MuteByUdp, hasty).await.expect("a mesh");
    assert_eq!((found.finds.len(), found.ignored), (ENTRIES_MAX, 0));
}

#[tokio::test]
async fn each_class_of_failure_has_its_name() {
    let mut records = Records::default();
    records.node(1);
    for (mood, fault) in [
        (Mood::Code(ResponseCode::NXDomain), TierFault::NoName),
        (Mood::Code(ResponseCode::NoError), TierFault::NoRecords),
        (Mood::Code(ResponseCode::ServFail), TierFault::ServFail),
        (Mood::Code(ResponseCode::Refused), TierFault::Refused),
        (Mood::Code(ResponseCode::NotImp), TierFault::Code(4)),
        (Mood::Garbage, TierFault::Garbage),
        (Mood::Mute, TierFault::Silent),
    ] {
        assert_eq!(ask_as(&records, mood, hasty).await, Err(fault), "{}", fault.word());
    }
    // Nobody listens: the port of a server that is gone.
    let gone = run(&records, Mood::Mute).await.at;
    let mut settings = settings(gone);
    hasty(&mut settings);
    let fault = Dns::new(settings).lookup(&zone(), NOW, 1).await;
    assert!(matches!(fault, Err(TierFault::Silent | TierFault::Unreachable)), "{fault:?}");
}

#[tokio::test]
async fn a_lookup_ends_in_time_with_what_it_has() {
    let records = forty();
    let server = run(&records, Mood::Mute).await;
    let mut settings = settings(server.at);
    settings.patience = Patience { question: Duration::from_secs(60), whole: Duration::from_millis(300) };
    assert_eq!(Dns::new(settings).lookup(&zone(), NOW, 1).await, Err(TierFault::Silent));
}

#[tokio::test]
async fn injured_answers_never_panic_and_a_good_one_is_read_right_after() {
    let mut records = Records::default();
    records.node(1).node(2).node(3).signed(9, 1);
    for seed in 0..150 {
        let outcome = ask_as(&records, Mood::Injured(seed), |settings| {
            settings.patience = Patience { question: Duration::from_millis(20), whole: Duration::from_millis(60) };
            if seed % 2 == 0 {
                settings.keys = vec![key(9).id()];
            }
        });
        if let Ok(found) = outcome.await {
            assert!(found.finds.len() <= ENTRIES_MAX, "seed {seed}");
            assert!(found.finds.iter().all(|find| !find.at.is_empty()), "seed {seed}");
        }
    }
    assert_eq!(ask(&records).await.expect("a mesh").finds.len(), 3);
}
