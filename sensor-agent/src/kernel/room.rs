//! How much more memory this process may take, in the kernel and for itself: maps are charged to its cgroup, and so is what they are built
//! from.
//!
//! What leaves least decides: the limits of cgroups of version 2 and of version 1, and what the host has. What cannot be read limits nothing.

use std::{fs, path::Path};

use crate::config::Room;

/// Bytes that are kept free for everything else the agent does.
const RESERVE_BYTES: u64 = 16 << 20;

/// The memory that is left; `None` where nothing can be read.
#[must_use]
pub fn memory_room() -> Option<Room> {
    room(Path::new("/sys/fs/cgroup"), Path::new("/proc"))
}

fn room(cgroups: &Path, proc: &Path) -> Option<Room> {
    let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let version_2 = own.lines().find_map(|line| line.strip_prefix("0::"));
    let version_1 = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(path)
    });
    let cgroup = [
        version_2.and_then(|path| left_below(cgroups, path, &VERSION_2)),
        version_1.and_then(|path| left_below(&cgroups.join("memory"), path, &VERSION_1)),
    ];
    let cgroup = cgroup.into_iter().flatten().min();
    let host = host(&fs::read_to_string(proc.join("meminfo")).unwrap_or_default());
    let rooms = [
        cgroup.map(|bytes| Room { bytes, by: "the cgroup's limit" }),
        host.map(|bytes| Room { bytes, by: "this host's memory" }),
    ];
    rooms.into_iter().flatten().min_by_key(|room| room.bytes)
}

/// What the kernel says can be had without swapping.
fn host(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib * 1024).saturating_sub(RESERVE_BYTES))
}

/// Files of a memory controller.
struct Files {
    max: &'static str,
    current: &'static str,
    /// Lines of memory.stat with file pages, which are given back under pressure.
    given_back: [&'static str; 2],
}

const VERSION_2: Files = Files {
    max: "memory.max",
    current: "memory.current",
    given_back: ["active_file ", "inactive_file "],
};
const VERSION_1: Files = Files {
    max: "memory.limit_in_bytes",
    current: "memory.usage_in_bytes",
    given_back: ["total_active_file ", "total_inactive_file "],
};

/// Bytes that the tightest limit of a cgroup and those above it leaves. In a container the path may be one of the host: then the root that is
/// seen is its own.
fn left_below(root: &Path, path: &str, files: &Files) -> Option<u64> {
    let group = root.join(path.trim().trim_start_matches('/'));
    let groups = group.ancestors().take_while(|group| group.starts_with(root));
    groups.filter_map(|group| left_in(group, files)).min()
}

fn left_in(group: &Path, files: &Files) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let (max, current) = (number(files.max)?, number(files.current)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let given_back = stat.lines().filter_map(|line| {
        let value = files.given_back.iter().find_map(|name| line.strip_prefix(name))?;
        value.trim().parse::<u64>().ok()
    });
    let in_use = current.saturating_sub(given_back.sum());
    Some(max.saturating_sub(in_use).saturating_sub(RESERVE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(group: &Path, files: &Files, max: &str, current: u64, file: u64) {
        fs::create_dir_all(group).unwrap();
        fs::write(group.join(files.max), max).unwrap();
        fs::write(group.join(files.current), current.to_string()).unwrap();
        let [active, inactive] = files.given_back;
        let stat = format!("anon 1\n{active}{file}\n{inactive}0\nfile 99999999999\n");
        fs::write(group.join("memory.stat"), stat).unwrap();
    }

    #[test]
    fn the_tightest_limit_above_counts_and_file_pages_are_free() {
        for files in [&VERSION_1, &VERSION_2] {
            let root = tempfile::tempdir().unwrap();
            let (outer, inner) = (root.path().join("a"), root.path().join("a/b"));
            write(&inner, files, "max", 1, 0);
            assert_eq!(left_below(root.path(), "/a/b", files), None);
            write(&outer, files, &(100_u64 << 20).to_string(), 60 << 20, 20 << 20);
            assert_eq!(left_below(root.path(), "/a/b", files), Some((100 - 40 - 16) << 20));
            assert_eq!(left_below(root.path(), "/a/gone/b", files), Some((100 - 40 - 16) << 20));
            write(&inner, files, &(30_u64 << 20).to_string(), 20 << 20, 0);
            assert_eq!(left_below(root.path(), "/a/b", files), Some(0));
        }
    }

    #[test]
    fn what_leaves_least_decides_whoever_it_is() {
        let root = tempfile::tempdir().unwrap();
        let (cgroups, proc) = (root.path().join("cgroup"), root.path().join("proc"));
        fs::create_dir_all(proc.join("self")).unwrap();
        assert_eq!(room(&cgroups, &proc), None);
        fs::write(proc.join("meminfo"), "MemTotal: 9 kB\nMemAvailable:   1048576 kB\n").unwrap();
        let host = Room { bytes: (1024 - 16) << 20, by: "this host's memory" };
        assert_eq!(room(&cgroups, &proc), Some(host));
        // Version 1 beside an empty version 2, as hosts of a few years ago have it.
        let own = "4:cpu,cpuacct:/x\n3:memory:/a\n0::/a\n";
        fs::write(proc.join("self/cgroup"), own).unwrap();
        write(&cgroups.join("memory/a"), &VERSION_1, "9223372036854771712", 1 << 20, 0);
        assert_eq!(room(&cgroups, &proc), Some(host));
        write(&cgroups.join("memory/a"), &VERSION_1, &(256_u64 << 20).to_string(), 1 << 20, 0);
        let cgroup = Room { bytes: (255 - 16) << 20, by: "the cgroup's limit" };
        assert_eq!(room(&cgroups, &proc), Some(cgroup));
        write(&cgroups.join("a"), &VERSION_2, &(128_u64 << 20).to_string(), 1 << 20, 0);
        assert_eq!(room(&cgroups, &proc).map(|room| room.bytes), Some((127 - 16) << 20));
    }
}
