//! A profile's file with one row more.

use super::*;
use model::egress::{InternalRow, ReadRow, WriteRow};

fn write(host: &str) -> Change {
    Change::Write(WriteRow {
        capability: "tracker".into(),
        host: host.into(),
        method: "POST".into(),
        path: "/v1".into(),
        port: None,
    })
}

fn read_row(host: &str) -> Change {
    Change::Read(ReadRow { host: host.into(), path: "/".into(), port: None })
}

fn seen(text: &str) -> (tempfile::TempDir, Seen) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.toml"), text).unwrap();
    let seen = Seen::of(dir.path(), "p").unwrap();
    (dir, seen)
}

fn with(text: &str, change: &Change) -> Result<String, Fault> {
    let (_dir, seen) = seen(text);
    let mut wider = seen.profile.egress.clone();
    change.put_into(&mut wider);
    edited("p", &seen, change, &wider)
}

#[test]
fn a_row_is_added_and_the_rest_of_the_file_stays_to_the_byte() {
    let text = "# ours\ndescription = 'x'   # why\n\n[limits]\nturns = 3\n\n[egress]\nreads = \"listed\" # narrow\n\n[[egress.read]]\nhost = \"a.example\"\n";
    let new = with(text, &write("api.example.org")).unwrap();
    let row =
        "\n[[egress.write]]\ncapability = \"tracker\"\nhost = \"api.example.org\"\nmethod = \"POST\"\npath = \"/v1\"\n";
    assert_eq!(new, format!("{text}{row}"));
    let new = with(text, &read_row("b.example")).unwrap();
    assert_eq!(new, format!("{text}\n[[egress.read]]\nhost = \"b.example\"\n"));
}

#[test]
fn a_row_that_would_make_the_file_longer_than_it_may_be_is_to_be_added_by_hand() {
    let row = with("", &read_row("b.example")).unwrap().len();
    let text = |length: usize| format!("{}\n", "#".repeat(length - 1));
    let most = 256 * 1024 - row;
    assert_eq!(with(&text(most), &read_row("b.example")).unwrap().len(), 256 * 1024);
    let fault = with(&text(most + 1), &read_row("b.example")).unwrap_err();
    assert_eq!(fault.problem.code, "profile.by-hand");
    assert!(fault.problem.message.contains("host = \"b.example\""), "{}", fault.problem.message);
}

#[test]
fn reads_are_widened_in_their_place_and_the_comment_behind_them_stays() {
    let new = with("[egress]\nreads = \"none\"  # nothing\n", &read_row("a.example")).unwrap();
    assert!(new.starts_with("[egress]\nreads = \"listed\"  # nothing\n"), "{new}");
    let new = with(
        "[limits]\nturns = 3\n[egress]\nreads = 'packages'\npackages = [\"rust\"] # ours\n",
        &read_row("a.example"),
    )
    .unwrap();
    assert!(new.contains("reads = \"listed\"\npackages = [\"rust\"] # ours\n"), "{new}");
}

#[test]
fn every_way_in_which_a_table_can_be_written_takes_a_row_or_says_so() {
    let internal = Change::Internal(InternalRow {
        host: "wiki.corp".into(),
        port: 80,
        addresses: vec!["10.1.0.0/16".into()],
        why: "say \"why\"\\".into(),
    });
    for text in [
        "",
        "description = \"x\"",
        "[egress]\n",
        "egress = {}\n",
        "egress = { reads = \"any\", write = [] }\n",
        "egress.reads = \"any\"\n",
        "[[egress.write]]\ncapability = \"a\"\nhost = \"b.example\"\nmethod = \"PUT\"\npath = \"/\"\n[limits]\nturns = 3\n",
        "[egress]\nwrite = [{ capability = \"a\", host = \"b.example\", method = \"PUT\", path = \"/\" }]\n",
        "\u{feff}[egress]\n",
        "[egress]\r\nreads = \"any\"\r\n",
    ] {
        for change in [write("api.example.org"), internal.clone()] {
            // What it reads as was compared with what was meant; else there is no text.
            let new = with(text, &change).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
            assert!(new.contains("api.example.org") || new.contains("wiki.corp"), "{new}");
        }
    }
}

