//! Inodes of a box's own for the host's files that many boxes show.
//!
//! A file that is bound into two boxes is one inode of the host: a lock that one takes stops the other and the host,
//! and whoever watches it sees every process of the host that opens it. So the system, and our own two executables, are
//! shown through overlays, one of each folder for each box, whose second layer is an empty folder: what is opened
//! through it has the host's bytes and an inode that no one else has.

use crate::harden::HardenedSpec;
use crate::oci::{self, Origin};
use model::profile::Engine;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where they are mounted, on a box's stage or wherever that is shown.
pub(crate) const FOLDER: &str = "system";
/// Their second layer, and what it is called from the operator's folder.
const EMPTY: (&str, &str) = ("empty", "stage/empty");

/// The folders of which a box has layers.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// Where they are mounted.
    at: PathBuf,
    all: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    /// Below [`Layers::at`].
    name: &'static str,
    /// What it shows, absolute.
    of: PathBuf,
    /// The same in the mount's options, which the box can read: of the operator's folder its part alone.
    told: PathBuf,
}

impl Layers {
    /// Those of a box, mounted at `at`.
    pub(crate) fn of(spec: &HardenedSpec, at: &Path) -> Self {
        let own = Layer { name: "own", of: spec.host.dir.join("bin"), told: "bin".into() };
        let system = match (spec.image_tree(), spec.engine) {
            (Some(tree), _) => of_tree(&tree, tree.strip_prefix(&spec.host.dir).unwrap_or(&tree)),
            // The daemon makes what such a box begins from, one for each.
            (None, Engine::Docker) if spec.image.is_some() => Vec::new(),
            (None, _) => of_tree(Path::new("/"), Path::new("/")),
        };
        Self { at: at.to_path_buf(), all: system.into_iter().chain([own]).collect() }
    }

    /// Those of the host's system alone.
    pub(crate) fn of_the_host() -> Self {
        Self { at: PathBuf::new(), all: of_tree(Path::new("/"), Path::new("/")) }
    }

    /// Where a path of the host, no part of which is a link, is seen through a layer, and by what that is known in the
    /// box; none where it lies in none, or in another mount than the layer's folder, which an overlay does not show.
    pub(crate) fn through(&self, real: &Path) -> Option<(PathBuf, Origin)> {
        let layer = self.all.iter().find(|layer| real.starts_with(&layer.of))?;
        let rest = real.strip_prefix(&layer.of).ok()?;
        let at = self.at.join(layer.name);
        let origin = Origin::Layers { option: told(&layer.told), part: Path::new("/").join(rest) };
        (mount_of(real)? == mount_of(&layer.of)?)
            .then(|| (if rest == Path::new("") { at } else { at.join(rest) }, origin))
    }

    /// Mounts them, in this process's own mount namespace; `stage` is the empty stage, in the operator's folder `dir`.
    /// They go with the stage.
    pub(crate) fn mount(&self, stage: &Path, dir: &Path, root: bool) -> io::Result<()> {
        fs::create_dir(stage.join(EMPTY.0))?;
        fs::create_dir(&self.at)?;
        // Relative paths: absolute ones would show the host's folders in the box's mount table.
        rustix::process::chdir(dir)?;
        for layer in &self.all {
            let place = self.at.join(layer.name);
            fs::create_dir(&place)?;
            let rest = if root { "redirect_dir=nofollow,metacopy=off" } else { "userxattr" };
            let options = CString::new(format!("{},{rest}", told(&layer.told)))?;
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
            mount("system", &place, "overlay", flags, options.as_c_str()).map_err(|e| {
                let e = io::Error::from(e);
                io::Error::new(e.kind(), format!("show {} with inodes of the box's own: {e}", layer.of.display()))
            })?;
        }
        Ok(rustix::process::chdir("/")?)
    }
}

/// The option of a layer's mount that says what it shows.
pub(crate) fn told(of: &Path) -> String {
    format!("lowerdir={}:{}", of.display(), EMPTY.1)
}

/// The folders of a system's tree; `told` is the tree as the mount's options name it.
fn of_tree(tree: &Path, told: &Path) -> Vec<Layer> {
    let folders = oci::SYSTEM.into_iter().chain(["/etc"]).map(|point| &point[1..]);
    let layers = folders.map(|name| Layer { name, of: tree.join(name), told: told.join(name) });
    layers.filter(|layer| layer.of.is_dir() && !layer.of.is_symlink()).collect()
}

fn mount_of(path: &Path) -> Option<u64> {
    let about = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (about.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(about.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_layer_is_seen_through_it_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        let all = of_tree(dir.path(), Path::new("images/x"));
        assert_eq!(all.iter().map(|layer| layer.name).collect::<Vec<_>>(), ["usr", "etc"], "a link is no layer");
        assert_eq!(told(&all[0].told), "lowerdir=images/x/usr:stage/empty");
        let layers = Layers { at: "/stage/system".into(), all };
        let seen = |path: &str| layers.through(&dir.path().join(path));
        let by = |part: &str| Origin::Layers { option: "lowerdir=images/x/usr:stage/empty".into(), part: part.into() };
        assert_eq!(seen("usr/bin"), Some(("/stage/system/usr/bin".into(), by("/bin"))));
        assert_eq!(seen("usr"), Some(("/stage/system/usr".into(), by("/"))));
        assert_eq!((seen("usr/none"), seen(""), seen("usrlocal")), (None, None, None));
        // Another mount: an overlay does not show what is mounted beneath its folder.
        let whole = Layers { at: "/x".into(), all: vec![Layer { name: "all", of: "/".into(), told: "/".into() }] };
        assert_eq!(whole.through(Path::new("/proc/self/status")), None);
    }
}
