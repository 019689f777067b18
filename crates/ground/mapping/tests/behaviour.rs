//! A mapping writes what it is given, where it is given, and says so when it can't.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    process::Command,
};

use mapping::Mapping;

const MIB: usize = 1 << 20;

fn file_of(dir: &tempfile::TempDir, bytes: usize) -> File {
    let path = dir.path().join("file");
    fs::write(&path, vec![0; bytes]).expect("the file is made");
    OpenOptions::new().read(true).write(true).open(path).expect("the file opens")
}

#[test]
fn what_is_written_is_in_the_file_at_every_edge() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(&dir, 2 * MIB);
    let mut mapping = Mapping::new(&file, MIB as u64, MIB).unwrap();
    let mut expected = vec![0; MIB];
    for (at, length) in [(0, 1), (1, 7), (8, 8), (17, 25), (4095, 2), (8190, 5000), (MIB - 9, 9), (MIB, 0)] {
        let bytes: Vec<u8> = (1..=u8::MAX).cycle().take(length).collect();
        mapping.write(at, &bytes).unwrap();
        expected[at..at + length].copy_from_slice(&bytes);
    }
    for at in [2, 4093, 9001, MIB - 17] {
        mapping.publish(at, *b"aWordOf8").unwrap();
        expected[at..at + 8].copy_from_slice(b"aWordOf8");
    }
    let mut found = vec![0; MIB];
    file.read_exact_at(&mut found, MIB as u64).unwrap();
    assert!(found == expected);
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found.iter().all(|byte| *byte == 0), "nothing stands before the mapping");
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(&dir, MIB);
    let mut mapping = Mapping::new(&file, 0, MIB).unwrap();
    for at in [MIB, MIB - 1, usize::MAX] {
        assert_eq!(mapping.write(at, b"ab").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(mapping.publish(at, [1; 8]).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let mut found = Vec::new();
    (&file).read_to_end(&mut found).unwrap();
    assert!(found.len() == MIB && found.iter().all(|byte| *byte == 0));
    mapping.write(0, b"ab").unwrap();
}

#[test]
fn a_file_that_is_cut_is_an_error_for_good_and_no_signal() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(&dir, MIB);
    let mut mapping = Mapping::new(&file, 0, MIB).unwrap();
    mapping.write(0, b"before").unwrap();
    file.set_len(0).unwrap();
    for at in [0, 5000, MIB - 100] {
        assert!(mapping.write(at, b"after").unwrap_err().to_string().contains("SIGBUS"));
        assert!(mapping.publish(at, *b"too late").is_err());
    }
    assert_eq!(file.metadata().unwrap().len(), 0);
    // Others are not concerned.
    let other_dir = tempfile::tempdir().unwrap();
    let other = file_of(&other_dir, MIB);
    Mapping::new(&other, 0, MIB).unwrap().write(0, b"well").unwrap();
}

#[test]
fn a_full_file_system_is_an_error_and_no_signal() {
    let dir = tempfile::tempdir().unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
    let mounted = Command::new("mount").args(mount).arg(dir.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: only root may mount the small disk this needs");
        return;
    }
    // Twice as long as there is room: the pages of a file with holes are found when they are written.
    let path = dir.path().join("file");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    file.set_len(2 * MIB as u64).unwrap();
    let mut mapping = Mapping::new(&file, 0, 2 * MIB).unwrap();
    let refused = (0..2 * MIB).step_by(4096).find(|at| mapping.write(*at, b"page").is_err());
    assert!(Command::new("umount").arg("--lazy").arg(dir.path()).status().unwrap().success());
    assert!(refused.is_some_and(|at| at > MIB / 2), "refused at {refused:?}");
}

#[test]
fn stretches_can_be_mapped_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(&dir, MIB);
    for round in 0..1000_u32 {
        Mapping::new(&file, 0, MIB).unwrap().write(0, &round.to_le_bytes()).unwrap();
    }
}

/// Run in a process of its own, since it ends it.
#[test]
#[ignore = "run by a test below"]
fn helper_is_killed_by_a_bus_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let _watched = Mapping::new(&file_of(&dir, MIB), 0, MIB).unwrap();
    // A stretch that is mapped by somebody else, of a file that is cut.
    let file = file_of(&tempfile::tempdir().unwrap(), MIB);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping; the store hits no page, which is the point.
    unsafe {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
        let start = libc::mmap(std::ptr::null_mut(), MIB, access, libc::MAP_SHARED, descriptor, 0);
        assert_ne!(start, libc::MAP_FAILED);
        file.set_len(0).unwrap();
        start.cast::<u8>().write_volatile(1);
    }
}

#[test]
#[ignore = "run by a test below"]
fn helper_is_sent_a_bus_error() {
    let dir = tempfile::tempdir().unwrap();
    let _watched = Mapping::new(&file_of(&dir, MIB), 0, MIB).unwrap();
    // SAFETY: sends a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGBUS) };
    std::thread::sleep(std::time::Duration::from_secs(10));
}

#[test]
fn a_bus_error_of_somebody_elses_ends_the_process_as_ever() {
    for helper in ["helper_is_killed_by_a_bus_error_of_its_own", "helper_is_sent_a_bus_error"] {
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", helper])
            .output()
            .unwrap();
        assert_eq!(done.status.signal(), Some(libc::SIGBUS), "{done:?}");
    }
}
