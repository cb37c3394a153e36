//! Images of a test's own: a folder becomes one layer of an image, as an OCI layout or as `docker save` writes it.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a manifest is.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tar(arguments: &[&str], folder: &Path) -> Vec<u8> {
    let out = Command::new("tar").arg("-C").arg(folder).args(arguments).output().expect("tar starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// An image: its one layer and its configuration.
pub struct Image {
    pub layer: Vec<u8>,
    config: Vec<u8>,
}

impl Image {
    /// Of all that lies in a folder.
    pub fn of_folder(folder: &Path) -> Self {
        let layer = tar(&["--owner=0", "--group=0", "-c", "."], folder);
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let diffs = [format!("sha256:{}", sha256(&layer))];
        let rootfs = json!({"type": "layers", "diff_ids": diffs});
        let config = json!({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs});
        Self { layer, config: config.to_string().into_bytes() }
    }

    /// The same, whose configuration sets these variables, `NAME=value` each.
    pub fn with_variables(mut self, variables: &[&str]) -> Self {
        let mut config: serde_json::Value = serde_json::from_slice(&self.config).expect("its own configuration");
        config["config"] = json!({ "Env": variables });
        self.config = config.to_string().into_bytes();
        self
    }

    /// The same, whose configuration says this besides: labels, commands, its history.
    pub fn saying(mut self, more: &[(&str, serde_json::Value)]) -> Self {
        let mut config: serde_json::Value = serde_json::from_slice(&self.config).expect("its own configuration");
        for (pointer, what) in more {
            match *pointer {
                "history" => config["history"] = what.clone(),
                within => config["config"][within] = what.clone(),
            }
        }
        self.config = config.to_string().into_bytes();
        self
    }

    /// Of busybox, and a file with a mark in it.
    pub fn of_busybox(mark: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        busybox(dir.path());
        fs::write(dir.path().join("etc/mark"), mark).expect("the mark is written");
        Self::of_folder(dir.path())
    }

    pub fn id(&self) -> String {
        format!("sha256:{}", sha256(&self.config))
    }

    /// Writes it as an OCI layout.
    pub fn layout(&self, folder: &Path) {
        self.layout_of(folder, &self.layer);
    }

    /// The same, its layer packed by zstd.
    pub fn packed_layout(&self, folder: &Path) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, &self.layer).expect("it is written");
        let out = Command::new("zstd").arg("-qc").arg(file.path()).output();
        let out = out.expect("zstd starts (apt-get install zstd, or cargo xtask test)");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        self.layout_of(folder, &out.stdout);
    }

    fn layout_of(&self, folder: &Path, layer: &[u8]) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a folder for its parts");
        let blob = |bytes: &[u8]| {
            fs::write(blobs.join(sha256(bytes)), bytes).expect("a part is written");
            json!({"digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
        };
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(&self.config), "layers": [blob(layer)]});
        let index = json!({"schemaVersion": 2, "manifests": [blob(manifest.to_string().as_bytes())]});
        fs::write(folder.join("index.json"), index.to_string()).expect("its index is written");
        fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").expect("its mark is written");
    }

    /// Writes it as `docker save` does, under the name of `id`.
    pub fn save(&self, file: &Path, id: &str) {
        let dir = tempfile::tempdir().expect("a folder");
        let config = format!("{}.json", id.trim_start_matches("sha256:"));
        let manifest = json!([{"Config": config, "RepoTags": null, "Layers": ["layer.tar"]}]).to_string();
        let parts = [("layer.tar", &self.layer[..]), (&config, &self.config), ("manifest.json", manifest.as_bytes())];
        for (name, bytes) in parts {
            fs::write(dir.path().join(name), bytes).expect("a part is written");
        }
        // Named one by one: a name with a dot and a slash before it is another name.
        fs::write(file, tar(&["-c", "manifest.json", "layer.tar", &config], dir.path())).expect("it is written");
    }
}

/// Puts the host's busybox into a folder, with the tools that tests use.
pub fn busybox(folder: &Path) {
    let found = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    fs::create_dir_all(folder.join("usr/bin")).expect("a folder");
    fs::create_dir_all(folder.join("etc")).expect("a folder");
    fs::copy(found.expect("apt-get install busybox-static"), folder.join("usr/bin/busybox")).expect("a copy");
    for tool in ["cat", "sh", "ls", "id"] {
        std::os::unix::fs::symlink("busybox", folder.join("usr/bin").join(tool)).expect("a link");
    }
    std::os::unix::fs::symlink("usr/bin", folder.join("bin")).expect("a link");
}
