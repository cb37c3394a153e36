//! A platform of its own for one test.

use crate::{Docker, PATIENCE_SECS, eventually, held, leftovers::leftovers};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Names the engine of tests that are made on each.
pub const ENGINE: &str = "VOLARY_TEST_ENGINE";

/// `volary up` on a fresh home, ended at the latest when this is dropped.
///
/// Ending it also asserts that nothing is left: no mount, loop device, control group or process.
pub struct Platform {
    program: PathBuf,
    home: tempfile::TempDir,
    up: Option<Child>,
    url: String,
    label: String,
    /// Ended after it.
    docker: Option<Docker>,
}

impl Platform {
    /// Starts one and waits until it is ready. `program` is `env!("CARGO_BIN_EXE_volary")`.
    ///
    /// The home lies in `/tmp`, mode 0711, so that processes under other uids can pass through it.
    ///
    /// # Panics
    /// When it does not get ready; with what it said.
    #[must_use]
    pub fn start(program: &str) -> Self {
        Self::start_with(program, &[])
    }

    /// As [`Platform::start`], with further arguments of `volary up`.
    ///
    /// # Panics
    /// When it does not get ready; with what it said.
    #[must_use]
    pub fn start_with(program: &str, args: &[&str]) -> Self {
        let mut platform = Self::fresh(program, None);
        platform.up(args);
        platform
    }

    /// As [`Platform::start`], beside a Docker engine of its own, which makes the boxes of the default profile and of
    /// every other that says `engine = "docker"`.
    ///
    /// # Panics
    /// When either does not get ready; with what it said.
    #[must_use]
    pub fn start_on_docker(program: &str) -> Self {
        Self::start_on_docker_with(program, &[])
    }

    /// As [`Platform::start_on_docker`], with further arguments of `volary up`.
    ///
    /// # Panics
    /// As of it.
    #[must_use]
    pub fn start_on_docker_with(program: &str, args: &[&str]) -> Self {
        let mut platform = Self::fresh(program, Some(Docker::start()));
        platform.up(args);
        let profile = platform.home().join("profiles/default.toml");
        std::fs::write(profile, platform.engine()).expect("a profile is written");
        platform
    }

    /// As [`Platform::start`], on the engine that the environment names in [`ENGINE`]: `docker`, or the embedded one
    /// without it. So `cargo xtask test` makes the same attacks on each.
    ///
    /// # Panics
    /// When it does not get ready, or another engine is named.
    #[must_use]
    pub fn start_on_engine_of_environment(program: &str) -> Self {
        Self::start_on_engine_of_environment_with(program, &[])
    }

    /// As [`Platform::start_on_engine_of_environment`], with further arguments of `volary up`.
    ///
    /// # Panics
    /// As of it.
    #[must_use]
    pub fn start_on_engine_of_environment_with(program: &str, args: &[&str]) -> Self {
        match std::env::var(ENGINE).as_deref() {
            Err(_) | Ok("embedded") => Self::start_with(program, args),
            Ok("docker") => Self::start_on_docker_with(program, args),
            Ok(other) => panic!("{ENGINE} is {other:?}; write docker or embedded"),
        }
    }

