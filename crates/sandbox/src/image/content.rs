//! An image of this host: the files that it is made of, and what they say of each other. What was pulled from a registry
//! lies here as a layout, and is read as one.
//!
//! Nothing is believed by its place: what is named by digest is read whole and its digest taken. The one file that
//! has no digest is the first (`index.json`, `manifest.json`); a profile that names a digest bounds that too.

use super::said::said;
use super::{Image, is_digest};
use api::images::{Part, PartKind, Word};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest description of an image that is read, in bytes.
pub(super) const MAX_DESCRIPTION: u64 = 4 << 20;
/// Most files of a tar, and most layers of an image.
const MAX_FILES: usize = 65_536;
/// Indexes that may lead to one another: one lists the same for several processors.
const MAX_INDEXES: usize = 3;

/// An image of this host, described; its layers are not read yet.
#[derive(Debug)]
pub(crate) struct Content {
    /// The digest of its configuration, which is what engines call it.
    pub id: String,
    /// For each layer, the lowest first, the digest of the tar that it is when nothing packs it.
    pub diffs: Vec<String>,
    files: Files,
    config: String,
    layers: Vec<String>,
    /// How long each layer is as it lies there, as far as the manifest says.
    sizes: Vec<Option<u64>>,
    /// Whether `docker load` takes it as it lies there.
    saved: bool,
    /// What it says of itself beside its layers.
    pub said: Vec<Word>,
}

/// The files of an image, by name.
#[derive(Debug)]
struct Files {
    /// What people call it.
    called: PathBuf,
    place: Place,
}

/// Where they lie.
#[derive(Debug)]
enum Place {
    Folder(PathBuf),
    /// Where each begins in the tar, and its length.
    Tar(PathBuf, BTreeMap<String, (u64, u64)>),
}

/// A description that the folder of an image does not hold yet.
#[derive(Debug, thiserror::Error)]
#[error("{} is not there: No such file", .0.digest)]
struct Missing(Part);

/// The part that is missing where this is why an image cannot be read; whoever can get it may.
pub(super) fn missing(e: &io::Error) -> Option<&Part> {
    e.get_ref()?.downcast_ref::<Missing>().map(|missing| &missing.0)
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the image {}: {why}", path.display()))
}

/// The SHA-256 of some bytes, as images write it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    named(&Sha256::digest(bytes))
}

