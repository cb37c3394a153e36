use super::*;

fn read(text: &str) -> Result<Request, String> {
    Request::read(&mut text.as_bytes()).map_err(|problem| problem.code)
}

#[test]
fn a_request_is_one_of_four_and_bounded() {
    let two = read("GET /info/refs?service=git-upload-pack HTTP/1.1\r\nGit-Protocol: version=2\r\n\r\n").unwrap();
    assert_eq!(two, Request { service: Service::Upload, is_post: false, two: true, length: 0 });
    let post = read("POST /git-receive-pack HTTP/1.1\r\ncontent-length: 5\r\n\r\n").unwrap();
    assert_eq!(post, Request { service: Service::Receive, is_post: true, two: false, length: 5 });
    for wrong in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET /info/refs?service=git-upload-archive HTTP/1.1\r\n\r\n",
        "GET /info/refs?service=git-upload-pack HTTP/1.0\r\n\r\n",
        "POST /git-upload-pack HTTP/1.1\r\n\r\n",
        "POST /git-upload-pack HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST /git-upload-pack HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        "POST /git-upload-pack HTTP/1.1\r\ncontent-length: 5\n\n",
        "",
    ] {
        assert_eq!(read(wrong), Err("repo.form".into()), "{wrong:?}");
    }
    let long = format!("GET /info/refs?service=git-upload-pack HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(9000));
    assert_eq!(read(&long), Err("repo.form".into()));
}

#[test]
fn one_update_of_the_runs_own_branch_passes_and_no_other() {
    let (zero, one) = ("0".repeat(40), "1".repeat(40));
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let update = |old: &str, new: &str, name: &str| line(&format!("{old} {new} {name}\0 report-status"));
    let asked = |text: String| {
        let mut from = io::Cursor::new(format!("{text}PACK"));
        update_of(&mut from, "pr/a/b").map(|(head, new)| (head, new, from.position())).map_err(|problem| problem.code)
    };
    let own = "refs/heads/pr/a/b";
    let good = format!("{}{}0000", line(&format!("shallow {one}")), update(&zero, &one, own));
    assert_eq!(asked(good.clone()).unwrap(), (good.clone().into_bytes(), one.clone(), good.len() as u64));
    for (what, text) in [
        ("another", format!("{}0000", update(&zero, &one, "refs/heads/main"))),
        ("below it", format!("{}0000", update(&zero, &one, "refs/heads/pr/a/b/c"))),
        ("a delete", format!("{}0000", update(&one, &zero, own))),
        ("two", format!("{}{}0000", update(&zero, &one, own), update(&zero, &one, own))),
        ("none", "0000".to_owned()),
        ("a certificate", format!("{}0000", line("push-cert\0report-status"))),
        ("words behind it", format!("{}0000", update(&zero, &one, "refs/heads/pr/a/b x"))),
    ] {
        assert_eq!(asked(text), Err("repo.branch".into()), "{what}");
    }
    assert_eq!(update_of(&mut &b"00"[..], "a").unwrap_err().code, "repo.form");
}

fn git(at: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(args);
    let said = git.output().unwrap();
    assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
}

#[test]
fn a_commit_is_given_where_a_branch_or_tag_leads_to_it_and_not_to_who_knows_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap();
    git(&at, &["init", "-q", "."]);
    std::fs::write(at.join("a"), "one").unwrap();
    git(&at, &["add", "."]);
    for message in ["one", "two"] {
        git(&at, &["commit", "-q", "--allow-empty", "-m", message]);
    }
    std::fs::write(at.join("a"), "a secret of the stash").unwrap();
    git(&at, &["stash", "-q"]);
    // What the owner allows to others.
    git(&at, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let opened = Git::open(&at).unwrap();
    let asked = |name: &str| {
        let oid = git(&at, &["rev-parse", name]);
        let request = Request { service: Service::Upload, is_post: true, two: false, length: 1 };
        let mut command = command(&opened, &request).unwrap();
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let want = format!("0032want {oid}\n00000009done\n");
        child.stdin.take().unwrap().write_all(want.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        (said.status.success(), said.stdout.windows(4).any(|four| four == b"PACK"))
    };
    let list = command(&opened, &Request { service: Service::Upload, is_post: false, two: false, length: 0 });
    let list = String::from_utf8_lossy(&list.unwrap().output().unwrap().stdout).into_owned();
    assert!(list.contains(" allow-reachable-sha1-in-want") && !list.contains("refs/stash"), "{list}");
    for name in ["HEAD", "HEAD~1"] {
        assert_eq!(asked(name), (true, true), "{name}");
    }
    for name in ["refs/stash", "refs/stash^2"] {
        assert_eq!(asked(name), (false, false), "{name}");
    }
}

/// A program, written by another process: while it was open in this one, a neighbour's child could keep it from being started.
fn program(dir: &Path, script: &str) -> PathBuf {
    let (text, program) = (dir.join("text"), dir.join("program"));
    std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
    let made = Command::new("install").args(["-m", "755"]).args([&text, &program]).status().unwrap();
    assert!(made.success());
    program
}

/// Has `served` answer one request, and reads what is answered.
async fn answered(served: &Served) -> String {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    served.serve(theirs.into());
    tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        (&ours).read_to_string(&mut said).unwrap();
        said
    })
    .await
    .unwrap()
}

