//! Who changes the policy by command, and which list files that may name.
//!
//! The agent reads lists with root's eyes, and tells of a line that it cannot read what it says: so whoever is not root names only files in the
//! folder of the configured policy file, links followed, or such as the policy in force names already.

use std::{fs, path::Path};

use sensor_core::policy::Policy;

/// Who wants a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// In words.
    pub name: String,
    /// By the kernel's word.
    pub is_root: bool,
}

impl Author {
    /// Refuses a policy with a list that this author may not name. `file` is the configured policy file.
    pub(super) fn may_name_lists(
        &self,
        policy: &Policy,
        in_force: Option<&Policy>,
        file: Option<&Path>,
    ) -> Result<(), String> {
        if self.is_root {
            return Ok(());
        }
        let known = |path: &str| {
            let rules = in_force.map(|policy| policy.rules.as_slice()).unwrap_or_default();
            rules.iter().flat_map(|rule| &rule.lists).any(|list| *list.path == *path)
        };
        let folder = file.and_then(|file| fs::canonicalize(file.parent()?).ok());
        let below = |path: &str| {
            folder.as_ref().is_some_and(|folder| {
                fs::canonicalize(path).is_ok_and(|path| path.starts_with(folder))
            })
        };
        for rule in &policy.rules {
            let mut lists = rule.lists.iter();
            if let Some(list) = lists.find(|list| !known(&list.path) && !below(&list.path)) {
                let place = folder.as_ref().map_or_else(
                    || "no policy file is configured".to_owned(),
                    |folder| format!("others name files in {}", folder.display()),
                );
                return Err(format!(
                    "rule `{}` names the list {}: only root may name any file, {place}",
                    rule.about.id, list.path
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sensor_core::{policy::parse, time::UnixNs};

    use super::*;

    #[test]
    fn who_is_not_root_names_lists_beside_the_policy_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let inside = folder.path().join("etc");
        fs::create_dir(&inside).expect("a folder");
        let configured = inside.join("policy.yaml");
        for path in [&configured, &inside.join("list.txt"), &folder.path().join("shadow")] {
            fs::write(path, "192.0.2.1\n").expect("written");
        }
        std::os::unix::fs::symlink("../shadow", inside.join("link.txt")).expect("a link");
        let policy = |list: &str| {
            let list = inside.join(list);
            let text = format!("block: [{{id: a, lists: [{{file: {}}}]}}]\n", list.display());
            parse("p.yaml", text.as_bytes(), UnixNs(0)).expect("valid")
        };
        let author = Author { name: "uid 1000".into(), is_root: false };
        let may = |list: &str, in_force: Option<&Policy>| {
            author.may_name_lists(&policy(list), in_force, Some(&configured)).is_ok()
        };
        assert!(may("list.txt", None));
        for bad in ["../shadow", "link.txt", "nowhere.txt", "../../../../../etc/shadow"] {
            assert!(!may(bad, None), "{bad}");
        }
        assert!(may("../shadow", Some(&policy("../shadow"))), "what is in force stays");
        let list = policy("list.txt");
        assert!(author.may_name_lists(&list, None, None).is_err(), "no folder to be in");
        let root = Author { is_root: true, ..author.clone() };
        assert!(root.may_name_lists(&policy("../shadow"), None, None).is_ok());
    }
}
