//! Every target with every input that is kept for it, and with what becomes of those by chance: the same chance in every
//! run, so that what fails here fails again.
#![allow(clippy::unwrap_used, reason = "a test may say plainly what it expects, in its helpers too")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use fuzz::mutate::{Random, mutate};
use fuzz::{TARGETS, Target};

/// Changed inputs per target.
const MUTATIONS: u64 = 2_000;

/// As much stack as a thread of the gateway has.
const STACK_BYTES: usize = 2 << 20;

/// Far above what any input takes on a slow machine, far below what a hang would be.
const PATIENCE: Duration = Duration::from_secs(20);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn files(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpus().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Checks one input; if that fails, says which it was before it fails too.
fn check(target: Target, input: &[u8], origin: &str) {
    let begin = Instant::now();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("{origin} fails with: b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
    let took = begin.elapsed();
    assert!(took < PATIENCE, "{origin} took {took:?}: b\"{}\"", input.escape_ascii());
}

fn on_small_stack(work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap();
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

fn replay(name: &'static str) {
    on_small_stack(move || {
        let target = fuzz::target(name).unwrap();
        let files = files(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for (path, input) in &files {
            check(target, input, &path.display().to_string());
        }
        let inputs: Vec<Vec<u8>> = files.into_iter().map(|(_, input)| input).collect();
        for seed in 0..MUTATIONS {
            let mut random = Random::new(seed);
            let mut input = inputs[random.below(inputs.len())].clone();
            mutate(&mut input, &inputs, &mut random);
            check(target, &input, &format!("{name}, change {seed}"));
        }
    });
}

macro_rules! replay {
    ($($name:ident)*) => {
        /// A test of its own for each, so that a crash of the whole process names its target.
        mod each {
            $(#[test] fn $name() { super::replay(stringify!($name)); })*
        }

        #[test]
        fn every_target_is_replayed_and_every_corpus_has_a_target() {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let mut folders: Vec<String> = fs::read_dir(corpus())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            folders.sort();
            assert_eq!(folders, names);
        }
    };
}

replay! {
    auth backend bundle certificate checkpoint classify client_messages conversation error_response frontend journal leaf
    note options packet params proof record scram_client scram_server search_path shell startup target_url tile_path tlog_proof
    token value verifier_key
}

#[test]
fn the_same_number_makes_the_same_changes() {
    let others = [b"SELECT 1".to_vec(), vec![0; 40]];
    let made = |seed| {
        let mut input = others[0].clone();
        mutate(&mut input, &others, &mut Random::new(seed));
        input
    };
    assert!((0..100).all(|seed| made(seed) == made(seed)));
    assert!((0..100).filter(|seed| made(*seed) != others[0]).count() > 80);
}
