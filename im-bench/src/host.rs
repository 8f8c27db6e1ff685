//! Facts of the operating system about a process, pinning to a core, and the limit of open files.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Pins the calling thread, and every thread that it starts later, to one core.
///
/// # Errors
///
/// If the core does not exist or may not be used by this process.
pub(crate) fn pin_to_core(core: usize) -> Result<()> {
    ensure!(core < libc::CPU_SETSIZE as usize, "there is no core {core}");
    #[allow(unsafe_code, reason = "the standard library cannot pin a thread")]
    // SAFETY: a cpu_set_t is plain bits, for which zero is a value; the pointer is to a live local
    // of the size given; 0 stands for the calling thread.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) != 0
    };
    if failed {
        let why = std::io::Error::last_os_error();
        bail!(
            "cannot run on core {core}: {why}; choose another with --server-core and --generator-core"
        );
    }
    Ok(())
}

/// Raises the limit of open files to at least `needed`.
///
/// # Errors
///
/// If the hard limit is lower.
pub(crate) fn allow_open_files(needed: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[allow(unsafe_code, reason = "the standard library cannot ask for limits")]
    // SAFETY: the pointer is to a live local of the right type.
    let read = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    ensure!(read == 0, "cannot read the limit of open files: {}", std::io::Error::last_os_error());
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    let hard = limit.rlim_max;
    ensure!(
        hard >= needed,
        "{needed} open files are needed and {hard} are allowed: raise `ulimit -Hn`"
    );
    limit.rlim_cur = hard;
    #[allow(unsafe_code, reason = "the standard library cannot set limits")]
    // SAFETY: the pointer is to a live local of the right type.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    ensure!(set == 0, "cannot raise the limit of open files: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Returns the resident memory of a process in bytes.
///
/// # Errors
///
/// If the process does not exist.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    // The roll-up is exact; `status` is late by some pages a thread, and is the only source on
    // older kernels.
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .ok()
        .and_then(|text| kib_line(&text, "Rss:"));
    if let Some(bytes) = exact {
        return Ok(bytes);
    }
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} does not exist"))?;
    kib_line(&text, "VmRSS:").with_context(|| format!("process {pid} has no `VmRSS`"))
}

fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Returns the CPU time of a process, kernel time and ended threads included, in steps of 10 ms.
///
/// # Errors
///
/// If the process does not exist.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} does not exist"))?;
    let ticks =
        cpu_ticks(&text).with_context(|| format!("/proc/{pid}/stat has an unknown format"))?;
    #[allow(unsafe_code, reason = "the standard library does not tell the length of a tick")]
    // SAFETY: sysconf takes no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64))
}

/// `utime` and `stime`: fields 14 and 15 of proc_pid_stat(5). The second field may hold spaces and
/// parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU time is parsed from a stat line whose process name contains parentheses.
    #[test]
    fn odd_process_name_yields_cpu_time() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(154));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(resident_bytes(u32::MAX).is_err());
    }

    #[test]
    fn missing_core_is_refused() {
        assert!(pin_to_core(1_000_000).is_err());
        assert!(pin_to_core(libc::CPU_SETSIZE as usize - 1).is_err());
    }
}
