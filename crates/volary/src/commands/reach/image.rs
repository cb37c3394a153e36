//! What a box's file system starts from, and whom a registry's image is asked of.

use model::Profile;
use model::image::Reference;
use model::profile::Engine;
use sandbox::harden::{HostFacts, image_id};

/// The section of `reach` that the profile's `image` fills; none without one.
pub fn section(profile: &Profile, host: &HostFacts) -> Option<(&'static str, Vec<String>)> {
    let image = profile.image.as_ref()?;
    let mut lines = vec![format!(
        "the box shows of {image} what lies in /usr, /bin, /sbin, /lib… and /etc: read, execute; no more"
    )];
    // Checked before: what it names is whole, as far as it is there.
    if let Ok(Some(id)) = image_id(profile, host) {
        lines.push(format!("that image is {id} now; a box gets what the profile names when it is made"));
    }
    if let (Engine::Embedded, Ok(of)) = (profile.engine, Reference::parse(image)) {
        lines.push(format!(
            "where it is not on this host, the gateway asks {} for it when a run begins: because this profile names that \
             host, its addresses may be those of your own network; recorded as the run's, and held against the digest",
            of.host
        ));
        lines.push(match of.is_plain() {
            true => "in plain HTTP, since it is this very host".to_owned(),
            false => format!("over TLS; signed in to with the secret \"registry/{}\" where that is set", of.host),
        });
    }
    Some(("image", lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_whom_a_registrys_image_is_asked_of_and_that_inside_addresses_are_right_there() {
        let host =
            HostFacts { dir: "/nonexistent".into(), cgroup_parent: String::new(), root: true, docker: String::new() };
        let told = |image: &str, engine| {
            let profile = Profile { image: Some(image.to_owned()), engine, ..Profile::default() };
            section(&profile, &host).unwrap().1.join("\n")
        };
        let digest = format!("sha256:{}", "0a".repeat(32));
        let inside = told(&format!("registry.corp:5000/tools@{digest}"), Engine::Embedded);
        assert!(inside.contains("asks registry.corp:5000 for it") && inside.contains("your own network"), "{inside}");
        assert!(inside.contains("over TLS") && inside.contains("registry/registry.corp:5000"), "{inside}");
        assert!(told(&format!("localhost:5000/tools@{digest}"), Engine::Embedded).contains("plain HTTP"));
        // Docker's engine asks by itself.
        assert!(!told(&format!("registry.corp/tools@{digest}"), Engine::Docker).contains("gateway"));
        assert!(section(&Profile::default(), &host).is_none());
    }
}