#[test]
fn a_value_that_would_be_markup_of_the_file_is_a_value() {
    let change = Change::Internal(InternalRow {
        host: "wiki.corp".into(),
        port: 80,
        addresses: vec!["10.1.0.0/16".into()],
        why: "\"\n[[egress.write]]\nhost = \"evil.example\" ''' \\".into(),
    });
    let new = with("", &change).unwrap();
    let read: Profile = toml::from_str(&new).unwrap();
    assert_eq!((read.egress.write.len(), read.egress.internal.len()), (0, 1));
    assert_eq!(read.egress.internal[0].why, "\"\n[[egress.write]]\nhost = \"evil.example\" ''' \\");
}

#[test]
fn the_built_in_profile_gets_a_file_that_differs_by_the_row_alone() {
    let dir = tempfile::tempdir().unwrap();
    let seen = Seen::of(dir.path(), "default").unwrap();
    assert_eq!(seen, Seen { text: None, profile: Profile::default() });
    let (change, mut wider) = (write("api.example.org"), Egress::default());
    change.put_into(&mut wider);
    let new = edited("default", &seen, &change, &wider).unwrap();
    Staged::new(dir.path(), "default", None, &new).unwrap().put().unwrap();
    let now = profiles::load(dir.path(), "default").unwrap();
    assert_eq!(now, Profile { egress: wider, description: now.description.clone(), ..Profile::default() });
    let mode = fs::metadata(dir.path().join("default.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing lies beside it");
}

#[test]
fn a_file_that_somebody_wrote_in_the_meantime_stays_as_they_wrote_it() {
    let (dir, was) = seen("description = 'x'\n");
    let path = dir.path().join("p.toml");
    let mut staged = Staged::new(dir.path(), "p", was.text.clone(), "description = 'ours'\n").unwrap();
    fs::write(&path, "description = 'theirs'\n").unwrap();
    assert_eq!(staged.put().unwrap_err().problem.code, "profile.changed");
    assert_eq!(fs::read_to_string(&path).unwrap(), "description = 'theirs'\n");
    staged.remove().unwrap();
    // Gone, or there where none was.
    let mut staged = Staged::new(dir.path(), "p", Some("description = 'theirs'\n".into()), "x = 1\n").unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(staged.put().unwrap_err().problem.code, "profile.changed");
    let mut staged = Staged::new(dir.path(), "p", None, "x = 1\n").unwrap();
    fs::write(&path, "description = 'theirs'\n").unwrap();
    assert_eq!(staged.put().unwrap_err().problem.code, "profile.changed");
    assert_eq!(fs::read_to_string(&path).unwrap(), "description = 'theirs'\n");
    let lies_beside = || fs::read_dir(dir.path()).unwrap().count() - 1;
    assert_eq!(lies_beside(), 1, "until it is recorded that the row is not in the file");
    staged.remove().unwrap();
    assert_eq!(lies_beside(), 0);
}

#[test]
fn what_was_written_while_the_file_was_exchanged_back_is_kept_beside_it() {
    let (dir, was) = seen("description = 'x'\n");
    let (path, beside) = (dir.path().join("p.toml"), Beside::Put.of(dir.path(), "p"));
    let (first, second) = ("description = 'theirs'\n", "description = 'theirs, a moment later'\n");
    for next in [false, true] {
        let mut staged = Staged::new(dir.path(), "p", was.text.clone(), "description = 'ours'\n").unwrap();
        fs::write(&path, first).unwrap();
        assert_eq!(staged.put().unwrap_err().problem.code, "profile.changed");
        // As if it had been written between the two exchanges.
        fs::write(&beside, second).unwrap();
        if next {
            // Its end was never recorded; the next row that is accepted finds it.
            drop(staged);
            drop(Staged::new(dir.path(), "p", Some(first.into()), "description = 'ours'\n").unwrap());
        } else {
            staged.remove().unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        let mut kept: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        kept.retain(|kept| *kept != path);
        let [kept] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!(fs::read_to_string(kept).unwrap(), second);
        assert_eq!(profiles::names(dir.path()), ["default", "p"], "it is no profile");
        fs::remove_file(kept).unwrap();
    }
}

#[test]
fn a_link_in_the_place_of_a_profile_is_not_written_through() {
    let (dir, _) = seen("description = 'x'\n");
    std::os::unix::fs::symlink("p.toml", dir.path().join("q.toml")).unwrap();
    assert_eq!(Seen::of(dir.path(), "q").unwrap_err().problem.code, "profile.link");
}
