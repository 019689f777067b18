use std::{
    future::poll_fn,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use journal::{AppendError, Health, Journal, Position};

use crate::support::{Fault, Faulty, Operation, Plan, append, contents, open, settings};

const LONG: Duration = Duration::from_secs(10);

/// Wakes by sending its number.
struct Numbered(usize, mpsc::Sender<usize>);

impl Wake for Numbered {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send(self.0);
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(LONG),
        }
    }
}

fn lazy() -> journal::Settings {
    let mut settings = settings();
    settings.background_sync = Duration::from_secs(3600);
    settings
}

#[test]
fn all_tasks_that_wait_are_woken_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), lazy()).unwrap();
    let (sender, woken) = mpsc::channel();
    let mut waiting = Vec::new();
    for number in 0..100 {
        let position = append(&journal, "x");
        let waker = Waker::from(Arc::new(Numbered(number, sender.clone())));
        let mut context = Context::from_waker(&waker);
        // Polling again takes no second place in the line.
        for _ in 0..3 {
            if journal.poll_synced(position, &mut context).is_ready() {
                break;
            }
        }
        waiting.push((position, waker));
    }
    for (position, waker) in &waiting {
        while journal.poll_synced(*position, &mut Context::from_waker(waker)).is_pending() {
            woken.recv_timeout(LONG).expect("whoever waits is woken");
        }
    }
    assert_eq!(journal.synced(), Position(100));
}

/// With the preparing thread's own syncs over.
fn settled(storage: &Faulty, dir: &Path) -> Journal {
    let (journal, _) = Journal::open_on(Arc::new(storage.clone()), dir, lazy()).unwrap();
    storage.settle();
    journal
}

#[test]
fn what_comes_during_a_sync_shares_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::default();
    let journal = settled(&storage, dir.path());
    let before = storage.syncs();
    let gate = storage.hold_syncs();
    let first = append(&journal, "x");
    assert!(journal.poll_synced(first, &mut Context::from_waker(Waker::noop())).is_pending());
    // Long enough for the sync thread to have begun; were it not, there would be one sync instead of two.
    thread::sleep(Duration::from_millis(20));
    thread::scope(|scope| {
        let others: Vec<_> = (0..8)
            .map(|_| {
                let position = append(&journal, "x");
                let journal = &journal;
                scope.spawn(move || {
                    block_on(poll_fn(|context| journal.poll_synced(position, context))).unwrap();
                    assert!(journal.synced() >= position);
                })
            })
            .collect();
        assert_eq!(journal.synced(), Position(0));
        drop(gate);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
    let syncs = storage.syncs() - before;
    assert!((1..=2).contains(&syncs), "{syncs} syncs for 9 who waited");
}

#[test]
fn many_threads_wait_for_their_own_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), lazy()).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let position = append(&journal, "x");
                    block_on(poll_fn(|context| journal.poll_synced(position, context))).unwrap();
                    assert!(journal.synced() >= position);
                    journal.wait_synced(position).unwrap();
                }
            });
        }
    });
}

#[test]
fn a_wait_for_a_frame_that_was_never_appended_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let error = journal.wait_synced(Position(1)).unwrap_err();
    assert!(matches!(error, AppendError::NotWritten { position: Position(1), written: Position(0) }));
}

#[test]
fn a_failed_sync_reaches_all_who_wait_and_refuses_what_comes() {
    for fault in [Fault::Fails, Fault::PersistsButFails] {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faulty::default();
        let journal = settled(&storage, dir.path());
        let waits = AtomicUsize::new(0);
        for _ in 0..9 {
            append(&journal, "x");
        }
        let last = append(&journal, "x");
        storage.plan(Plan { operation: Operation::Sync, fault, at: 0, times: 1 });
        thread::scope(|scope| {
            for number in 0..10 {
                let (journal, waits) = (&journal, &waits);
                scope.spawn(move || {
                    let result = if number % 2 == 0 {
                        block_on(poll_fn(|context| journal.poll_synced(last, context)))
                    } else {
                        journal.wait_synced(last)
                    };
                    assert!(matches!(result, Err(AppendError::Poisoned { .. })), "{result:?}");
                    waits.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(waits.into_inner(), 10);
        // The disk is well again, but nothing is believed before a restart.
        storage.repair();
        let refused = journal.append(&mut crate::support::batch(&["y"]));
        assert!(matches!(refused, Err(AppendError::Poisoned { .. })));
        assert!(matches!(journal.health(), Health::Refusing { reason: AppendError::Poisoned { .. }, .. }));
        assert_eq!(journal.synced(), Position(0));
        assert!(matches!(journal.close(), Err(AppendError::Poisoned { .. })));

        let (journal, recovered) = open(dir.path());
        assert_eq!(recovered.next, Position(11));
        assert_eq!(contents(&journal, Position(1)).len(), 10);
        assert_eq!(journal.synced(), Position(10));
    }
}

#[test]
fn a_sync_that_fails_while_a_refused_write_is_repaired_reaches_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Faulty::default();
    let journal = settled(&storage, dir.path());
    let before = append(&journal, "x");
    storage.plan(Plan { operation: Operation::Write, fault: Fault::Fails, at: 0, times: 1 });
    storage.plan(Plan { operation: Operation::Sync, fault: Fault::Fails, at: 0, times: 1 });
    assert!(matches!(journal.append(&mut crate::support::batch(&["y"])), Err(AppendError::Write { .. })));
    // The kernel has told of the failure once: the next sync of the file succeeds, and proves nothing.
    assert!(matches!(journal.wait_synced(before), Err(AppendError::Poisoned { .. })));
    assert_eq!(journal.synced(), Position(0));
    assert!(matches!(journal.health(), Health::Refusing { reason: AppendError::Poisoned { .. }, .. }));
}

#[test]
fn closing_with_nothing_to_do_ends_all_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), lazy()).unwrap();
    let last = append(&journal, "x");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| journal.wait_synced(last));
        journal.close().unwrap();
        journal.close().unwrap();
        waiting.join().unwrap().unwrap();
    });
}
