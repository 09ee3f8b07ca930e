//! Batches to a stream of bytes: JSON lines or length-delimited protobuf, with rotation for files.
//!
//! A batch is written whole (so a file holds at most `bytes`, or one batch), and rotated files are renamed (`PATH.1` is the newest);
//! [`Rotation::keep`] of them stay. A write that fails leaves nothing half behind: the file is cut back.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use prost::Message as _;
use sensor_proto::{
    json::rfc3339,
    v1::{EventBatch, event::Body},
};
use serde::Serialize;

use super::spec::FileFormat;

/// When a file is rotated and how many stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Rotated before it would grow beyond this; 0 = never.
    pub bytes: u64,
    /// Rotated files that are kept.
    pub keep: u32,
}

/// How far a file is written; what lies beyond was not finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position(pub u64);

/// Writes batches.
#[derive(Debug)]
pub struct Writer {
    format: FileFormat,
    out: Out,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Out {
    Stdout,
    File { file: File, path: PathBuf, written: u64, rotation: Rotation },
}

/// Whether a file made room for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// It did.
    Yes,
    /// There was room.
    No,
}

impl Writer {
    /// Writes to standard output.
    #[must_use]
    pub const fn stdout(format: FileFormat) -> Self {
        Self { format, out: Out::Stdout, buffer: Vec::new() }
    }

    /// Appends to a file (made with mode 0600 when it is not there).
    pub fn file(path: &Path, format: FileFormat, rotation: Rotation) -> io::Result<Self> {
        let (file, written) = open(path)?;
        Ok(Self {
            format,
            out: Out::File { file, path: path.into(), written, rotation },
            buffer: Vec::new(),
        })
    }

    /// Cuts a file back to a position it had before (what a crash left behind it).
    pub fn cut_to(&mut self, position: Position) -> io::Result<()> {
        if let Out::File { file, written, .. } = &mut self.out
            && *written > position.0
        {
            file.set_len(position.0)?;
            *written = position.0;
        }
        Ok(())
    }

    /// Rotates if the next batch would not fit; call before [`Self::write`].
    pub fn make_room(&mut self, batch: &EventBatch, skip: usize) -> io::Result<Rotated> {
        self.encode(batch, skip)?;
        let Out::File { file, path, written, rotation } = &mut self.out else {
            return Ok(Rotated::No);
        };
        let length = self.buffer.len() as u64;
        if rotation.bytes == 0 || *written == 0 || *written + length <= rotation.bytes {
            return Ok(Rotated::No);
        }
        rotate(path, rotation.keep)?;
        (*file, *written) = open(path)?;
        Ok(Rotated::Yes)
    }

    /// Writes the batch without its first `skip` events, and hands it to the system.
    pub fn write(&mut self, batch: &EventBatch, skip: usize) -> io::Result<()> {
        self.encode(batch, skip)?;
        match &mut self.out {
            Out::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&self.buffer)?;
                out.flush()
            }
            Out::File { file, written, .. } => {
                if let Err(error) = file.write_all(&self.buffer) {
                    // A full disk wrote a part: take it back, so that a retry does not write it twice.
                    file.set_len(*written)?;
                    return Err(error);
                }
                *written += self.buffer.len() as u64;
                Ok(())
            }
        }
    }

    /// Forces a file to the disk.
    pub fn sync(&self) -> io::Result<()> {
        match &self.out {
            Out::Stdout => Ok(()),
            Out::File { file, .. } => file.sync_data(),
        }
    }

    /// How far the file is written.
    #[must_use]
    pub const fn position(&self) -> Position {
        match &self.out {
            Out::Stdout => Position(0),
            Out::File { written, .. } => Position(*written),
        }
    }

    fn encode(&mut self, batch: &EventBatch, skip: usize) -> io::Result<()> {
        self.buffer.clear();
        match self.format {
            FileFormat::Jsonl => encode_lines(&mut self.buffer, batch, skip),
            FileFormat::Protobuf if skip == 0 => {
                batch.encode_length_delimited(&mut self.buffer).map_err(io::Error::other)
            }
            FileFormat::Protobuf => {
                let mut rest = batch.clone();
                rest.events.drain(..skip.min(rest.events.len()));
                rest.first_sequence += skip as u64;
                rest.encode_length_delimited(&mut self.buffer).map_err(io::Error::other)
            }
        }
    }
}

/// One event as a JSON line.
#[derive(Serialize)]
struct Line<'a> {
    sensor_id: &'a str,
    boot_id: &'a str,
    sequence: u64,
    time: String,
    #[serde(flatten)]
    body: Option<&'a Body>,
}

fn encode_lines(out: &mut Vec<u8>, batch: &EventBatch, skip: usize) -> io::Result<()> {
    for (sequence, event) in (batch.first_sequence..).zip(&batch.events).skip(skip) {
        let line = Line {
            sensor_id: &batch.sensor_id,
            boot_id: &batch.boot_id,
            sequence,
            time: rfc3339(event.time_unix_nano),
            body: event.body.as_ref(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        out.push(b'\n');
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

/// `PATH.2` to `PATH.3`, `PATH.1` to `PATH.2`, `PATH` to `PATH.1`; the oldest goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if keep == 0 {
        return fs::remove_file(path);
    }
    for number in (1..keep).rev() {
        if numbered(number).exists() {
            fs::rename(numbered(number), numbered(number + 1))?;
        }
    }
    fs::rename(path, numbered(1))
}
