//! A git host for tests: `git http-backend` over a folder of bare repositories, behind basic auth, as CGI.
//!
//! Requests come in HTTP/1.1 with a length or in chunks; answers go out with the length that they have.

mod form;

use self::form::{Form, Said};
use crate::vendors::Vendors;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Where the repositories of a forge begin.
pub(crate) const PREFIX: &str = "/forge/";
/// Where its API begins.
pub(crate) const API: &str = "/api/v";

/// Where it is signed in to, by a device's code that its person has typed in already. The token is what opens it.
const OAUTH: &str = "/forge/oauth/";

/// A folder of bare repositories, and who may use them.
pub struct Forge {
    held: Arc<Held>,
    // Held for its drop.
    _folder: Option<tempfile::TempDir>,
}

struct Held {
    path: PathBuf,
    user: String,
    password: String,
    /// Further passwords of the same user.
    others: Mutex<Vec<String>>,
    /// The one token that its API takes, where it is another than the password.
    proposer: Mutex<Option<String>>,
    /// Whose tokens open it too, each its own repository.
    vendors: Mutex<Option<Vendors>>,
    /// What its API made: target and body of each request.
    proposals: Mutex<Vec<(String, Value)>>,
    /// The proposals that are open: from where, to where.
    open: Mutex<Vec<(String, String)>>,
    /// Why its API refuses whatever it is asked to make, if it does.
    refuses: Mutex<Option<String>>,
    /// Calls of its API, as they came: method and target.
    calls: Mutex<Vec<(String, String)>>,
    /// Its API refuses whatever it is asked to make, and says by which credential.
    echoes: AtomicBool,
    /// Requests, as they came: method, target, whether they were signed in.
    seen: Mutex<Vec<(String, String, bool)>>,
    /// The end of the targets that wait, and what is in their bodies, if any do; and who waits for another.
    held: Mutex<Option<(String, String)>>,
    go_on: Condvar,
}

/// A request, read whole.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a [u8],
}

impl Asked<'_> {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

