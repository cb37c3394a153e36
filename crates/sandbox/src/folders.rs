//! The folders of the host that a profile shows: which it may not, and which folder one was when it was looked at.
//!
//! Names are looked at, never what stands in a file, and no link is followed. What is not looked for is in `docs/limits.md`.
//!
//! Read [`shown`] (the refusals, in their order), then [`KEYS`].

use crate::harden::{HardenError, HostFacts};
use model::profile::Folder;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Host trees that no profile may show: they are the host's own state, or the box has its own.
const NEVER: [&str; 7] = ["/proc", "/sys", "/dev", "/run", "/etc", "/boot", "/workspace"];

/// Host trees of which a profile may show a part and never the whole: everybody's files lie in them.
const IN_PART: [&str; 3] = ["/tmp", "/home", "/root"];

/// Where programs keep keys, by the names that they have at the top of a home: folders and files.
///
/// Source: what each program documents as its place. What is here by its folder holds little else; of the rest, which
/// toolchains and projects share (`.cargo`, `.m2`, `.azure`, `.docker`), it is the one file or folder of keys. What most have
/// without a key (`.npmrc`, `.bundle/config`) is not here.
const KEYS: [&str; 117] = [
    // Of people and machines.
    ".ssh",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    ".gnupg",
    ".pki",
    ".step",
    ".acme.sh",
    ".tsh",
    ".config/age",
    ".config/sops",
    FILE,
    // Of clouds and clusters.
    ".aws",
    ".azure/msal_token_cache.json",
    ".azure/msal_token_cache.bin",
    ".azure/service_principal_entries.json",
    ".azure/service_principal_entries.bin",
    ".azure/accessTokens.json",
    ".Azure/AzureRmContext.json",
    ".local/share/.IdentityService",
    ".oci",
    ".aliyun",
    ".bluemix",
    ".openstack",
    ".boto",
    ".s3cfg",
    ".passwd-s3fs",
    ".cf",
    ".fly/config.yml",
    ".cloudflared",
    ".kube",
    ".minikube",
    ".docker/config.json",
    ".docker/key.pem",
    ".docker/contexts/tls",
    ".docker/machine",
    ".docker/trust/private",
    // Who speaks to an engine needs no key.
    ".docker/run/docker.sock",
    ".docker/desktop/docker.sock",
    ".config/gcloud",
    ".config/openstack",
    ".config/doctl",
    ".config/hcloud",
    ".config/linode-cli",
    ".config/scw",
    ".config/netlify",
    ".config/.wrangler",
    ".config/configstore",
    ".config/helm",
    ".config/rclone",
    ".config/containers/auth.json",
    ".local/share/com.vercel.cli",
    ".terraformrc",
    ".terraform.d/credentials.tfrc.json",
    ".pulumi/credentials.json",
    ".vault-token",
    ".jfrog",
    ".sentryclirc",
    // Of hosts and forges.
    ".netrc",
    "_netrc",
    ".authinfo",
    ".git-credentials",
    ".git-credential-cache",
    ".cache/git/credential",
    ".config/git/credentials",
    ".config/gh",
    ".config/hub",
    ".config/glab-cli",
    ".config/tea",
    // Of registries.
    ".pypirc",
    ".config/pypoetry/auth.toml",
    ".local/share/uv/credentials",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    "cargo/credentials",
    "cargo/credentials.toml",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".ivy2/.credentials",
    ".sbt/.credentials",
    ".gem/credentials",
    ".local/share/gem/credentials",
    ".composer/auth.json",
    ".config/composer/auth.json",
    // Of databases.
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".databrickscfg",
    ".snowsql",
    ".snowflake",
    // Of models.
    ".claude/.credentials.json",
    ".codex/auth.json",
    ".gemini/oauth_creds.json",
    ".config/github-copilot",
    ".cache/huggingface/token",
    ".huggingface",
    ".kaggle",
    // Stores of passwords, browsers, mail.
    ".password-store",
    ".local/share/gopass",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".gnome2/keyrings",
    ".config/op",
    ".config/Bitwarden",
    ".config/keybase",
    ".mozilla",
    ".thunderbird",
    ".config/chromium",
    ".config/google-chrome",
    ".config/microsoft-edge",
    ".config/BraveSoftware",
    ".config/vivaldi",
    ".config/opera",
    ".var/app",
    "snap/firefox",
    ".msmtprc",
];

