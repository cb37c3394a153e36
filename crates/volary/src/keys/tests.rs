//! `vault.toml` and the sources of keys, each refused in each way that it can be wrong.

use super::*;
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text).map_err(|e| format!("{e:#}"))
}

fn home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::resolve(Some(&dir.path().join("h"))).unwrap();
    for folder in [home.path().to_path_buf(), home.keys(), home.server()] {
        fs::create_dir(folder).unwrap();
    }
    (dir, home)
}

fn nothing(_: &str) -> Option<OsString> {
    None
}

fn file(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_home_says_where_its_key_is_in_one_of_five_ways_and_each_wrong_way_is_told() {
    for text in [
        "file = \"/etc/volary/kek\"",
        "file = \"keys/kek-0011223344556677\"",
        "env = \"VOLARY_KEK\"",
        "credential = \"volary-kek\"",
        "command = [\"/usr/bin/pass\", \"show\", \"kek\"]",
        "transit = { address = \"https://kms.example:8200\", key = \"volary\", token-file = \"/etc/token\" }",
    ] {
        let config = parse(&format!("[key]\n{text}\n")).unwrap();
        assert_eq!(config.next, None);
        // What is written reads as what it was.
        let config =
            Config { next: Some(Entry { id: Some("0011223344556677".into()), ..config.key.clone() }), ..config };
        let text = Text { key: Row::of(&config.key), next: config.next.as_ref().map(Row::of) };
        assert_eq!(parse(&toml::to_string(&text).unwrap()).unwrap(), config);
    }
    for (text, why) in [
        ("", "missing field `key`"),
        ("[key]\n", "exactly one"),
        ("[key]\nenv = \"A\"\nfile = \"/a\"\n", "exactly one"),
        ("[key]\nenv = \"A\"\n[next]\n", "[next] takes exactly one"),
        ("[key]\nenvironment = \"A\"\n", "line 2: unknown field `environment`"),
        ("[key]\nenv = \"A\"\n[more]\n", "unknown field `more`"),
        ("[key]\nfile = \"kek\"\n", "no absolute path"),
        ("[key]\nfile = \"keys/../../kek\"\n", "no absolute path"),
        ("[key]\nenv = \"A-B\"\n", "no name of a variable"),
        ("[key]\nenv = \"\"\n", "no name of a variable"),
        ("[key]\ncredential = \"../kek\"\n", "no name"),
        ("[key]\ncommand = []\n", "empty"),
        ("[key]\ncommand = [\"pass\"]\n", "absolute path"),
        ("[key]\ncommand = \"pass\"\n", "line 2"),
        ("[key]\nenv = \"A\"\nid = \"x\"\n", "16 hex digits"),
        ("[key]\ntransit = { address = \"https://h\", key = \"k\" }\n", "token-file"),
        ("[key]\ntransit = { address = \"https://h\", key = \"k\", token-file = \"t\" }\n", "absolute path"),
        ("[key]\ntransit = { address = \"http://h\", key = \"k\", token-file = \"/t\" }\n", "in the clear"),
        ("[key]\ntransit = { address = \"ftp://h\", key = \"k\", token-file = \"/t\" }\n", "https://HOST"),
        ("[key]\ntransit = { address = \"https://u:p@h\", key = \"k\", token-file = \"/t\" }\n", "nothing more"),
        ("[key]\ntransit = { address = \"https://h/v1\", key = \"k\", token-file = \"/t\" }\n", "nothing more"),
        ("[key]\ntransit = { address = \"https://h\", key = \"a/b\", token-file = \"/t\" }\n", "are names"),
        (
            "[key]\ntransit = { address = \"https://h\", key = \"k\", token-file = \"/t\", namespace = \"a\\r\\nx: y\" }\n",
            "in a header",
        ),
        (
            "[key]\ntransit = { address = \"https://h\", key = \"k\", token-file = \"/t\", namespace = \"\" }\n",
            "in a header",
        ),
        (
            "[key]\ntransit = { address = \"https://h\", key = \"k\", token-file = \"/t\", tls = false }\n",
            "unknown field",
        ),
    ] {
        let said = parse(text).unwrap_err();
        assert!(said.contains(why), "{text:?}: {said}");
    }
    // Who puts the key itself there hears of it without it.
    let said = parse(&format!("[key]\n{KEY}\n")).unwrap_err();
    assert!(!said.contains("0123456789abcdef"), "{said}");
}

#[test]
fn a_vault_toml_that_others_may_write_or_that_is_a_link_is_refused() {
    let (_dir, home) = home();
    let path = home.path().join(FILE);
    file(&path, "[key]\nenv = \"A\"\n", 0o644);
    assert_eq!(Config::read(&home).unwrap().key.source, Source::Env("A".into()));
    for mode in [0o664, 0o646] {
        file(&path, "[key]\nenv = \"A\"\n", mode);
        assert!(format!("{:#}", Config::read(&home).unwrap_err()).contains("nobody else may write"));
    }
    fs::rename(&path, home.path().join("other")).unwrap();
    symlink("other", &path).unwrap();
    assert!(Config::read(&home).is_err());
    fs::remove_file(&path).unwrap();
    Config { key: Entry { source: Source::Env("B".into()), id: None }, next: None }.write(&home).unwrap();
    assert_eq!(Config::read(&home).unwrap().key.source, Source::Env("B".into()));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(home.keys()).unwrap().count(), 0, "a draft is left");
}

