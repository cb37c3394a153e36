//! `/run/volary/box.json`: what of this box the walls depend on, written by the sandbox before the start.
//!
//! It stands on a read-only mount that only the operator fills, so it is as trusted as our arguments would be.

use serde::Deserialize;
use std::path::PathBuf;

/// Where it stands. Absent means no extra folders.
pub const PATH: &str = "/run/volary/box.json";

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub struct BoxFile {
    /// Folders of the profile, mounted at these paths.
    #[serde(default)]
    pub folders: Vec<Folder>,
}

/// One folder of the profile.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Folder {
    /// Absolute path in the box.
    pub path: PathBuf,
    /// Whether the box may write there.
    #[serde(default)]
    pub writable: bool,
}

impl BoxFile {
    /// Reads the file.
    ///
    /// # Errors
    /// A sentence, when the file is there and cannot be read or understood: a box whose promises are unclear must not start.
    pub fn read() -> Result<Self, String> {
        match std::fs::read(PATH) {
            Ok(bytes) => Self::parse(&bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{PATH}: {error}")),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|e| format!("{PATH}: {e}"))?;
        match file.folders.iter().find(|folder| !folder.path.is_absolute()) {
            Some(folder) => Err(format!("{PATH}: the folder {} is not absolute", folder.path.display())),
            None => Ok(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_only_unless_the_file_says_otherwise() {
        let file = BoxFile::parse(br#"{"folders":[{"path":"/opt/x"},{"path":"/y","writable":true}],"uid":7}"#).unwrap();
        assert_eq!(file.folders.iter().map(|f| f.writable).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_file_that_is_not_understood_stops_the_box() {
        assert!(BoxFile::parse(b"{").is_err());
        assert!(BoxFile::parse(br#"{"folders":[{"path":"opt"}]}"#).is_err());
    }
}
