//! Who this installation is: made once, kept in the store.

use std::{fs::File, io::Read as _};

use sensor_proto::store::v1::Identity;

/// Identity and secret of an installation.
#[derive(Clone, PartialEq, Eq)]
pub struct InstallationIdentity {
    /// 32 hex digits.
    pub sensor_id: String,
    /// Key of the hashes by which addresses and tokens are shown; never leaves the host.
    pub hash_key: [u8; 16],
}

impl std::fmt::Debug for InstallationIdentity {
    /// The key is left out: debug output ends up in logs.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("InstallationIdentity")
            .field("sensor_id", &self.sensor_id)
            .finish_non_exhaustive()
    }
}

impl InstallationIdentity {
    /// Makes a new one.
    pub fn random() -> std::io::Result<Self> {
        Ok(Self { sensor_id: random_id()?, hash_key: random_bytes()? })
    }

    pub(super) fn from_record(record: &Identity) -> Option<Self> {
        let hash_key = record.hash_key.as_slice().try_into().ok()?;
        (!record.sensor_id.is_empty())
            .then(|| Self { sensor_id: record.sensor_id.clone(), hash_key })
    }

    pub(super) fn to_record(&self, created_unix_nano: u64) -> Identity {
        Identity {
            format: 1,
            sensor_id: self.sensor_id.clone(),
            hash_key: self.hash_key.to_vec(),
            created_unix_nano,
        }
    }

    /// The key as the core's keyed hash takes it.
    #[must_use]
    pub fn hash_key_words(&self) -> [u64; 2] {
        let key = u128::from_le_bytes(self.hash_key);
        let low = u64::try_from(key & u128::from(u64::MAX)).unwrap_or(0);
        let high = u64::try_from(key >> 64).unwrap_or(0);
        [low, high]
    }
}

/// 32 random hex digits: the identity of a run, or of an installation.
pub fn random_id() -> std::io::Result<String> {
    Ok(format!("{:032x}", u128::from_le_bytes(random_bytes()?)))
}

fn random_bytes() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
