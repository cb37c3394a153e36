//! Images: a layout, a tar, a registry's by digest; and content that is not what its name says. On each engine.

#[path = "../shared/image.rs"]
pub(crate) mod image;
#[path = "../shared/registry.rs"]
pub(crate) mod registry;

use crate::{all, profile};
use image::{Image, sha256};
use registry::Registry;
use serde_json::{Value, json};
use std::fs;
use testkit::{Docker, Platform};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

pub(crate) fn imaged(platform: &Platform, name: &str, image: &str) {
    profile(platform, name, &format!("{}image = {image:?}\n", platform.engine()));
}

/// What the image's file says, in a box under a profile; or why there is no box.
pub(crate) fn mark(platform: &Platform, profile: &str) -> Result<String, String> {
    let out = platform.cli(&["exec", "--profile", profile, "--", "cat", "/etc/mark"]);
    if out.status.success() { Ok(String::from_utf8_lossy(&out.stdout).into_owned()) } else { Err(all(&out)) }
}

fn forget(docker: &Docker, id: &str) {
    docker.order("DELETE", &format!("/images/{id}?force=1"));
}

/// A box of either engine starts from a layout or a tar; `forget` takes away what the engine has of an image.
fn starts_from_a_layout_or_a_tar(platform: &Platform, false_layout: &str, forget: impl Fn(&str)) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (good, other) = (Image::of_busybox("the good one"), Image::of_busybox("another one"));
    good.layout(&at("layout"));
    good.save(&at("good.tar"), &good.id());
    // As a layout and a tar that somebody changed and left under their names.
    other.save(&at("false.tar"), &good.id());
    good.layout(&at("false"));
    let layer = at("false/blobs/sha256").join(sha256(&good.layer));
    fs::write(layer, &other.layer).unwrap();
    other.layout(&at("moved"));
    imaged(platform, "layout", at("layout").to_str().unwrap());
    imaged(platform, "good", at("good.tar").to_str().unwrap());
    imaged(platform, "false", at("false").to_str().unwrap());
    imaged(platform, "false-tar", at("false.tar").to_str().unwrap());
    imaged(platform, "moved", &format!("{}@{}", at("moved").display(), good.id()));
    for (name, why) in
        [("false-tar", "what it calls sha256:"), ("false", false_layout), ("moved", "moved to other content")]
    {
        let refused = mark(platform, name).expect_err("content under another's name");
        assert!(refused.contains(why), "{name}: {refused}");
    }
    for name in ["layout", "good"] {
        assert_eq!(mark(platform, name).as_deref(), Ok("the good one"), "{name}");
        // Known already, it is not loaded again.
        assert_eq!(mark(platform, name).as_deref(), Ok("the good one"), "{name}");
        forget(&good.id());
    }
}

#[test]
fn a_box_of_dockers_starts_from_a_layout_or_a_tar_and_not_from_one_with_other_content() {
    let platform = Platform::start_on_docker(VOLARY);
    let docker = platform.docker().unwrap();
    starts_from_a_layout_or_a_tar(&platform, "load the image", |id| forget(docker, id));
    platform.stop();
}

#[test]
fn a_box_of_the_platforms_own_starts_from_a_layout_or_a_tar_and_not_from_one_with_other_content() {
    let platform = Platform::start(VOLARY);
    let tree = |id: &str| platform.home().join("operator/images").join(id.trim_start_matches("sha256:"));
    starts_from_a_layout_or_a_tar(&platform, "its content is sha256:", |id| fs::remove_dir_all(tree(id)).unwrap());
    platform.stop();
}

