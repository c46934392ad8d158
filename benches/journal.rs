//! The journal: appends by the size of the batch, look-ups, pages. Compare the ratios of one run.

use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use afferent::core::ports::{BatchId, Entry, Known, Log, Seq};
use afferent::store::{DataDir, Journal, JournalSettings, Report};
use afferent::time::Wall;
use afferent::wire::{Digest, Draft, Keypair, envelope};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

const T0: Wall = Wall::from_millis(1_795_243_262_123);
const DAY: Duration = Duration::from_secs(86_400);

/// Events of 1 KB whose digests expire over the 9 periods that a week and two days span.
struct Events {
    key: Keypair,
    made: u64,
}

impl Events {
    fn some(&mut self, count: u64) -> Vec<Entry> {
        (0..count).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> Entry {
        self.made += 1;
        let life = DAY * u32::try_from(self.made % 7 + 1).expect("below 8");
        let text = format!("{:0700}", self.made);
        let data = serde_json::value::to_raw_value(&text).expect("a string");
        let draft = Draft::new(format!("n-{}", self.made), "bench.happened", T0).living(T0, life).with_data(data);
        let envelope = envelope::seal(&draft, &self.key).expect("an event");
        Entry { envelope, from: None, hops: 0, duty: false, received: T0, claims: Box::default(), hold: None }
    }
}

fn wait_for_answer(reports: &Receiver<Report>) {
    while !matches!(reports.recv().expect("the journal lives"), Report::Appended { .. }) {}
}

fn journal(criterion: &mut Criterion) {
    let home = tempfile::tempdir_in(".").expect("a directory");
    let dir = DataDir::open(home.path()).expect("free");
    let (sender, reports) = mpsc::channel();
    let settings = JournalSettings { bytes_max: 64 << 30, ..JournalSettings::default() };
    let journal = Journal::open(&dir, settings, move |report| {
        let _ = sender.send(report);
    })
    .expect("sound");
    let mut events = Events { key: Keypair::from_seed(&[7; 32]), made: 0 };

    let mut group = criterion.benchmark_group("append");
    for size in [1, 64, 256] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched(
                || events.some(size),
                |entries| {
                    journal.append(BatchId(1), entries);
                    wait_for_answer(&reports);
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();

    let present: Vec<Digest> = {
        let page = journal.page(Seq(0), 4_096, usize::MAX).expect("readable");
        page.entries.iter().map(|stored| stored.entry.envelope.digest()).collect()
    };
    let mut group = criterion.benchmark_group("seen");
    let mut at = 0usize;
    group.bench_function("present", |bencher| {
        bencher.iter(|| {
            at = (at + 1) % present.len();
            assert!(journal.seen(&present[at]).is_some());
        });
    });
    group.bench_function("absent", |bencher| {
        bencher.iter(|| {
            at += 1;
            assert!(journal.seen(&Digest::of(&at.to_be_bytes())).is_none());
        });
    });
    group.finish();

    let head = journal.head();
    criterion.bench_function("page/64", |bencher| {
        bencher.iter(|| {
            at = (at + 64) % (head.0 as usize - 64);
            let page = journal.page(Seq(at as u64), 64, usize::MAX).expect("readable");
            assert_eq!(page.entries.len(), 64);
        });
    });
}

criterion::criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    targets = journal
}
criterion::criterion_main!(benches);
