//! The preparing thread: keeps one empty segment ahead of need, and repairs after failed writes.

use std::sync::{Arc, PoisonError};

use crate::{
    journal::{Shared, lock},
    segment::prepare_spare,
};

pub(crate) fn run(shared: &Shared) {
    let mut appender = lock(&shared.appender);
    while !appender.closed {
        let mut failed = false;
        if appender.needs_repair() {
            failed = shared.repair(&mut appender).is_err();
        }
        if appender.spare.is_none() {
            drop(appender);
            let made = prepare_spare(&*shared.storage, &shared.dir, shared.settings.segment_bytes);
            appender = lock(&shared.appender);
            match made {
                Ok(spare) => {
                    appender.spare = Some(spare);
                    appender.spare_error = None;
                }
                Err(error) => {
                    appender.spare_error = Some(Arc::new(error));
                    failed = true;
                }
            }
            shared.spare_changed.notify_all();
        }
        if failed {
            let waited = shared.prepare_work.wait_timeout(appender, shared.settings.retry_after);
            appender = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        appender.heal();
        // Nothing can change between the look and the wait: both are under the mutex.
        if appender.spare.is_some() && !appender.needs_repair() && !appender.closed {
            appender = shared.prepare_work.wait(appender).unwrap_or_else(PoisonError::into_inner);
        }
    }
    if let Some(spare) = appender.spare.take() {
        // If it stays, the next open deletes it.
        let _ = shared.storage.remove(&spare.path);
    }
    shared.spare_changed.notify_all();
}
