//! For tests: what other tests still hold for a moment, and a fuzz target's seeds with mutations of them in
//! bounded number. `cargo xtask fuzz` searches
//! longer and by coverage; what it finds becomes a seed, which is tried here from then on.

use std::{fs, path::Path, time::Duration};

use proptest::{
    collection, prelude::*, sample, sample::Index, strategy::Strategy, test_runner::Config,
    test_runner::TestRunner,
};

/// Mutations tried in each run, of other randomness each time.
const CASES: u32 = 1024;
/// Most edits of one seed.
const EDITS: usize = 8;
/// Numbers at the edges of what lengths and counts can be.
const EDGES: [u64; 6] = [0, 1, 0x7f, 0xffff, u32::MAX as u64, u64::MAX];

#[derive(Clone, Debug)]
enum Edit {
    Byte(Index, u8),
    Bit(Index, u8),
    Cut(Index, usize),
    Again(Index, usize),
    Insert(Index, Vec<u8>),
    Number(Index, u64),
    Splice(Index, Index, Index),
}

/// Tries again until it can be had, for at most ten seconds: what a test has closed may be open for a
/// moment yet in a child that another test just started.
#[expect(clippy::disallowed_methods, reason = "other tests' children are of the real world")]
pub(crate) fn once_closed<T, E: std::fmt::Debug>(mut take: impl FnMut() -> Result<T, E>) -> T {
    let begun = std::time::Instant::now();
    loop {
        match take() {
            Ok(it) => return it,
            Err(e) => assert!(begun.elapsed() < Duration::from_secs(10), "{e:?}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a target of `fuzz/src/bin` with each seed and with mutations of them.
pub(crate) fn fuzz(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|f| fs::read(f).unwrap()).collect();
    assert!(!seeds.is_empty(), "no seed of {target}");
    run(b"");
    for seed in &seeds {
        run(seed);
    }
    let of = sample::select(seeds.clone());
    let mutated = (of, collection::vec(edit(), 0..=EDITS))
        .prop_map(move |(seed, edits)| edits.iter().fold(seed, |text, e| e.apply(text, &seeds)));
    // What fails is printed, to become a seed.
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&mutated, |input| {
        run(&input);
        Ok(())
    });
    assert!(outcome.is_ok(), "{target}: {outcome:?}");
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Bit(at, bit)),
        (at(), 1..64_usize).prop_map(|(at, len)| Edit::Cut(at, len)),
        (at(), 1..64_usize).prop_map(|(at, len)| Edit::Again(at, len)),
        (at(), collection::vec(any::<u8>(), 1..16)).prop_map(|(at, new)| Edit::Insert(at, new)),
        (at(), sample::select(EDGES.to_vec())).prop_map(|(at, n)| Edit::Number(at, n)),
        (at(), at(), at()).prop_map(|(at, seed, from)| Edit::Splice(at, seed, from)),
    ]
}

impl Edit {
    fn apply(&self, mut text: Vec<u8>, seeds: &[Vec<u8>]) -> Vec<u8> {
        let place = |at: &Index| at.index(text.len() + 1);
        match self {
            Self::Byte(at, byte) => {
                let at = place(at);
                text.get_mut(at).into_iter().for_each(|b| *b = *byte);
            }
            Self::Bit(at, bit) => {
                let at = place(at);
                text.get_mut(at).into_iter().for_each(|b| *b ^= 1 << bit);
            }
            Self::Cut(at, len) => {
                let at = place(at);
                text.drain(at..(at + len).min(text.len()));
            }
            Self::Again(at, len) => {
                let at = place(at);
                let piece = text[at..(at + len).min(text.len())].to_vec();
                text.splice(at..at, piece);
            }
            Self::Insert(at, new) => {
                let at = place(at);
                text.splice(at..at, new.iter().copied());
            }
            Self::Number(at, n) => {
                let at = place(at);
                let upto = (at + 8).min(text.len());
                text.splice(at..upto, n.to_le_bytes());
            }
            Self::Splice(at, seed, from) => {
                let at = place(at);
                let other = seed.get(seeds);
                text.truncate(at);
                text.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
        text
    }
}