/// A digest, as images write it.
pub(crate) fn named(digest: &[u8]) -> String {
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl Files {
    fn of(image: &Image) -> io::Result<Self> {
        let (called, place) = match image {
            Image::Registry(name) => return Err(io::Error::other(format!("{name} is not on this host"))),
            Image::Layout(path, _) => (path, Place::Folder(path.clone())),
            Image::Tar(path, _) => (path, Place::Tar(path.clone(), table(path)?)),
        };
        Ok(Self { called: called.clone(), place })
    }

    fn place(&self) -> &Path {
        &self.called
    }

    fn has(&self, name: &str) -> bool {
        match &self.place {
            Place::Folder(path) => path.join(name).is_file(),
            Place::Tar(_, table) => table.contains_key(name),
        }
    }

    /// A file and its length.
    fn open(&self, name: &str) -> io::Result<(u64, Box<dyn Read + Send>)> {
        let said = |e: &dyn std::fmt::Display| wrong(self.place(), format!("{name}: {e}"));
        match &self.place {
            Place::Folder(path) => {
                let file = File::open(path.join(name)).map_err(|e| said(&e))?;
                let length = file.metadata()?.len();
                Ok((length, Box::new(file.take(length))))
            }
            Place::Tar(path, table) => {
                let (at, length) = table.get(name).ok_or_else(|| said(&"it is not there"))?;
                let mut file = File::open(path).map_err(|e| said(&e))?;
                file.seek(SeekFrom::Start(*at))?;
                Ok((*length, Box::new(file.take(*length))))
            }
        }
    }

    /// A description, whole.
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (length, file) = self.open(name)?;
        if length > MAX_DESCRIPTION {
            return Err(wrong(self.place(), format!("{name} is longer than {} MiB", MAX_DESCRIPTION >> 20)));
        }
        let mut bytes = Vec::new();
        file.take(MAX_DESCRIPTION).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn json(&self, bytes: &[u8]) -> io::Result<Value> {
        serde_json::from_slice(bytes).map_err(|e| wrong(self.place(), format!("a description of it is no JSON: {e}")))
    }

    /// Whether a part is there.
    ///
    /// # Errors
    /// [`Missing`].
    fn expect(&self, digest: &str, kind: PartKind) -> io::Result<()> {
        if self.has(&blob(digest)) {
            return Ok(());
        }
        let part = Part { digest: digest.to_owned(), kind, most: MAX_DESCRIPTION };
        Err(io::Error::new(io::ErrorKind::NotFound, Missing(part)))
    }

    /// What a digest names, which has that digest.
    fn by_digest(&self, digest_of_it: &str) -> io::Result<Vec<u8>> {
        self.expect(digest_of_it, PartKind::Manifest)?;
        let bytes = self.read(&blob(digest_of_it))?;
        let real = digest(&bytes);
        if real == digest_of_it { Ok(bytes) } else { Err(other(self.place(), digest_of_it, &real)) }
    }
}

fn other(place: &Path, said: &str, real: &str) -> io::Error {
    wrong(place, format!("what it calls {said} is {real}"))
}

/// The name of what a digest names, in a layout.
pub(super) fn blob(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

/// The files of a tar. A name that stands twice in it could be read in two ways, and is none.
fn table(path: &Path) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let mut table = BTreeMap::new();
    let mut tar = tar::Archive::new(File::open(path).map_err(|e| wrong(path, e))?);
    for entry in tar.entries_with_seek()?.raw(true) {
        let entry = entry.map_err(|e| wrong(path, format!("it is no tar: {e}")))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        let size = entry.header().size()?;
        if table.insert(name.clone(), (entry.raw_file_position(), size)).is_some() {
            return Err(wrong(path, format!("{name} stands twice in it")));
        }
        if table.len() > MAX_FILES {
            return Err(wrong(path, "it holds more files than an image has"));
        }
    }
    Ok(table)
}

impl Content {
    /// Finds the one image of this processor in what a profile names.
    ///
    /// # Errors
    /// A sentence that names the image and what of it is not as it says.
    pub fn read(image: &Image) -> io::Result<Self> {
        let asked = match image {
            Image::Registry(_) => None,
            Image::Layout(_, digest) | Image::Tar(_, digest) => digest.as_deref(),
        };
        Self::of(Files::of(image)?, asked)
    }

    /// What of a registry's image lies in a folder, which is a layout of it; `name` is what a profile calls it.
    ///
    /// # Errors
    /// As of [`Content::read`]; of a part that is not there [`missing`] says which.
    pub fn pulled(folder: &Path, name: &str, digest: &str) -> io::Result<Self> {
        Self::of(Files { called: name.into(), place: Place::Folder(folder.to_owned()) }, Some(digest))
    }

    fn of(files: Files, asked: Option<&str>) -> io::Result<Self> {
        let saved = matches!(files.place, Place::Tar(..)) && files.has("manifest.json");
        let found = if saved { of_saved(&files)? } else { of_layout(&files, asked)? };
        let Found { id, config, layers, sizes, on_the_way } = found;
        if let Some(asked) = asked.filter(|asked| *asked != id && !on_the_way.iter().any(|one| one == asked)) {
            let why = format!(
                "the profile asks for {asked}, and it holds {id} now: it was moved to other content; put that back, or \
                 name the new digest"
            );
            return Err(wrong(files.place(), why));
        }
        if !saved {
            files.expect(&id, PartKind::Blob)?;
        }
        let bytes = files.read(&config)?;
        let real = digest(&bytes);
        if real != id {
            return Err(other(files.place(), &id, &real));
        }
        let (diffs, said) = described(&files, &bytes, layers.len())?;
        Ok(Self { id, diffs, files, config, layers, sizes, saved, said })
    }

    /// Each different layer as a part of a registry's image: its length is what the manifest says that it is.
    ///
    /// # Errors
    /// A sentence that names the image, when the manifest does not say how long one is.
    pub fn layers(&self) -> io::Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        let mut known = BTreeSet::new();
        for (name, size) in self.layers.iter().zip(&self.sizes) {
            let hex = name.rsplit('/').next().unwrap_or_default();
            let part = Part {
                digest: format!("sha256:{hex}"),
                kind: PartKind::Blob,
                most: size.ok_or_else(|| self.wrong("its manifest does not say how long each layer is"))?,
            };
            if known.insert(hex) {
                parts.push(part);
            }
        }
        Ok(parts)
    }

    /// A layer as it lies there, packed or not.
    ///
    /// # Errors
    /// The system's own, naming the image.
    pub fn layer(&self, number: usize) -> io::Result<Box<dyn Read + Send>> {
        Ok(self.files.open(&self.layers[number])?.1)
    }

    /// What is wrong with it, naming the image.
    pub fn wrong(&self, why: impl std::fmt::Display) -> io::Error {
        wrong(self.files.place(), why)
    }

    /// It as `docker load` takes it.
    ///
    /// # Errors
    /// The system's own, naming the image.
    pub fn archive(&self) -> io::Result<Box<dyn Read + Send>> {
        if self.saved {
            return Ok(Box::new(File::open(self.files.place())?));
        }
        let short = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let layers: Vec<String> = self.layers.iter().map(|name| short(name)).collect();
        let manifest = json!([{ "Config": short(&self.config), "RepoTags": null, "Layers": layers }]);
        let manifest = manifest.to_string().into_bytes();
        let mut archive = entry("manifest.json", manifest.len() as u64, Box::new(io::Cursor::new(manifest)))?;
        // A layer may stand twice in an image and is sent once.
        let mut names: Vec<&String> = self.layers.iter().chain([&self.config]).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (size, file) = self.files.open(name)?;
            archive = Box::new(archive.chain(entry(&short(name), size, file)?));
        }
        Ok(Box::new(archive.chain(io::repeat(0).take(1024))))
    }
}

