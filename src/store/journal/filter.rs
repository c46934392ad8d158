//! What a period of digests does *not* hold, known without asking the engine.
//!
//! Nearly every digest and every name that is looked up is new. To learn that from the engine takes a
//! walk through a skip list that no cache holds, three times an event. A Bloom filter in memory (Bloom,
//! CACM 13(7), 1970) says it at once; where it cannot say "absent" the engine is asked, so it never
//! decides anything by itself.
//!
//! A period that was there at the start is read in the background, and until that is done it is asked as
//! if there were no filter; likewise from the moment on that memory for filters is used up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use fastbloom::AtomicBloomFilter;
use fjall::Keyspace;

/// Bytes of all filters of a journal: 8 million events, two keys each.
pub const FILTER_BYTES_MAX: usize = 32 << 20;
/// With 4 hashes one look-up in 400 asks the engine in vain.
const BITS_A_KEY: usize = 16;
const HASHES: u32 = 4;
/// Keys of the first layer; each further one takes twice as many.
const FIRST_LAYER: usize = 1 << 16;

/// Memory that the filters of one journal share.
#[derive(Clone)]
pub(super) struct Memory {
    left: Arc<AtomicUsize>,
    /// Of the hashes, so that nobody outside can choose keys that look alike.
    seed: u128,
}

impl Memory {
    pub(super) fn new(bytes: usize) -> Memory {
        // Without chance the filter works as well; only its weak spots could be found out.
        let seed = getrandom::u64().unwrap_or(0);
        Memory { left: Arc::new(AtomicUsize::new(bytes)), seed: u128::from(seed) }
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

struct Layer {
    bits: AtomicBloomFilter,
    keys: usize,
    used: AtomicUsize,
}

impl Layer {
    fn bytes(keys: usize) -> usize {
        keys * BITS_A_KEY / 8
    }

    fn new(keys: usize, seed: u128) -> Layer {
        let bits = AtomicBloomFilter::with_num_bits(keys * BITS_A_KEY).seed(&seed).hashes(HASHES);
        Layer { bits, keys, used: AtomicUsize::new(0) }
    }

    /// False when it is full.
    fn add(&self, key: &[u8]) -> bool {
        let has_room = self.used.fetch_add(1, Ordering::Relaxed) < self.keys;
        if has_room {
            self.bits.insert(key);
        }
        has_room
    }
}

/// The filter of one period.
pub(super) struct Filter {
    layers: RwLock<Vec<Layer>>,
    /// Everything that the period holds was added.
    is_whole: AtomicBool,
    /// Memory was used up, or the period is dropped: nothing is added any more.
    is_over: AtomicBool,
    memory: Memory,
}

impl Filter {
    /// Of a period that holds nothing yet.
    pub(super) fn of_new(memory: &Memory) -> Filter {
        Filter {
            layers: RwLock::default(),
            is_whole: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            memory: memory.clone(),
        }
    }

    /// Of a period whose keys are still to be read.
    pub(super) fn of_old(memory: &Memory) -> Filter {
        Filter { is_whole: AtomicBool::new(false), ..Filter::of_new(memory) }
    }

    /// False only for a key that was never added.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        // Under the lock, or it could be given up between the two looks. Acquire: with it comes what was
        // added before it became whole.
        let layers = self.layers();
        !self.is_whole.load(Ordering::Acquire) || layers.iter().any(|layer| layer.bits.contains(key))
    }

    /// To be called before the key is committed, so that whoever sees the commit sees this too.
    pub(super) fn add(&self, key: &[u8]) {
        if self.is_over.load(Ordering::Relaxed) || self.layers().last().is_some_and(|layer| layer.add(key)) {
            return;
        }
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster, with this or with giving up.
        if self.is_over.load(Ordering::Relaxed) {
            return;
        }
        if layers.last().is_some_and(|layer| layer.add(key)) {
            return;
        }
        let keys = layers.last().map_or(FIRST_LAYER, |layer| layer.keys * 2);
        if self.memory.take(Layer::bytes(keys)) {
            let layer = Layer::new(keys, self.memory.seed);
            layer.add(key);
            layers.push(layer);
        } else {
            self.give_up(&mut layers);
        }
    }

    /// From now on the engine is asked.
    fn give_up(&self, layers: &mut Vec<Layer>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.is_whole.store(false, Ordering::Release);
        let bytes: usize = layers.drain(..).map(|layer| Layer::bytes(layer.keys)).sum();
        self.memory.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The period is dropped.
    pub(super) fn close(&self) {
        self.give_up(&mut self.layers.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds the keys of a period until there are no more. Stops for good at one that cannot be read.
    fn fill(&self, keyspace: &Keyspace, stop: &AtomicBool) {
        for pair in keyspace.iter() {
            let Ok(key) = pair.key() else { return };
            self.add(&key);
            if self.is_over.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) {
                return;
            }
        }
        // Under the lock, since giving up says the opposite under it.
        let _layers = self.layers();
        if !self.is_over.load(Ordering::Relaxed) {
            self.is_whole.store(true, Ordering::Release);
        }
    }

    fn layers(&self) -> RwLockReadGuard<'_, Vec<Layer>> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }
}

/// The thread that reads the periods of earlier lives. Ends when this is dropped.
pub(super) struct Filling {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filling {
    /// Begins with the periods in this order. Without a thread they stay as they are: asked.
    pub(super) fn begin(periods: Vec<(Keyspace, Arc<Filter>)>) -> Filling {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let read = move || periods.into_iter().for_each(|(keyspace, filter)| filter.fill(&keyspace, &stopped));
        let thread = std::thread::Builder::new().name("filter".to_owned()).spawn(read).ok();
        Filling { stop, thread }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked: then the filters are not whole, and nothing else depends on it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> [u8; 8] {
        number.to_be_bytes()
    }

    #[test]
    fn what_was_added_is_never_called_absent_however_much_it_is() {
        let memory = Memory::new(FILTER_BYTES_MAX);
        let filter = Filter::of_new(&memory);
        let count = FIRST_LAYER * 3 + 5;
        (0..count).for_each(|number| filter.add(&key(number)));
        assert!((0..count).all(|number| filter.may_hold(&key(number))));
        let wrong = (count..2 * count).filter(|number| filter.may_hold(&key(*number))).count();
        assert!(wrong < count / 100, "{wrong} of {count} would be asked in vain");
    }

    #[test]
    fn a_new_period_is_known_to_be_empty_and_an_old_one_is_not_known_yet() {
        let memory = Memory::new(FILTER_BYTES_MAX);
        assert!(!Filter::of_new(&memory).may_hold(b"some key"));
        let old = Filter::of_old(&memory);
        old.add(b"another key");
        assert!(old.may_hold(b"some key"), "not read yet");
    }

    #[test]
    fn without_memory_everything_may_be_there_and_the_memory_comes_back() {
        let memory = Memory::new(Layer::bytes(FIRST_LAYER));
        let (first, second) = (Filter::of_new(&memory), Filter::of_new(&memory));
        first.add(b"one");
        second.add(b"two");
        assert!(!first.may_hold(b"two"), "it has memory");
        assert!(second.may_hold(b"one"), "it has none");
        first.close();
        assert!(first.may_hold(b"two"), "it is over");
        let third = Filter::of_new(&memory);
        third.add(b"three");
        assert!(third.may_hold(b"three") && !third.may_hold(b"two"));
    }
}