impl Forge {
    /// An empty one, for `user` and `password`.
    ///
    /// # Panics
    /// When no folder can be made.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("volary-f-").tempdir().expect("a folder");
        let (user, password) = (user.into(), password.into());
        let path = folder.path().to_owned();
        let vendors = Mutex::default();
        let held = Held {
            path,
            user,
            password,
            vendors,
            others: Mutex::default(),
            proposer: Mutex::default(),
            proposals: Mutex::default(),
            open: Mutex::default(),
            refuses: Mutex::default(),
            calls: Mutex::default(),
            echoes: AtomicBool::new(false),
            seen: Mutex::default(),
            held: Mutex::default(),
            go_on: Condvar::new(),
        };
        Self { held: Arc::new(held), _folder: Some(folder) }
    }

    /// The same, for who serves it: its folder goes with the one that a test holds, and not with this.
    pub(crate) fn served(&self) -> Self {
        Self { held: Arc::clone(&self.held), _folder: None }
    }

    /// From here on the tokens of these vendors open it, each the repository that it is for, and nothing else does.
    pub fn opened_by(&self, vendors: &Vendors) {
        *self.held.vendors.lock().unwrap_or_else(PoisonError::into_inner) = Some(vendors.clone());
    }

    /// From here on this password opens it as well.
    pub fn opened_by_another(&self, password: &str) {
        self.held.others.lock().unwrap_or_else(PoisonError::into_inner).push(password.to_owned());
    }

    /// Whether this is its user's password, or another one of theirs.
    fn is_password(&self, password: &str) -> bool {
        let others = self.held.others.lock().unwrap_or_else(PoisonError::into_inner);
        password == self.held.password || others.iter().any(|other| other == password)
    }

    /// From here on its API takes this token, and no longer the password.
    pub fn proposed_by(&self, token: &str) {
        *self.held.proposer.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.to_owned());
    }

    /// From here on its API refuses whatever it is asked to make, with a message that holds what it was shown in many forms.
    pub fn echoes(&self) {
        self.held.echoes.store(true, Ordering::Relaxed);
    }

    /// Whether a token may do this to a repository; none when no vendor's tokens are asked for.
    fn may(&self, token: &str, repository: &str, permission: &str, level: &str) -> Option<bool> {
        let vendors = self.held.vendors.lock().unwrap_or_else(PoisonError::into_inner);
        vendors.as_ref().map(|vendors| vendors.may(token, repository, permission, level))
    }

    /// Where a repository of it is, in the outside.
    #[must_use]
    pub fn url(name: &str) -> String {
        format!("https://forge.example{PREFIX}{name}.git")
    }

    /// Where it is signed in to: the address for `device` or `token`.
    #[must_use]
    pub fn oauth(what: &str) -> String {
        format!("https://forge.example{OAUTH}{what}")
    }

    /// Makes a bare repository of all branches of `from`.
    ///
    /// # Panics
    /// When git fails.
    pub fn mirror(&self, name: &str, from: &Path) -> PathBuf {
        let path = self.held.path.join(format!("{name}.git"));
        let done = Command::new("git")
            .args(["clone", "--quiet", "--bare"])
            .arg(from)
            .arg(&path)
            .current_dir("/")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status()
            .expect("git starts");
        assert!(done.success(), "git clone --bare");
        self.set(name, "http.receivepack", "true");
        self.set(name, "uploadpack.allowFilter", "true");
        path
    }

    /// Takes a repository away.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, name: &str) {
        std::fs::remove_dir_all(self.held.path.join(format!("{name}.git"))).expect("it was there");
    }

    /// Sets one value of a repository's configuration.
    ///
    /// # Panics
    /// When git fails.
    pub fn set(&self, name: &str, key: &str, value: &str) {
        assert!(self.command(name, &["config", key, value]).status().expect("git starts").success());
    }

    /// What git says in a repository of it; without the last line end.
    ///
    /// # Panics
    /// When git cannot be started.
    #[must_use]
    pub fn git(&self, name: &str, args: &[&str]) -> String {
        let said = self.command(name, args).output().expect("git starts");
        String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
    }

    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.arg("-C").arg(self.held.path.join(format!("{name}.git"))).args(args);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null");
        git
    }

    /// Has every request whose target ends so, and whose body holds `mark`, which is not empty, wait from now on, until [`Forge::release`].
    ///
    /// # Panics
    /// Never.
    pub fn hold(&self, end: &str, mark: &str) {
        *self.held.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((end.to_owned(), mark.to_owned()));
    }

    /// Lets what waits go on.
    ///
    /// # Panics
    /// Never.
    pub fn release(&self) {
        *self.held.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.held.go_on.notify_all();
    }

    /// Every request so far: method, target, whether it was signed in.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn seen(&self) -> Vec<(String, String, bool)> {
        self.held.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What its API was asked to make: target and body.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn proposals(&self) -> Vec<(String, Value)> {
        self.held.proposals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every call of its API so far: method and target.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn calls(&self) -> Vec<(String, String)> {
        self.held.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn asked(&self, asked: &Asked) {
        let call = (asked.method.to_owned(), asked.target.to_owned());
        self.held.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// Lets a proposal of `branch` into `main` be open already, as one is whose opening was made and its answer lost.
    ///
    /// # Panics
    /// Never.
    pub fn has_open(&self, branch: &str) {
        self.held.open.lock().unwrap_or_else(PoisonError::into_inner).push((branch.to_owned(), "main".to_owned()));
    }

    /// From here on its API refuses whatever it is asked to make, for this reason.
    pub fn refuses(&self, why: &str) {
        *self.held.refuses.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// The API, in the form of the vendor whose version of it is asked.
    fn api(&self, asked: &Asked) -> (String, Vec<(String, String)>, Vec<u8>) {
        let said = |(status, body): Said| {
            let kind = ("content-type".to_owned(), "application/json; charset=utf-8".to_owned());
            (status.to_owned(), vec![kind], body.to_string().into_bytes())
        };
        let form = Form::of(asked.target);
        let shown = asked.header("authorization");
        let proposer = self.held.proposer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let token = ["token ", "Bearer "].iter().find_map(|scheme| shown.strip_prefix(scheme)).unwrap_or_default();
        let own = proposer.map_or_else(|| self.is_password(token), |proposer| proposer == token);
        let named = asked.target.split_once("/repos/").map_or("", |(_, rest)| rest);
        let named = named.split('/').take(2).collect::<Vec<_>>().join("/");
        let token = shown.strip_prefix("Bearer ").unwrap_or_default();
        if !self.may(token, &named, "pull_requests", "write").unwrap_or(own) {
            return said(form.stranger());
        }
        self.asked(asked);
        let mut open = self.held.open.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.method == "GET" && form.lists(asked.target) {
            let all = open.iter().enumerate().map(|(at, (from, into))| form.one(at + 1, (from, into)));
            return said(("200 OK", all.collect()));
        }
        if asked.method == "GET" {
            return said(("200 OK", form.repository()));
        }
        if self.held.echoes.load(Ordering::Relaxed) {
            let value = shown.split_once(' ').map_or(shown, |(_, value)| value);
            let (hex, back): (String, String) =
                (value.bytes().map(|byte| format!("{byte:02x}")).collect(), value.chars().rev().collect());
            let packed = STANDARD.encode(value);
            let message = format!("Bad credential {value}, {packed}, {hex}, {back}");
            let body = json!({ "message": message, "errors": [value], value: true });
            return said(("422 Unprocessable Entity", body));
        }
        if let Some(why) = &*self.held.refuses.lock().unwrap_or_else(PoisonError::into_inner) {
            return said(form.refusal(why));
        }
        let body: Value = serde_json::from_slice(asked.body).unwrap_or_default();
        let Some((from, into)) = form.between(&body) else { return said(form.refusal("is missing")) };
        if let Some(at) = open.iter().position(|(other, to)| (other.as_str(), to.as_str()) == (from, into)) {
            return said(form.exists(at + 1, (from, into)));
        }
        open.push((from.to_owned(), into.to_owned()));
        let made = form.one(open.len(), (from, into));
        let mut proposals = self.held.proposals.lock().unwrap_or_else(PoisonError::into_inner);
        proposals.push((asked.target.to_owned(), body));
        said(("201 Created", made))
    }

    fn signed_in_to(&self, what: &str) -> (String, Vec<(String, String)>, Vec<u8>) {
        let said = match what {
            "device" => json!({
                "device_code": "device-of-the-forge", "user_code": "AB-CD", "expires_in": 600, "interval": 1,
                "verification_uri": "https://forge.example/device",
            }),
            _ => json!({ "access_token": self.held.password, "token_type": "Bearer", "expires_in": 3600 }),
        };
        let kind = ("content-type".to_owned(), "application/json".to_owned());
        ("200 OK".to_owned(), vec![kind], said.to_string().into_bytes())
    }

    /// Answers one request: status, headers, body.
    pub(crate) fn answer(&self, asked: &Asked) -> (String, Vec<(String, String)>, Vec<u8>) {
        if let Some(what) = asked.target.strip_prefix(OAUTH) {
            return self.signed_in_to(what);
        }
        if asked.target.starts_with(API) {
            return self.api(asked);
        }
        let pair = asked.header("authorization").strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
        let pair = pair.and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
        let (user, password) = pair.split_once(':').unwrap_or_default();
        let named = asked.target.trim_start_matches('/').split('/').take(2).collect::<Vec<_>>().join("/");
        let level = if asked.target.contains("git-receive-pack") { "write" } else { "read" };
        let signed_in = match self.may(password, &named, "contents", level) {
            Some(may) => may && user == "x-access-token",
            None => user == self.held.user && self.is_password(password),
        };
        let seen = (asked.method.to_owned(), asked.target.to_owned(), signed_in);
        self.held.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        let holds = |mark: &str| asked.body.windows(mark.len()).any(|part| part == mark.as_bytes());
        let waits = |held: &mut Option<(String, String)>| {
            held.as_ref().is_some_and(|(end, mark)| asked.target.ends_with(end.as_str()) && holds(mark))
        };
        let held = self.held.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.held.go_on.wait_while(held, waits).unwrap_or_else(PoisonError::into_inner));
        if !signed_in {
            let header = ("www-authenticate".to_owned(), "Basic realm=\"forge\"".to_owned());
            return ("401 Unauthorized".into(), vec![header], b"sign in\n".to_vec());
        }
        let (path, query) = asked.target.split_once('?').unwrap_or((asked.target, ""));
        let mut backend = Command::new("git");
        backend
            .arg("http-backend")
            // A test's own folder may be covered: [`crate::Temporary`].
            .current_dir("/")
            .env("GIT_PROJECT_ROOT", &self.held.path)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("PATH_INFO", path.strip_prefix(PREFIX).map(|rest| format!("/{rest}")).unwrap_or_default())
            .env("QUERY_STRING", query)
            .env("REQUEST_METHOD", asked.method)
            .env("REMOTE_USER", &self.held.user)
            .env("CONTENT_TYPE", asked.header("content-type"))
            .env("CONTENT_LENGTH", asked.body.len().to_string())
            .env("GIT_PROTOCOL", asked.header("git-protocol"));
        let mut backend =
            backend.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git http-backend starts");
        let (mut stdin, body) = (backend.stdin.take().expect("a pipe"), asked.body.to_vec());
        // Beside: it answers while it is still being asked.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&body)));
        let said = backend.wait_with_output().expect("its end").stdout;
        feeder.join().expect("the feeder ends");
        let end = said.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(said.len());
        let (mut status, mut headers) = ("200 OK".to_owned(), Vec::new());
        for line in String::from_utf8_lossy(&said[..end]).lines() {
            match line.split_once(": ") {
                Some(("Status", value)) => status = value.to_owned(),
                Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
                None => {}
            }
        }
        (status, headers, said.get(end + 4..).unwrap_or_default().to_vec())
    }
}
