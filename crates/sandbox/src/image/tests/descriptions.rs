//! What an image says of itself, and what of it is believed.

use super::*;
use crate::image::said::{Judge, Unfit, said};
use crate::{BoxError, BoxPlan, Host};
use api::images::{MAX_SAID, WORD, Word};
use model::{Profile, RunId};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

#[test]
fn a_layout_becomes_the_archive_of_the_one_image_it_holds_and_so_does_a_tar_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let layer = tar(&[file("a", "x")]);
    let (id, _) = layout(&place, &[layer.clone(), layer.clone()]);
    let out = dir.path().join("layout.tar");
    let mut builder = tar::Builder::new(File::create(&out).unwrap());
    builder.append_dir_all(".", &place).unwrap();
    builder.finish().unwrap();
    for image in [Image::Layout(place.clone(), None), Image::Tar(out, None)] {
        let content = Content::read(&image).unwrap();
        assert_eq!(content.id, id);
        let mut names = Vec::new();
        let mut tar = tar::Archive::new(content.archive().unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            if name == "manifest.json" {
                let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);
            } else {
                assert_eq!(digest(&bytes), format!("sha256:{name}"));
            }
            names.push(name);
        }
        names.sort();
        let mut expected = ["manifest.json".to_owned(), id[7..].to_owned(), digest(&layer)[7..].to_owned()];
        expected.sort();
        assert_eq!(names, expected);
    }
}

#[test]
fn a_layout_for_another_processor_or_with_a_path_for_a_digest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::Layout(dir.path().into(), None);
    let index = |description: serde_json::Value| {
        fs::write(dir.path().join("index.json"), json!({"manifests": [description]}).to_string()).unwrap();
        Content::read(&image).unwrap_err().to_string()
    };
    let digest = "sha256:".to_owned() + &"0a".repeat(32);
    let other = json!({"digest": digest, "platform": {"architecture": "pdp11", "os": "linux"}});
    assert!(index(other).contains("0 images for this processor"));
    assert!(index(json!({"digest": "sha256:../../../etc/passwd"})).contains("not named by a SHA-256 digest"));
    assert!(index(json!({"digest": digest})).contains("No such file"));
}

#[test]
fn a_description_longer_than_4_mib_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::Layout(dir.path().into(), None);
    let said = |length: usize| {
        fs::write(dir.path().join("index.json"), " ".repeat(length)).unwrap();
        Content::read(&image).unwrap_err().to_string()
    };
    assert!(said(4 << 20).contains("no JSON"));
    assert!(said((4 << 20) + 1).contains("longer than 4 MiB"));
}

