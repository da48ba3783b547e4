//! What a running process costs, by its files in `/proc`.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

/// How often each thread of a process has gone to sleep, by its id.
pub type Sleeps = BTreeMap<String, u64>;

/// CPU time since its start, of threads that have ended too, in seconds.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent has ended")?;
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: f64 =
        after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory, in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Voluntary context switches of its threads: after each of them something has woken it up.
pub fn sleeps(pid: u32) -> Result<Sleeps> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("the agent has ended")?;
    let mut all = Sleeps::new();
    for thread in threads {
        let thread = thread?;
        // One that has ended meanwhile counts for nothing.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = count.context("voluntary_ctxt_switches")?.trim().parse()?;
        all.insert(thread.file_name().to_string_lossy().into_owned(), count);
    }
    Ok(all)
}

/// How many came to what `before` was, in threads that are still there.
pub fn slept_since(before: &Sleeps, after: &Sleeps) -> u64 {
    after
        .iter()
        .map(|(thread, count)| count - before.get(thread).copied().unwrap_or_default().min(*count))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_came_count_from_their_start_and_those_that_went_not_at_all() {
        let sleeps =
            |all: &[(&str, u64)]| all.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect::<Sleeps>();
        assert_eq!(slept_since(&sleeps(&[("1", 10), ("2", 50)]), &sleeps(&[("1", 15), ("3", 4)])), 9);
    }
}
