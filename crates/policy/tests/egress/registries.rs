//! The list of registries.

use policy::egress::Name;
use policy::egress::registries::Registries;

#[test]
fn the_list_has_the_groups_that_profiles_name() {
    let groups = ["alpine", "debian", "go", "java", "node", "python", "ruby", "rust", "ubuntu"];
    assert_eq!(Registries::built_in().groups(), groups);
    for group in groups {
        assert!(Registries::built_in().group(group).all(|registry| !registry.why.is_empty()), "{group}");
    }
}

#[test]
fn a_line_out_of_order_twice_short_or_in_another_order_of_labels_is_refused_by_its_number() {
    assert!(Registries::parse("# a comment\n\norg.example.a rust crates\norg.example.b rust more crates\n").is_ok());
    for (text, line) in [
        ("org.example.b rust x\norg.example.a rust x", "line 2: it is not in order"),
        ("org.example.a rust x\norg.example.a rust x", "line 2: it is not in order, or there twice"),
        ("org.example.a rust x\norg.example.a.* rust x", "line 2: it is there twice"),
        ("org.example.a rust", "line 1: it takes a name"),
        ("org.example.a", "line 1: it takes a name"),
        ("org.example.A rust x", "line 1: the name"),
        ("org.example.a Rust x", "line 1: the name"),
        ("example rust x", "line 1: the name"),
        ("org.*.a rust x", "line 1:"),
        ("1.0.0.127 rust x", "line 1:"),
        ("org..a rust x", "line 1:"),
        ("org.example.a:443 rust x", "line 1:"),
    ] {
        let why = Registries::parse(text).unwrap_err();
        assert!(why.starts_with(line), "{text:?}: {why}");
    }
}

#[test]
fn a_registry_is_found_exactly_or_below_a_declared_name() {
    let list = Registries::parse("org.example.a rust x\norg.example.b.* python x\n").unwrap();
    for (host, group) in [
        ("a.example.org", Some("rust")),
        ("A.Example.Org.", Some("rust")),
        ("x.a.example.org", None),
        ("b.example.org", Some("python")),
        ("x.b.example.org", Some("python")),
        ("y.x.b.example.org", Some("python")),
        ("xb.example.org", None),
        ("b.example.org.evil.example", None),
        ("example.org", None),
        ("org", None),
        ("8.8.8.8", None),
    ] {
        let found = list.find(&Name::parse(host).unwrap()).map(|registry| registry.group.as_str());
        assert_eq!(found, group, "{host}");
    }
}

/// A name in the order that people write is one that a reader of this repository could follow.
#[test]
fn the_list_is_in_reverse_order_of_labels_so_its_first_label_is_a_top_level_name() {
    for group in Registries::built_in().groups() {
        for registry in Registries::built_in().group(group) {
            let last = registry.host.as_str().rsplit('.').next().unwrap();
            assert!(["com", "org", "io", "net", "dev"].contains(&last), "{}", registry.host);
            assert!(registry.host.private().is_none());
        }
    }
}
