//! What a box's file system may start from: an image that cannot change under a profile.
//!
//! Every kind leads to an image's id, the digest of its configuration, which names each layer by digest in turn. What
//! an engine loaded is used under that id only, so a file or a registry that gives other content gives nothing.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Longest description of an image that is read, in bytes.
const MAX_DESCRIPTION: u64 = 4 << 20;

/// An image as a profile names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// `registry/name@sha256:…`: what a registry has under that digest, and nothing else.
    Registry(String),
    /// A folder of the host that is an OCI image layout.
    Layout(PathBuf),
    /// A tar of the host as `docker save` writes it.
    Tar(PathBuf),
}

impl Image {
    /// Reads a profile's word. A path must be there.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn parse(name: &str) -> Result<Self, String> {
        if name.starts_with('/') {
            let path = PathBuf::from(name);
            return match path.metadata() {
                Ok(found) if found.is_file() => Ok(Self::Tar(path)),
                Ok(_) if path.join("oci-layout").is_file() => Ok(Self::Layout(path)),
                Ok(_) => Err(format!("{name} is a folder and no OCI image layout (it has no file oci-layout)")),
                Err(e) => Err(format!("{name} cannot be opened: {e}")),
            };
        }
        match name.split_once('@') {
            Some((repository, digest)) if !repository.is_empty() && is_digest(digest) => {
                Ok(Self::Registry(name.to_owned()))
            }
            Some(_) => Err(format!("{name:?} has no whole digest; write name@sha256: and 64 hexadecimal digits")),
            None => Err(format!(
                "{name:?} is a tag, and a tag can be moved to other content; name the image by its digest, as \
                 `docker image inspect --format '{{{{index .RepoDigests 0}}}}' {name}` prints it, or name a file or \
                 folder of this host from / on"
            )),
        }
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

/// An image of this host that an engine can be given.
pub(crate) struct Local {
    /// The digest of its configuration, which is what the engine calls it.
    pub id: String,
    /// It as `docker load` takes it.
    pub archive: Box<dyn Read + Send>,
}

fn wrong(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the image {}: {why}", path.display()))
}

/// The one image of a tar that `docker save` wrote.
pub(crate) fn of_tar(path: &Path) -> io::Result<Local> {
    let mut tar = tar::Archive::new(File::open(path).map_err(|e| wrong(path, &e.to_string()))?);
    for entry in tar.entries_with_seek()? {
        let entry = entry.map_err(|e| wrong(path, &format!("it is no tar: {e}")))?;
        if entry.path_bytes().as_ref() != b"manifest.json" {
            continue;
        }
        let images: Value =
            serde_json::from_reader(entry.take(MAX_DESCRIPTION)).map_err(|e| wrong(path, &e.to_string()))?;
        let [image] = images.as_array().map_or(&[][..], Vec::as_slice) else {
            return Err(wrong(path, "it holds several images or none; save one"));
        };
        let config = image["Config"].as_str().unwrap_or_default();
        let hex = config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        let id = format!("sha256:{hex}");
        if !is_digest(&id) {
            return Err(wrong(path, "its configuration is not named by digest"));
        }
        return Ok(Local { id, archive: Box::new(File::open(path)?) });
    }
    Err(wrong(path, "it has no manifest.json, so `docker save` did not write it; unpack it and name the folder"))
}

/// The one image of an OCI layout for this processor.
pub(crate) fn of_layout(path: &Path) -> io::Result<Local> {
    let blob = |description: &Value| {
        let digest = description["digest"].as_str().filter(|digest| is_digest(digest));
        let digest = digest.ok_or_else(|| wrong(path, "a part of it is not named by a SHA-256 digest"))?;
        Ok::<_, io::Error>(path.join("blobs/sha256").join(&digest["sha256:".len()..]))
    };
    let read = |file: &Path| -> io::Result<Value> {
        let text = File::open(file).map_err(|e| wrong(path, &format!("{}: {e}", file.display())))?;
        serde_json::from_reader(text.take(MAX_DESCRIPTION)).map_err(|e| wrong(path, &e.to_string()))
    };
    let mut description = read(&path.join("index.json"))?;
    // An index may lead to another one, which lists the same for several processors.
    for _ in 0..2 {
        let Some(manifests) = description["manifests"].as_array() else { break };
        let here = |one: &&Value| {
            let platform = &one["platform"];
            let of = |key: &str, own: &str| platform[key].as_str().is_none_or(|said| said == own);
            of("architecture", architecture()) && of("os", "linux")
        };
        let fitting: Vec<&Value> = manifests.iter().filter(here).collect();
        let [one] = fitting[..] else {
            return Err(wrong(path, &format!("it holds {} images for this processor, not one", fitting.len())));
        };
        description = read(&blob(one)?)?;
    }
    let config = blob(&description["config"])?;
    let id = description["config"]["digest"].as_str().unwrap_or_default().to_owned();
    let layers = description["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let layers = layers.iter().map(blob).collect::<io::Result<Vec<PathBuf>>>()?;
    let name = |file: &Path| file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let manifest = json!([{
        "Config": name(&config),
        "RepoTags": null,
        "Layers": layers.iter().map(|layer| name(layer)).collect::<Vec<_>>(),
    }]);
    let manifest = manifest.to_string().into_bytes();
    let mut archive: Box<dyn Read + Send> =
        entry("manifest.json", manifest.len() as u64, Box::new(io::Cursor::new(manifest)))?;
    let mut named = vec![config];
    // A layer may stand twice in an image and is sent once.
    named.extend(layers);
    named.sort();
    named.dedup();
    for file in named {
        let open = File::open(&file).map_err(|e| wrong(path, &format!("{}: {e}", file.display())))?;
        let size = open.metadata()?.len();
        archive = Box::new(archive.chain(entry(&name(&file), size, Box::new(open.take(size)))?));
    }
    Ok(Local { id, archive: Box::new(archive.chain(io::repeat(0).take(1024))) })
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

/// This processor's name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_image_is_named_by_digest_and_a_tag_is_told_what_to_write() {
        let digest = "sha256:".to_owned() + &"0a".repeat(32);
        let whole = format!("registry:5000/team/tools@{digest}");
        assert_eq!(Image::parse(&whole), Ok(Image::Registry(whole.clone())));
        for tag in ["debian", "debian:12", "registry:5000/team/tools:latest"] {
            assert!(Image::parse(tag).unwrap_err().contains("by its digest"), "{tag}");
        }
        for cut in [&whole[..whole.len() - 1], "x@sha256:", &format!("@{digest}"), &whole.to_uppercase()] {
            assert!(Image::parse(cut).unwrap_err().contains("64 hexadecimal"), "{cut}");
        }
    }

    #[test]
    fn a_path_is_a_layout_or_a_tar_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().to_str().unwrap();
        assert!(Image::parse(name).unwrap_err().contains("no OCI image layout"));
        assert!(Image::parse(&format!("{name}/absent")).unwrap_err().contains("cannot be opened"));
        fs::write(dir.path().join("oci-layout"), "{}").unwrap();
        assert_eq!(Image::parse(name), Ok(Image::Layout(dir.path().into())));
        let tar = dir.path().join("x.tar");
        fs::write(&tar, "").unwrap();
        assert_eq!(Image::parse(tar.to_str().unwrap()), Ok(Image::Tar(tar)));
    }

