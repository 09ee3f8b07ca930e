//! A gRPC descriptor set (`protoc --include_imports --descriptor_set_out=api.binpb`, `buf build -o api.binpb`) to operations.
//!
//! Each method is `POST /pkg.Service/Method`; `deprecated` of the method, its service or its file holds. Messages, enums and
//! comments are passed over, so a set of 50 MB costs what its services cost. The set names no host: it is bound by
//! `catalogue.yaml` or by evidence. Field numbers: google/protobuf/descriptor.proto.

use std::rc::Rc;

use super::{
    declare::LifecycleInputs,
    document::{Document, Operation, ParsedDocument, ParsedOperation, Problems},
    error::Problem,
    limits::{DOCUMENT_BYTES_MAX, NAME_BYTES_MAX, OPERATIONS_MAX},
    pointer::Pointer,
    servers::Server,
    wire::{Fields, Value, WireError},
};
use crate::http::Method;

/// Reads a descriptor set.
pub(super) fn parse(name: &str, bytes: &[u8], problems: &mut Problems) -> Option<ParsedDocument> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        problems.refuse(&Pointer::Root, Problem::TooLarge { bytes: bytes.len() });
        return None;
    }
    let mut reader = Reader { servers: [Server::root()].into(), operations: Vec::new() };
    if let Err(problem) = reader.set(bytes) {
        problems.refuse(&Pointer::Root, problem);
        return None;
    }
    if reader.operations.is_empty() {
        problems.warn(&Pointer::Root, Problem::NoServices);
    }
    let document = Document { operations: reader.operations.len(), ..Document::named(name) };
    Some(ParsedDocument { document, operations: reader.operations })
}

struct Reader {
    servers: Rc<[Server]>,
    operations: Vec<ParsedOperation>,
}

/// The numbers of `FileDescriptorProto`'s fields and below; those of `deprecated` in the options.
const FILE_PACKAGE: u64 = 2;
const FILE_SERVICE: u64 = 6;
const FILE_OPTIONS: u64 = 8;
const FILE_DEPRECATED: u64 = 23;
const NAME: u64 = 1;
const SERVICE_METHOD: u64 = 2;
const SERVICE_OPTIONS: u64 = 3;
const METHOD_OPTIONS: u64 = 4;
const DEPRECATED: u64 = 33;

impl Reader {
    fn set(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let mut files = 0;
        for field in Fields::of(bytes) {
            match field.map_err(broken)? {
                (1, Value::Bytes(file)) => {
                    files += 1;
                    self.file(file)?;
                }
                (1, _) => {
                    return Err(Problem::NotADescriptorSet("its files are no messages".into()));
                }
                _ => {}
            }
        }
        if files == 0 {
            return Err(Problem::NotADescriptorSet("there is no file in it".into()));
        }
        Ok(())
    }

    fn file(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let package = text(last(bytes, FILE_PACKAGE)?)?;
        let deprecated = is_set(last(bytes, FILE_OPTIONS)?, FILE_DEPRECATED)?;
        for service in all(bytes, FILE_SERVICE) {
            self.service(service?, package, deprecated)?;
        }
        Ok(())
    }

    fn service(&mut self, bytes: &[u8], package: &str, deprecated: bool) -> Result<(), Problem> {
        let name = text(last(bytes, NAME)?)?;
        let deprecated = deprecated || is_set(last(bytes, SERVICE_OPTIONS)?, DEPRECATED)?;
        let service = if package.is_empty() { name.into() } else { format!("{package}.{name}") };
        if !is_full_name(&service) || service.len() > NAME_BYTES_MAX {
            return Err(no_name(&service));
        }
        for method in all(bytes, SERVICE_METHOD) {
            let method = method?;
            let name = text(last(method, NAME)?)?;
            if !is_full_name(name) || name.contains('.') || name.len() > NAME_BYTES_MAX {
                return Err(no_name(name));
            }
            if self.operations.len() >= OPERATIONS_MAX {
                return Err(Problem::TooManyOperations { operations: self.operations.len() + 1 });
            }
            let deprecated = deprecated || is_set(last(method, METHOD_OPTIONS)?, DEPRECATED)?;
            self.operations.push(ParsedOperation {
                operation: Operation {
                    document: 0,
                    method: Method::Post,
                    path: format!("/{service}/{name}").into(),
                    operation_id: None,
                    owner: None,
                    internal: false,
                    lifecycle: LifecycleInputs { deprecated, sunset: None },
                },
                servers: Rc::clone(&self.servers),
            });
        }
        Ok(())
    }
}

/// Fields of this number that are messages or texts.
fn all(bytes: &[u8], number: u64) -> impl Iterator<Item = Result<&[u8], Problem>> {
    Fields::of(bytes).filter_map(move |field| match field {
        Err(error) => Some(Err(broken(error))),
        Ok((found, Value::Bytes(bytes))) if found == number => Some(Ok(bytes)),
        Ok(_) => None,
    })
}

/// The last of them, which is the one that counts; nothing where there is none.
fn last(bytes: &[u8], number: u64) -> Result<&[u8], Problem> {
    all(bytes, number).try_fold(&[][..], |_, found| found)
}

/// Whether a field is `true`.
fn is_set(options: &[u8], number: u64) -> Result<bool, Problem> {
    Fields::of(options).try_fold(false, |set, field| match field.map_err(broken)? {
        (found, Value::Varint(value)) if found == number => Ok(value != 0),
        _ => Ok(set),
    })
}

fn text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| Problem::NotADescriptorSet("a name is no text".into()))
}

/// Identifiers with dots between them: what may stand in a path as it is.
fn is_full_name(text: &str) -> bool {
    text.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

fn no_name(text: &str) -> Problem {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    Problem::NotADescriptorSet(format!("`{shown}` is no name of a service or method"))
}

fn broken(error: WireError) -> Problem {
    Problem::NotADescriptorSet(format!("{} (byte {} of a message)", error.why, error.at))
}
