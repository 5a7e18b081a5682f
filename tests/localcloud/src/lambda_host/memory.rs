//! Resident memory of a function, measured from outside.

use std::fs;

/// The most memory one invocation had resident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeakRss {
    pub logical_id: String,
    pub request_id: String,
    /// The function's own process: the kernel's high-water mark, exact.
    pub process_bytes: u64,
    /// With its direct children (the planner), sampled; pages shared between them count twice.
    pub tree_bytes: u64,
}

/// One look at a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) peak_bytes: u64,
    pub(super) tree_bytes: u64,
}

/// Starts a new high-water mark, so that a warm instance's earlier invocations do not count.
pub(super) fn reset_peak(pid: i32) {
    // "5" resets the peak resident set size: proc(5), clear_refs.
    let _needs_the_kernel_option = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// `None` once the process is gone.
pub(super) fn sample(pid: i32) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak_bytes = kib_field(&status, "VmHWM:")? * 1024;
    let own_bytes = kib_field(&status, "VmRSS:")? * 1024;
    let children_bytes: u64 = children(pid).into_iter().filter_map(resident_bytes).sum();
    Some(Sample {
        peak_bytes,
        tree_bytes: own_bytes + children_bytes,
    })
}

fn resident_bytes(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(kib_field(&status, "VmRSS:")? * 1024)
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .filter_map(Result::ok)
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}

fn kib_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_the_status_file_is_read_in_kibibytes() {
        let status = "Name:\tdump\nVmHWM:\t    5120 kB\nVmRSS:\t    4096 kB\n";
        assert_eq!(kib_field(status, "VmHWM:"), Some(5120));
        assert_eq!(kib_field(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_a_peak_at_least_as_high_as_nothing() {
        let sample = sample(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(sample.peak_bytes > 0);
        assert!(sample.tree_bytes > 0);
    }
}
