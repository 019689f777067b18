//! Writes the hand-made part of the corpus: `cargo run -p fuzz --example seeds`. Inputs that a fuzzer or a bug has left
//! there stay as they are.

use std::path::Path;
use std::{fs, io};

mod seed {
    pub mod identity;
    pub mod trail;
    pub mod wire;
}

/// Name of the target, name of the file, content.
type Seed = (&'static str, &'static str, Vec<u8>);

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let seeds = [seed::wire::seeds(), seed::identity::seeds(), seed::trail::seeds()?].concat();
    for (target, name, content) in seeds {
        assert!(fuzz::target(target).is_some(), "no target `{target}`");
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        let file = folder.join(name);
        // A journal has a random number in it, which need not change with every run.
        if target != "journal" || !file.exists() {
            fs::write(file, content)?;
        }
    }
    Ok(())
}
