//! Descriptions of `tests/score`: one line an operation.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Request method.
    pub method: String,
    /// Path template as the description has it.
    pub path: String,
}

impl Operation {
    /// The template with nameless parameters: what has to be found.
    #[must_use]
    pub fn shape(&self) -> String {
        shape(&self.path)
    }
}

/// One API.
#[derive(Clone, Debug)]
pub struct Description {
    /// Name of its file.
    pub name: String,
    /// Operations, of which no two have the same method and shape.
    pub operations: Vec<Operation>,
}

/// Reads all descriptions, sorted by name.
pub fn descriptions(folder: &Path) -> Result<Vec<Description>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "tsv") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut operations: Vec<Operation> = text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(method, path)| Operation { method: method.into(), path: path.into() })
            .collect();
        operations.sort_by_key(|it| (it.shape(), it.method.clone()));
        operations.dedup_by_key(|it| (it.shape(), it.method.clone()));
        found.push(Description { name, operations });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// A template without the names of its parameters.
pub(super) fn shape(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut name = false;
    for c in template.chars() {
        name &= c != '}';
        if !name {
            out.push(c);
        }
        name |= c == '{';
    }
    out
}