/// No box is made of an image that sets a key, whichever way it is named; the refusal is kept by the keys' names alone.
fn an_image_that_sets_a_key_makes_no_box(platform: &Platform) {
    let value = format!("canary-in-an-image-{}", std::process::id());
    platform.secret("capability/kept", &value);
    let dir = tempfile::tempdir().unwrap();
    let variables = ["PATH=/usr/bin", &format!("GITHUB_TOKEN={value}"), &format!("AWS_SECRET_ACCESS_KEY={value}")];
    let image = Image::of_busybox("with keys").with_variables(&variables);
    image.layout(&dir.path().join("layout"));
    image.save(&dir.path().join("saved.tar"), &image.id());
    let mut shown = String::new();
    for place in ["layout", "saved.tar"] {
        imaged(platform, "keys", dir.path().join(place).to_str().unwrap());
        let refused = mark(platform, "keys").expect_err("an image with keys");
        assert!(refused.contains("AWS_SECRET_ACCESS_KEY, GITHUB_TOKEN"), "{place}: {refused}");
        let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
        let entries = platform.json_lines(&["log", &run, "--json"]);
        let kind = |kind: &str| entries.iter().filter(|entry| entry["event"]["kind"] == kind).count();
        assert_eq!((kind("walls"), kind("ended")), (0, 1), "{place}: a box was made: {entries:#?}");
        let ended = entries.iter().find(|entry| entry["event"]["kind"] == "ended").unwrap();
        assert!(ended["event"]["reason"].as_str().unwrap().contains("GITHUB_TOKEN"), "{ended}");
        shown += &format!("{refused}{entries:?}");
    }
    let socket = platform.home().join("run/api.sock");
    let mut curl = std::process::Command::new("curl");
    let evidence = curl.args(["-sS", "http://home/api/evidence", "--unix-socket"]).arg(socket).output().unwrap();
    let named =
        String::from_utf8_lossy(&evidence.stdout).matches("it sets AWS_SECRET_ACCESS_KEY, GITHUB_TOKEN").count();
    assert_eq!(named, 2, "each refusal is evidence: {}", all(&evidence));
    shown += &String::from_utf8_lossy(&evidence.stdout);
    assert!(!shown.contains(&value), "{shown}");
    let kept = std::process::Command::new("grep").args(["-rlaF", &value]).arg(platform.home()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "kept in a file");
}

/// No box is made of an image that holds a stored secret's value or a vendor's token under names that say nothing, wherever
/// a build leaves one; gives what is said of it, which is the same on each engine.
fn an_image_that_holds_a_secret_makes_no_box(platform: &Platform) -> Vec<String> {
    let (value, token) = (format!("canary-held-{}", std::process::id()), format!("ghp_{}", "a1B2c3".repeat(6)));
    platform.secret("capability/kept", &value);
    let dir = tempfile::tempdir().unwrap();
    let made_with = json!([{"created_by": "FROM scratch", "empty_layer": true},
                           {"created_by": format!("RUN |2 A=b DEPLOY={token} /bin/sh -c make")}]);
    let everywhere = [
        ("Labels", json!({ "note": format!("by {value}") })),
        ("history", made_with),
        ("Cmd", json!(["serve", value])),
    ];
    let ways = [
        Image::of_busybox("v").with_variables(&["PATH=/usr/bin", &format!("DEPLOY={value}"), &format!("SHIP={token}")]),
        Image::of_busybox("e").saying(&everywhere),
    ];
    let mut shown = Vec::new();
    for (n, image) in ways.iter().enumerate() {
        let place = dir.path().join(format!("held-{n}"));
        image.layout(&place);
        imaged(platform, "held", place.to_str().unwrap());
        let refused = mark(platform, "held").expect_err("an image that holds a secret");
        let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
        let entries = platform.json_lines(&["log", &run, "--json"]);
        assert!(entries.iter().all(|entry| entry["event"]["kind"] != "walls"), "a box was made: {entries:#?}");
        let ended = entries.iter().find(|entry| entry["event"]["kind"] == "ended").unwrap();
        let reason = ended["event"]["reason"].as_str().unwrap().to_owned();
        assert!(refused.contains(&reason), "{refused}");
        shown.push(reason.replace(dir.path().to_str().unwrap(), ""));
    }
    // Set afterwards, it is one from then on.
    let later = dir.path().join("later");
    let set_later = format!("later-{}", std::process::id());
    Image::of_busybox("later").with_variables(&[&format!("DEPLOY={set_later}")]).layout(&later);
    imaged(platform, "later", later.to_str().unwrap());
    assert_eq!(mark(platform, "later").as_deref(), Ok("later"));
    platform.secret("capability/later", &set_later);
    let refused = mark(platform, "later").expect_err("an image that holds a secret by now");
    assert!(refused.contains("DEPLOY (a variable of it)"), "{refused}");
    let kept = |hidden: &str| {
        let mut grep = std::process::Command::new("grep");
        String::from_utf8(grep.args(["-rlaF", hidden]).arg(platform.home()).output().unwrap().stdout).unwrap()
    };
    assert_eq!([&value, &token].map(|hidden| kept(hidden)), ["", ""], "kept in a file");
    shown
}

/// What is said of them, in their order.
fn held() -> Vec<String> {
    let places = [
        "DEPLOY (a variable of it); SHIP (a variable of it)",
        "note (its label note); DEPLOY (step 2 of its history); its Cmd",
    ];
    let said = |(n, place): (usize, &str)| {
        format!(
            "the profile's image: /held-{n}: it holds a stored secret, or what has the form of a credential: {place}. No key is \
             part of an image: build it without, store the key, and name it in a `[[capability]]`."
        )
    };
    places.into_iter().enumerate().map(said).collect()
}

