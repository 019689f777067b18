//! What understanding a statement costs, by how well it is known: `cargo bench -p classify`. Statements made to be slow
//! are in `examples/cost.rs`.

use classify::postgres::{Cache, NOTHING_PREPARED, Parsed, Settings, classify};
use divan::{Bencher, black_box};

const TEXTS: [&str; 3] = [
    "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
    "UPDATE pgbench_tellers SET tbalance = tbalance + 17 WHERE tid = 4;",
    "SELECT u.id, u.name, count(o.id) FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.age > 30 GROUP BY u.id, u.name HAVING count(o.id) > 3 ORDER BY 3 DESC LIMIT 20",
];

fn main() {
    divan::main();
}

/// Never seen before: PostgreSQL's grammar reads it.
#[divan::bench(args = TEXTS)]
fn unknown_text(text: &str) -> Parsed {
    classify(black_box(text.as_bytes()), &Settings::default(), NOTHING_PREPARED)
}

/// One like it was seen, with other constants.
#[divan::bench(args = TEXTS)]
fn known_template(bencher: Bencher<'_, '_>, text: &str) {
    let settings = Settings::default();
    let mut cache = Cache::new();
    cache.look_up(text.replace('3', "4").as_bytes(), &settings, NOTHING_PREPARED);
    bencher.bench_local(|| cache.look_up(black_box(text.as_bytes()), &settings, NOTHING_PREPARED));
}

/// It was seen as it stands, and has no constants.
#[divan::bench]
fn known_text(bencher: Bencher<'_, '_>) {
    let settings = Settings::default();
    let mut cache = Cache::new();
    let text = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1;";
    bencher.bench_local(|| cache.look_up(black_box(text), &settings, NOTHING_PREPARED));
}
