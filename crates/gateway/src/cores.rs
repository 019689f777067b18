//! Which cores carry sessions: each worker has one of its own, and the sealer stays off those.
//!
//! The system's scheduler lets a thread that has work keep a core for milliseconds. Where that is the sealer on the core of a
//! worker, all of the worker's sessions wait, though other cores may be idle.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How the cores of this process are shared out.
#[derive(Clone, Debug)]
pub struct Cores {
    /// What may be used at all.
    all: CpuSet,
    /// A core for each worker.
    workers: Vec<usize>,
    /// All others.
    rest: CpuSet,
}

impl Cores {
    /// Gives each of `workers` a core, if one is left beside them. `None` also where a quota (of a container) says that the
    /// cores are others' too: then the system had better choose.
    #[must_use]
    pub fn share(workers: usize) -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        let quota = std::thread::available_parallelism().ok()?.get();
        // Two gateways on one machine should not begin with the same core.
        let offset = usize::try_from(std::process::id()).unwrap_or(0);
        Self::share_of(all, workers, quota, offset)
    }

    fn share_of(all: CpuSet, workers: usize, quota: usize, offset: usize) -> Option<Self> {
        let mut cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
        if cores.len() <= workers || quota < cores.len() {
            return None;
        }
        let first = offset % cores.len();
        cores.rotate_left(first);
        let mut rest = all;
        let workers = cores.into_iter().take(workers).inspect(|core| rest.unset(*core)).collect();
        Some(Self { all, workers, rest })
    }

    /// Keeps what `start` starts off the cores of the workers: threads run where the thread that started them may.
    pub fn beside_workers<T>(&self, start: impl FnOnce() -> T) -> T {
        restrict(&self.rest);
        let started = start();
        restrict(&self.all);
        started
    }

    /// Binds the calling thread to the core of the worker of this number.
    pub fn bind_worker(&self, index: usize) {
        if let Some(core) = self.workers.get(index) {
            let mut own = CpuSet::new();
            own.set(*core);
            restrict(&own);
        }
    }
}

/// Without it the gateway works as well, only slower.
fn restrict(cores: &CpuSet) {
    if let Err(error) = sched_setaffinity(None, cores) {
        tracing::warn!(%error, "threads can't be bound to cores");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cores: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        set
    }

    #[test]
    fn workers_have_cores_of_their_own_and_one_is_left() {
        for offset in 0..9 {
            let cores = Cores::share_of(set(&[1, 4, 5, 7]), 3, 4, offset).unwrap();
            assert_eq!((cores.workers.len(), cores.rest.count()), (3, 1));
            assert!(cores.workers.iter().all(|core| cores.all.is_set(*core) && !cores.rest.is_set(*core)));
        }
    }

    #[test]
    fn nothing_is_bound_where_no_core_is_left_or_others_have_a_share() {
        assert!(Cores::share_of(set(&[0, 1]), 2, 2, 0).is_none());
        assert!(Cores::share_of(set(&[3]), 1, 1, 0).is_none());
        assert!(Cores::share_of(set(&[0, 1, 2, 3]), 1, 2, 0).is_none());
    }

    #[test]
    fn threads_that_are_started_beside_the_workers_stay_off_their_cores() {
        let before = sched_getaffinity(None).unwrap();
        let Some(cores) = Cores::share_of(before, 1, usize::MAX, 0) else { return };
        let own = || std::thread::spawn(|| sched_getaffinity(None).unwrap()).join().unwrap();
        assert_eq!(cores.beside_workers(own), cores.rest);
        assert_eq!(own(), before);
        let worker = std::thread::spawn({
            let cores = cores.clone();
            move || {
                cores.bind_worker(0);
                sched_getaffinity(None).unwrap()
            }
        });
        assert_eq!(worker.join().unwrap(), set(&cores.workers));
    }
}
