//! Which job runs next. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::estimate::Rates;
use super::jobs::{Job, Lock};
use super::select::Stage;

/// The jobs of one invocation.
#[derive(Debug)]
pub(super) struct Queue<'a> {
    jobs: &'a [Job],
    done: Vec<bool>,
    /// How many of the jobs before it are not done.
    blockers: Vec<usize>,
    /// Jobs that wait for this one.
    dependents: Vec<Vec<usize>>,
    left: BTreeMap<Stage, usize>,
    /// Whose blockers are done, by barrier; the largest first.
    ready: BTreeMap<Stage, BTreeSet<(Reverse<u64>, usize)>>,
    running: Vec<usize>,
    speed: Speed,
}

/// What there is time for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    pub(super) seconds_left: f64,
    /// Nothing was started yet: the next has all the time there is.
    pub(super) is_first: bool,
}

impl<'a> Queue<'a> {
    pub(super) fn new(jobs: &'a [Job], done: &HashSet<String>, rates: Rates) -> Self {
        let mut queue = Self {
            jobs,
            done: jobs.iter().map(|it| done.contains(&it.id)).collect(),
            blockers: vec![0; jobs.len()],
            dependents: vec![Vec::new(); jobs.len()],
            left: BTreeMap::new(),
            ready: BTreeMap::new(),
            running: Vec::new(),
            speed: Speed::new(rates),
        };
        for (index, job) in jobs.iter().enumerate() {
            if queue.done[index] {
                continue;
            }
            *queue.left.entry(job.stage).or_default() += 1;
            for before in &job.after {
                if !queue.done[*before] {
                    queue.blockers[index] += 1;
                    queue.dependents[*before].push(index);
                }
            }
            if queue.blockers[index] == 0 {
                queue.make_ready(index);
            }
        }
        queue
    }

    fn make_ready(&mut self, index: usize) {
        let job = &self.jobs[index];
        let ready = self.ready.entry(job.barrier).or_default();
        ready.insert((Reverse(job.bytes), index));
    }

    /// The next job that may run now and fits its time, taken.
    pub(super) fn start(&mut self, outlook: Outlook) -> Option<usize> {
        let open = self.left.iter().find(|it| *it.1 > 0).map(|it| *it.0)?;
        let fits = |index: usize| {
            outlook.is_first || self.speed.seconds(&self.jobs[index]) <= outlook.seconds_left
        };
        let is_free = |index: usize| {
            let mine = &self.jobs[index].locks;
            let others = self.running.iter().flat_map(|it| &self.jobs[*it].locks);
            !conflicts(mine, others)
        };
        // All stages before `open` are complete, so barriers up to it are down.
        let found = self
            .ready
            .range(..=open)
            .flat_map(|(barrier, jobs)| jobs.iter().map(move |it| (*barrier, *it)))
            .find(|(_, (_, index))| is_free(*index) && fits(*index));
        let (barrier, key) = found?;
        if let Some(ready) = self.ready.get_mut(&barrier) {
            ready.remove(&key);
        }
        self.running.push(key.1);
        Some(key.1)
    }

    /// The job is done; it took this long.
    pub(super) fn end(&mut self, index: usize, seconds: f64) {
        self.running.retain(|it| *it != index);
        self.done[index] = true;
        self.speed.add(&self.jobs[index], seconds);
        if let Some(left) = self.left.get_mut(&self.jobs[index].stage) {
            *left -= 1;
        }
        for dependent in std::mem::take(&mut self.dependents[index]) {
            self.blockers[dependent] -= 1;
            if self.blockers[dependent] == 0 {
                self.make_ready(dependent);
            }
        }
    }

    pub(super) fn remaining(&self) -> usize {
        self.left.values().sum()
    }

    pub(super) fn seconds(&self, index: usize) -> f64 {
        self.speed.seconds(&self.jobs[index])
    }
}

fn conflicts<'a>(mine: &[Lock], mut others: impl Iterator<Item = &'a Lock>) -> bool {
    others.any(|other| mine.iter().any(|it| it.conflicts(*other)))
}

/// How fast jobs are: assumed, until large ones have told.
#[derive(Debug)]
struct Speed {
    rates: Rates,
    seen: BTreeMap<&'static str, (u64, f64)>,
}

/// Smaller jobs are mostly round trips.
const TELLING_BYTES: u64 = 8 << 20;

impl Speed {
    fn new(rates: Rates) -> Self {
        Self {
            rates,
            seen: BTreeMap::new(),
        }
    }

    fn add(&mut self, job: &Job, seconds: f64) {
        if job.bytes >= TELLING_BYTES {
            let seen = self.seen.entry(job.stage.phase()).or_default();
            seen.0 += job.bytes;
            seen.1 += seconds;
        }
    }

