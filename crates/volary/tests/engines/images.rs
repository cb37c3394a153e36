//! Images: a layout, a tar, a registry's by digest; and content that is not what its name says.

use crate::{all, profile};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testkit::{Docker, Platform, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tar(folder: &Path) -> Vec<u8> {
    let out = Command::new("tar").arg("-C").arg(folder).args(["--owner=0", "--group=0", "-c", "."]).output().unwrap();
    assert!(out.status.success(), "{}", all(&out));
    out.stdout
}

/// An image of busybox and a file with a mark in it: its one layer and its configuration.
struct Content {
    layer: Vec<u8>,
    config: Vec<u8>,
}

impl Content {
    fn of(mark: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file());
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::copy(busybox.expect("apt-get install busybox-static"), dir.path().join("usr/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", dir.path().join("usr/bin/cat")).unwrap();
        fs::write(dir.path().join("etc/mark"), mark).unwrap();
        let layer = tar(dir.path());
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let diffs = [format!("sha256:{}", sha256(&layer))];
        let rootfs = json!({"type": "layers", "diff_ids": diffs});
        let config = json!({"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs});
        Self { layer, config: config.to_string().into_bytes() }
    }

    fn id(&self) -> String {
        format!("sha256:{}", sha256(&self.config))
    }

    /// Writes it as an OCI layout.
    fn layout(&self, folder: &Path) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let blob = |bytes: &[u8]| {
            fs::write(blobs.join(sha256(bytes)), bytes).unwrap();
            json!({"digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()})
        };
        let manifest = json!({"schemaVersion": 2, "config": blob(&self.config), "layers": [blob(&self.layer)]});
        let index = json!({"schemaVersion": 2, "manifests": [blob(manifest.to_string().as_bytes())]});
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    }

    /// Writes it as `docker save` does, under the name of `id`.
    fn save(&self, file: &Path, id: &str) {
        let dir = tempfile::tempdir().unwrap();
        let config = format!("{}.json", id.trim_start_matches("sha256:"));
        fs::write(dir.path().join("layer.tar"), &self.layer).unwrap();
        fs::write(dir.path().join(&config), &self.config).unwrap();
        let manifest = json!([{"Config": config, "RepoTags": null, "Layers": ["layer.tar"]}]);
        fs::write(dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        // Named one by one: a name with a dot and a slash before it is another name.
        let names = ["-c", "manifest.json", "layer.tar", &config];
        let out = Command::new("tar").arg("-C").arg(dir.path()).args(names).output().unwrap();
        assert!(out.status.success(), "{}", all(&out));
        fs::write(file, out.stdout).unwrap();
    }
}

fn imaged(platform: &Platform, name: &str, image: &str) {
    profile(platform, name, &format!("engine = \"docker\"\nimage = {image:?}\n"));
}

/// What the image's file says, in a box under a profile; or why there is no box.
fn mark(platform: &Platform, profile: &str) -> Result<String, String> {
    let out = platform.cli(&["exec", "--profile", profile, "--", "cat", "/etc/mark"]);
    if out.status.success() { Ok(String::from_utf8_lossy(&out.stdout).into_owned()) } else { Err(all(&out)) }
}

fn forget(docker: &Docker, id: &str) {
    docker.order("DELETE", &format!("/images/{id}?force=1"));
}

#[test]
fn a_box_starts_from_a_layout_or_a_tar_and_not_from_one_with_other_content() {
    let platform = Platform::start_on_docker(VOLARY);
    let docker = platform.docker().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (good, other) = (Content::of("the good one"), Content::of("another one"));
    good.layout(&at("layout"));
    good.save(&at("good.tar"), &good.id());
    // As a layout and a tar that somebody changed and left under their names.
    other.save(&at("false.tar"), &good.id());
    good.layout(&at("false"));
    let layer = at("false/blobs/sha256").join(sha256(&good.layer));
    fs::write(layer, &other.layer).unwrap();
    for name in ["layout", "good.tar", "false.tar", "false"] {
        imaged(&platform, name.trim_end_matches(".tar"), at(name).to_str().unwrap());
    }
    profile(&platform, "false-tar", &format!("engine = \"docker\"\nimage = {:?}\n", at("false.tar")));
    for (name, why) in [("false-tar", "its content is not that of"), ("false", "load the image")] {
        let refused = mark(&platform, name).expect_err("content under another's name");
        assert!(refused.contains(why), "{name}: {refused}");
    }
    for name in ["layout", "good"] {
        assert_eq!(mark(&platform, name).as_deref(), Ok("the good one"), "{name}");
        // Known already, it is not loaded again.
        assert_eq!(mark(&platform, name).as_deref(), Ok("the good one"), "{name}");
        forget(docker, &good.id());
    }
    platform.stop();
}

/// A registry of the test's own on loopback.
struct Registry {
    process: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: {address}}}\n",
            dir.path().join("data")
        );
        fs::write(dir.path().join("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts (apt-get install docker-registry, or cargo xtask test)");
        eventually("the registry", || std::net::TcpStream::connect(&address).ok());
        Self { process, address, _dir: dir }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("the registry ends");
    }
}

#[test]
fn a_registrys_image_is_taken_by_digest_also_when_its_tag_has_moved_on() {
    let platform = Platform::start_on_docker(VOLARY);
    let docker = platform.docker().unwrap();
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let repository = format!("{}/tools", registry.address);
    let pushed = |mark: &str| {
        let content = Content::of(mark);
        let file = dir.path().join(format!("{mark}.tar"));
        content.save(&file, &content.id());
        // Loaded as anyone would: by a box that starts from it.
        imaged(&platform, "loaded", file.to_str().unwrap());
        assert_eq!(self::mark(&platform, "loaded").as_deref(), Ok(mark));
        docker.order("POST", &format!("/images/{}/tag?repo={repository}&tag=latest", content.id()));
        docker.order("POST", &format!("/images/{repository}/push?tag=latest"));
        let facts: Value =
            serde_json::from_str(&docker.order("GET", &format!("/images/{}/json", content.id()))).unwrap();
        let reference = facts["RepoDigests"][0].as_str().expect("a digest of the registry's").to_owned();
        forget(docker, &content.id());
        reference
    };
    let first = pushed("first");
    let second = pushed("second");
    assert_ne!(first, second);
    imaged(&platform, "first", &first);
    imaged(&platform, "second", &second);
    imaged(&platform, "none", &format!("{repository}@sha256:{}", "0".repeat(64)));
    assert_eq!(mark(&platform, "first").as_deref(), Ok("first"));
    assert_eq!(mark(&platform, "second").as_deref(), Ok("second"));
    let refused = mark(&platform, "none").expect_err("a digest that the registry has not");
    assert!(refused.contains("pull the image"), "{refused}");
    platform.stop();
}