#[test]
fn the_homes_own_key_is_made_once_and_never_beside_a_database_that_has_another() {
    let (_dir, home) = home();
    let path = home.keys().join("kek");
    let first = offer(&home, &nothing).unwrap();
    assert_eq!((first.keys.len(), first.missing.len()), (1, 0));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&path).unwrap();
    assert_eq!(first.keys[0].key.0.expose(), &key);
    assert_eq!(offer(&home, &nothing).unwrap().keys[0].key.0.expose(), &key);

    fs::write(home.server().join("volary.db"), "").unwrap();
    fs::remove_file(&path).unwrap();
    let none = offer(&home, &nothing).unwrap();
    assert!(none.keys.is_empty() && none.missing[0].contains("keys/kek") && none.missing[0].contains("missing"));
    assert!(!path.exists());
    // That of before there was a folder for keys.
    file(&home.server().join("kek"), KEY, 0o600);
    assert_eq!(offer(&home, &nothing).unwrap().keys[0].key.0.expose(), KEY);
}

#[test]
fn a_key_file_that_others_may_read_or_that_holds_no_key_is_refused_by_name_and_never_shown() {
    let (_dir, home) = home();
    let path = home.path().join("k");
    let read = |text: &str, mode| {
        file(&path, text, mode);
        let key = Source::File(path.clone()).obtain(&home, &nothing);
        key.map(|key| key.expose().clone()).map_err(|e| format!("{e:#}"))
    };
    assert_eq!(read(KEY, 0o600).as_deref(), Ok(KEY));
    assert_eq!(read(&format!(" {KEY}\n"), 0o400).as_deref(), Ok(KEY));
    for mode in [0o640, 0o604, 0o660, 0o610, 0o602] {
        let said = read(KEY, mode).unwrap_err();
        assert!(said.contains("chmod 600") && said.contains("/k: "), "{mode:o}: {said}");
        // Who looks before a start is told the very same.
        assert_eq!(format!("{:#}", Source::File(path.clone()).look(&home).unwrap_err()), said);
    }
    read(KEY, 0o600).unwrap();
    Source::File(path.clone()).look(&home).unwrap();
    for text in ["", &KEY[1..], &format!("{KEY}0"), &KEY.replace('0', "x"), &"5".repeat(2000)] {
        let said = read(text, 0o600).unwrap_err();
        assert!(!said.contains("123456789") && !said.contains("5555"), "{said}");
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Source::File(path.clone()).obtain(&home, &nothing).is_err());
    let link = home.path().join("link");
    symlink(&path, &link).unwrap();
    file(&path, KEY, 0o600);
    for said in [Source::File(link.clone()).obtain(&home, &nothing).map(drop), Source::File(link).look(&home)] {
        assert!(format!("{:#}", said.unwrap_err()).contains("is a link"));
    }
    assert!(format!("{:#}", Source::File("/".into()).obtain(&home, &nothing).unwrap_err()).contains("is no file"));
}