    fn seconds(&self, job: &Job) -> f64 {
        let rate = match self.seen.get(job.stage.phase()) {
            Some((bytes, seconds)) if *seconds > 0.0 => *bytes as f64 / seconds,
            Some(_) | None => self.rates.of(job.stage),
        };
        job.bytes as f64 / rate.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate::ASSUMED;
    use super::super::jobs::Work;
    use super::*;

    fn job(id: &str, stage: Stage, bytes: u64, locks: &[Lock]) -> Job {
        Job {
            id: id.to_owned(),
            stage,
            what: id.to_owned(),
            work: Work::Statements(Vec::new()),
            after: Vec::new(),
            barrier: stage,
            locks: locks.to_vec(),
            bytes,
        }
    }

    const ALL_THE_TIME: Outlook = Outlook {
        seconds_left: f64::INFINITY,
        is_first: true,
    };

    #[test]
    fn the_largest_load_goes_first_and_nothing_of_a_later_stage() {
        let jobs = [
            job("small", Stage::Data, 1, &[]),
            job("large", Stage::Data, 9, &[]),
            job("index", Stage::Post, 99, &[]),
        ];
        let mut queue = Queue::new(&jobs, &HashSet::new(), ASSUMED);
        assert_eq!(queue.start(ALL_THE_TIME), Some(1));
        assert_eq!(queue.start(ALL_THE_TIME), Some(0));
        assert_eq!(queue.start(ALL_THE_TIME), None);
        queue.end(0, 0.1);
        assert_eq!(queue.start(ALL_THE_TIME), None);
        queue.end(1, 0.1);
        assert_eq!(queue.start(ALL_THE_TIME), Some(2));
    }

    #[test]
    fn an_index_waits_for_its_own_rows_only() {
        let mut index = job("index", Stage::Post, 5, &[]);
        index.barrier = Stage::Data;
        index.after = vec![0];
        let jobs = [
            job("rows", Stage::Data, 9, &[]),
            job("other rows", Stage::Data, 8, &[]),
            index,
        ];
        let mut queue = Queue::new(&jobs, &HashSet::new(), ASSUMED);
        assert_eq!(queue.start(ALL_THE_TIME), Some(0));
        assert_eq!(queue.start(ALL_THE_TIME), Some(1));
        queue.end(0, 1.0);
        assert_eq!(queue.start(ALL_THE_TIME), Some(2), "other rows are loading");
    }

    #[test]
    fn jobs_whose_locks_conflict_never_run_together() {
        let shared = |relation| Lock::Shared {
            family: 1,
            relation,
        };
        let relation = |relation| Lock::Relation {
            family: 1,
            relation,
        };
        for (one, other, expected) in [
            (shared(1), shared(1), false),
            (shared(1), relation(1), true),
            (shared(1), relation(2), false),
            (relation(1), relation(2), false),
            (relation(1), relation(1), true),
            (shared(1), Lock::Family(1), true),
            (Lock::Family(1), Lock::Family(1), true),
            (Lock::Family(1), Lock::Family(2), false),
            (Lock::Everything, shared(1), true),
            (Lock::Everything, Lock::Everything, true),
        ] {
            let jobs = [
                job("one", Stage::Post, 2, &[one]),
                job("other", Stage::Post, 1, &[other]),
            ];
            let mut queue = Queue::new(&jobs, &HashSet::new(), ASSUMED);
            assert_eq!(queue.start(ALL_THE_TIME), Some(0));
            let together = queue.start(ALL_THE_TIME).is_some();
            assert_eq!(!together, expected, "{one:?} {other:?}");
        }
    }

    #[test]
    fn what_does_not_fit_its_time_is_left_unless_it_is_the_first() {
        let bytes = ASSUMED.load_bytes_per_second as u64 * 100;
        let jobs = [
            job("huge", Stage::Data, bytes, &[]),
            job("tiny", Stage::Data, 1, &[]),
        ];
        let mut queue = Queue::new(&jobs, &HashSet::new(), ASSUMED);
        let outlook = |is_first| Outlook {
            seconds_left: 10.0,
            is_first,
        };
        assert_eq!(queue.start(outlook(false)), Some(1));
        assert_eq!(queue.start(outlook(false)), None);
        assert_eq!(queue.start(outlook(true)), Some(0));
    }

    #[test]
    fn done_jobs_never_run_again() {
        let jobs = [job("a", Stage::Pre, 0, &[]), job("b", Stage::Pre, 0, &[])];
        let done = HashSet::from(["a".to_owned()]);
        let mut queue = Queue::new(&jobs, &done, ASSUMED);
        assert_eq!(queue.remaining(), 1);
        assert_eq!(queue.start(ALL_THE_TIME), Some(1));
        queue.end(1, 0.0);
        assert_eq!((queue.remaining(), queue.start(ALL_THE_TIME)), (0, None));
    }
}