/// The one of these that is a place of keys only as a file, or as a link: a folder of that name is a virtual environment.
const FILE: &str = ".env";

/// Which file or folder something is, whatever its path leads to by now: its device, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// What a path leads to now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::metadata(path)?))
    }
}

impl From<&Metadata> for Inode {
    fn from(of: &Metadata) -> Self {
        Self { device: of.dev(), number: of.ino() }
    }
}

/// A folder that may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub(crate) folder: Folder,
    /// Which folder its path led to when it was looked at. Whoever may rename there can put another into its place.
    pub(crate) inode: Inode,
}

/// The folder, if a profile may show it.
///
/// # Errors
/// [`HardenError::Folder`], which names it, and the place of keys that it is, lies in or holds.
pub(crate) fn shown(folder: &Folder, host: &HostFacts) -> Result<Shown, HardenError> {
    let refuse = |why: String| HardenError::Folder { path: folder.path.clone(), why };
    if !folder.path.is_absolute() {
        return Err(refuse("the path is not absolute; write it from / on".into()));
    }
    let path: PathBuf = folder.path.components().collect();
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refuse("the path climbs; write it without ..".into()));
    }
    let open = opened(CWD, &path, OFlags::DIRECTORY).map_err(|e| match (e, path.canonicalize()) {
        (Errno::LOOP, Ok(real)) => refuse(format!("it is a link; name {} itself", real.display())),
        (Errno::NOTDIR, Ok(_)) => refuse("it is no folder".into()),
        _ => refuse(format!("it cannot be opened ({e}); create it or take it out of the profile")),
    })?;
    if path == Path::new("/") {
        return Err(refuse("it is the whole host".into()));
    }
    let is_never = NEVER.iter().any(|never| path.starts_with(never));
    if is_never || NEVER.iter().chain(&IN_PART).any(|tree| Path::new(tree).starts_with(&path)) {
        return Err(refuse("it is, or holds, a part of the host's own state".into()));
    }
    let home = host.dir.parent().unwrap_or(&host.dir);
    // By its other name too, where a link leads to it.
    for home in [home.to_path_buf(), home.canonicalize().unwrap_or_else(|_| home.to_path_buf())] {
        if path.starts_with(&home) || home.starts_with(&path) {
            return Err(refuse("it is, or holds, the platform's own home".into()));
        }
    }
    if let Some(why) = KEYS.iter().find_map(|place| keys(&path, &open, place)) {
        return Err(refuse(why));
    }
    let inode = open.metadata().map_err(|e| refuse(format!("it cannot be looked at ({e})")))?;
    Ok(Shown { folder: Folder { path, writable: folder.writable }, inode: Inode::from(&inode) })
}

/// Why a folder may not be shown, if it is, lies in, or holds at its top this place of keys.
///
/// The folder's own path is compared in any case of letters: where a file system folds them, `.SSH` leads to `.ssh`. What it
/// holds is opened by the place's own letters, and found by them there too.
fn keys(path: &Path, open: &File, place: &str) -> Option<String> {
    let parts: Vec<&str> = place.split('/').collect();
    let names: Vec<&OsStr> = path.iter().collect();
    // From each name of the path on: `.config/gh` lies in a home, and `gh` in its `.config`.
    (0..=names.len()).find_map(|from| {
        let same = parts.iter().zip(&names[from..]).all(|(part, name)| name.eq_ignore_ascii_case(part));
        let rest = parts.get(names.len() - from..).unwrap_or_default().join("/");
        if !same {
            return None;
        }
        if rest.is_empty() {
            // What is shown is a folder, and so is what it lies in.
            return (place != FILE)
                .then(|| format!("it is, or lies in, {place}, where keys are kept; no box may have those"));
        }
        match opened(open, Path::new(&rest), OFlags::NOFOLLOW) {
            Ok(held) if place == FILE && held.metadata().is_ok_and(|held| held.is_dir()) => None,
            Ok(_) => Some(format!("it holds {rest}, where keys are kept; move that away, or show folders beside it")),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            // A link on the way, or a folder that is shut: nobody knows that there are none.
            Err(e) => Some(format!("whether it holds {rest}, where keys are kept, cannot be looked at ({e})")),
        }
    })
}