/// Tests that take the seats of all, one after the other: each would wait for what the other holds.
static SEATS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn a_run_is_served_while_others_hold_every_seat_and_pushes_no_more_than_a_run_may() {
    let _alone = SEATS.lock().await;
    let dir = tempfile::tempdir().unwrap();
    // It is told on its fifth word what may be pushed, and says that it pushes 400 MiB.
    let exe = program(dir.path(), "printf '%s' \"$5\" >&0; echo 419430400");
    let _all = OF_ALL.acquire_many(BESIDE as u32).await.unwrap();
    let served = Served::new(&exe, dir.path(), "pr/a");
    assert_eq!(answered(&served).await, OF_ITS_PUSHES.to_string());
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while *served.room.lock().unwrap() == OF_ITS_PUSHES {
        assert!(std::time::Instant::now() < until, "it was not counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(answered(&served).await, (OF_ITS_PUSHES - (400 << 20)).to_string());
    let (repo, left) = (dir.path().canonicalize().unwrap(), OF_ITS_PUSHES - (400 << 20));
    git(&repo, &["init", "-q", "."]);
    let opened = Git::open(&repo).unwrap();
    assert_eq!(has_room(&opened, left + 1, left).unwrap_err().code, "repo.room");
    has_room(&opened, 1, left).unwrap();
    // As much as no disk keeps free.
    assert_eq!(has_room(&opened, u64::MAX / 2, u64::MAX).unwrap_err().code, "repo.disk");
}

/// One request that is served until it is let go, by its end: the program says a word to it when it begins.
struct Held(UnixStream);

impl Held {
    fn by(served: &Served) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        served.serve(theirs.into());
        ours.set_nonblocking(true).unwrap();
        Self(ours)
    }

    /// `Some(true)` once it is served, `Some(false)` where it was closed without a word; none while it waits.
    fn met(&self) -> Option<bool> {
        let mut word = [0];
        match (&self.0).read(&mut word) {
            Ok(read) => Some(read == 1),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        }
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(std::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn of_a_run_four_requests_are_answered_at_once_and_of_all_sixteen_beside_one_of_each() {
    let _alone = SEATS.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let exe = program(dir.path(), "printf x >&0; cat >/dev/null");
    let runs: Vec<Served> = (0..6).map(|n| Served::new(&exe, dir.path(), &format!("pr/{n}"))).collect();
    let mut waiting: Vec<Held> = runs.iter().flat_map(|served| (0..OF_A_RUN).map(|_| Held::by(served))).collect();
    let mut served = Vec::new();
    let step = |waiting: &mut Vec<Held>, served: &mut Vec<Held>| {
        for one in std::mem::take(waiting) {
            match one.met() {
                Some(true) => served.push(one),
                Some(false) => panic!("one of four was refused"),
                None => waiting.push(one),
            }
        }
        served.len()
    };
    until("as many as may be are served", || step(&mut waiting, &mut served) == BESIDE + runs.len()).await;
    assert_eq!((waiting.len(), OF_ALL.available_permits()), (6 * OF_A_RUN - BESIDE - 6, 0), "the others wait");
    let fifth = Held::by(&runs[0]);
    until("a fifth of one run is refused at once", || fifth.met() == Some(false)).await;
    // Those that end make room for those that wait.
    served.clear();
    until("the others are served", || step(&mut waiting, &mut served) == 6 * OF_A_RUN - BESIDE - 6).await;
    assert!(waiting.is_empty());
}

#[tokio::test]
async fn a_request_is_served_for_600_seconds_and_no_longer() {
    let _alone = SEATS.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let exe = program(dir.path(), "printf x >&0; cat >/dev/null");
    let served = Served::new(&exe, dir.path(), "pr/a");
    let held = Held::by(&served);
    until("it is served", || held.met() == Some(true)).await;
    let pass = async |secs| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(secs)).await;
        tokio::time::resume();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    pass(300).await;
    assert_eq!(held.met(), None, "it was ended long before its time");
    pass(300).await;
    until("its end", || held.met() == Some(false)).await;
}