#[test]
fn of_an_image_that_holds_a_secret_docker_makes_no_container_and_says_where_it_stands() {
    let platform = Platform::start_on_docker(VOLARY);
    assert_eq!(an_image_that_holds_a_secret_makes_no_box(&platform), held());
    assert_eq!(platform.docker().unwrap().containers(), Vec::<Value>::new());
    platform.stop();
}

#[test]
fn of_an_image_that_holds_a_secret_the_platform_makes_no_box_and_says_where_it_stands() {
    let platform = Platform::start(VOLARY);
    assert_eq!(an_image_that_holds_a_secret_makes_no_box(&platform), held());
    platform.stop();
}

#[test]
fn of_an_image_that_sets_a_key_docker_makes_no_container_and_the_refusal_names_the_key_alone() {
    let platform = Platform::start_on_docker(VOLARY);
    an_image_that_sets_a_key_makes_no_box(&platform);
    assert_eq!(platform.docker().unwrap().containers(), Vec::<Value>::new());
    platform.stop();
}

#[test]
fn of_an_image_that_sets_a_key_the_platform_makes_no_box_and_the_refusal_names_the_key_alone() {
    let platform = Platform::start(VOLARY);
    an_image_that_sets_a_key_makes_no_box(&platform);
    platform.stop();
}

#[test]
fn a_box_of_an_image_shows_the_image_the_boxs_own_files_and_nothing_of_the_hosts_system() {
    let platform = Platform::start(VOLARY);
    let dir = tempfile::tempdir().unwrap();
    let shown = tempfile::Builder::new().prefix("volary-e-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(shown.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(shown.path().join("note"), "of the profile's folder").unwrap();
    let image = Image::of_busybox("the image");
    image.layout(&dir.path().join("layout"));
    let text = format!("image = {:?}\nfolders = [{{ path = {:?} }}]\n", dir.path().join("layout"), shown.path());
    profile(&platform, "image", &text);
    let line = format!(
        "cat /etc/mark {}/note /etc/hostname; id -un; ls -d /usr/include /usr/lib /lib64 /sys 2>&1; \
         (: > /usr/x) 2>&1; (: > /etc/mark) 2>&1; (: > /workspace/x) && echo at-work; ls /usr",
        shown.path().display()
    );
    let out = platform.cli(&["exec", "--profile", "image", "--", "sh", "-c", &line]);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    for must in ["the image", "of the profile's folder", "box\n", "agent\n", "at-work\n"] {
        assert!(said.contains(must), "{must:?} is not in {}", all(&out));
    }
    for must in ["/usr/include", "/usr/lib", "/lib64", "/sys"] {
        assert!(said.contains(&format!("{must}: No such file")), "{must}: {}", all(&out));
    }
    assert_eq!(said.matches("Read-only file system").count(), 2, "{}", all(&out));
    assert!(said.ends_with("bin\n"), "{}", all(&out));
    let told = platform.cli(&["reach", "image"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains(&image.id()), "{told}");
    platform.stop();
}

#[test]
fn an_image_whose_system_leads_elsewhere_makes_no_box() {
    let platform = Platform::start(VOLARY);
    let dir = tempfile::tempdir().unwrap();
    // As if the programs of a system were those of the platform, the whole box, or the worktree.
    for (n, (name, to)) in [("lib32", "/run/volary"), ("libx32", "/"), ("lib64", "/workspace")].iter().enumerate() {
        let tree = dir.path().join(format!("tree-{n}"));
        image::busybox(&tree);
        std::os::unix::fs::symlink(to, tree.join(name)).unwrap();
        let layout = dir.path().join(format!("layout-{n}"));
        Image::of_folder(&tree).layout(&layout);
        profile(&platform, "led", &format!("image = {layout:?}\n"));
        let out = platform.cli(&["exec", "--profile", "led", "--", "/usr/bin/id"]);
        assert!(!out.status.success() && all(&out).contains("no part of the system"), "{name}: {}", all(&out));
    }
    platform.stop();
}

#[test]
fn a_registrys_image_is_taken_by_digest_also_when_its_tag_has_moved_on() {
    let platform = Platform::start_on_docker(VOLARY);
    let docker = platform.docker().unwrap();
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let repository = format!("{}/tools", registry.address);
    let pushed = |mark: &str| {
        let content = Image::of_busybox(mark);
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
