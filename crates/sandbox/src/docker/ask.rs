//! What the daemon is asked for, and what it says it did.

use super::{BOX_LABEL, LABEL, trouble};
use crate::harden::HardenedSpec;
use crate::image::content::{Content, without_keys};
use crate::image::{Image, said};
use crate::oci::{self, Mount};
use crate::read_back::reading;
use crate::slice;
use api::images::Word;
use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount as Bind, MountBindOptions, MountType, ResourcesUlimits, SystemInfo,
    SystemInfoCgroupDriverEnum,
};
use bollard::query_parameters::{CreateImageOptions, ImportImageOptions};
use futures_util::TryStreamExt;
use model::event::Reading;
use serde_json::json;
use std::io::{self, Read};
use std::path::Path;

/// Why this daemon cannot make boxes as promised, and what to do.
pub fn obstacle(info: &SystemInfo) -> Option<String> {
    let has = |name: &str| info.security_options.iter().flatten().any(|option| option.starts_with(name));
    if has("name=rootless") {
        return Some("it runs without root, so what it makes cannot be read back; use the host's own daemon".into());
    }
    if !has("name=seccomp") {
        return Some("it has no seccomp".into());
    }
    match info.cgroup_driver {
        Some(SystemInfoCgroupDriverEnum::CGROUPFS) => None,
        Some(SystemInfoCgroupDriverEnum::SYSTEMD) => slice::obstacle(),
        _ => Some("it sets no limits (no control groups)".into()),
    }
}

/// The group that a box's is made in.
pub struct Parent {
    /// As the daemon is told: a path, or the name of a slice where systemd keeps control groups.
    word: String,
    /// Absolute in each hierarchy.
    pub group: String,
    /// Whether systemd keeps it, and what is in it.
    pub is_slice: bool,
}

/// Where this daemon puts the box.
pub fn parent(info: &SystemInfo, spec: &HardenedSpec) -> io::Result<Parent> {
    if info.cgroup_driver != Some(SystemInfoCgroupDriverEnum::SYSTEMD) {
        return Ok(Parent { word: spec.cgroup(), group: spec.cgroup(), is_slice: false });
    }
    let (installation, name) = (spec.host.cgroup_parent.as_str(), spec.box_id.as_str());
    let both = slice::unit(installation, name).zip(slice::of_box(installation, name));
    let (word, group) = both.ok_or_else(|| {
        let why = format!("no slice of systemd's can be named after the box {name} of {installation}");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })?;
    Ok(Parent { word, group, is_slice: true })
}

