//! How many stretches can be mapped at once. In a process of its own, since it takes them all.

use std::fs::OpenOptions;

use mapping::Mapping;

const MIB: usize = 1 << 20;

#[test]
fn too_many_at_once_are_an_error_and_those_that_go_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(MIB as u64).unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match Mapping::new(&file, 0, MIB) {
            Ok(mapping) => held.push(mapping),
            Err(error) => break error,
        }
    };
    assert!(held.len() > 8, "{refused} after {}", held.len());
    held.pop();
    held.push(Mapping::new(&file, 0, MIB).unwrap());
    assert!(Mapping::new(&file, 0, MIB).is_err());
}
