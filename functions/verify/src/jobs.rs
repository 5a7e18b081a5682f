//! In which order the objects are read. Pure.

use std::collections::VecDeque;

use shared::manifest::{Content, Object};

/// Objects up to this size wait for each other's answers, not for bytes: many at once.
const SMALL_BYTES: u64 = 1 << 20;
const SMALL_AT_ONCE: usize = 16;

/// The objects that are left, the most work first: so that no thread is left alone with a
/// large one at the end.
#[derive(Debug)]
pub(crate) struct Jobs {
    large: VecDeque<Job>,
    small: VecDeque<Job>,
    large_at_once: usize,
    large_under_way: usize,
    small_under_way: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Of the object in the manifest.
    pub(crate) index: usize,
    /// Bytes that are hashed and decrypted, and bytes that come of it.
    pub(crate) work: u64,
    pub(crate) is_small: bool,
}

/// What is known about time when a job is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    pub(crate) seconds_left: f64,
    /// Work of one thread in a second; `None` before anything was measured.
    pub(crate) work_per_second: Option<f64>,
}

impl Jobs {
    /// `threads`: how many objects are decoded at once. One more is fetched meanwhile.
    pub(crate) fn new(objects: &[Object], is_left: impl Fn(usize) -> bool, threads: usize) -> Self {
        let left = objects
            .iter()
            .enumerate()
            .filter(|(index, _)| is_left(*index));
        let mut jobs: Vec<_> = left
            .map(|(index, object)| Job {
                index,
                work: work(object),
                is_small: object.stored_bytes <= SMALL_BYTES,
            })
            .collect();
        jobs.sort_by_key(|job| (std::cmp::Reverse(job.work), job.index));
        let (small, large) = jobs.into_iter().partition(|job| job.is_small);
        Self {
            large,
            small,
            large_at_once: threads + 1,
            large_under_way: 0,
            small_under_way: 0,
        }
    }

    /// Neither started nor finished.
    pub(crate) fn waiting(&self) -> usize {
        self.large.len() + self.small.len()
    }

    /// The next one to start now: the largest that is expected to end in time. The first one
    /// is taken whatever is expected, so that every invocation tries.
    pub(crate) fn start(&mut self, outlook: Outlook, is_first: bool) -> Option<Job> {
        let fits = |job: &Job| {
            let needed = outlook
                .work_per_second
                .map_or(0.0, |it| job.work as f64 / it);
            is_first || needed <= outlook.seconds_left
        };
        if self.large_under_way < self.large_at_once
            && let Some(at) = self.large.iter().position(fits)
        {
            self.large_under_way += 1;
            return self.large.remove(at);
        }
        if self.small_under_way < SMALL_AT_ONCE
            && let Some(at) = self.small.iter().position(fits)
        {
            self.small_under_way += 1;
            return self.small.remove(at);
        }
        None
    }

    pub(crate) fn end(&mut self, job: Job) {
        let under_way = if job.is_small {
            &mut self.small_under_way
        } else {
            &mut self.large_under_way
        };
        *under_way -= 1;
    }
}

fn work(object: &Object) -> u64 {
    let plain_bytes = match &object.content {
        Content::TableData { copy_bytes, .. } => *copy_bytes,
        Content::TableOfContents | Content::LargeObjects { .. } | Content::Roles => {
            object.stored_bytes
        }
    };
    object.stored_bytes.saturating_add(plain_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HURRY: Outlook = Outlook {
        seconds_left: 900.0,
        work_per_second: None,
    };

    fn jobs(mib: &[u64], threads: usize) -> Jobs {
        let object = |mib: &u64| Object {
            key: String::new(),
            version_id: None,
            stored_bytes: mib << 20,
            sha256: String::new(),
            content: Content::Roles,
        };
        let objects: Vec<_> = mib.iter().map(object).collect();
        Jobs::new(&objects, |_| true, threads)
    }

    fn started(jobs: &mut Jobs, outlook: Outlook) -> Vec<usize> {
        std::iter::from_fn(|| jobs.start(outlook, false).map(|it| it.index)).collect()
    }

    #[test]
    fn the_most_work_comes_first_and_small_objects_do_not_wait_for_it() {
        let mut jobs = jobs(&[1, 5, 9, 7, 8, 0], 2);
        assert_eq!(started(&mut jobs, NO_HURRY), [2, 4, 3, 0, 5]);
        let job = Job {
            index: 2,
            work: 0,
            is_small: false,
        };
        jobs.end(job);
        assert_eq!(started(&mut jobs, NO_HURRY), [1]);
        assert_eq!(jobs.waiting(), 0);
    }

    #[test]
    fn what_would_not_end_in_time_is_left_for_the_next_invocation() {
        let hurry = Outlook {
            seconds_left: 10.0,
            work_per_second: Some(f64::from(1 << 20)),
        };
        let mut jobs = jobs(&[6, 5, 4], 2);
        assert_eq!(started(&mut jobs, hurry), [1, 2]);
        assert_eq!(jobs.waiting(), 1);
    }

    #[test]
    fn the_first_is_tried_whatever_is_expected() {
        let no_time = Outlook {
            seconds_left: 0.0,
            work_per_second: Some(1.0),
        };
        let mut jobs = jobs(&[6, 5], 2);
        assert_eq!(jobs.start(no_time, true).unwrap().index, 0);
        assert_eq!(jobs.start(no_time, false), None);
    }
}