/// The container of a spec, from an image that the daemon has.
pub fn container(spec: &HardenedSpec, image: &str, mounts: &[Mount], parent: &Parent) -> ContainerCreateBody {
    let labels = [(LABEL, spec.host.cgroup_parent.clone()), (BOX_LABEL, spec.box_id.to_string())];
    ContainerCreateBody {
        hostname: Some("box".into()),
        user: Some(format!("{0}:{0}", spec.uid)),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        // The end of the helper is the end of its input, and that is the end of process 1.
        stdin_once: Some(true),
        tty: Some(false),
        env: Some(vec!["PATH=/usr/bin:/bin".into()]),
        entrypoint: Some(vec![api::inbox::RUNNER_PATH.into()]),
        cmd: Some(Vec::new()),
        working_dir: Some("/".into()),
        image: Some(image.into()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
        host_config: Some(host(spec, mounts, parent)),
        ..Default::default()
    }
}

fn host(spec: &HardenedSpec, mounts: &[Mount], parent: &Parent) -> HostConfig {
    let limits = &spec.limits;
    let number = |n: u64| Some(i64::try_from(n).unwrap_or(i64::MAX));
    let limit = |name: &str, n: u64| ResourcesUlimits { name: Some(name.into()), soft: number(n), hard: number(n) };
    let mut ulimits = vec![limit("nofile", limits.open_files), limit("core", 1)];
    ulimits.extend(oci::RESOURCES.map(|(name, most, _)| limit(name, most)));
    let text = |point: &Path| point.to_string_lossy().into_owned();
    let strings = |parts: &[&str]| Some(parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
    let bind = |mount: &Mount| {
        Some(Bind {
            target: Some(text(&mount.point)),
            source: Some(text(mount.source()?)),
            typ: Some(MountType::BIND),
            read_only: Some(!mount.writable),
            bind_options: Some(MountBindOptions { non_recursive: Some(true), ..Default::default() }),
            ..Default::default()
        })
    };
    let in_memory = mounts.iter().filter(|mount| mount.kind().0 == "tmpfs");
    HostConfig {
        network_mode: Some("none".into()),
        readonly_rootfs: Some(true),
        cap_drop: strings(&["ALL"]),
        security_opt: strings(&["no-new-privileges"]),
        privileged: Some(false),
        userns_mode: Some("host".into()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // None of the daemon's own shared memory; the box's is a file system of its own.
        ipc_mode: Some("none".into()),
        log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
        cgroup_parent: Some(parent.word.clone()),
        memory: number(limits.memory_mib << 20),
        memory_swap: number(limits.memory_mib << 20),
        cpu_period: Some(100_000),
        cpu_quota: number(limits.cpu_millis * 100),
        pids_limit: number(limits.processes),
        oom_score_adj: Some(oci::OUT_OF_MEMORY_SCORE.into()),
        ulimits: Some(ulimits),
        masked_paths: strings(&oci::MASKED),
        readonly_paths: strings(&oci::READ_ONLY),
        mounts: Some(mounts.iter().filter_map(bind).collect()),
        tmpfs: Some(in_memory.map(|mount| (text(&mount.point), options(mount))).collect()),
        init: Some(false),
        ..Default::default()
    }
}

/// Options of a file system in memory. The daemon forbids devices and execution unless it is told not to.
fn options(mount: &Mount) -> String {
    let (_, options) = mount.kind();
    let allowed = [("nodev", "dev"), ("noexec", "exec"), ("nosuid", "suid")];
    let allowed = allowed.into_iter().filter(|(no, _)| !options.contains(no)).map(|(_, yes)| yes);
    options.iter().copied().chain(allowed).collect::<Vec<_>>().join(",")
}

/// What the daemon itself says of a box, against the promise. `group` is where the kernel says it is.
pub fn readings(said: &ContainerInspectResponse, image: &str, place: &Parent, group: &str) -> Vec<Reading> {
    let by = "docker inspect";
    let host = said.host_config.clone().unwrap_or_default();
    let word = |value: Option<&str>| value.unwrap_or("missing").to_owned();
    let flag = |value: Option<bool>| value.map_or("missing".to_owned(), |value| value.to_string());
    let parent = format!("below {}", place.group);
    let below = Path::new(group).starts_with(&place.group);
    let log = host.log_config.as_ref().and_then(|log| log.typ.as_deref());
    // The daemon says "no" by an empty name too; to say nothing at all is no answer.
    let restart = host.restart_policy.as_ref().map_or("missing".to_owned(), |policy| {
        policy.name.map(|name| name.to_string()).filter(|name| !name.is_empty()).unwrap_or_else(|| "no".into())
    });
    vec![
        reading("log driver", "none", word(log), by),
        reading("engine's network", "none", word(host.network_mode.as_deref()), by),
        reading("privileged", "false", flag(host.privileged), by),
        reading("restarts", "no", restart, by),
        reading("image", image, word(said.image.as_deref()), by),
        reading("control group", parent.clone(), if below { parent } else { group.to_owned() }, "/proc/PID/cgroup"),
    ]
}

/// The digest of an image; the daemon has it then.
pub async fn image(docker: &Docker, image: &Image) -> io::Result<String> {
    match image {
        Image::Registry(reference) => {
            if let Some(id) = held(docker, reference).await? {
                return Ok(id);
            }
            let options = CreateImageOptions { from_image: Some(reference.clone()), ..Default::default() };
            let pull: Result<Vec<_>, _> = docker.create_image(Some(options), None, None).try_collect().await;
            pull.map_err(trouble(&format!("pull the image {reference}")))?;
            let absent = || io::Error::other(format!("the daemon pulled {reference} and does not have it"));
            held(docker, reference).await?.ok_or_else(absent)
        }
        Image::Layout(path, _) | Image::Tar(path, _) => load(docker, path, Content::read(image)?).await,
    }
}

/// What the daemon has an image say of itself, as its configuration would.
pub async fn said(docker: &Docker, id: &str) -> io::Result<Vec<Word>> {
    let whole = docker.inspect_image(id).await.map_err(trouble(&format!("look at the image {id}")))?;
    let mut steps = docker.image_history(id).await.map_err(trouble(&format!("ask how the image {id} was made")))?;
    // The daemon tells the last step first.
    steps.reverse();
    let steps: Vec<_> =
        steps.iter().map(|step| json!({ "created_by": step.created_by, "comment": step.comment })).collect();
    let (author, comment) = (whole.author, whole.comment);
    let configuration = json!({ "config": whole.config, "author": author, "comment": comment, "history": steps });
    said::said(&configuration).map_err(|why| io::Error::other(format!("the image {id}: {why}")))
}

/// Gives the daemon an image of this host, unless it has it.
async fn load(docker: &Docker, path: &Path, local: Content) -> io::Result<String> {
    if let Some(id) = held(docker, &local.id).await? {
        return Ok(id);
    }
    let mut archive = local.archive()?;
    let parts = std::iter::from_fn(move || {
        let mut part = vec![0; 1 << 16];
        match archive.read(&mut part) {
            Ok(0) => None,
            Ok(n) => {
                part.truncate(n);
                Some(Ok(part.into()))
            }
            Err(e) => Some(Err(e)),
        }
    });
    let act = format!("load the image {}", path.display());
    let options = ImportImageOptions { quiet: true, ..Default::default() };
    let body = bollard::body_try_stream(futures_util::stream::iter(parts));
    let loaded: Result<Vec<_>, _> = docker.import_image(options, body, None).try_collect().await;
    loaded.map_err(trouble(&act))?;
    let other = || io::Error::other(format!("{act}: its content is not that of {}, which it says it is", local.id));
    held(docker, &local.id).await?.ok_or_else(other)
}

/// The id of an image, if the daemon has it.
async fn held(docker: &Docker, name: &str) -> io::Result<Option<String>> {
    match docker.inspect_image(name).await {
        Ok(image) => {
            let variables = image.config.and_then(|config| config.env).unwrap_or_default();
            without_keys(variables.iter().map(String::as_str))
                .map_err(|why| io::Error::other(format!("the image {name}: {why}")))?;
            Ok(image.id)
        }
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(e) => Err(trouble(&format!("look for the image {name}"))(e)),
    }
}

/// The digest of an image of ours with nothing in it but empty folders and the links that the host has at its top.
pub async fn base(docker: &Docker) -> io::Result<String> {
    let tree = tree()?;
    let name = format!("volary-base:{:016x}", crate::embedded::digest(&tree));
    if let Some(id) = held(docker, &name).await? {
        return Ok(id);
    }
    let (repo, tag) = name.split_once(':').unwrap_or((&name, ""));
    let options = CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(repo.into()),
        tag: Some(tag.into()),
        ..Default::default()
    };
    let body = bollard::body_full(tree.into());
    let import: Result<Vec<_>, _> = docker.create_image(Some(options), Some(body), None).try_collect().await;
    import.map_err(trouble("import the empty image"))?;
    held(docker, &name).await?.ok_or_else(|| io::Error::other("the daemon imported an image and does not have it"))
}

/// The same for the same host, byte by byte.
fn tree() -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind, mode| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(0);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for folder in ["dev", "etc", "proc", "run", "run/bearer", "run/volary", "tmp", "usr", "var", "workspace"] {
        // The daemon gives a file system in memory the mode of the folder below it.
        let mode = if folder == "tmp" { 0o1777 } else { 0o755 };
        tar.append_data(&mut header(tar::EntryType::Directory, mode), format!("{folder}/"), io::empty())?;
    }
    for point in oci::SYSTEM {
        if let Ok(target) = std::fs::read_link(point) {
            tar.append_link(&mut header(tar::EntryType::Symlink, 0o777), &point[1..], target)?;
        }
    }
    tar.into_inner()
}
