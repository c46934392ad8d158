//! Who wants an event: `cargo bench --bench matching`. Targets on 2 cores (4-dissemination): 1 M uncached
//! matches a second at 1 000 distinct patterns, 250 000 at 100 000, 10 M remembered ones; everybody who wants
//! a type, of 100 000 nodes, within 200 us.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use afferent::core::position::Prefix;
use afferent::core::roster::{Member, Roster, Snapshot};
use afferent::time::Wall;
use afferent::wire::{EventType, Interests, Keypair, Record, RecordDraft, Verified};

const NOW: Wall = Wall::from_millis(1_795_243_262_123);

fn record(number: u32, seq: u64, patterns: &[String]) -> Verified<Record> {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    let interests = Interests::new(patterns.iter().map(|text| text.parse().expect("a pattern"))).expect("interests");
    let draft = RecordDraft { seq, interests, ..RecordDraft::default() };
    draft.seal(NOW, &Keypair::from_seed(&seed)).expect("a record")
}

fn snapshot(nodes: u32, patterns: impl Fn(u32) -> Vec<String>) -> Arc<Snapshot> {
    Arc::new(Snapshot::of((0..nodes).map(|number| Member::new(record(number, 1, &patterns(number)), NOW))))
}

/// Ten patterns a node, all distinct: exact ones, with a final `*`, and one of ten with a `+`.
fn distinct(number: u32) -> Vec<String> {
    let of = |at: u32| {
        let area = format!("area{}.host{}", number % 100, number * 10 + at);
        match at {
            0 => format!("{area}.+.down"),
            1..=4 => format!("{area}.*"),
            _ => format!("{area}.disk"),
        }
    };
    (0..10).map(of).collect()
}

fn uncached(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matching");
    group.throughput(Throughput::Elements(256));
    for nodes in [100, 10_000] {
        let snapshot = snapshot(nodes, distinct);
        // Types that somebody wants, over all of the index.
        let kind = |at: u32| {
            let (number, of) = (at.wrapping_mul(2_654_435_761) % nodes, at % 10);
            format!("area{}.host{}.disk", number % 100, number * 10 + of).parse().expect("a type")
        };
        let kinds: Vec<EventType> = (0..256).map(kind).collect();
        let found: usize = kinds.iter().map(|kind| snapshot.matching(kind)).sum();
        assert!((200..256).contains(&found), "nine of ten are wanted by one pattern: {found}");
        group.bench_function(format!("{} distinct patterns", nodes * 10), |b| {
            b.iter(|| kinds.iter().map(|kind| snapshot.matching(black_box(kind))).sum::<usize>());
        });
    }
    group.finish();
}

/// One of six patterns each, all of which ask for `deployment.eu.failed`.
fn meeting(number: u32) -> Vec<String> {
    let patterns = [
        "deployment.*",
        "deployment.eu.*",
        "deployment.eu.failed",
        "deployment.+.failed",
        "deployment.eu.+",
        "deployment.+.+",
    ];
    vec![patterns[number as usize % 6].to_owned(), format!("team{}.*", number % 1_000)]
}

fn crowds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crowd");
    let six: EventType = "deployment.eu.failed".parse().expect("a type");
    let one: EventType = "team7.up".parse().expect("a type");
    for nodes in [10_000, 100_000] {
        let snapshot = snapshot(nodes, meeting);
        group.bench_function(format!("{nodes} nodes, one pattern"), |b| {
            b.iter(|| Roster::on(Arc::clone(&snapshot)).crowd(black_box(&one)).len());
        });
        group.bench_function(format!("{nodes} nodes, six patterns"), |b| {
            b.iter(|| Roster::on(Arc::clone(&snapshot)).crowd(black_box(&six)).len());
        });
        let mut late = Roster::on(Arc::clone(&snapshot));
        let begun = late.epoch();
        for number in 0..250 {
            late.take(&record(number * 7, 2, &["deployment.*".to_owned()]), None, false, NOW);
        }
        assert_eq!(late.epoch(), begun + 250, "each wanted a team, too");
        let newcomer = record(nodes + 1, 1, &["deployment.*".to_owned()]);
        group.bench_function(format!("{nodes} nodes, six patterns, 250 late changes, one of them just now"), |b| {
            b.iter(|| {
                late.take(&newcomer, None, false, NOW);
                let count = late.crowd(black_box(&six)).len();
                late.remove(&newcomer.id());
                count
            });
        });
    }
    let snapshot = snapshot(10_000, meeting);
    let mut roster = Roster::on(snapshot);
    let kinds: Vec<EventType> = (0..256).map(|at| format!("team{at}.up").parse().expect("a type")).collect();
    let crowd = roster.crowd(&six);
    let digits: Vec<Prefix> = (0..16).map(|digit| Prefix::ALL.child(digit)).collect();
    group.bench_function("10000 nodes, count and first of 16 prefixes", |b| {
        b.iter(|| digits.iter().filter_map(|at| crowd.nth(at, crowd.count(at) / 2)).count());
    });
    group.throughput(Throughput::Elements(256));
    group.bench_function("remembered, 256 types", |b| {
        b.iter(|| kinds.iter().map(|kind| roster.crowd(black_box(kind)).len()).sum::<usize>());
    });
    group.finish();
}

criterion_group!(benches, uncached, crowds);
criterion_main!(benches);
