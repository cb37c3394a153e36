//! A box of an image has the walls of any: the same attacks, by programs that lie in the image.

#[path = "../shared/image.rs"]
mod image;

use crate::host_sockets::HostSockets;
use crate::musts;
use crate::support::{all, attempted, built, judge, landlock, platform};
use image::Image;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use testkit::Repo;

#[test]
fn a_box_of_an_image_meets_every_attack_as_one_of_the_hosts_system_does() {
    let platform = platform();
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    image::busybox(&tree);
    fs::create_dir_all(tree.join("usr/include")).unwrap();
    fs::write(tree.join("usr/include/stdio.h"), "a header").unwrap();
    fs::copy(tree.join("usr/bin/busybox"), tree.join("usr/bin/env")).unwrap();
    // Whatever its owner and mode say, nothing of an image is more than read.
    fs::set_permissions(tree.join("usr/bin/env"), fs::Permissions::from_mode(0o6777)).unwrap();
    let programs = [
        ("files", include_str!("files.c")),
        ("network", include_str!("network.c")),
        ("kernel", include_str!("kernel.c")),
        ("processes", include_str!("processes.c")),
    ];
    for (name, program) in programs {
        built(program, &tree.join("usr/bin").join(name));
    }
    let layout = dir.path().join("layout");
    Image::of_folder(&tree).layout(&layout);
    let text = format!("{}image = {layout:?}\n", platform.engine());
    fs::write(platform.home().join("profiles/image.toml"), text).unwrap();

    let repo = Repo::failing();
    let secret = repo.path().join("of-the-host");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let (home, secret) = (platform.home().to_str().unwrap(), secret.to_str().unwrap());
    let attempts = |name: &str, args: &[&str]| {
        let path = format!("/usr/bin/{name}");
        let out = platform.cli(&[&["exec", "--profile", "image", "--", path.as_str()][..], args].concat());
        attempted(&out)
    };
    judge(&attempts("files", &[home, repo.path_str(), secret]), &musts::of_files());
    let sockets = HostSockets::open(&platform);
    judge(&attempts("network", &sockets.args()), &musts::of_the_network());
    judge(&attempts("kernel", &[]), &musts::of_the_kernel());
    judge(&attempts("processes", &[]), &musts::of_processes(landlock(&platform)));
    let out = platform.cli(&["exec", "--profile", "image", "--", "/usr/bin/sh", "-c", "exec 3>>/usr/bin/env"]);
    assert!(!out.status.success(), "{}", all(&out));
}