    /// The line of a profile that names this platform's engine.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        if self.docker.is_some() { "engine = \"docker\"\n" } else { "engine = \"embedded\"\n" }
    }

    fn fresh(program: &str, docker: Option<Docker>) -> Self {
        Self { program: program.into(), home: home(), up: None, url: String::new(), label: String::new(), docker }
    }

    /// The Docker engine beside it, if there is one.
    #[must_use]
    pub fn docker(&self) -> Option<&Docker> {
        self.docker.as_ref()
    }

    /// Starts `volary up` on this home, which must not be up.
    ///
    /// # Panics
    /// When it does not get ready; with what it said.
    pub fn up(&mut self, args: &[&str]) {
        self.up_in(&[], args);
    }

    /// As [`Platform::up`], with these variables in its environment.
    ///
    /// # Panics
    /// As of it.
    pub fn up_in(&mut self, environment: &[(&str, &Path)], args: &[&str]) {
        assert!(self.up.is_none(), "the platform is up already");
        // Most tests look for the boxes of their runs, and count them.
        let cold: &[&str] = if args.contains(&"--warm") { &[] } else { &["--warm", "0"] };
        let mut up = Command::new(&self.program);
        up.args(["up", "--port", "0", "--json", "--home"])
            .arg(self.home())
            .args(cold)
            .args(args)
            .envs(self.docker.as_ref().map(|docker| ("DOCKER_HOST", docker.address())))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = held(&mut up).spawn().expect("volary starts");
        let (to, lines) = mpsc::channel();
        let out = child.stdout.take().expect("a pipe");
        // Reads on after the first line: a full pipe would stop the child.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        let mut errors = child.stderr.take().expect("a pipe");
        let said = std::thread::spawn(move || {
            let mut text = String::new();
            // What is not UTF-8 ends it; it is only for a message.
            if errors.read_to_string(&mut text).is_err() {
                text.push_str(" …");
            }
            text
        });
        match lines.recv_timeout(Duration::from_secs(PATIENCE_SECS)) {
            Ok(line) => {
                let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("`up` printed {line:?}"));
                assert_eq!(ready["ready"], Value::Bool(true), "`up` printed {line:?}");
                self.url = ready["url"].as_str().expect("`up` prints its url").to_owned();
            }
            Err(_) => {
                // It may hang as well as have ended; either way its words are wanted.
                if let Err(error) = child.kill() {
                    eprintln!("killing `volary up`: {error}");
                }
                panic!("`volary up` did not get ready: {}", said.join().unwrap_or_default());
            }
        }
        self.up = Some(child);
        self.label = eventually("the installation's label", || label_of(self.home()));
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The console's address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The installation's label, which its control groups are named after.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// `volary --home HOME`, to add arguments to.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(self.home()).stdin(Stdio::null());
        command
    }

    /// Runs `volary --home HOME ARGS…` to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn cli(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("volary starts")
    }

    /// As [`Platform::cli`], with this on its standard input.
    ///
    /// # Panics
    /// When it cannot be started or does not read its input.
    #[must_use]
    pub fn cli_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("volary starts");
        child.stdin.take().expect("a pipe").write_all(input).expect("volary reads its input");
        child.wait_with_output().expect("volary ends")
    }

    /// Runs `volary ARGS…`, which must succeed, and gives its standard output.
    ///
    /// # Panics
    /// When it fails; with all that it said.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.cli(args);
        assert!(
            out.status.success(),
            "volary {} ended with {}\n{}{}",
            args.join(" "),
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// As [`Platform::ok`], for a command that prints one JSON text.
    ///
    /// # Panics
    /// When it fails, or prints something else.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("volary {}: {e}: {text}", args.join(" ")))
    }

    /// As [`Platform::ok`], for a command that prints one JSON text a line.
    ///
    /// # Panics
    /// When it fails, or prints something else.
    #[must_use]
    pub fn json_lines(&self, args: &[&str]) -> Vec<Value> {
        let text = self.ok(args);
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        text.lines().map(read).collect()
    }

    /// Adds a model that is scripted, and its key: `turns` is a JSON array of `api::grants::ScriptTurn`.
    ///
    /// # Panics
    /// When it is refused.
    pub fn script(&self, name: &str, turns: &Value, key: &str) {
        let file = self.home().join(format!("{name}.script.json"));
        std::fs::write(&file, turns.to_string()).expect("the script is written");
        let path = file.to_str().expect("a home in UTF-8");
        self.secret("model/scripted", key);
        let add = ["model", "add", name, "--provider", "scripted", "--id", "scripted", "--price", "3,15", "--script"];
        drop(self.ok(&[&add[..], &[path]].concat()));
        // The server has its content; a home holds nothing but its own when it is started again.
        std::fs::remove_file(&file).expect("the script is removed");
    }

    /// Keeps a secret.
    ///
    /// # Panics
    /// When it is refused.
    pub fn secret(&self, name: &str, value: &str) {
        let out = self.cli_with_input(&["secret", "set", name], value.as_bytes());
        assert!(out.status.success(), "secret set {name}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// The process id of `server`, `gateway` or `operator`, as `up` says it now; none while it is down.
    #[must_use]
    pub fn pid_of(&self, process: &str) -> Option<u32> {
        let state = std::fs::read_to_string(self.home().join("run/up.json")).ok()?;
        let state: Value = serde_json::from_str(&state).ok()?;
        u32::try_from(state["processes"][process].as_u64()?).ok()
    }

    /// Ends it and asserts that nothing is left behind.
    ///
    /// # Panics
    /// When it does not end well, or something is left.
    pub fn stop(mut self) {
        self.down();
    }

    /// Ends `volary up` by SIGTERM, waits, and asserts that nothing is left. The home stays; [`Platform::up`] starts
    /// it again.
    ///
    /// # Panics
    /// When it does not end well, or something is left.
    pub fn down(&mut self) {
        let Some(mut up) = self.up.take() else { return };
        let pid = rustix::process::Pid::from_child(&up);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("volary up lives");
        let status = eventually("the end of `volary up`", || up.try_wait().expect("its status can be read"));
        let left = leftovers(self.home.path(), &self.label);
        assert!(left.is_empty(), "left behind by {}:\n  {}", self.home.path().display(), left.join("\n  "));
        assert!(status.success(), "`volary up` ended with {status}");
    }

    /// Kills `volary up` without a warning, as a power cut would; its processes and boxes are not asked either.
    ///
    /// # Panics
    /// When it is not up.
    pub fn kill(&mut self) {
        let mut up = self.up.take().expect("the platform is up");
        up.kill().expect("volary up lives");
        up.wait().expect("its status can be read");
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would abort and hide the first: end it, and only say what is left.
            if let Some(mut up) = self.up.take() {
                let pid = rustix::process::Pid::from_child(&up);
                if rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok()
                    && let Err(error) = up.wait()
                {
                    eprintln!("waiting for `volary up`: {error}");
                }
                for log in ["server", "gateway", "operator"] {
                    let text = std::fs::read_to_string(self.home.path().join("log").join(log)).unwrap_or_default();
                    let lines: Vec<&str> = text.lines().collect();
                    eprintln!("-- the end of the {log}'s log\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
                }
                eprintln!("left behind: {:?}", leftovers(self.home.path(), &self.label));
            }
        } else {
            self.down();
        }
    }
}

/// A folder directly in `/tmp`: a short path, for sockets, that every uid may pass through.
fn home() -> tempfile::TempDir {
    let home = tempfile::Builder::new().prefix("volary-t-").tempdir_in("/tmp").expect("/tmp can be written");
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).expect("its mode can be set");
    home
}

/// The label, off the control group that `up` says its boxes are under.
fn label_of(home: &Path) -> Option<String> {
    let state = std::fs::read_to_string(home.join("run/up.json")).ok()?;
    let state: Value = serde_json::from_str(&state).ok()?;
    state["cgroup"].as_str()?.rsplit_once("volary-").map(|(_, label)| label.to_owned())
}