#[test]
fn a_tar_is_known_by_the_digest_it_names_and_one_of_two_images_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    let said = |files: &[(&str, &str)]| {
        fs::write(&path, tar(&files.iter().map(|(name, text)| file(name, text)).collect::<Vec<_>>())).unwrap();
        Content::read(&Image::Tar(path.clone(), None)).map(|content| content.id).map_err(|e| e.to_string())
    };
    let layer = digest(b"layer");
    let config = json!({"rootfs": {"diff_ids": [layer]}}).to_string();
    let hex = digest(config.as_bytes())["sha256:".len()..].to_owned();
    for name in [format!("{hex}.json"), format!("blobs/sha256/{hex}")] {
        let manifest = json!([{"Config": name, "Layers": ["layer.tar"]}]).to_string();
        assert_eq!(said(&[("manifest.json", &manifest), (&name, &config)]), Ok(format!("sha256:{hex}")));
        let other = said(&[("manifest.json", &manifest), (&name, "{}")]).unwrap_err();
        assert!(other.contains("what it calls sha256:"), "{other}");
        let twice = said(&[("manifest.json", &manifest), (&name, &config), (&name, "{}")]).unwrap_err();
        assert!(twice.contains("stands twice"), "{twice}");
        let none = json!([{"Config": name, "Layers": []}]).to_string();
        let none = said(&[("manifest.json", &none), (&name, &config)]).unwrap_err();
        assert!(none.contains("does not name each layer"), "{none}");
    }
    let refusals = [
        ("manifest.json", "[{},{}]", "several images"),
        ("manifest.json", "[{\"Config\":\"latest.json\"}]", "not named by digest"),
        ("readme", "{}", "no image"),
    ];
    for (name, text, why) in refusals {
        let said = said(&[(name, text)]).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn an_image_that_sets_a_key_is_refused_by_the_keys_name_for_every_engine_before_there_is_a_box() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    let layer = digest(b"layer");
    let said = |variables: &[&str]| {
        let config = json!({"config": {"Env": variables}, "rootfs": {"diff_ids": [layer]}}).to_string();
        let name = format!("{}.json", &digest(config.as_bytes())["sha256:".len()..]);
        let manifest = json!([{"Config": name, "Layers": ["layer.tar"]}]).to_string();
        fs::write(&path, tar(&[file("manifest.json", &manifest), file(&name, &config)])).unwrap();
        // What both engines read of an image of this host, and first.
        Content::read(&Image::Tar(path.clone(), None)).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(said(&["PATH=/usr/bin", "MY_GITHUB_TOKEN_FILE=/x"]), Ok(()));
    let refused = said(&["PATH=/usr/bin", "GITHUB_TOKEN=the-very-value", "OPENAI_API_KEY"]).unwrap_err();
    assert!(
        refused.contains("it sets GITHUB_TOKEN, OPENAI_API_KEY") && !refused.contains("the-very-value"),
        "{refused}"
    );
    // What the daemon says of one that it has by itself.
    assert!(crate::image::content::without_keys(["AWS_SECRET_ACCESS_KEY=x"]).is_err());
}

#[test]
fn all_that_an_image_says_of_itself_is_read_each_with_its_place_and_a_flood_of_it_is_refused() {
    let configuration = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-11-21T00:00:00Z", "author": "somebody",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:x"]},
        "config": {
            "Env": ["PATH=/usr/bin", "DEPLOY=v"], "Labels": {"note": "l"}, "Cmd": ["serve", "--with", "c"],
            "Healthcheck": {"Test": ["CMD", "h"], "Interval": 5}, "ExposedPorts": {"80/tcp": {}}, "User": "",
        },
        "history": [{"created_by": "ENV DEPLOY=v", "comment": "m"}, {"empty_layer": true, "created_by": "|1 A=b sh"}],
        "container_config": {"Env": ["OLD=o"]},
    });
    let words = said(&configuration).unwrap();
    // Members come in the order of the document or of their names, as another crate of the same build would have it.
    let sorted = |text: &str| {
        let mut parts: Vec<&str> = text.split(' ').collect();
        parts.sort_unstable();
        parts.join(" ")
    };
    let words: BTreeSet<(String, String)> =
        words.iter().map(|word| (word.of.to_string(), sorted(word.text.0.expose()))).collect();
    assert_eq!(
        words,
        [
            ("a variable of it", "PATH=/usr/bin"),
            ("a variable of it", "DEPLOY=v"),
            ("its label note", "note=l"),
            ("step 1 of its history", "comment=m created_by=ENV DEPLOY=v"),
            ("step 2 of its history", "created_by=|1 A=b sh empty_layer="),
            ("its Cmd", "serve --with c"),
            ("its ExposedPorts", "80/tcp="),
            ("its Healthcheck", "Interval= Test=CMD h"),
            ("its architecture", "amd64"),
            ("its author", "somebody"),
            ("its container_config", "Env=OLD=o"),
            ("its created", "2026-11-21T00:00:00Z"),
            ("its os", "linux"),
        ]
        .map(|(of, text)| (of.to_owned(), sorted(text)))
        .into()
    );
    // As it is, and not as what it holds is called.
    let of = |length: usize| json!({ "config": { "Env": ["x".repeat(length)] } });
    let most = MAX_SAID - WORD - "a variable of it".len();
    assert_eq!(said(&of(most)).unwrap().len(), 1);
    assert!(said(&of(most + 1)).unwrap_err().contains("more than 1 MiB"));
    assert_eq!(said(&json!({})).unwrap().len(), 0);
}

/// Judges what it hears as it was told to, and keeps it.
#[derive(Debug)]
struct Hears(Mutex<Vec<String>>, Result<(), Unfit>);

impl Judge for Hears {
    fn judge(&self, run: &RunId, words: Vec<Word>) -> Result<(), Unfit> {
        assert_eq!(run.as_str(), "run");
        self.0.lock().unwrap().extend(words.iter().map(|word| word.text.0.expose().clone()));
        self.1.clone()
    }
}

#[test]
fn no_box_is_promised_of_an_image_that_nobody_judged_or_that_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (layer, path) = (digest(b"layer"), dir.path().join("x.tar"));
    let config = json!({"config": {"Env": ["A=b"]}, "rootfs": {"diff_ids": [layer]}}).to_string();
    let name = format!("{}.json", &digest(config.as_bytes())["sha256:".len()..]);
    let manifest = json!([{"Config": name, "Layers": ["layer.tar"]}]).to_string();
    fs::write(&path, tar(&[file("manifest.json", &manifest), file(&name, &config)])).unwrap();
    let host = || Host::open(&dir.path().join("home"), "/volary-none", "/nowhere".as_ref(), b"r", b"a").unwrap();
    let profile = Profile { image: Some(path.to_str().unwrap().into()), ..Profile::default() };
    let plan = BoxPlan {
        run: "run".parse().unwrap(),
        box_id: "box".parse().unwrap(),
        profile,
        lower: None,
        upper_image: dir.path().join("run.img"),
    };
    let said = |host: Host| host.harden(&plan, &plan.run).map(drop);
    assert!(said(host()).unwrap_err().to_string().contains("nobody is here who judges"));
    let judged = |word| {
        let hears = Arc::new(Hears(Mutex::default(), word));
        let said = said(host().with_judge(hears.clone()));
        assert_eq!(*hears.0.lock().unwrap(), ["A=b"]);
        said
    };
    judged(Ok(())).unwrap();
    let refused = judged(Err(Unfit::Refused("it holds X.".into()))).unwrap_err();
    assert_eq!(refused.to_string(), format!("the profile's image: {}: it holds X.", path.display()));
    assert!(matches!(judged(Err(Unfit::Unjudged("silence".into()))), Err(BoxError::Lost(why)) if why == "silence"));
}