/// What the descriptions of an image lead to.
struct Found {
    id: String,
    /// Name of the configuration.
    config: String,
    /// Names of the layers, and their lengths.
    layers: Vec<String>,
    sizes: Vec<Option<u64>>,
    /// Every digest that led there.
    on_the_way: Vec<String>,
}

/// The one image of a tar that `docker save` wrote.
fn of_saved(files: &Files) -> io::Result<Found> {
    let images = files.json(&files.read("manifest.json")?)?;
    let [image] = images.as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(wrong(files.place(), "it holds several images or none; save one"));
    };
    let config = image["Config"].as_str().unwrap_or_default().to_owned();
    let hex = config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    let id = format!("sha256:{hex}");
    if !is_digest(&id) {
        return Err(wrong(files.place(), "its configuration is not named by digest"));
    }
    let layers = image["Layers"].as_array().into_iter().flatten();
    let layers: Vec<String> = layers.map(|layer| layer.as_str().unwrap_or_default().to_owned()).collect();
    Ok(Found { id, config, sizes: vec![None; layers.len()], layers, on_the_way: Vec::new() })
}

/// The one image of an OCI layout for this processor, or the one that has the digest.
fn of_layout(files: &Files, asked: Option<&str>) -> io::Result<Found> {
    if !files.has("index.json") {
        return Err(wrong(files.place(), "it has no manifest.json and no index.json, so it is no image"));
    }
    let named = |description: &Value| {
        let digest = description["digest"].as_str().filter(|digest| is_digest(digest)).map(str::to_owned);
        digest.ok_or_else(|| wrong(files.place(), "a part of it is not named by a SHA-256 digest"))
    };
    let mut on_the_way = Vec::new();
    let mut description = files.json(&files.read("index.json")?)?;
    for _ in 0..MAX_INDEXES {
        let Some(manifests) = description["manifests"].as_array() else { break };
        let chosen = manifests.iter().find(|one| asked.is_some() && one["digest"].as_str() == asked);
        let fitting: Vec<&Value> = match chosen {
            Some(one) => vec![one],
            None => manifests.iter().filter(|one| is_for_us(&one["platform"])).collect(),
        };
        let [one] = fitting[..] else {
            let why = format!("it holds {} images for this processor, not one", fitting.len());
            return Err(wrong(files.place(), why));
        };
        let digest = named(one)?;
        description = files.json(&files.by_digest(&digest)?)?;
        on_the_way.push(digest);
    }
    if description["schemaVersion"] == 1 {
        let why = "it is of Docker's first format, which holds no configuration; push it again with a newer program";
        return Err(wrong(files.place(), why));
    }
    let id = named(&description["config"])?;
    let layers = description["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let sizes = layers.iter().map(|layer| layer["size"].as_u64()).collect();
    let layers = layers.iter().map(|layer| named(layer).map(|digest| blob(&digest))).collect::<io::Result<_>>()?;
    Ok(Found { config: blob(&id), id, layers, sizes, on_the_way })
}

/// What a configuration says of the layers, and of itself.
fn described(files: &Files, config: &[u8], layers: usize) -> io::Result<(Vec<String>, Vec<Word>)> {
    let config = files.json(config)?;
    if !is_for_us(&config) {
        return Err(wrong(files.place(), "it is for another processor or system"));
    }
    let variables = config["config"]["Env"].as_array().map_or(&[][..], Vec::as_slice);
    without_keys(variables.iter().filter_map(Value::as_str)).map_err(|why| wrong(files.place(), why))?;
    let diffs = config["rootfs"]["diff_ids"].as_array().map_or(&[][..], Vec::as_slice);
    let diffs: Vec<String> = diffs.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect();
    if diffs.len() != layers || diffs.len() > MAX_FILES || !diffs.iter().all(|one| is_digest(one)) {
        return Err(wrong(files.place(), "its configuration does not name each layer by digest"));
    }
    Ok((diffs, said(&config).map_err(|why| wrong(files.place(), why))?))
}

/// Refuses an image whose variables, `NAME=value` each, set what programs look for a key in. No box would get them; but an
/// image with a key in it is one that everybody who has it has the key of.
///
/// # Errors
/// A sentence with their names, and no value.
pub fn without_keys<'v>(variables: impl IntoIterator<Item = &'v str>) -> Result<(), String> {
    let names = variables.into_iter().map(|variable| variable.split('=').next().unwrap_or_default());
    let names = model::managed::keys_among(names);
    if names.is_empty() {
        return Ok(());
    }
    Err(format!("it sets {}, where programs look for a key, and no key is part of an image", names.join(", ")))
}

/// Whether a platform, as images write it, is this one. What is not said does not differ.
fn is_for_us(platform: &Value) -> bool {
    let is = |key: &str, own: &str| platform[key].as_str().is_none_or(|said| said == own);
    is("architecture", architecture()) && is("os", "linux")
}

/// This processor's name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// One file of a tar, with what fills its last block.
fn entry(name: &str, size: u64, content: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let head = io::Cursor::new(header.as_bytes().to_vec());
    let fill = io::repeat(0).take(size.next_multiple_of(512) - size);
    Ok(Box::new(head.chain(content).chain(fill)))
}