#[test]
fn a_variable_and_a_credential_are_looked_for_where_up_runs() {
    let (_dir, home) = home();
    file(&home.path().join("cred"), KEY, 0o440);
    let folder = home.path().to_path_buf();
    let environment = |name: &str| match name {
        "THE_KEY" => Some(OsString::from(KEY)),
        "CREDENTIALS_DIRECTORY" => Some(folder.clone().into()),
        _ => None,
    };
    for source in [Source::Env("THE_KEY".into()), Source::Credential("cred".into())] {
        assert_eq!(source.obtain(&home, &environment).unwrap().expose(), KEY);
        let said = format!("{:#}", source.obtain(&home, &nothing).unwrap_err());
        assert!(said.contains("is not set where `volary up` runs"), "{said}");
    }
    file(&home.path().join("cred"), KEY, 0o444);
    let said = format!("{:#}", Source::Credential("cred".into()).obtain(&home, &environment).unwrap_err());
    assert!(said.contains("read by others"), "{said}");
}

#[test]
fn a_command_gives_its_first_words_with_a_clean_environment_and_is_ended_with_all_it_started() {
    let (_dir, home) = home();
    let run = |script: &str| {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let key = Source::Command(argv).obtain(&home, &nothing);
        key.map(|key| key.expose().clone()).map_err(|e| format!("{e:#}"))
    };
    assert_eq!(run(&format!("echo {KEY}")).as_deref(), Ok(KEY));
    // Of this test's environment nothing is there.
    let clean = format!("[ -z \"$HOME$CARGO_PKG_NAME$USER\" ] && [ \"$(pwd)\" = / ] && echo {KEY}");
    assert_eq!(run(&clean).as_deref(), Ok(KEY));
    for (script, why) in [
        (format!("echo {KEY}; exit 3"), "ended with"),
        (format!("echo {KEY}; echo {KEY}"), "gives no key"),
        (format!("echo {KEY} >&2"), "gives no key"),
        ("head -c 100000 /dev/zero | tr '\\0' 5".to_owned(), "more than a key"),
        (":".to_owned(), "gives no key"),
    ] {
        let said = run(&script).unwrap_err();
        assert!(said.contains(why) && said.contains("/bin/sh") && !said.contains("0123456789"), "{script}: {said}");
    }
    let missing = Source::Command(vec!["/nonexistent/program".into()]).obtain(&home, &nothing).unwrap_err();
    assert!(format!("{missing:#}").contains("/nonexistent/program"), "{missing:#}");
    // What it leaves behind holds its output no longer than it lives itself.
    let pid = home.path().join("pid");
    assert_eq!(run(&format!("sleep 600 >/dev/null & echo $! > {}; echo {KEY}", pid.display())).as_deref(), Ok(KEY));
    let left: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let left = rustix::process::Pid::from_raw(left).unwrap();
    let gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", left.as_raw_nonzero())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !gone() {
        assert!(std::time::Instant::now() < end, "what the command started goes on");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_handed_over_a_pipe_is_read_whole_and_never_said() {
    let pass = |text: &[u8]| {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let text = text.to_vec();
        let writer = std::thread::spawn(move || File::from(write).write_all(&text));
        let taken = take(read).map_err(|e| format!("{e:#}"));
        writer.join().unwrap().unwrap();
        taken
    };
    let offer = format!(r#"{{"keys":[{{"source":"the file x","key":"{KEY}"}}],"missing":["why"]}}"#);
    let taken = pass(offer.as_bytes()).unwrap();
    assert_eq!((taken.keys[0].source.as_str(), taken.keys[0].key.0.expose().as_str()), ("the file x", KEY));
    assert_eq!(taken.missing, ["why"]);
    assert!(pass(b"").unwrap_err().contains("ended without a word"));
    for wrong in [&offer[..offer.len() - 1], &offer.replace("missing", "others"), &format!("\"{KEY}\"")] {
        let said = pass(wrong.as_bytes()).unwrap_err();
        assert!(said.contains("no key") && !said.contains("0123456789"), "{said}");
    }
}
