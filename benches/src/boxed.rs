//! One box from create to its end, with a clock: the engine as a library, without the platform around it.

use crate::stage;
use crate::table::ms;
use anyhow::{Context, Result, bail, ensure};
use api::inbox::{Hello, Kind, ToRunner};
use model::{BoxId, Profile, RunId};
use sandbox::{BoxPlan, Created, Host, LiveBox, Warm};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// An engine in a folder of its own.
pub struct Engine {
    host: Host,
    dir: tempfile::TempDir,
    profile: Profile,
}

/// Milliseconds from create to each step.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The box is made, its door bound.
    pub created: f64,
    /// The runner has taken its walls and said hello.
    pub greeted: f64,
    /// Every wall is read back.
    pub read_back: f64,
    /// The command's first output is here.
    pub output: f64,
    /// Nothing of the box is left but its image.
    pub ended: f64,
}

/// A box whose command ran to its end.
pub struct Ran {
    /// Still standing: its processes are over, its worktree is not.
    pub live: LiveBox,
    image: PathBuf,
    begun: Instant,
    times: Times,
}

impl Engine {
    /// Opens one; boxes of an earlier benchmark that broke off are ended.
    pub fn open(label: &str) -> Result<Self> {
        let dir = stage::folder(&std::env::temp_dir())?;
        let parent = sandbox::rootless::cgroup_parent(&format!("bench-{label}"))?;
        let (runner, agent) = (stage::in_box("runner")?, stage::in_box("agent")?);
        let host = Host::open(&dir.path().join("operator"), &parent, &stage::volary()?, &runner, &agent)?;
        host.reap_orphans()?;
        Ok(Self { host, dir, profile: Profile::default() })
    }

    /// The same, whose boxes are made by the Docker engine at `address`.
    pub fn on_docker(mut self, address: String) -> Self {
        self.host = self.host.with_docker(address);
        self.profile.engine = model::profile::Engine::Docker;
        self
    }

    fn plan(&self, name: &str, lower: Option<&Path>) -> Result<BoxPlan> {
        Ok(BoxPlan {
            run: RunId::parse("bench")?,
            box_id: BoxId::parse(&format!("bench-{name}"))?,
            profile: self.profile.clone(),
            lower: lower.map(Path::to_path_buf),
            upper_image: self.dir.path().join(format!("operator/boxes/{name}.img")),
        })
    }

    /// A box that waits for its run.
    pub fn prepare(&self, name: &str) -> Result<Warm> {
        Ok(self.host.prepare(&BoxId::parse(&format!("bench-warm-{name}"))?, &self.profile)?)
    }

    /// As [`Engine::run`], in a box that waited.
    pub fn run_in(&self, warm: Warm, name: &str, command: &[&str]) -> Result<Ran> {
        let plan = self.plan(name, None)?;
        let begun = Instant::now();
        let made = self.host.claim(warm, &plan)?;
        self.work(made, plan, command, begun)
    }

    /// Runs one command to its end in a box of its own, its walls read back, and stops there.
    pub fn run(&self, name: &str, lower: Option<&Path>, command: &[&str]) -> Result<Ran> {
        let plan = self.plan(name, lower)?;
        let begun = Instant::now();
        let made = self.host.create(&plan)?;
        self.work(made, plan, command, begun)
    }

    fn work(&self, made: Created, plan: BoxPlan, command: &[&str], begun: Instant) -> Result<Ran> {
        let Created { mut live, listener: _door, stdin, stdout, stderr } = made;
        let (image, limits) = (plan.upper_image, plan.profile.limits);
        let created = ms(begun.elapsed());
        live.start()?;
        let (mut input, mut output) = (File::from(stdin), File::from(stdout));
        let hello = frame(&mut output).map_err(|e| e.context(last_words(stderr)))?;
        ensure!(Kind::of(hello[0]) == Some(Kind::Hello), "the first frame is no hello");
        let hello: Hello = serde_json::from_slice(&hello[1..])?;
        let greeted = ms(begun.elapsed());
        let readings = live.read_back(&hello);
        if let Some(broken) = readings.iter().find(|reading| !reading.holds) {
            bail!("{}: promised {}, read {}", broken.wall, broken.promised, broken.read);
        }
        let read_back = ms(begun.elapsed());
        let argv = command.iter().map(|word| (*word).to_owned()).collect();
        let task =
            serde_json::to_vec(&ToRunner::Exec { argv, cwd: api::inbox::WORKSPACE.into(), limits, lease: None })?;
        input.write_all(&u32::try_from(task.len())?.to_le_bytes())?;
        input.write_all(&task)?;
        let mut first = None;
        loop {
            let body = frame(&mut output)?;
            if first.is_none() && body.windows(8).any(|w| w == b"\"output\"") {
                first = Some(ms(begun.elapsed()));
            }
            if Kind::of(body[0]) == Some(Kind::Done) {
                let done: api::inbox::Done = serde_json::from_slice(&body[1..])?;
                let well = matches!(done.exit, model::event::Exit::Code { code: 0 });
                ensure!(well, "the command ended with {:?}: {}", done.exit, done.reason);
                break;
            }
        }
        live.kill()?;
        let output = first.context("the command wrote nothing")?;
        Ok(Ran { live, image, begun, times: Times { created, greeted, read_back, output, ended: 0.0 } })
    }

    /// Takes it down and removes its worktree.
    pub fn end(&self, ran: Ran) -> Result<Times> {
        ran.live.end()?;
        let ended = ms(ran.begun.elapsed());
        self.host.drop_worktree(&ran.image)?;
        Ok(Times { ended, ..ran.times })
    }

    /// Resident and proportional memory of a box's process 1 that waits for its task, in MB.
    pub fn runner_memory(&self) -> Result<(f64, f64)> {
        let plan = self.plan("waits", None)?;
        let mut made = self.host.create(&plan)?;
        made.live.start()?;
        let mut output = File::from(made.stdout);
        frame(&mut output)?;
        let memory = stage::memory(made.live.pid());
        made.live.end()?;
        self.host.drop_worktree(&plan.upper_image)?;
        memory
    }
}

fn frame(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0u8; 4];
    from.read_exact(&mut length).context("the box's runner said no more")?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut body)?;
    ensure!(!body.is_empty(), "an empty frame");
    Ok(body)
}

fn last_words(stderr: OwnedFd) -> String {
    let mut said = String::new();
    match File::from(stderr).take(4096).read_to_string(&mut said) {
        Ok(_) => said,
        Err(e) => format!("its last words cannot be read: {e}"),
    }
}
