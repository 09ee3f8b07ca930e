//! How much more kernel memory this process's cgroup allows: maps are charged to it.

use std::{fs, path::Path};

/// Bytes that are kept free for everything else the agent does.
const RESERVE_BYTES: u64 = 16 << 20;

/// Bytes that the tightest memory limit above this process leaves; `None` where there is no limit (or none that we can read).
#[must_use]
pub fn kernel_memory_left() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    left_below(Path::new("/sys/fs/cgroup"), path.trim())
}

fn left_below(root: &Path, path: &str) -> Option<u64> {
    let group = root.join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(left_in).min()
}

fn left_in(group: &Path) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let (max, current) = (number("memory.max")?, number("memory.current")?);
    // File pages are given back under pressure.
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let file = stat.lines().find_map(|line| line.strip_prefix("file ")?.parse::<u64>().ok());
    let in_use = current.saturating_sub(file.unwrap_or(0));
    Some(max.saturating_sub(in_use).saturating_sub(RESERVE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_above_counts_and_file_pages_are_free() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        let write = |group: &Path, max: &str, current: u64, file: u64| {
            fs::write(group.join("memory.max"), max).unwrap();
            fs::write(group.join("memory.current"), current.to_string()).unwrap();
            fs::write(group.join("memory.stat"), format!("anon 1\nfile {file}\n")).unwrap();
        };
        write(&inner, "max", 1, 0);
        assert_eq!(left_below(root.path(), "/a/b"), None);
        write(&root.path().join("a"), &(100_u64 << 20).to_string(), 60 << 20, 20 << 20);
        assert_eq!(left_below(root.path(), "/a/b"), Some((100 - 40 - 16) << 20));
        write(&inner, &(30_u64 << 20).to_string(), 20 << 20, 0);
        assert_eq!(left_below(root.path(), "/a/b"), Some(0));
    }
}
