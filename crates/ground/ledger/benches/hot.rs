//! What one leaf costs the sealer in the ledger, without the disk: `cargo bench -p ledger`.

use divan::{Bencher, black_box};
use ledger::{CompactRange, leaf_hash, node_hash};

fn main() {
    divan::main();
}

/// A leaf as long as that of a command.
#[divan::bench]
fn hash_leaf() -> ledger::Hash {
    leaf_hash(black_box(&[0x5a; 250]))
}

#[divan::bench]
fn hash_node(bencher: Bencher<'_, '_>) {
    let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
    bencher.bench_local(|| node_hash(black_box(&left), black_box(&right)));
}

/// One more leaf in the tree.
#[divan::bench]
fn push(bencher: Bencher<'_, '_>) {
    let (mut range, leaf) = (CompactRange::new(), leaf_hash(b"leaf"));
    bencher.bench_local(|| {
        range.push(black_box(leaf), |_, hash| {
            black_box(hash);
        });
    });
}
