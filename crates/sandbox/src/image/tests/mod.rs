//! Images of the tests' own making, and what they are unpacked in.

mod descriptions;
mod layers;
mod pulls;
mod trees;

use super::Image;
use super::content::{Content, digest};
use super::kept;
use super::unpack::{self, Budget};
use flate2::write::GzEncoder;
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tar::EntryType;

/// One entry of a layer, as nobody's tar program would write it.
struct Entry<'a> {
    kind: EntryType,
    path: &'a [u8],
    link: &'a [u8],
    mode: u32,
    content: &'a [u8],
}

fn entry<'a>(kind: EntryType, path: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind, path: path.as_bytes(), link: link.as_bytes(), mode: 0o755, content: b"" }
}
fn file<'a>(path: &'a str, content: &'a str) -> Entry<'a> {
    Entry { content: content.as_bytes(), mode: 0o644, ..entry(EntryType::Regular, path, "") }
}
fn folder(path: &str) -> Entry<'_> {
    entry(EntryType::Directory, path, "")
}
fn link<'a>(path: &'a str, to: &'a str) -> Entry<'a> {
    entry(EntryType::Symlink, path, to)
}
fn twin<'a>(path: &'a str, of: &'a str) -> Entry<'a> {
    entry(EntryType::Link, path, of)
}

/// A tar of them; paths are written as they are.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_mtime(1_000_000_000);
        header.set_size(entry.content.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..entry.path.len()].copy_from_slice(entry.path);
        gnu.linkname[..entry.link.len()].copy_from_slice(entry.link);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A folder with a file beside the tree, which nothing may reach.
struct World {
    dir: tempfile::TempDir,
    budget: Budget,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        Self { dir, budget: Budget { bytes: 1 << 20, entries: 100, spare: 0 } }
    }
    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }
    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|e| format!("{path}: {e}"))
    }
    /// Puts a layer over the tree.
    fn layer(&mut self, entries: &[Entry<'_>]) -> io::Result<()> {
        self.bytes(&tar(entries))
    }
    fn bytes(&mut self, tar: &[u8]) -> io::Result<()> {
        let root = File::open(self.at("")).unwrap();
        unpack::layer(root.as_fd(), &mut &tar[..], &mut self.budget)
    }
    /// A layer that must be refused for this reason, with nothing changed beside the tree.
    fn refused(entries: &[Entry<'_>], why: &str) {
        let mut world = Self::new();
        let said = world.layer(entries).unwrap_err().to_string();
        assert!(said.contains(why), "{why:?} is not in {said:?}");
        world.is_whole();
    }
    fn is_whole(&self) {
        assert_eq!(fs::read_to_string(self.dir.path().join("outside")).unwrap(), "untouched");
        let mut names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["outside", "tree"]);
    }
}

/// Bytes as they are.
fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// As Debian's zstd packs it.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let out = Command::new("zstd").arg("-qc").arg(file.path()).stdin(Stdio::null()).output();
    let out = out.expect("zstd starts (apt-get install zstd, or cargo xtask test)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// An image of some layers, not packed, as a layout; gives its digests: of the image and of its manifest.
fn layout(place: &Path, layers: &[Vec<u8>]) -> (String, String) {
    layout_of(place, layers, plain)
}

/// The same, its layers packed.
fn layout_of(place: &Path, layers: &[Vec<u8>], pack: impl Fn(&[u8]) -> Vec<u8>) -> (String, String) {
    let blobs = place.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len()})
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diffs: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = blob(config.to_string().as_bytes());
    let layers: Vec<_> = layers.iter().map(|layer| blob(&pack(layer))).collect();
    let manifest = blob(json!({"config": config, "layers": layers}).to_string().as_bytes());
    let platform = json!({"architecture": architecture, "os": "linux"});
    let index = json!({"manifests": [{"digest": manifest["digest"], "platform": platform}]});
    fs::write(place.join("index.json"), index.to_string()).unwrap();
    fs::write(place.join("oci-layout"), "{}").unwrap();
    (config["digest"].as_str().unwrap().into(), manifest["digest"].as_str().unwrap().into())
}

fn hold(dir: &Path, image: &Image, id: &str, most: &Budget) -> io::Result<File> {
    kept::hold(dir, id, most, || Content::read(image))
}

/// Waits until nobody holds this lock: what a neighbour starts has a copy of each that was held, between its fork and its exec.
fn nobody_holds(lock: &File) {
    use rustix::fs::{FlockOperation, flock};
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(std::time::Instant::now() < end, "it is held");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    flock(lock, FlockOperation::Unlock).unwrap();
}

/// What lies among the trees, without locks.
fn trees(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("images")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).collect()
}
