//! The bridge against real `redis-server` processes. No sleeps: each step waits for what it needs.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::core::params::Params;
use crate::wire::{Network, Pattern};
use journal::Journal;
use server::Server;

mod egress;
mod intake;
pub(super) mod journal;
mod late;
mod letters;
mod readers;
mod routes;
mod server;
mod travel;
mod weather;

const STREAM: &str = "mesh:events";
const OUTBOX: &str = "mesh:outbox";

/// Waits for a condition. Every wait of these tests ends here or at a channel.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < patience, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// One node with its bridge, on one Redis.
struct Node {
    settings: Settings,
    log: Arc<Journal>,
    key: Arc<Keypair>,
    interests: watch::Sender<Interests>,
    policy: watch::Sender<Policy>,
    state: watch::Sender<BusState>,
    counters: Arc<Counters>,
    bridge: Option<(JoinHandle<()>, watch::Sender<bool>)>,
    publications: Option<mpsc::Receiver<Publication>>,
    orders: Option<mpsc::Sender<Order>>,
}

impl Node {
    fn at(url: &str) -> Node {
        let settings = Settings { url: url.to_owned(), ..settings() };
        let patterns = ["a.*".parse::<Pattern>().expect("a pattern")];
        Node {
            settings,
            log: Arc::new(Journal::new(77)),
            interests: watch::Sender::new(Interests::new(patterns).expect("interests")),
            policy: watch::Sender::new(Policy::of(Keypair::from_seed(&[5; 32]).id(), &Params::default())),
            key: Arc::new(Keypair::from_seed(&[5; 32])),
            state: watch::Sender::default(),
            counters: Arc::default(),
            bridge: None,
            publications: None,
            orders: None,
        }
    }

    /// Starts the bridge, as after a start of the daemon.
    fn start(&mut self) {
        let (publications, taken) = mpsc::channel(4);
        let (orders, given) = mpsc::channel(4);
        let (shutdown, ended) = watch::channel(false);
        let ends = Ends {
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            head: self.log.watch(),
            interests: self.interests.subscribe(),
            policy: self.policy.subscribe(),
            key: Arc::clone(&self.key),
            publications,
            orders: given,
            state: self.state.clone(),
            counters: Arc::clone(&self.counters),
            shutdown: ended,
        };
        self.publications = Some(taken);
        self.orders = Some(orders);
        self.bridge = Some((tokio::spawn(run(self.settings.clone(), ends)), shutdown));
    }

    /// Kills the bridge wherever it is, as a crash would.
    async fn crash(&mut self) {
        let (task, _shutdown) = self.bridge.take().expect("it runs");
        task.abort();
        let ended = task.await;
        assert!(ended.as_ref().is_err_and(|error| error.is_cancelled()), "the bridge ended by itself: {ended:?}");
        self.publications = None;
    }

    /// Asks the bridge to end, and waits until it did.
    async fn stop(&mut self) {
        let (task, shutdown) = self.bridge.take().expect("it runs");
        shutdown.send_replace(true);
        tokio::time::timeout(PATIENCE, task).await.expect("it ends in time").expect("it does not panic");
    }

    /// Gives an order and waits for what comes of it.
    async fn order<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Order) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.orders.as_ref().expect("the bridge runs").send(make(answer)).await.expect("the bridge runs");
        tokio::time::timeout(PATIENCE, answered).await.expect("in time").expect("an answer")
    }

    /// Waits for a state.
    async fn reaches(&self, what: &str, is_it: impl FnMut(&BusState) -> bool) -> BusState {
        let mut states = self.state.subscribe();
        let reached = tokio::time::timeout(PATIENCE, states.wait_for(is_it)).await;
        match reached {
            Ok(state) => state.expect("the node holds the sender").clone(),
            Err(_) => panic!("waited too long for {what}: {:?}", self.state.borrow()),
        }
    }

    async fn runs(&self) {
        self.reaches("the egress to run", |state| state.egress == Condition::Running).await;
    }

    /// Waits until the egress waits for something with these words.
    async fn waits(&self, words: &str) {
        let is_it = |state: &BusState| matches!(&state.egress, Condition::Waiting { why } if why.contains(words));
        self.reaches(words, is_it).await;
    }

    /// Waits until the egress is stopped with these words; what it says to do.
    async fn stops(&self, words: &str) -> String {
        let is_it = |state: &BusState| matches!(&state.egress, Condition::Stopped { why, .. } if why.contains(words));
        match self.reaches(words, is_it).await.egress {
            Condition::Stopped { remedy, .. } => remedy,
            _ => unreachable!("just seen"),
        }
    }

    /// Waits until these are on the bus, among others.
    async fn catches_up_to(&self, ids: &[&str], server: &Server) {
        until("these to be there", async || {
            let shown = on_the_bus(server).await;
            ids.iter().all(|id| shown.iter().any(|other| other == id))
        })
        .await;
    }

    /// Waits until everything in the journal is bridged.
    async fn catches_up(&self) {
        let hint = || self.log.cursor("bus:mesh:events");
        until("the bridge to catch up", async || hint() == Some(self.log.head())).await;
        self.reaches("the state to say so", |state| state.egress == Condition::Running && state.lag == 0).await;
    }
}

/// Settings of a node that is impatient, and knows no Redis yet.
pub(super) fn settings() -> Settings {
    Settings {
        url: String::new(),
        stream: STREAM.to_owned(),
        shards: 0,
        routes: Vec::new(),
        spreads: Vec::new(),
        former: Vec::new(),
        layout: Layout::Plain,
        outbox: OUTBOX.to_owned(),
        maxlen: 1_000_000,
        own: false,
        node: Keypair::from_seed(&[5; 32]).id(),
        network: Network::default(),
        start: Seq(0),
        timing: Timing {
            backoff: Duration::from_millis(20),
            wait_max: Duration::from_millis(200),
            absent_max: Duration::from_millis(100),
            stopped: Duration::from_millis(100),
            survey: Duration::from_millis(50),
            block: Duration::from_millis(200),
            response: Duration::from_millis(500),
            claim: Duration::from_millis(200),
            pace: Duration::from_millis(10),
            patience: PATIENCE,
        },
    }
}

/// Another node, whose events we get.
fn neighbour() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

/// The field of every entry of a stream, in order.
async fn column(redis: &mut MultiplexedConnection, stream: &str, field: &str) -> Vec<String> {
    let entries: StreamRangeReply =
        redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query_async(redis).await.expect("a stream");
    entries.ids.iter().map(|entry| entry.get::<String>(field).unwrap_or_default()).collect()
}

/// The ids of the events on the bus, in order.
async fn on_the_bus(server: &Server) -> Vec<String> {
    column(&mut server.connect().await, STREAM, "id").await
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
