//! The platform's own engine takes a registry's image: by digest, through the gateway, once; and what becomes of it when
//! somebody is killed in the middle.

use crate::all;
use crate::images::image::Image;
use crate::images::registry::{Held, Registry};
use crate::images::{imaged, mark};
use std::process::Stdio;
use testkit::{Platform, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");
/// A password, and its bcrypt.
const PASSWORD: (&str, &str) = ("wonderland-7f3a", "$2y$05$abcdefghijklmnopqrstuubKQpcr0J82L6mf5QMTJs8J10pA8U37.");

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The transcript of the latest run, as text.
fn transcript(platform: &Platform) -> String {
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
    String::from_utf8(platform.cli(&["log", &run, "--json"]).stdout).unwrap()
}

#[test]
fn the_platform_itself_takes_a_registrys_image_by_digest_also_when_its_tag_has_moved_on() {
    let platform = Platform::start(VOLARY);
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let pushed = |mark: &str, packed: bool| {
        let (layout, image) = (dir.path().join(mark), Image::of_busybox(mark));
        if packed {
            image.packed_layout(&layout)
        } else {
            image.layout(&layout)
        }
        // As every push of the same tag: what it names is another image each time.
        registry.take("team/tools", &layout)
    };
    let (first, second) = (pushed("first", false), pushed("second", true));
    let named = first.split('@').next().unwrap();
    imaged(&platform, "first", &first);
    imaged(&platform, "second", &second);
    imaged(&platform, "tag", &format!("{named}:latest"));
    imaged(&platform, "none", &format!("{named}@sha256:{}", "0".repeat(64)));
    assert_eq!(mark(&platform, "first").as_deref(), Ok("first"));
    let said = transcript(&platform);
    assert!(said.contains("image.pull") && said.contains("/v2/team/tools/manifests/sha256:"), "{said}");
    assert!(said.contains("are pulled from its registry"), "{said}");
    assert_eq!(mark(&platform, "second").as_deref(), Ok("second"));
    let refused = mark(&platform, "tag").expect_err("a tag");
    assert!(refused.contains("is a tag, and a tag can be moved"), "{refused}");
    let refused = mark(&platform, "none").expect_err("a digest that the registry has not");
    assert!(refused.contains("says that it has no sha256:000") && refused.contains("team/tools"), "{refused}");
    // What is here is asked of nobody.
    registry.stop();
    assert_eq!(mark(&platform, "first").as_deref(), Ok("first"));
    assert!(!transcript(&platform).contains("image.pull"));
    platform.stop();
}

#[test]
fn a_registry_that_asks_for_a_sign_in_gets_the_secret_of_its_own_name_and_says_what_to_do_without_it() {
    let platform = Platform::start(VOLARY);
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, format!("alice:{}\n", PASSWORD.1)).unwrap();
    let registry = Registry::start_with(&format!("auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n"));
    Image::of_busybox("private").layout(&dir.path().join("layout"));
    let name = registry.take("team/tools", &dir.path().join("layout"));
    imaged(&platform, "private", &name);
    let secret = format!("registry/{}", registry.address);
    let refused = mark(&platform, "private").expect_err("without a sign-in");
    assert!(refused.contains(&format!("volary secret set {secret}")), "{refused}");
    platform.secret(&secret, "alice:not-her-password");
    let refused = mark(&platform, "private").expect_err("by a wrong password");
    assert!(refused.contains("set it anew") && !refused.contains("not-her"), "{refused}");
    platform.secret(&secret, &format!("alice:{}", PASSWORD.0));
    assert_eq!(mark(&platform, "private").as_deref(), Ok("private"));
    assert!(transcript(&platform).contains(&format!("signed in to with {secret}")));
    platform.stop();
}

#[test]
fn a_pull_outlives_whoever_is_killed_in_its_middle_and_two_runs_ask_once_for_each_part() {
    let platform = Platform::start(VOLARY);
    let dir = tempfile::tempdir().unwrap();
    let image = Image::of_busybox("held");
    image.layout(&dir.path().join("layout"));
    let registry = Held::start(&dir.path().join("layout"));
    let index = std::fs::read_to_string(dir.path().join("layout/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    imaged(&platform, "held", &format!("{}/tools@{digest}", registry.address));
    let begin = || {
        let mut exec = platform.command();
        exec.args(["exec", "--profile", "held", "--", "cat", "/etc/mark"]);
        exec.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let runs = [begin(), begin()];
    registry.until_half(1);
    kill(platform.pid_of("gateway").unwrap());
    registry.until_half(2);
    kill(platform.pid_of("operator").unwrap());
    registry.until_half(3);
    registry.release();
    for run in runs {
        let out = run.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "held", "{}", all(&out));
    }
    // Whole parts are not asked for again.
    assert_eq!((registry.asked(digest), registry.asked(&image.id())), (1, 1));
    let tree = platform.home().join("operator/images");
    let left = eventually("one tree and one description", || {
        let names: Vec<String> =
            std::fs::read_dir(&tree).ok()?.flatten().map(|e| e.file_name().into_string().unwrap()).collect();
        let mut names: Vec<String> = names.into_iter().filter(|name| !name.ends_with(".lock")).collect();
        names.sort();
        (names.len() == 2).then_some(names)
    });
    assert!(left.contains(&"pulled".to_owned()) && left[0].len() == 64, "{left:?}");
    let parts = std::fs::read_dir(tree.join("pulled").join(&digest[7..]).join("blobs/sha256")).unwrap().count();
    assert_eq!(parts, 2, "a manifest and a configuration: the layer went when its tree was there");
    platform.stop();
}
