//! The Docker engine: the same helper, the same spec, worktree, door and reading back; another maker of the box.
//!
//! What the daemon cannot be told (no set-uid on bound folders, a `/proc` that hides others, no `/sys`) is done from
//! outside while process 1 waits for its run, and read back like everything else, before the task is sent. Nothing the box says lies on a disk: the log driver is none, and that is read back too.
//!
//! Read [`made`] (one box), then [`places`] (whose mounts are where), then [`mod@ask`] (what the daemon is asked for).

mod ask;
mod made;
mod places;

pub(crate) use places::{mounts, own_files};

use crate::harden::HardenedSpec;
use crate::helper::{Answer, Order, whole};
use crate::image::Image;
use crate::{changes, packet};
use api::images::Word;
use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use made::Made;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where the daemon is, unless an administrator says otherwise.
const STANDARD: &str = "unix:///var/run/docker.sock";
/// How long one answer of the daemon may take, in seconds: a cold disk and a large image among it.
const PATIENCE_SECS: u64 = 300;
/// How long a daemon may take to say what it is.
const PROMPT: Duration = Duration::from_secs(10);
/// Names an installation's boxes to the daemon; its value is the installation's control group.
const LABEL: &str = "volary.installation";
/// Names a box to the daemon.
const BOX_LABEL: &str = "volary.box";

/// The daemon's address by this process's environment (`DOCKER_HOST`), or the standard one.
#[must_use]
pub fn address() -> String {
    std::env::var("DOCKER_HOST").ok().filter(|address| !address.is_empty()).unwrap_or_else(|| STANDARD.to_owned())
}

/// What there is of a Docker engine, in a sentence, and whether a profile can say `engine = "docker"` here.
#[must_use]
pub fn doctor(root: bool) -> String {
    let address = address();
    let path = address.strip_prefix("unix://");
    if path.is_some_and(|path| !Path::new(path).exists()) {
        return format!("none at {address}; only profiles with engine = \"docker\" need it");
    }
    let asked = async { connect(&address).await?.info().await.map_err(trouble("ask it what it is")) };
    let in_time = async {
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PROMPT.as_secs()));
        tokio::time::timeout(PROMPT, asked).await.unwrap_or_else(|_| Err(late()))
    };
    // On a thread of its own: whoever wants to know may be at work in a runtime already.
    let info = std::thread::scope(|scope| scope.spawn(|| ask(in_time)).join());
    let info = match info.unwrap_or_else(|_| Err(io::Error::other("its answer is not understood"))) {
        Ok(info) => info,
        Err(e) => return format!("cannot be used: {e}"),
    };
    let version = info.server_version.as_deref().unwrap_or("of an unknown version").to_owned();
    let driver = info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default();
    let options = info.security_options.iter().flatten();
    let options: Vec<&str> = options.filter_map(|option| option.strip_prefix("name=")?.split(',').next()).collect();
    let found = format!("{version} at {address}, control groups by {driver}, {}", options.join(", "));
    match ask::obstacle(&info) {
        Some(why) => format!("{found}; cannot make boxes: {why}"),
        None if !root => format!("{found}; makes boxes only for a platform that runs as root"),
        None => format!("{found}: every wall"),
    }
}

fn trouble(act: &str) -> impl FnOnce(bollard::errors::Error) -> io::Error {
    let act = act.to_owned();
    move |e| io::Error::other(format!("{act}: {}", whole(&e)))
}

