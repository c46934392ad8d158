//! What one event costs before it is stored, step by step, as ratios to the signature check of the
//! same run: `cargo bench --bench wire`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use afferent::time::Wall;
use afferent::wire::{Draft, Keypair, Keys, Line, Network, Scalar, envelope};

const NOW: Wall = Wall::from_millis(1_795_243_262_123);

/// An event of about 1 KB, as the figures of the design take it.
fn line() -> Bytes {
    let data = format!(
        r#"{{"service":"proxy","exit_code":137,"duration_s":42.5,"log":["{}"]}}"#,
        "0123456789abcdef".repeat(36)
    );
    let draft = Draft::new("019a9f3c-7b1e-7c43-9d52-0c1f8b1f6a10", "deployment.failed", NOW)
        .with("subject", Scalar::Text("service:proxy".into()))
        .with_data(serde_json::value::RawValue::from_string(data).expect("JSON"));
    Bytes::from(envelope::seal(&draft, &Keypair::from_seed(&[1; 32])).expect("a good draft").line(0, false))
}

fn steps(criterion: &mut Criterion) {
    let line = line();
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(1));
    let mut keys = Keys::default();
    let parsed = Line::split(&line).expect("a line").parse(&mut keys).expect("an event");
    group.bench_function("signature check", |b| b.iter(|| black_box(parsed.clone()).verify().is_ok()));
    group.bench_function("split", |b| b.iter(|| Line::split(black_box(&line)).is_ok()));
    let split = Line::split(&line).expect("a line");
    group.bench_function("digest", |b| b.iter(|| black_box(&split).digest()));
    group.bench_function("parse and validate", |b| b.iter(|| black_box(split.clone()).parse(&mut keys).is_ok()));
    let network = Network::default();
    group.bench_function("open, all of it", |b| {
        b.iter(|| envelope::open(black_box(&line), NOW, &network, &mut keys).is_ok());
    });
    let key = Keypair::from_seed(&[1; 32]);
    let draft = Draft::new("e-1", "deployment.failed", NOW);
    group.bench_function("seal", |b| b.iter(|| envelope::seal(black_box(&draft), &key).is_ok()));
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
