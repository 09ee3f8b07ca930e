//! `$ref` within a document and across the given documents, with a cap and without cycles.
//!
//! Nothing is fetched: a reference to another file is looked up by name among the given documents, relative to
//! the one it stands in. Only what the catalogue reads is ever followed; cyclic schemas are legal and cost nothing.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

use super::{error::Problem, limits::REF_DEPTH_MAX, path::decode_into, pointer::tokens};

/// All documents of a load, by index and by name.
pub(super) struct DocumentSet<'d> {
    names: BTreeMap<&'d str, usize>,
    documents: Vec<(&'d str, Option<&'d Value>)>,
    referred: RefCell<BTreeSet<usize>>,
}

impl<'d> DocumentSet<'d> {
    pub(super) fn new(documents: Vec<(&'d str, Option<&'d Value>)>) -> Self {
        let names = documents.iter().enumerate().map(|(index, (name, _))| (*name, index)).collect();
        Self { names, documents, referred: RefCell::default() }
    }

    /// Whether another document referred to this one.
    pub(super) fn is_referred(&self, document: usize) -> bool {
        self.referred.borrow().contains(&document)
    }

    /// Follows `$ref` from a value of `document` until there is none. Gives the value, the document it stands in,
    /// and the maps passed on the way (fields beside a `$ref` count, OpenAPI 3.1 path items).
    pub(super) fn resolve(
        &self,
        document: usize,
        value: &'d Value,
    ) -> Result<Resolved<'d>, Problem> {
        let mut resolved = Resolved { layers: vec![(document, value)] };
        let mut visited: Vec<(usize, String)> = Vec::new();
        let (mut document, mut value) = (document, value);
        while let Some(Value::String(reference)) = value.get("$ref") {
            if visited.len() >= REF_DEPTH_MAX {
                return Err(Problem::RefTooDeep(shorten(reference)));
            }
            let (target, pointer) = self.target(document, reference)?;
            if visited.contains(&(target, pointer.clone())) {
                return Err(Problem::RefCycle(shorten(reference)));
            }
            let root = self.documents.get(target).and_then(|(_, root)| *root);
            let next = root.and_then(|root| walk(root, &pointer));
            let missing = "; what it names is not there, or is not an OpenAPI path or operation";
            value = next.ok_or_else(|| Problem::RefNotFound(shorten(reference), missing))?;
            if target != document {
                self.referred.borrow_mut().insert(target);
            }
            document = target;
            visited.push((target, pointer));
            resolved.layers.push((document, value));
        }
        Ok(resolved)
    }

    fn target(&self, from: usize, reference: &str) -> Result<(usize, String), Problem> {
        let (file, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let mut pointer = Vec::new();
        decode_into(&mut pointer, fragment.as_bytes());
        let pointer = String::from_utf8_lossy(&pointer).into_owned();
        if file.is_empty() {
            return Ok((from, pointer));
        }
        if file.contains("://") {
            let remote = "; nothing is fetched from the network: put the file into the folder";
            return Err(Problem::RefNotFound(shorten(reference), remote));
        }
        let base = self.documents.get(from).map_or("", |(name, _)| *name);
        let name = relative_to(base, file);
        match self.names.get(name.as_str()) {
            Some(index) => Ok((*index, pointer)),
            None => {
                Err(Problem::RefNotFound(shorten(reference), "; put that file into the folder"))
            }
        }
    }
}

/// A value with the references on the way to it.
#[derive(Debug)]
pub(super) struct Resolved<'d> {
    layers: Vec<(usize, &'d Value)>,
}

impl<'d> Resolved<'d> {
    /// A field of the value nearest the reference that has it, and the document it stands in.
    pub(super) fn get(&self, key: &str) -> Option<(usize, &'d Value)> {
        self.layers
            .iter()
            .find_map(|(document, value)| value.get(key).map(|field| (*document, field)))
    }

    /// The value at the end of the chain, and its document.
    pub(super) fn last(&self) -> Option<(usize, &'d Value)> {
        self.layers.last().copied()
    }
}

fn walk<'d>(root: &'d Value, pointer: &str) -> Option<&'d Value> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    tokens(pointer).iter().try_fold(root, |value, token| match value {
        Value::Object(map) => map.get(token),
        Value::Array(list) => list.get(token.parse::<usize>().ok()?),
        _ => None,
    })
}

/// `../shared/x.yaml` from `orders/api.yaml` to `shared/x.yaml`.
fn relative_to(base: &str, file: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn shorten(reference: &str) -> String {
    reference.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_lead_through_documents() {
        let api = json!({"a": {"$ref": "parts/x.yaml#/b~1c"}, "self": {"$ref": "#/self"}});
        let part = json!({"b/c": {"$ref": "../api.yaml#/end%65d", "own": 1}});
        let ended = json!({"ended": {"get": {}}});
        let set = DocumentSet::new(vec![
            ("api.yaml", Some(&api)),
            ("parts/x.yaml", Some(&part)),
            ("x", Some(&ended)),
        ]);
        let missing = set.resolve(0, &api["a"]);
        assert!(matches!(missing, Err(Problem::RefNotFound(..))), "{missing:?}");
        assert!(matches!(set.resolve(0, &api["self"]), Err(Problem::RefCycle(_))));
        assert!(set.is_referred(1) && !set.is_referred(2));
        for bad in ["https://x/y.yaml", "other.yaml", "#nope", "#/no", "../../../../x"] {
            let value = json!({"$ref": bad});
            let set = DocumentSet::new(vec![("api.yaml", Some(&value))]);
            assert!(matches!(set.resolve(0, &value), Err(Problem::RefNotFound(..))), "{bad}");
        }
    }

    #[test]
    fn a_long_chain_is_cut() {
        let chain: serde_json::Map<String, Value> =
            (0..40).map(|n| (format!("k{n}"), json!({"$ref": format!("#/k{}", n + 1)}))).collect();
        let root = Value::Object(chain);
        let set = DocumentSet::new(vec![("a", Some(&root))]);
        assert!(matches!(set.resolve(0, &root["k0"]), Err(Problem::RefTooDeep(_))));
    }
}
