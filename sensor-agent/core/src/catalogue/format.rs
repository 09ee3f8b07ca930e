//! What kind of document a file is, by the ending of its name.

/// Formats of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenAPI 2.0, 3.0 or 3.1, YAML or JSON; also whatever has no ending of its own.
    OpenApi,
    /// A binary `FileDescriptorSet` of gRPC services.
    Descriptors,
    /// Endpoints as comma-separated values.
    Csv,
}

const BY_EXTENSION: &[(&str, Format)] = &[
    ("yaml", Format::OpenApi),
    ("yml", Format::OpenApi),
    ("json", Format::OpenApi),
    ("binpb", Format::Descriptors),
    ("pb", Format::Descriptors),
    ("desc", Format::Descriptors),
    ("protoset", Format::Descriptors),
    ("csv", Format::Csv),
];

/// Endings of documents, for those who tell a user what to put into the folder.
pub const EXTENSIONS_TEXT: &str =
    "OpenAPI .yaml .yml .json, gRPC descriptor sets .binpb .pb .desc .protoset, endpoints .csv";

/// Whether a file of this name is a document.
#[must_use]
pub fn is_document_name(name: &str) -> bool {
    known(name).is_some()
}

/// The format of a document of this name.
pub(super) fn of(name: &str) -> Format {
    known(name).unwrap_or(Format::OpenApi)
}

fn known(name: &str) -> Option<Format> {
    let (_, extension) = name.rsplit_once('.')?;
    let found = BY_EXTENSION.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    found.map(|(_, format)| *format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_name_tells_the_format() {
        for (name, format, listed) in [
            ("a.yaml", Format::OpenApi, true),
            ("sub/a.JSON", Format::OpenApi, true),
            ("a.binpb", Format::Descriptors, true),
            ("a.b.ProtoSet", Format::Descriptors, true),
            ("a.csv", Format::Csv, true),
            ("README.md", Format::OpenApi, false),
            ("csv", Format::OpenApi, false),
            ("", Format::OpenApi, false),
        ] {
            assert_eq!((of(name), is_document_name(name)), (format, listed), "{name}");
        }
    }
}