/// Opens what a path names, for a look, by no link.
fn opened(at: impl AsFd, path: &Path, how: OFlags) -> Result<File, Errno> {
    let no_link = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(at, path, how | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), no_link).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn host(home: &Path) -> HostFacts {
        let (dir, cgroup_parent) = (home.join("operator"), "/volary-test".into());
        HostFacts { dir, cgroup_parent, root: true, docker: String::new() }
    }

    /// What is said of a folder, on a host whose home is `home`.
    fn refused(path: &Path, home: &Path) -> Option<String> {
        shown(&Folder { path: path.to_path_buf(), writable: false }, &host(home)).err().map(|e| e.to_string())
    }

    fn made(path: PathBuf) -> PathBuf {
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_profile_cannot_show_a_place_of_keys_nor_what_lies_in_one_or_holds_one() {
        let (dir, none) = (tempfile::tempdir().unwrap(), Path::new("/no/home"));
        for (n, place) in KEYS.iter().filter(|place| **place != FILE).enumerate() {
            let home = made(dir.path().join(n.to_string()));
            assert_eq!(refused(&home, none), None, "the control: nothing is in it yet");
            let keys = made(home.join(place));
            let within = made(keys.join("within"));
            for path in [&keys, &within] {
                let said = refused(path, none).unwrap_or_else(|| panic!("{path:?} was taken"));
                assert!(said.contains(&format!("lies in, {place}, where keys are kept")), "{said}");
            }
            // The home, and each folder on the way: of each it says what is left of the way.
            for folder in keys.ancestors().skip(1).take_while(|folder| folder.starts_with(&home)) {
                let left = keys.strip_prefix(folder).unwrap().display();
                let said = refused(folder, none).unwrap_or_else(|| panic!("{folder:?} was taken"));
                assert!(said.contains(&format!("holds {left}, where keys are kept")), "{said}");
            }
        }
    }

    #[test]
    fn a_key_is_known_as_a_file_or_a_link_that_leads_nowhere_and_on_the_way_to_a_folder_in_any_letters() {
        let (dir, none) = (tempfile::tempdir().unwrap(), Path::new("/no/home"));
        let within = made(dir.path().join("a/.SSH/within"));
        assert!(refused(&within, none).unwrap().contains("lies in, .ssh"));
        assert!(refused(within.parent().unwrap(), none).unwrap().contains("lies in, .ssh"));
        // Where letters are not folded no program looks for its keys there.
        assert_eq!(refused(&dir.path().join("a"), none), None);
        let (file, link, way) = ["b", "c", "d"].map(|name| made(dir.path().join(name))).into();
        fs::write(file.join(".netrc"), "a password").unwrap();
        let said = refused(&file, none).unwrap();
        assert!(said.contains(".netrc") && !said.contains("a password"), "{said}");
        symlink("/no/such/place", link.join(".aws")).unwrap();
        assert!(refused(&link, none).unwrap().contains("holds .aws"));
        // What a link on the way leads to, nobody knows.
        symlink("/no/such/place", way.join(".config")).unwrap();
        assert!(refused(&way, none).unwrap().contains("cannot be looked at"));
    }

    #[test]
    fn a_toolchain_and_the_parts_of_a_home_without_keys_can_be_shown() {
        let (dir, none) = (tempfile::tempdir().unwrap(), Path::new("/no/home"));
        let home = made(dir.path().join("ada"));
        let parts = "toolchain/bin toolchain/lib/ssh .cargo/bin .cargo/registry .rustup/toolchains .m2/repository \
                     .gradle/caches .nvm/versions .pyenv/versions .npm .cache/pip .config/git .local/bin .venv/bin \
                     .terraform.d/plugins go/pkg work/docker aws-cli/v2";
        parts.split(' ').for_each(|part| drop(made(home.join(part))));
        for path in ["", "toolchain", ".cargo", ".rustup", ".m2", ".gradle", ".npm", ".config", ".venv", "aws-cli"] {
            assert_eq!(refused(&home.join(path), none), None, "{path:?}");
        }
        // Beside a key, what is below can be shown still.
        fs::write(home.join(".cargo/credentials.toml"), "").unwrap();
        assert!(refused(&home.join(".cargo"), none).unwrap().contains("holds credentials.toml"));
        assert_eq!(refused(&home.join(".cargo/bin"), none), None);
    }

    #[test]
    fn a_project_with_settings_or_assets_under_a_programs_name_can_be_shown_and_all_below_them() {
        let (dir, none) = (tempfile::tempdir().unwrap(), Path::new("/no/home"));
        let project = made(dir.path().join("project"));
        let files = ".npmrc .bundle/config .gradle/gradle.properties .config/pip/pip.conf .nuget/NuGet/NuGet.Config \
                     .docker/nginx/nginx.conf .docker/compose.yml .azure/dev/main.json .azure/config .fly/scripts/start.sh \
                     .env/bin/activate .env/pyvenv.cfg";
        for file in files.split(' ').map(|file| project.join(file)) {
            made(file.parent().unwrap().to_path_buf());
            fs::write(&file, "save-exact=true").unwrap();
            for folder in file.ancestors().skip(1).take_while(|folder| folder.starts_with(&project)) {
                assert_eq!(refused(folder, none), None, "{folder:?}");
            }
        }
        // With the one that is a key it cannot, and what lies beside that can.
        for (key, beside) in [(".docker/config.json", ".docker/nginx"), (".azure/msal_token_cache.json", ".azure/dev")]
        {
            fs::write(project.join(key), "").unwrap();
            assert!(refused(&project, none).unwrap().contains(&format!("holds {key}")));
            assert_eq!(refused(&project.join(beside), none), None);
            fs::remove_file(project.join(key)).unwrap();
        }
    }

    #[test]
    fn an_env_that_is_a_file_or_a_link_is_a_key_and_a_folder_of_that_name_is_none() {
        let (dir, none) = (tempfile::tempdir().unwrap(), Path::new("/no/home"));
        let (file, link, folder) = ["a", "b", "c"].map(|name| made(dir.path().join(name))).into();
        fs::write(file.join(".env"), "").unwrap();
        symlink("/no/such/place", link.join(".env")).unwrap();
        made(folder.join(".env/bin"));
        for holder in [file, link] {
            assert!(refused(&holder, none).unwrap().contains("holds .env"), "{holder:?}");
        }
        for shown in [folder.clone(), folder.join(".env"), folder.join(".env/bin")] {
            assert_eq!(refused(&shown, none), None, "{shown:?}");
        }
    }

    #[test]
    fn a_profile_cannot_show_the_homes_of_all_nor_the_platforms_own_by_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (made(dir.path().join("real")), dir.path().join("link"));
        symlink(&real, &link).unwrap();
        for path in ["/root", "/home", "/tmp"].map(Path::new) {
            assert!(!path.is_dir() || refused(path, &link).unwrap().contains("the host's own state"), "{path:?}");
        }
        assert!(refused(&made(real.join("keys")), &link).unwrap().contains("the platform's own home"));
    }

    #[test]
    fn a_folder_is_the_one_that_was_looked_at_whatever_its_path_leads_to_by_now() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (made(dir.path().join("shown")), made(dir.path().join("other")));
        let (host, folder) = (host(Path::new("/no/home")), Folder { path: path.clone(), writable: false });
        let before = shown(&folder, &host).unwrap();
        assert_eq!(before.inode, Inode::at(&path).unwrap());
        fs::rename(&path, dir.path().join("before")).unwrap();
        symlink(&other, &path).unwrap();
        assert_eq!(Inode::at(&dir.path().join("before")).unwrap(), before.inode);
        assert_ne!(Inode::at(&path).unwrap(), before.inode);
        assert!(shown(&folder, &host).unwrap_err().to_string().contains("it is a link"));
        assert!(refused(&path.join("below"), Path::new("/no/home")).unwrap().contains("cannot be opened"));
    }
}