/// Connects to the daemon, and finds the newest interface that both know.
async fn connect(address: &str) -> io::Result<Docker> {
    let Some(path) = address.strip_prefix("unix://") else {
        let why = format!(
            "the Docker engine is asked for at {address}, which is no socket of this host: boxes are read back from \
             outside, on the same kernel; set DOCKER_HOST to unix:///… where `volary up` is started"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    };
    let absent = format!(
        "the Docker engine does not answer at {path} (install and start it: apt-get install docker.io; or set \
         DOCKER_HOST where `volary up` is started; or use engine = \"embedded\")"
    );
    let docker = Docker::connect_with_unix(path, PATIENCE_SECS, bollard::API_DEFAULT_VERSION);
    docker.map_err(trouble(&absent))?.negotiate_version().await.map_err(trouble(&absent))
}

/// Runs something that asks the daemon, on this thread.
fn ask<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// The digest of an image, which the daemon has from here on, and what it says of itself. Blocks, also while it is loaded or
/// pulled.
pub(crate) fn image(address: &str, image: &Image) -> io::Result<(String, Vec<Word>)> {
    ask(async {
        let docker = connect(address).await?;
        let id = ask::image(&docker, image).await?;
        let said = ask::said(&docker, &id).await?;
        Ok((id, said))
    })
}

/// The helper's life once its first order says that Docker makes the box. Returns its exit status.
pub(crate) fn serve(control: OwnedFd, spec: HardenedSpec) -> i32 {
    let served = ask(async {
        rustix::io::ioctl_fionbio(&control, true)?;
        // SAFETY: the descriptor is owned, so it is closed only after it is taken off the runtime.
        let control = unsafe { AsyncFd::register_with_interest(control, Interest::READABLE | Interest::WRITABLE) }?;
        let (mut made, listener) = match made::make(spec).await {
            Ok((mut made, answer, listener)) => {
                if answered(&control, &answer, Some(&listener)).await.is_err() {
                    // The operator went while it was made: so does the box.
                    return made.end().await.map(|_| 1);
                }
                (made, listener)
            }
            Err(e) => {
                let what = e.to_string();
                // What did not come up is looked for again by whoever collects this process: the daemon may be at it still.
                let lost = e.kind() == io::ErrorKind::Interrupted;
                let answer = if lost { Answer::Lost { what } } else { Answer::Failed { what } };
                answered(&control, &answer, None).await?;
                return Ok(1);
            }
        };
        // The operator's now: kept here it would keep the port after the operator's end.
        drop(listener);
        loop {
            let (body, fds) = match control.async_io(Interest::READABLE, |fd| packet::receive(fd.as_fd())).await {
                Ok((body, fds)) if !body.is_empty() => (body, fds),
                // The operator is gone: so is the box.
                _ => return made.end().await.map(|_| 0),
            };
            let order: Order = serde_json::from_slice(&body).map_err(io::Error::other)?;
            if matches!(order, Order::End) {
                let answer = match made.end().await {
                    Ok(ended) => Answer::Over { ended },
                    Err(e) => Answer::Failed { what: format!("take the box down: {e}") },
                };
                answered(&control, &answer, None).await?;
                return Ok(i32::from(matches!(answer, Answer::Failed { .. })));
            }
            let answer = carry_out(order, fds, &mut made).await;
            if answered(&control, &answer, None).await.is_err() {
                return made.end().await.map(|_| 0);
            }
        }
    });
    served.unwrap_or_else(|e| {
        eprintln!("{e}");
        1
    })
}

async fn answered(control: &AsyncFd<OwnedFd>, answer: &Answer, listener: Option<&OwnedFd>) -> io::Result<()> {
    let body = serde_json::to_vec(answer)?;
    let fds: Vec<BorrowedFd<'_>> = listener.iter().map(AsFd::as_fd).collect();
    control.async_io(Interest::WRITABLE, |fd| packet::send(fd.as_fd(), &body, &fds)).await
}

async fn carry_out(order: Order, mut fds: Vec<OwnedFd>, made: &mut Made) -> Answer {
    let done = match order {
        Order::Claim { lower } => match made.claim(lower.as_deref()) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Answer::Lost { what: e.to_string() },
            done => done.map(|()| Answer::Did),
        },
        Order::Pause => made.pause().await.map(|()| Answer::Did),
        Order::Resume => made.resume().await.map(|()| Answer::Did),
        Order::Kill => made.kill().await.map(|()| Answer::Did),
        Order::Changes if fds.len() == 1 && made.is_dead() => {
            let (paths, most) = made.changes();
            changes::stream(&paths, most, &mut File::from(fds.remove(0))).map(|count| Answer::Changed { count })
        }
        Order::Make(_) | Order::Changes | Order::End => Err(io::Error::other("an order out of order")),
    };
    done.unwrap_or_else(|e| Answer::Failed { what: e.to_string() })
}

/// Takes away what helpers that were killed left in the daemon and among the host's mounts: of all boxes under this
/// control group, or of one. Their processes are ended by the control group, with or without a daemon. Gives whether
/// this installation ever asked a daemon for a box.
pub(crate) fn reap(address: &str, dir: &Path, parent: &str, only: Option<&str>) -> io::Result<bool> {
    let shown = dir.join("docker");
    if !shown.is_dir() {
        return Ok(false);
    }
    for entry in std::fs::read_dir(&shown)? {
        let entry = entry?;
        if only.is_none_or(|name| entry.file_name() == name) {
            places::hide(&entry.path())?;
        }
    }
    ask(async {
        let docker = connect(address).await?;
        let mut labels = vec![format!("{LABEL}={parent}")];
        labels.extend(only.map(|name| format!("{BOX_LABEL}={name}")));
        let filters = Some(HashMap::from([("label".to_owned(), labels)]));
        let list = docker.list_containers(Some(ListContainersOptions { all: true, filters, ..Default::default() }));
        for id in list.await.map_err(trouble("list the boxes"))?.into_iter().filter_map(|one| one.id) {
            remove(&docker, &id).await?;
        }
        Ok(true)
    })
}

/// Takes away every container of this installation whose box nobody holds; gives the boxes' names. None where no daemon
/// was ever asked for a box.
pub(crate) fn sweep(
    address: &str,
    dir: &Path,
    parent: &str,
    is_held: impl Fn(&str) -> bool,
) -> io::Result<Vec<String>> {
    if !dir.join("docker").is_dir() {
        return Ok(Vec::new());
    }
    ask(async {
        let docker = connect(address).await?;
        let filters = Some(HashMap::from([("label".to_owned(), vec![format!("{LABEL}={parent}")])]));
        let list = docker.list_containers(Some(ListContainersOptions { all: true, filters, ..Default::default() }));
        let mut found = Vec::new();
        for one in list.await.map_err(trouble("list the boxes"))? {
            let name = one.labels.and_then(|mut labels| labels.remove(BOX_LABEL));
            if let (Some(id), Some(name)) = (one.id, name)
                && !is_held(&name)
            {
                remove(&docker, &id).await?;
                found.push(name);
            }
        }
        Ok(found)
    })
}

/// Removes a container, which need not be there.
async fn remove(docker: &Docker, id: &str) -> io::Result<()> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    match docker.remove_container(id, Some(options)).await {
        // 409: another one is removing it just now.
        Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        Err(e) => Err(trouble("remove the box's container")(e)),
    }
}
