//! What an image says of itself, and what of it is believed.

use super::*;

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
