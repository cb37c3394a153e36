//! A server that is killed while a row is put into a profile's file.

use super::{NONE, allow, change, denials, evidence, get, profile, refuse, running};
use crate::stage::Stage;
use api::denials::{Allowed, ChangeView};
use model::Event;
use serde_json::json;

/// Another server on the same home, once it serves.
async fn restart(stage: &mut Stage) {
    stage.again();
    get(stage, "/api/health").await;
}

/// What lies in the folder of the profiles.
fn files(stage: &Stage) -> Vec<(String, String)> {
    let all = std::fs::read_dir(stage.dir.path().join("profiles")).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = all
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn whatever_step_of_accepting_a_row_a_server_is_killed_at_the_next_one_finishes_it_by_the_record() {
    let mut stage = Stage::start();
    stage.model("m", "id").await;
    std::fs::write(profile(&stage, "p"), NONE).unwrap();
    let run = {
        let mut operator = stage.operator(vec![]).await;
        let run = running(&stage, &mut operator, "p").await.run;
        let mut gateway = stage.gateway().await;
        refuse(&mut gateway, &run, "read.none", "GET", "https://a.example.org/").await;
        denials(&stage, &run, 1).await;
        run
    };
    let view: ChangeView = change(&stage, &run, 1, "").await.json();
    let folder = stage.dir.path().join("profiles");
    let put = |name: &str, text: Option<&str>| match text {
        Some(text) => std::fs::write(folder.join(name), text).unwrap(),
        None => std::fs::remove_file(folder.join(name)).unwrap_or_default(),
    };
    // Before the record: what was written beside is gone, and nothing else has changed.
    put(".p.toml.new", Some("reads of everything"));
    restart(&mut stage).await;
    assert_eq!(files(&stage), [("p.toml".to_owned(), NONE.to_owned())]);
    let said: Allowed = allow(&stage, &run, 1, &view.seen, json!({})).await.json();
    assert!(said.changed);
    let new = std::fs::read_to_string(profile(&stage, "p")).unwrap();
    let done = [("p.toml".to_owned(), new.clone())];
    assert_eq!(files(&stage), done);
    // After the record, at each step of what follows, twice.
    for (beside, left, file) in
        [(".p.toml.new", new.as_str(), NONE), (".p.toml.put", &new, NONE), (".p.toml.put", NONE, &new)]
    {
        put(beside, Some(left));
        put("p.toml", Some(file));
        for _ in 0..2 {
            restart(&mut stage).await;
            assert_eq!(files(&stage), done, "{beside}");
        }
    }
    assert!(!evidence(&stage).await.contains("profile.unchanged"));
    // Content that was never accepted is put nowhere, whatever stands in the record of an earlier one.
    put(".p.toml.new", Some("reads of everything"));
    restart(&mut stage).await;
    assert_eq!(files(&stage), done);
    // Somebody wrote the file in between: theirs stays, and the record says that ours is not there.
    for (beside, left, file) in [(".p.toml.put", "# theirs\n", new.as_str()), (".p.toml.new", &new, "# theirs\n")] {
        put(beside, Some(left));
        put("p.toml", Some(file));
        for _ in 0..2 {
            restart(&mut stage).await;
            assert_eq!(files(&stage), [("p.toml".to_owned(), "# theirs\n".to_owned())]);
        }
        // Once: the second time the record has taken it back already.
        assert_eq!(evidence(&stage).await.matches("profile.unchanged").count(), 1);
    }
    // They wrote it twice, and what lies beside is one of the two: it is kept, under a name that is no profile's.
    put(".p.toml.put", Some("# theirs, a moment before\n"));
    restart(&mut stage).await;
    let all = files(&stage);
    let [(file, text), (kept, aside)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((file.as_str(), text.as_str(), aside.as_str()), ("p.toml", "# theirs\n", "# theirs, a moment before\n"));
    assert!(kept.starts_with("p.toml.theirs-"), "{kept}");
    let said = stage.transcript(&run).await;
    let told =
        said.iter().filter(|it| matches!(&it.event, Event::Note { text } if text.contains("changed by somebody else")));
    assert_eq!(told.count(), 1);
}