    /// A layout of one image with one layer, given as an index of an index, as `docker buildx` writes it.
    fn layout(folder: &Path, architecture: &str) -> String {
        let hex = |byte: &str| byte.repeat(32);
        let digest = |byte: &str| format!("sha256:{}", hex(byte));
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let index = |byte: &str| json!({"manifests": [{"digest": digest(byte), "platform": {"architecture": architecture, "os": "linux"}}]});
        fs::write(folder.join("index.json"), index("0a").to_string()).unwrap();
        fs::write(blobs.join(hex("0a")), index("0b").to_string()).unwrap();
        let manifest =
            json!({"config": {"digest": digest("0c")}, "layers": [{"digest": digest("0d")}, {"digest": digest("0d")}]});
        fs::write(blobs.join(hex("0b")), manifest.to_string()).unwrap();
        fs::write(blobs.join(hex("0c")), "the configuration").unwrap();
        fs::write(blobs.join(hex("0d")), vec![7; 1024]).unwrap();
        digest("0c")
    }

    #[test]
    fn a_layout_becomes_the_archive_of_the_one_image_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let id = layout(dir.path(), architecture());
        let local = of_layout(dir.path()).unwrap();
        assert_eq!(local.id, id);
        let mut names = Vec::new();
        let mut tar = tar::Archive::new(local.archive);
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if name == "manifest.json" {
                let manifest: Value = serde_json::from_slice(&content).unwrap();
                assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);
            }
            names.push((name, content.len()));
        }
        names.sort();
        let expected = [("0c".repeat(32), 17), ("0d".repeat(32), 1024)];
        assert_eq!(names[..2], expected);
        assert_eq!(names[2].0, "manifest.json");
    }

    #[test]
    fn a_layout_for_another_processor_or_with_a_path_for_a_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        layout(dir.path(), "pdp11");
        assert!(of_layout(dir.path()).err().unwrap().to_string().contains("0 images for this processor"));
        let bad = json!({"manifests": [{"digest": "sha256:../../../etc/passwd"}]});
        fs::write(dir.path().join("index.json"), bad.to_string()).unwrap();
        assert!(of_layout(dir.path()).err().unwrap().to_string().contains("not named by a SHA-256 digest"));
    }

    #[test]
    fn a_tar_is_known_by_the_digest_it_names_and_one_of_two_images_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        let write = |name: &str, text: &str| {
            let mut tar = tar::Builder::new(File::create(&path).unwrap());
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
            tar.finish().unwrap();
        };
        let hex = "0f".repeat(32);
        for config in [format!("{hex}.json"), format!("blobs/sha256/{hex}")] {
            write("manifest.json", &json!([{"Config": config}]).to_string());
            assert_eq!(of_tar(&path).unwrap().id, format!("sha256:{hex}"));
        }
        let refusals = [
            ("manifest.json", "[{},{}]", "several images"),
            ("manifest.json", "[{\"Config\":\"latest.json\"}]", "not named by digest"),
            ("index.json", "{}", "unpack it"),
        ];
        for (name, text, why) in refusals {
            write(name, text);
            let said = of_tar(&path).err().unwrap().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
