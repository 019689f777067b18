//! What a login costs, on both legs: `cargo bench -p identity`.

use divan::{Bencher, black_box};
use identity::scram::{KeyCache, SaltedKeys};

fn main() {
    divan::main();
}

/// PBKDF2, as PostgreSQL has it by default: once per target.
#[divan::bench(sample_count = 20)]
fn derive_keys() -> SaltedKeys {
    SaltedKeys::derive(black_box(b"correct horse battery staple"), black_box(b"sixteen bytes of"), 4096)
}

/// The same keys again: at every later login.
#[divan::bench]
fn remembered_keys(bencher: Bencher<'_, '_>) {
    let cache = KeyCache::new(256);
    let keys = || cache.keys(black_box(b"correct horse"), black_box(b"sixteen bytes of"), 4096);
    keys();
    bencher.bench_local(keys);
}
