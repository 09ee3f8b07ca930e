//! Who owns a socket: a cgroup id to the name of a systemd unit or container.
//!
//! The id is the inode of the cgroup's folder. The tree is walked when an unknown id comes up, at most every
//! [`WALK_EVERY_NS`] and over [`CGROUPS_MAX`] folders; an id that is not found is asked for again after
//! [`RETRY_NS`] and stays unknown until then: empty, never wrong.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sensor_core::time::MonoNs;

/// Folders that are looked at in one walk, and ids that are remembered.
const CGROUPS_MAX: usize = 16_384;
/// Least time between two walks.
const WALK_EVERY_NS: u64 = 20_000_000;
/// How long an id that was not found is not looked for.
const RETRY_NS: u64 = 1_000_000_000;
/// Deepest folder.
const DEPTH_MAX: usize = 24;
/// Digits of a container's id that are shown.
const CONTAINER_DIGITS: usize = 12;
/// Length of a full container id.
const CONTAINER_ID_LEN: usize = 64;

/// Looks up owners by cgroup id.
#[derive(Debug)]
pub struct Owners {
    mount: Option<PathBuf>,
    names: HashMap<u64, Arc<str>>,
    missing: HashMap<u64, MonoNs>,
    walked: Option<MonoNs>,
    /// Look-ups that found nothing.
    pub unknown: u64,
}

impl Owners {
    /// Finds the cgroup v2 mount of this process.
    #[must_use]
    pub fn open() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::at(cgroup2_mount(&mounts))
    }

    fn at(mount: Option<PathBuf>) -> Self {
        Self { mount, names: HashMap::new(), missing: HashMap::new(), walked: None, unknown: 0 }
    }

    /// The owner's name (`None` when it has none or is not known), and until when that is the answer.
    pub fn look_up(&mut self, cgroup_id: u64, now: MonoNs) -> (Option<Arc<str>>, MonoNs) {
        let name = self.name(cgroup_id, now);
        let missing = cgroup_id != 0 && !self.names.contains_key(&cgroup_id);
        let again =
            |last: Option<&MonoNs>, pause| last.map_or(now.0, |last| last.0.saturating_add(pause));
        let until = if missing {
            again(self.missing.get(&cgroup_id), RETRY_NS)
                .max(again(self.walked.as_ref(), WALK_EVERY_NS))
        } else {
            u64::MAX
        };
        (name, MonoNs(until))
    }

    fn name(&mut self, cgroup_id: u64, now: MonoNs) -> Option<Arc<str>> {
        if cgroup_id == 0 {
            return None;
        }
        if !self.names.contains_key(&cgroup_id) {
            self.look_for(cgroup_id, now);
        }
        let name = self.names.get(&cgroup_id).cloned();
        self.unknown += u64::from(name.is_none());
        // The root of the tree owns what nobody put anywhere: that is not a name.
        name.filter(|name| !name.is_empty())
    }

    fn look_for(&mut self, cgroup_id: u64, now: MonoNs) {
        let due = |last: Option<&MonoNs>, pause| last.is_none_or(|last| now.since(*last) >= pause);
        if !due(self.missing.get(&cgroup_id), RETRY_NS) || !due(self.walked.as_ref(), WALK_EVERY_NS)
        {
            return;
        }
        self.walked = Some(now);
        self.walk();
        if self.names.contains_key(&cgroup_id) {
            self.missing.remove(&cgroup_id);
        } else {
            if self.missing.len() >= CGROUPS_MAX {
                self.missing.clear();
            }
            self.missing.insert(cgroup_id, now);
        }
    }

    /// Reads the tree again. Ids of folders that are gone are kept: the records of their last segments may still come.
    fn walk(&mut self) {
        let Some(mount) = self.mount.clone() else { return };
        if self.names.len() >= CGROUPS_MAX {
            self.names.clear();
        }
        let mut folders = vec![(mount.clone(), 0)];
        let mut seen = 0;
        while let Some((folder, depth)) = folders.pop() {
            seen += 1;
            if seen > CGROUPS_MAX {
                return;
            }
            if let Ok(meta) = fs::metadata(&folder) {
                let path = folder.strip_prefix(&mount).unwrap_or(&folder);
                self.names.insert(meta.ino(), owner_name(path).into());
            }
            if depth >= DEPTH_MAX {
                continue;
            }
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(below.map(|entry| (entry.path(), depth + 1)));
        }
    }
}

/// The mount point of the cgroup v2 tree in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// A cgroup's path to a name: the container's short id, the innermost systemd unit, else the path.
fn owner_name(path: &Path) -> String {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    if let Some(id) = parts.iter().rev().find_map(|part| container_id(part)) {
        return format!("container/{id}");
    }
    let unit = parts.iter().rev().find(|part| is_service(part) || is_app_scope(part));
    match unit {
        Some(unit) => (*unit).to_owned(),
        None if parts.is_empty() => String::new(),
        None => format!("/{}", parts.join("/")),
    }
}

/// systemd's suffixes are lower case.
fn is_service(part: &str) -> bool {
    part.strip_suffix(".service").is_some()
}

/// Scopes of sessions hold whatever a person starts: their number names nobody.
fn is_app_scope(part: &str) -> bool {
    part.strip_suffix(".scope").is_some() && !part.starts_with("session-") && part != "init.scope"
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>`, `libpod-<id>`, or the bare id.
fn container_id(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    let is_id = id.len() == CONTAINER_ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { id.get(..CONTAINER_DIGITS) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &str) {
        assert_eq!(owner_name(Path::new(path)), expected, "{path}");
    }

    #[test]
    fn paths_become_units_containers_or_themselves() {
        let id = "0123456789abcdef".repeat(4);
        check("system.slice/nginx.service", "nginx.service");
        check("user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope", "app-x.scope");
        check(
            "user.slice/user-1000.slice/session-3.scope",
            "/user.slice/user-1000.slice/session-3.scope",
        );
        check(&format!("system.slice/docker-{id}.scope"), "container/0123456789ab");
        check(
            &format!("kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            "container/0123456789ab",
        );
        check(&format!("docker/{id}/init"), "container/0123456789ab");
        check("shop", "/shop");
        check("", "");
    }

    #[test]
    fn the_mount_is_found_in_a_hybrid_hierarchy() {
        let mounts = "33 25 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      42 25 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2_mount(""), None);
    }

    #[test]
    fn a_folder_made_later_is_found_and_an_unknown_id_stays_unknown() {
        let root = tempfile::tempdir().expect("a folder");
        let mut owners = Owners::at(Some(root.path().to_owned()));
        assert_eq!(owners.name(u64::MAX, MonoNs(0)), None);
        let folder = root.path().join("shop");
        fs::create_dir(&folder).expect("made");
        let id = fs::metadata(&folder).expect("there").ino();
        assert_eq!(owners.name(id, MonoNs(1)), None, "walks are rate limited");
        assert_eq!(owners.name(id, MonoNs(1 + WALK_EVERY_NS)).as_deref(), Some("/shop"));
        assert_eq!(owners.name(fs::metadata(root.path()).expect("there").ino(), MonoNs(0)), None);
        assert_eq!(owners.unknown, 2);
        let (name, until) = owners.look_up(id, MonoNs(2));
        assert_eq!((name.as_deref(), until), (Some("/shop"), MonoNs(u64::MAX)));
        assert_eq!(owners.look_up(u64::MAX, MonoNs(2)), (None, MonoNs(RETRY_NS)), "not for ever");
    }
}
